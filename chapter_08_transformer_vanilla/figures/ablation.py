"""What each change does to a small translator: a dot for each training.
每处改动对小型翻译模型的影响：一次训练一个点。
"""

from statistics import mean

from chapter_07_attention_mechanism.figures.cells import DARK, GREY
from chapter_08_transformer_vanilla.figures import NORM, PLACE, TALK
from utils.plotting import new_figure

from matplotlib.figure import Figure

LABELS = {  # an arm's name in the results: what is written beside its dots, and the colour of its concept
    "base": ("base", DARK),
    "heads_1": ("1 head, not 4", TALK),
    "heads_8": ("8 heads, not 4", TALK),
    "layers_1": ("1 + 1 layers, not 2 + 2", DARK),
    "layers_4": ("4 + 4 layers, not 2 + 2", DARK),
    "post_norm": ("post-norm", NORM),
    "no_warmup": ("no warmup", DARK),
    "post_norm_no_warmup": ("post-norm, no warmup", NORM),
    "no_positions": ("no positions", PLACE),
    "learned_positions": ("learned positions", PLACE),
    "no_smoothing": ("no label smoothing", DARK),
    "adamw": ("AdamW, not Muon", DARK),
    "no_average": ("last weights, no average", DARK),
}


def draw_arms(rows: list[dict]) -> Figure:
    """Draw BLEU and loss of each training as a dot, an arm a line, the best at the top.

    The base is a vertical line too, and a band as wide as its seeds lie apart.
    """
    found = {arm: [row for row in rows if row["arm"] == arm] for arm in LABELS}
    arms = sorted((arm for arm in found if found[arm]), key=lambda arm: mean(row["bleu"] for row in found[arm]))
    figure, panels = new_figure(9.6, 1.2 + 0.29 * len(arms), ncols=2, sharey=True)
    for axes, name, label in zip(panels, ("bleu", "loss"), ("BLEU, greedy", "loss (nats a token)"), strict=True):
        base = [row[name] for row in found["base"]]
        axes.axvspan(min(base), max(base), color="0.92", linewidth=0)
        axes.axvline(mean(base), color=GREY, linewidth=1)
        for y, arm in enumerate(arms):
            values, colour = [row[name] for row in found[arm]], LABELS[arm][1]
            axes.plot([mean(base), mean(values)], [y, y], color=colour, linewidth=1.2, alpha=0.45)
            axes.plot(values, [y] * len(values), "o", color=colour, markersize=6, alpha=0.75, markeredgecolor="white")
        axes.set_xlabel(f"{label}, validation")
        axes.grid(False, axis="y")
    panels[0].set_yticks(range(len(arms)), [LABELS[arm][0] for arm in arms])
    for text, arm in zip(panels[0].get_yticklabels(), arms, strict=True):
        text.set(color=LABELS[arm][1], fontweight="bold" if arm == "base" else "normal")
    panels[1].tick_params(axis="y", length=0)
    return figure
