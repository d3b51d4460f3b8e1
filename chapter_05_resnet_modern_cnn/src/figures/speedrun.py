"""The figures of speedrun.py: the loss by the clock, and what each idea is worth.
speedrun.py 的图：损失随时间的变化，以及每个想法的价值。
"""

from itertools import cycle

from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure


def loss_by_clock(history: list[dict]) -> Figure:
    """Draw each seed's loss by the seconds on the clock."""
    figure, axes = new_figure(6, 3.2)
    for seed, colour in zip(sorted({row["seed"] for row in history}), cycle(COLOURS), strict=False):
        points = [(row["seconds"], row["train_loss"]) for row in history if row["seed"] == seed]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=f"seed {seed}")
    axes.set(xlabel="seconds on the clock", ylabel="training loss (nats)", title="loss, with smoothed labels")
    axes.legend(frameon=False)
    return figure


def worth_of_ideas(table: list[dict]) -> Figure:
    """Draw accuracy and seconds of each idea, with the spread over the seeds, beside the recipe's."""
    figure, (accuracy, seconds) = new_figure(9, 0.6 + 0.3 * len(table), ncols=2, sharey=True)
    ideas = [row["idea"] for row in table]
    views = {"six views": "validation_accuracy", "one view": "validation_accuracy_single_view"}
    marks = [(accuracy, name, label, 100) for label, name in views.items()] + [(seconds, "train_seconds", None, 1)]
    for (axes, name, label, scale), colour in zip(marks, COLOURS, strict=False):
        values, spreads = ([scale * row[key] for row in table] for key in (name, f"{name}_std"))
        axes.errorbar(values, ideas, xerr=spreads, fmt="o", color=colour, label=label)
        axes.axvline(values[0], color=colour, lw=0.8, ls=":")  # the recipe
    accuracy.set(xlabel="validation accuracy (%)", title="accuracy; dotted: the recipe")
    accuracy.invert_yaxis()
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    seconds.set(xlabel="seconds on the clock", title="time", xlim=(0, None))
    return figure
