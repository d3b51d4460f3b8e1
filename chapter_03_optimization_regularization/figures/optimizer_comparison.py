"""The figures of exp_optimization.py: accuracy by learning rate, and loss by step and by second.
exp_optimization.py 的图：准确率随学习率的变化，损失随步数与时间的变化。
"""

import math

from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LABELS = {
    "sgd": "SGD",
    "momentum": "momentum",
    "nesterov": "Nesterov",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "amsgrad": "AMSGrad",
    "adamw": "AdamW",
    "adamax": "Adamax",
    "nadam": "NAdam",
    "radam": "RAdam",
    "lion": "Lion",
    "muon": "Muon",
    "sam": "SAM",
    "sam_half": "SAM, half steps",
}
FAMILIES = {
    "one rate for all weights": ["sgd", "momentum", "nesterov"],
    "a rate for each weight": ["adagrad", "adadelta", "rmsprop", "adamax"],
    "Adam and its variants": ["adam", "amsgrad", "adamw", "nadam", "radam"],
    "newer ideas": ["lion", "muon", "sam", "sam_half"],
}
BLUE, VERMILION, GREEN, PINK, AMBER, SKY = COLOURS
COLOUR = {  # an optimizer's own in every panel; those that share one never meet
    "sgd": BLUE, "momentum": VERMILION, "nesterov": GREEN,
    "adagrad": SKY, "adadelta": BLUE, "rmsprop": AMBER, "adamax": GREEN,
    "adam": PINK, "amsgrad": AMBER, "adamw": BLUE, "nadam": GREEN, "radam": SKY,
    "lion": "#222222", "muon": "#882255", "sam": GREEN, "sam_half": SKY,
}  # fmt: skip
TIMED = ["momentum", "adamw", "lion", "muon", "sam", "sam_half"]  # a step of the others costs what theirs do


def sensitivity(rates: list[dict], rows: list[dict]) -> Figure:
    """Draw each optimizer's validation accuracy by learning rate, in a panel of its own, in front of all the others."""
    found = {}
    for trial in rates:
        found.setdefault(trial["optimizer"], []).append((trial["lr"], 100 * trial["accuracy"]))
    tried = {arm: list(zip(*sorted(points), strict=True)) for arm, points in found.items()}
    order = [arm for arm in COLOUR if arm in tried]
    n_columns = min(4, len(order))
    n_rows = math.ceil(len(order) / n_columns)
    figure, panels = new_figure(
        2.5 * n_columns, 1.8 * n_rows + 0.5, nrows=n_rows, ncols=n_columns, sharex=True, sharey=True, squeeze=False
    )
    row_of = {row["optimizer"]: row for row in rows}
    best = max(max(accuracies) for _, accuracies in tried.values())
    for axes, arm in zip(panels.flat, order, strict=False):
        for lrs, accuracies in tried.values():
            axes.plot(lrs, accuracies, color="0.88", lw=0.7, zorder=1)
        row, colour = row_of[arm], COLOUR[arm]
        top = 100 * row["validation_accuracy"]
        axes.axhspan(top - 2, top, color=colour, alpha=0.18, lw=0)
        axes.plot(*tried[arm], "o-", color=colour, ms=3.5, lw=1.8, zorder=3)
        axes.plot(row["lr"], top, "*", color=colour, mec="black", mew=0.6, ms=11, zorder=4)
        axes.set_title(LABELS[arm], loc="left", weight="bold", fontsize=10)
        wide = f"{'> ' if row['plateau_open'] else ''}{row['plateau_decades']:.1f}"
        axes.set_title(f"{wide} decades", loc="right", fontsize=8)
        axes.set(xscale="log", ylim=(max(0, best - 30), best + 3))
    for axes in panels.flat[len(order) :]:
        axes.set_axis_off()
    figure.supxlabel("learning rate at the start of its cosine", fontsize=10)
    figure.supylabel("validation accuracy (%)", fontsize=10)
    return figure


def losses(history: list[dict], rows: list[dict], deadline: float) -> Figure:
    """Draw the training loss by step, a panel for each family; below it by second, and as it stands at the deadline.

    Args:
        history: rows of "step" and each optimizer's averaged loss, of those that have come that far.
        rows: of the results' table.
    """
    arms = [row["optimizer"] for row in rows]
    curves = {arm: [(row["step"], row[arm]) for row in history if arm in row] for arm in arms}
    curves = {arm: curve for arm, curve in curves.items() if curve}
    figure = Figure(figsize=(10.5, 7), layout="constrained")
    above, below = figure.subfigures(2, 1)
    found = [loss for curve in curves.values() for _, loss in curve]
    limits = 0.95 * min(found), 1.03 * max(found)

    families = {family: [arm for arm in arms if arm in curves] for family, arms in FAMILIES.items()}
    families = {family: arms for family, arms in families.items() if arms}
    for axes, (family, arms) in zip(above.subplots(1, len(families), squeeze=False)[0], families.items(), strict=True):
        if "momentum" in curves and "momentum" not in arms:
            plot_curve(axes, curves, "momentum", ls="--", lw=1.2)
        for arm in arms:
            plot_curve(axes, curves, arm, lw=1.6)
        finish(axes, limits, "step", family, is_first=axes.get_subplotspec().is_first_col())

    left, right = below.subplots(1, 2)
    seconds = {row["optimizer"]: row["step_seconds"] for row in rows}
    for arm in [arm for arm in TIMED if arm in curves] or list(curves):
        plot_curve(left, curves, arm, unit=seconds[arm], lw=1.6)
    left.axvline(deadline, color="black", lw=1, ls=":")
    finish(left, limits, "time (s)", "by the clock", is_first=True)

    order = sorted(rows, key=lambda row: -row["deadline_loss"])
    for place, row in enumerate(order):
        colour = COLOUR[row["optimizer"]] if row["optimizer"] in TIMED else "0.6"  # the colours of the panel beside it
        looks = {"color": colour, "capsize": 3, "ms": 6}
        right.errorbar(row["deadline_loss"], place, xerr=row["deadline_loss_std"], fmt="o", **looks)
    right.set_yticks(range(len(order)), [LABELS[row["optimizer"]] for row in order], fontsize=8)
    right.set_xlabel("training loss (nats)")
    right.set_title(f"after {deadline:.1f} s, when the fastest has finished", loc="left", weight="bold", fontsize=10)
    return figure


def plot_curve(axes: Axes, curves: dict[str, list], arm: str, unit: float = 1.0, **looks: object) -> None:
    steps, values = zip(*curves[arm], strict=True)
    axes.plot([unit * step for step in steps], values, color=COLOUR[arm], label=LABELS[arm], **looks)


def finish(axes: Axes, limits: tuple[float, float], xlabel: str, title: str, is_first: bool) -> None:
    axes.set(yscale="log", ylim=limits, xlabel=xlabel)
    ticks = [t for t in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3) if limits[0] <= t <= limits[1]]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks] if is_first else [])
    axes.minorticks_off()
    if is_first:
        axes.set_ylabel("training loss (nats)")
    axes.set_title(title, loc="left", weight="bold", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
