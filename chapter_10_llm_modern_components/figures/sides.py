"""What models say to the same prompts, side by side; and which file of the chapter feeds which.
各个模型对同样提示的回答，并排放置；以及本章各脚本的文件供给谁。
"""

import textwrap
from collections.abc import Sequence

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, tint, write
from chapter_10_llm_modern_components.chat_format import CALLS, visible
from chapter_10_llm_modern_components.figures import LEARNED, READ, REWARD
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


BOXES = {  # script: the place of its box, what it writes, and the colour of what it does
    "pretrain.py": (0, 2, "stories.pth", READ),
    "sft.py": (1, 2, "sft.pth", LEARNED),
    "quantize.py": (1, 3, "quantization.json", GREY),
    "ppo.py": (1, 0.75, "ppo_bounded.pth", REWARD),
    "adapt.py": (2, 3.5, "lora.pth", LEARNED),
    "dpo.py": (2, 2.5, "dpo.pth", REWARD),
    "grpo.py": (2, 1.5, "dr_grpo_0.pth", REWARD),
    "reward.py": (2, 0.5, "reward.pth", REWARD),
    "distill.py": (2, -0.5, "taught.pth", LEARNED),
    "biography.py": (3, 3, "biography.json", GREY),
    "evaluate.py": (3, 2, "evaluate.json", GREY),
    "chat.py": (3, 1, "your conversation", GREY),
}
FEEDS = [
    ("pretrain.py", "sft.py"),
    ("pretrain.py", "quantize.py"),
    ("pretrain.py", "ppo.py"),
    *(("sft.py", name) for name in ("adapt.py", "dpo.py", "grpo.py", "reward.py", "distill.py")),
]


def stages() -> Figure:
    """A box for each script with the file that it writes; an arrow leads to each script that reads it."""
    figure, axes = blank(9.4, 5.2, 14.1, 7.8)
    places = {name: (0.2 + 3.6 * x, 1.6 + 1.45 * y) for name, (x, y, _, _) in BOXES.items()}
    for name, (x, y) in places.items():
        _, _, file, colour = BOXES[name]
        axes.add_patch(Rectangle((x, y - 0.55), 2.7, 1.1, facecolor=tint(colour, 0.2), edgecolor=colour, linewidth=1.3))
        write(axes, x + 1.35, y + 0.2, name, fontsize=9.5, fontweight="bold", parse_math=False)
        write(axes, x + 1.35, y - 0.25, file, fontsize=8, color=GREY, parse_math=False)
    for giver, taker in FEEDS:
        (x, y), end = places[giver], places[taker]
        arrow(axes, (x + 2.7, y), end)
    ends = [places[name] for name in ("biography.py", "evaluate.py", "chat.py")]
    x, (low, high) = ends[0][0] - 0.45, (places["distill.py"][1], places["adapt.py"][1])
    axes.plot([x, x], [low, high], color=GREY, linewidth=1)  # all that is made is read by all three
    for name in ("adapt.py", "dpo.py", "grpo.py", "reward.py", "distill.py"):
        axes.plot([places[name][0] + 2.7, x], [places[name][1]] * 2, color=GREY, linewidth=1)
    for end in ends:
        arrow(axes, (x, end[1]), end)
    return figure
