"""The figures of exp_normalization.py: three sweeps, what flows through a deep network, and two norms at batch size 2.
exp_normalization.py 的图：三组扫描、信号在深层网络中的流动，以及批量为 2 时两种归一化的对决。
"""

import math

from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

LABELS = {
    "none": "none",
    "batch": "BatchNorm",
    "layer": "LayerNorm",
    "group": "GroupNorm",
    "instance": "InstanceNorm",
    "rms": "RMSNorm",
}
LOOKS = {
    norm: {"color": colour, "marker": marker, "label": LABELS[norm]}
    for norm, colour, marker in zip(LABELS, ["0.45", *COLOURS[:5]], "Xosv^D", strict=True)
}
LOOKS["batch"] |= {"lw": 2.6, "zorder": 4}
GROWTH = math.sqrt(math.pi / (math.pi - 1))  # of the gradient, through a layer with BatchNorm and ReLU


def sweeps(final: dict) -> Figure:
    """Draw validation accuracy against depth, learning rate and batch size."""
    figure, panels = new_figure(12.5, 4.1, ncols=3, sharey=True)
    for row in final["depth_table"]:
        panels[0].plot(final["depths"], percent(row["accuracies"]), **LOOKS[row["norm"]])
    for row in final["lr_table"]:
        rates, accuracies = zip(*((trial["lr"], trial["accuracy"]) for trial in row["trials"]), strict=True)
        panels[1].plot(rates, percent(accuracies), **LOOKS[row["norm"]])
        top = max(accuracies)
        panels[1].plot(row["best_lr"], 100 * top, "o", ms=12, mfc="none", color=LOOKS[row["norm"]]["color"])
    for row in final["batch_table"]:
        panels[2].plot(final["batch_sizes"], percent(row["accuracies"]), **LOOKS[row["norm"]])
    first, batch = final["depths"][0], final["batch_size"]
    panels[0].set(xlabel="layers", ylabel="validation accuracy (%)", xticks=final["depths"], ylim=(0, 92))
    panels[0].set_title(f"depth (batches of {batch})", loc="left", weight="bold", fontsize=10)
    panels[1].set(xlabel="AdamW's learning rate; a ring: the best", xscale="log")
    panels[1].set_title(f"learning rate ({first} layers, batches of {batch})", loc="left", weight="bold", fontsize=10)
    panels[2].set(xlabel="pictures in a batch; all see equally many", xscale="log")
    panels[2].set_xticks(final["batch_sizes"], map(str, final["batch_sizes"]))
    panels[2].xaxis.set_minor_locator(NullLocator())
    panels[2].set_title(f"batch size ({first} layers)", loc="left", weight="bold", fontsize=10)
    for axes in panels:
        axes.axhline(10, color="black", lw=0.8, ls=":")
    panels[0].text(final["depths"][0], 8.5, "guessing", fontsize=8, va="top")
    panels[0].legend(fontsize=8, loc="upper right", framealpha=0.85)
    return figure


def percent(values: list[float]) -> list[float]:
    return [100 * value for value in values]


def signals(rows: list[dict]) -> Figure:
    """Draw by layer the size of the activations, of the gradients, and how different two pictures look."""
    figure, panels = new_figure(12.5, 4.1, ncols=3)
    depth = len(rows[0]["activation"])
    layers = range(1, depth + 1)
    for axes, name in zip(panels, ("activation", "gradient", "difference"), strict=True):
        for row in rows:
            looks = LOOKS[row["norm"]] | {"marker": "", "lw": 2.4 if row["norm"] == "batch" else 1.5}
            axes.plot(layers, row[name], **looks)
        axes.set(yscale="log", xlabel="layer")
    theory = [GROWTH ** (depth - layer) for layer in layers]
    panels[1].plot(layers, theory, ls=(0, (2, 2)), color="black", lw=1.2, label=f"{GROWTH:.3f} a layer", zorder=5)
    titles = ("forward: size of the activations", "backward: size of the gradient", "two pictures: 1 − cosine")
    units = ("root mean square", "root mean square, the last layer's being 1", "0: the same direction")
    for axes, title, unit in zip(panels, titles, units, strict=True):
        axes.set_title(title, loc="left", weight="bold", fontsize=10)
        axes.set_ylabel(unit)
    panels[1].legend(fontsize=8, framealpha=0.85)
    return figure


def small_batch(final: dict, per_seed: list[dict], size: int) -> Figure:
    """Draw the training loss of both norms at the smallest batch, and their test accuracies, seed by seed."""
    figure, (left, right) = new_figure(10, 4, ncols=2, width_ratios=[1.25, 1])
    for norm in ("batch", "group"):
        for i, row in enumerate(per_seed):
            losses = row[f"{norm}_loss"]
            seen = [100 * (k + 0.5) / len(losses) for k in range(len(losses))]
            label = LABELS[norm] if i == 0 else None
            left.plot(seen, losses, color=LOOKS[norm]["color"], lw=1.2, alpha=0.85, label=label)
    left.set(xlabel="share of the training (%)", ylabel="training loss (nats)")
    left.set_title(f"batches of {size}, every seed", loc="left", weight="bold", fontsize=10)
    left.legend()
    arms = {"group": "GroupNorm", "batch": "BatchNorm", "batch_recomputed": "BatchNorm,\nstatistics\nmeasured anew"}
    for place, name in enumerate(arms):
        colour = LOOKS[name.split("_")[0]]["color"]
        mean, each = 100 * final[f"batch{size}_{name}"], percent([row[name] for row in per_seed])
        right.plot([place - 0.28, place + 0.28], [mean, mean], color=colour, lw=3, solid_capstyle="butt")
        right.plot([place] * len(each), each, "o", mfc="white" if "_" in name else colour, mec=colour, mew=1.5, ms=7)
        right.annotate(
            f"{mean:.1f}", (place + 0.28, mean), (5, 0), textcoords="offset points", va="center", weight="bold"
        )
    right.set_xticks(range(len(arms)), arms.values())
    right.set(ylabel="test accuracy (%)", xlim=(-0.6, len(arms) - 0.2))
    right.margins(y=0.15)
    right.grid(axis="x", visible=False)
    gap = 100 * final[f"batch{size}_gap"]
    right.set_title(f"tested: the gap is {gap:.1f} points", loc="left", weight="bold", fontsize=10)
    right.text(
        0.98, 0.03, "dots: seeds, lines: their mean", transform=right.transAxes, ha="right", fontsize=8, color="0.35"
    )
    return figure
