"""What models say to the same prompts, side by side.
各个模型对同样提示的回答，并排放置。
"""

import textwrap
from collections.abc import Sequence

from chapter_07_attention_mechanism.figures.cells import DARK, blank, tint, write
from chapter_10_llm_modern_components.chat_format import CALLS, visible
from chapter_10_llm_modern_components.figures import READ
from chapter_10_llm_modern_components.tasks import last_line
from utils.plotting import COLOURS

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

WIDE, LINES, LINE = 20, 5, 0.125  # of a cell: characters, lines at most, a line's height
NAMES = {"prompt": "prompt", "right": "right answer", "base": "pre-trained", "sft": "fine-tuned", "dpo": "+ DPO"}
NAMES |= {"grpo": "+ GRPO", "int4": "in 4 bits", "student": "its student"}


def side_by_side(rows: Sequence[dict[str, str]]) -> Figure:
    """Draw a table of prompts and replies, a row for each prompt; replies that are right are green.

    Args:
        rows: the prompt, what is right, or "" if nothing is, and the reply of each stage.
    """
    columns = list(rows[0])
    cells = [[shortened(row[name]) for name in columns] for row in rows]
    heights = [LINE * (max(text.count("\n") for text in line) + 1) + 0.12 for line in cells]
    figure, axes = blank(1.3 * len(columns), sum(heights) + 0.4, 1.3 * len(columns), sum(heights) + 0.4)
    top = sum(heights) + 0.03
    for i, name in enumerate(columns):
        write(axes, 1.3 * i + 0.05, top + 0.18, NAMES[name], ha="left", fontsize=8, fontweight="bold")
    for row, line, height in zip(rows, cells, heights, strict=True):
        for i, (name, text) in enumerate(zip(columns, line, strict=True)):
            right = row["right"] and last_line(visible(row[name])) == row["right"]
            colour = tint(COLOURS[2], 0.25) if right else "none"
            box = Rectangle(
                (1.3 * i, top - height), 1.28, height - 0.02, facecolor=colour, edgecolor="0.85", linewidth=0.6
            )
            axes.add_patch(box)
            how = {"ha": "left", "va": "top", "fontsize": 6.5, "parse_math": False}
            write(axes, 1.3 * i + 0.05, top - 0.06, text, color=READ if name == "prompt" else DARK, **how)
        top -= height
    return figure


def shortened(text: str) -> str:
    """Break a text into the lines of a cell, and cut off what is too much; calls stand in brackets."""
    lines = [part for line in CALLS.sub(r"[\1] \2", text).splitlines() for part in textwrap.wrap(line, WIDE)]
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], lines[LINES - 1][: WIDE - 1] + "…"])
