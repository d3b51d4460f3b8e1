"""Which script feeds which: the stages from raw text to a chat, each with the file that it writes.
哪个脚本的文件供给谁：从原始文本到聊天的各个阶段。
"""

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, tint, write
from chapter_10_llm_modern_components.figures import LEARNED, READ, REWARD

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

WIDTH, HEIGHT = 3.7, 1.4  # of a box
BOXES = {  # script: its left edge, its middle's height, what it writes, and the colour of what it does
    "tokenizer_train.py": (0.2, 9.6, "merges_stories.json", GREY),
    "pretrain.py": (0.2, 6.2, "stories.pth", READ),
    "generate.py": (4.9, 9.6, "a text", GREY),
    "sft.py": (4.9, 6.2, "sft.pth", LEARNED),
    "quantize.py": (4.9, 3.6, "quantization.json", GREY),
    "ppo.py": (4.9, 1.0, "ppo_bounded.pth", REWARD),
    "distill.py": (9.6, 9.6, "taught.pth", LEARNED),
    "adapt.py": (9.6, 7.9, "lora.pth", LEARNED),
    "dpo.py": (9.6, 6.2, "dpo.pth", REWARD),
    "grpo.py": (9.6, 4.5, "grpo.pth", REWARD),
    "reward.py": (9.6, 2.3, "reward.pth", REWARD),
    "chat.py": (15.1, 7.9, "your conversation", GREY),
    "evaluate.py": (15.1, 4.5, "evaluate.json", GREY),
    "biography.py": (15.1, 1.0, "biography.json", GREY),
}
FEEDS = [("pretrain.py", name) for name in ("generate.py", "quantize.py", "ppo.py")]
FEEDS += [("sft.py", name) for name in ("distill.py", "adapt.py", "grpo.py", "reward.py")]
SHORTEST = [("pretrain.py", "sft.py"), ("sft.py", "dpo.py")]
ADAPTERS = "adapt.py", "dpo.py", "grpo.py"


def stages() -> Figure:
    """A box for each script and the file that it writes; arrows lead to what reads it, thick ones the shortest way."""
    figure, axes = blank(9.5, 5.4, 19, 10.8)
    for name, (x, y, file, colour) in BOXES.items():
        face = tint(colour, 0.2)
        axes.add_patch(Rectangle((x, y - HEIGHT / 2), WIDTH, HEIGHT, facecolor=face, edgecolor=colour, linewidth=1.3))
        write(axes, x + WIDTH / 2, y + 0.3, name, fontsize=9.5, fontweight="bold", parse_math=False)
        write(axes, x + WIDTH / 2, y - 0.3, file, fontsize=8, parse_math=False)
    for giver, taker in FEEDS:
        arrow(axes, right(giver), left(taker))
    for giver, taker in SHORTEST:
        arrow(axes, right(giver), left(taker), DARK, width=2.2)
    x, y, _, _ = BOXES["tokenizer_train.py"]
    arrow(axes, (x + WIDTH / 2, y - HEIGHT / 2), (x + WIDTH / 2, BOXES["pretrain.py"][1] + HEIGHT / 2))
    write(axes, x + WIDTH / 2 + 0.2, 7.9, "--tokenizer", fontsize=8, ha="left")
    join_adapters(axes)
    arrow(axes, right("distill.py"), left("chat.py"))
    write(axes, 14.0, 9.4, "--model_path", fontsize=8, ha="left")
    arrow(axes, right("reward.py"), left("evaluate.py"))
    write(axes, 14.5, 2.8, "--judge", fontsize=8, ha="left")
    write(axes, 15.1 + WIDTH / 2, 2.1, "asks all stages", fontsize=8)
    return figure


def left(name: str) -> tuple[float, float]:
    """Return the middle of a box's left edge."""
    x, y, _, _ = BOXES[name]
    return x, y


def right(name: str) -> tuple[float, float]:
    """Return the middle of a box's right edge."""
    x, y, _, _ = BOXES[name]
    return x + WIDTH, y


def join_adapters(axes: Axes) -> None:
    """Lead the adapters' boxes to a common line, and from there to what can read any of them."""
    line = right("dpo.py")[0] + 0.4
    heights = [BOXES[name][1] for name in ADAPTERS]
    axes.plot([line, line], [min(heights), max(heights)], color=GREY, linewidth=1)
    for name in ADAPTERS:
        axes.plot([right(name)[0], line], [BOXES[name][1]] * 2, color=GREY, linewidth=1)
    middle = line, BOXES["dpo.py"][1]
    axes.plot([right("dpo.py")[0], line], [middle[1]] * 2, color=DARK, linewidth=2.2)
    arrow(axes, middle, left("chat.py"), DARK, width=2.2)
    arrow(axes, middle, left("evaluate.py"))
    write(axes, line + 0.35, middle[1], "--adapter", fontsize=8, ha="left")
