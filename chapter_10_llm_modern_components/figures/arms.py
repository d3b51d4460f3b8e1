"""What each part of today's block saves, in bits a byte: a dot for each training.
今天的块里每个部件省下多少（比特/字节）：一次训练一个点。
"""

from statistics import mean

from chapter_07_attention_mechanism.figures.cells import DARK
from chapter_10_llm_modern_components.figures import KEY, NORM, PLACE, READ, TALK, THINK
from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure

LABELS = {  # an arm's name in the results: what is written beside its dots, and the colour of its concept
    "gpt2": ("GPT-2", DARK),
    "rms_norm": ("+ RMSNorm", NORM),
    "rope": ("+ RoPE", PLACE),
    "swiglu": ("+ SwiGLU", THINK),
    "gqa": ("+ shared keys and values", KEY),
    "qk_norm": ("+ QK-norm", TALK),
    "no_biases": ("no biases = ours", DARK),
    "untied": ("ours, untied", READ),
    "muon": ("ours, Muon", COLOURS[1]),
}


def draw_arms(rows: list[dict]) -> Figure:
    """Draw each training as a dot, an arm a line, in the order of the chain; a line leads from arm to arm's mean."""
    arms = [arm for arm in LABELS if any(row["arm"] == arm for row in rows)]
    bits = {arm: [row["bits_per_byte"] for row in rows if row["arm"] == arm] for arm in arms}
    figure, axes = new_figure(7.2, 1.0 + 0.34 * len(arms))
    chain = [arm for arm in arms if arm not in ("untied", "muon")]
    axes.plot([mean(bits[arm]) for arm in chain], range(len(chain)), color="0.8", linewidth=1.5, zorder=1)
    for y, arm in enumerate(arms):
        colour = LABELS[arm][1]
        axes.plot(bits[arm], [y] * len(bits[arm]), "o", color=colour, markersize=7, alpha=0.8, markeredgecolor="white")
    axes.set_yticks(range(len(arms)), [LABELS[arm][0] for arm in arms])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("bits a byte, held-out books")
    return figure
