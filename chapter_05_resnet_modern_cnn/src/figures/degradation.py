"""The figures of degradation.py: how deep plain networks fall behind, and what their gradients look like.
degradation.py 的图：深的普通网络如何落后，以及它们的梯度是什么样子。
"""

from statistics import mean

from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

LABELS = {"plain": "plain", "residual": "residual", "residual_v2": "residual, v2"}
LOOKS = {
    kind: {"color": colour, "marker": marker}
    for kind, colour, marker in zip(LABELS, (COLOURS[1], COLOURS[0], COLOURS[2]), "XoD", strict=True)
}
MOMENTS = {"start": "before training", "epoch_1": "after one epoch", "end": "after training"}


def degradation(networks: dict[str, dict], history: list[dict], per_seed: list[dict]) -> Figure:
    """Draw the training loss by epoch of the least and greatest depth, and by depth the last loss and test accuracy."""
    figure, panels = new_figure(12.5, 4.1, ncols=3, width_ratios=[1.3, 1, 1])
    depths = sorted({row["depth"] for row in per_seed})
    ends = {depths[0]: "--", depths[-1]: "-"}
    for row in networks.values():
        kind, depth = row["kind"], row["depth"]
        if depth in ends:
            mine = [h for h in history if (h["kind"], h["depth"]) == (kind, depth)]
            seeds = [[h["train_loss"] for h in mine if h["seed"] == s] for s in sorted({h["seed"] for h in mine})]
            looks = {"color": LOOKS[kind]["color"], "ls": ends[depth]}
            for losses in seeds:
                panels[0].plot(range(1, len(losses)), losses[1:], lw=0.8, alpha=0.5, **looks)
            means = [mean(losses) for losses in zip(*seeds, strict=True)]
            panels[0].plot(range(1, len(means)), means[1:], lw=2, label=f"{LABELS[kind]}, {depth} layers", **looks)
    panels[0].set(xlabel="epoch", ylabel="training loss (nats)")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_title("training loss by epoch; thin: each seed", loc="left", weight="bold", fontsize=10)
    for axes, name, scale in ((panels[1], "train_loss", 1), (panels[2], "test_accuracy", 100)):
        for kind, looks in LOOKS.items():
            mine = [row for row in networks.values() if row["kind"] == kind]
            label = LABELS[kind]
            axes.plot([row["depth"] for row in mine], [scale * row[name] for row in mine], label=label, **looks)
            each = [row for row in per_seed if row["kind"] == kind]
            axes.plot([r["depth"] for r in each], [scale * r[name] for r in each], ".", ms=4, color="black", zorder=3)
        axes.set(xlabel="layers", xticks=depths)
    panels[1].set_ylabel("training loss in the last epoch (nats)")
    panels[1].set_title("training loss by depth; dots: each seed", loc="left", weight="bold", fontsize=10)
    panels[2].set_ylabel("test accuracy (%)")
    panels[2].set_title("test accuracy by depth", loc="left", weight="bold", fontsize=10)
    panels[0].legend(fontsize=8)
    panels[1].legend(fontsize=8)
    return figure


def gradient_norms(norms: dict[str, dict], depth: int) -> Figure:
    """Draw the gradient's norm by layer in the networks of this depth, the linear one with a mark, at three moments."""
    figure, panels = new_figure(12.5, 4.1, ncols=3, sharey=True)
    stage = (depth - 2) // 3  # layers
    for axes, (moment, title) in zip(panels, MOMENTS.items(), strict=True):
        for kind, looks in LOOKS.items():
            values = norms[f"{kind}_{depth}"][moment]["gradient"]
            axes.plot(range(1, depth + 1), values, label=LABELS[kind], **looks | {"marker": ""})
            axes.plot(depth, values[-1], color=looks["color"], marker=looks["marker"], ms=5)
        for border in (1.5, stage + 1.5, 2 * stage + 1.5, depth - 0.5):
            axes.axvline(border, color="black", lw=0.6, ls=":")
        axes.set(yscale="log", xlabel="layer, from the pictures on; dotted: a new stage")
        axes.set_title(title, loc="left", weight="bold", fontsize=10)
    panels[0].set_ylabel("norm of the loss's gradient by a layer's weight")
    panels[0].legend(fontsize=9)
    return figure
