"""What models say to the same prompts, side by side.
各个模型对同样提示的回答，并排放置。
"""

import textwrap
from collections.abc import Sequence

from chapter_07_attention_mechanism.figures.cells import DARK, blank, tint, write
from chapter_10_llm_modern_components.dialogue import CALLS, visible
from chapter_10_llm_modern_components.figures import READ
from chapter_10_llm_modern_components.tasks import last_line
from utils.plotting import COLOURS

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

LETTERS, FIRST_LETTERS, LETTER = 20, 28, 0.071  # of a line in a cell, and in one of the first column; inches of each
LINES, FIRST_LINES, LINE = 4, 5, 0.145  # of a cell at most, and of one in the first column; inches of each
NAMES = {"prompt": "prompt → answer", "base": "pre-trained", "sft": "fine-tuned", "dpo": "+ DPO"}
NAMES |= {"grpo": "+ GRPO", "int4": "in 4 bits", "student": "its student"}


def side_by_side(rows: Sequence[dict[str, str]]) -> Figure:
    """Draw a table of prompts and replies, a row for each prompt; replies that are right are green.

    Args:
        rows: the prompt, what is right, or "" if nothing is, and the reply of each stage.
    """
    stages = [name for name in rows[0] if name not in ("prompt", "right")]
    widths = [LETTER * FIRST_LETTERS, *[LETTER * LETTERS] * len(stages)]
    edges = [sum(widths[:i]) for i in range(len(widths))]
    prompts = [row["prompt"] + (f"\n→ {row['right']}" if row["right"] else "") for row in rows]
    cells = [
        [shortened(prompt, FIRST_LETTERS, FIRST_LINES), *(shortened(row[name], LETTERS, LINES) for name in stages)]
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    heights = [LINE * (max(text.count("\n") for text in line) + 1) + 0.1 for line in cells]
    width, top = sum(widths), sum(heights)
    figure, axes = blank(width, top + 0.3, width, top + 0.3)
    for x, name in zip(edges, ["prompt", *stages], strict=True):
        write(axes, x + 0.05, top + 0.15, NAMES[name], ha="left", fontsize=8.5, fontweight="bold")
    for row, line, height in zip(rows, cells, heights, strict=True):
        for x, width, name, text in zip(edges, widths, ["prompt", *stages], line, strict=True):
            right = row["right"] and name != "prompt" and last_line(visible(row[name])) == row["right"]
            colour = tint(COLOURS[2], 0.25) if right else "none"
            size = width - 0.02, height - 0.02
            axes.add_patch(Rectangle((x, top - height), *size, facecolor=colour, edgecolor="0.85", linewidth=0.6))
            how = {"ha": "left", "va": "top", "fontsize": 8, "parse_math": False}
            write(axes, x + 0.05, top - 0.05, text, color=READ if name == "prompt" else DARK, **how)
        top -= height
    return figure


def shortened(text: str, width: int, n_lines: int) -> str:
    """Break a text into at most so many lines of a cell, and cut off what is too much; calls stand in brackets."""
    lines = [part for line in CALLS.sub(r"[\1] \2", text).splitlines() for part in textwrap.wrap(line, width)]
    shown = lines if len(lines) <= n_lines else [*lines[: n_lines - 1], lines[n_lines - 1][: width - 1] + "…"]
    return "\n".join(shown)
