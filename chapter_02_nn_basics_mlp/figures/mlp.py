"""The figures of mlp.py: what was fitted, what is left over, and how the loss fell.
mlp.py 的图：拟合结果、残差，以及损失如何下降。
"""

import numpy as np
import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.dataset import PERIODIC_REACH
from chapter_02_nn_basics_mlp.engine_mlp import EngineMLP
from chapter_02_nn_basics_mlp.measures import network_outputs, rmse
from chapter_02_nn_basics_mlp.problems import Points, Problem
from chapter_02_nn_basics_mlp.recipes import BEST_RATES
from utils.plotting import COLOURS
from utils.shape_checks import check_labels

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

NAMES = {"relu": "ReLU", "tanh": "Tanh", "snake": "Snake"}
Histories = list[list[dict]]


def curve(problem: Problem, train: Points, test: Points, models: list[nn.Module], histories: Histories) -> Figure:
    """Draw the fit of every seed over the points, what the first leaves of the test set, and the falling error."""
    figure, panels = _mosaic(9, 6, [["fit", "fit"], ["left", "loss"]], height_ratios=[1.3, 1])
    x = _line(problem.side, train)
    truth, fits = problem.target(x), [network_outputs(model, x) for model in models]
    axes = panels["fit"]
    axes.plot(*_numpy(*train), ".", color="0.72", ms=4, label=f"{len(train[0])} training points")
    axes.plot(*_numpy(x, truth), color="0.15", ls="--", lw=1.5, label="truth", zorder=3)
    for i, fit in enumerate(fits):
        axes.plot(
            *_numpy(x, fit),
            color=COLOURS[0],
            lw=2 if i == 0 else 0.8,
            label=f"network, {len(fits)} seeds" if i == 0 else None,
        )
    axes.set(xlabel="x", ylabel="y")
    axes.legend(loc="upper left", fontsize=8, ncols=3)

    axes, noise = panels["left"], rmse(problem.target(test[0]), test[1])
    axes.axhspan(-2 * noise, 2 * noise, color="0.92", zorder=0, label="± 2 σ of the noise")
    residual = test[1] - network_outputs(models[0], test[0])
    axes.plot(*_numpy(test[0], residual), ".", color="0.55", ms=3, label="test point − network")
    axes.plot(*_numpy(x, truth - fits[0]), color=COLOURS[1], lw=1.5, label="truth − network")
    axes.set(xlabel="x", ylabel="residual", ylim=(-5 * noise, 5 * noise))
    axes.legend(loc="lower left", fontsize=6.5, ncols=3, columnspacing=0.8, handlelength=1)
    _loss(panels["loss"], {"seeds": histories}, noise)
    return figure


def surface(problem: Problem, train: Points, test: Points, models: list[nn.Module], histories: Histories) -> Figure:
    """Draw target, fit and residual as maps; below them a cut, the test residuals' distribution, and the error."""
    figure, panels = _mosaic(10, 6, [["target", "fit", "residual"], ["cut", "spread", "loss"]])
    side, n = problem.side, 101
    axis = torch.linspace(-side, side, n, device=train[0].device)
    grid = torch.cartesian_prod(axis, axis).flip(1)  # (n * n, 2): x1 runs fastest
    truth, fit = (
        values.view(n, n).cpu().numpy() for values in (problem.target(grid), network_outputs(models[0], grid))
    )
    low, high, extent = truth.min(), truth.max(), (-side, side, -side, side)
    error = np.quantile(np.abs(fit - truth), 0.995)
    maps = {
        "target": (truth, "viridis", low, high),
        "fit": (fit, "viridis", low, high),
        "residual": (fit - truth, "RdBu_r", -error, error),
    }
    for name, (values, colours, least, most) in maps.items():
        axes = panels[name]
        image = axes.imshow(
            values, cmap=colours, vmin=least, vmax=most, origin="lower", extent=extent, interpolation="nearest"
        )
        axes.set(title={"residual": "fit − target"}.get(name, name), xlabel="$x_1$", ylabel="$x_2$")
        axes.grid(False)
        figure.colorbar(image, ax=axes, shrink=0.8)
    panels["target"].plot(*_numpy(*train[0][:500].T), ".", color="white", ms=1)
    panels["fit"].axhline(0, color="white", lw=1, ls=":")

    axes = panels["cut"]
    axes.plot(*_numpy(axis), truth[n // 2], color="0.15", ls="--", label="truth")
    axes.plot(*_numpy(axis), fit[n // 2], color=COLOURS[0], label="network")
    axes.set(xlabel="$x_1$, along the dotted line $x_2 = 0$", ylabel="y")
    axes.legend(fontsize=8)

    axes, noise = panels["spread"], rmse(problem.target(test[0]), test[1])
    (residual,) = _numpy(test[1] - network_outputs(models[0], test[0]))
    edges = np.linspace(-5 * noise, 5 * noise, 41)
    axes.hist(residual.clip(edges[0], edges[-1]), edges, density=True, color=COLOURS[0], alpha=0.5)
    bell = np.exp(-((edges / noise) ** 2) / 2) / (noise * (2 * np.pi) ** 0.5)
    axes.plot(edges, bell, color="0.15", ls="--", label=f"the noise alone, σ = {noise:.3f}")
    axes.set(xlabel="test point − network", ylabel="density")
    axes.legend(fontsize=7, loc="upper left")
    axes.set(ylim=(0, 1.25 * bell.max()))
    _loss(panels["loss"], {"seeds": histories}, noise)
    return figure


def extrapolation(
    problem: Problem,
    train: Points,
    outside: Points,
    models: dict[str, list[nn.Module]],
    histories: dict[str, Histories],
    final: dict,
) -> Figure:
    """Draw each activation's fits over the training interval and beyond; the error by distance; the falling error."""
    figure, panels = _mosaic(
        10,
        6.4,
        [["relu", "loss"], ["tanh", "distance"], ["snake", "bars"]],
        width_ratios=[2.3, 1],
        height_ratios=[1] * 3,
    )
    x = _line(PERIODIC_REACH, train)
    truth = problem.target(x)
    for name, colour in zip(BEST_RATES, COLOURS, strict=False):
        axes = panels[name]
        axes.axvspan(-problem.side, problem.side, color="0.93", zorder=0)
        axes.plot(*_numpy(*train), ".", color="0.72", ms=3)
        axes.plot(*_numpy(x, truth), color="0.15", ls="--", lw=1.2, zorder=3)
        for i, model in enumerate(models[name]):
            axes.plot(*_numpy(x, network_outputs(model, x)), color=colour, lw=2 if i == 0 else 0.8)
        axes.set(ylim=(-3, 3), xlim=(-PERIODIC_REACH, PERIODIC_REACH), ylabel="y")
        axes.set_title(NAMES[name], loc="left", color=colour, weight="bold", fontsize=10)
        axes.set_title(f"RMSE outside: {final[f'{name}_rmse_outside']:.2f}", loc="right", fontsize=9)
    panels["relu"].text(0, -2.75, "training interval", ha="center", color="0.35", fontsize=9)
    panels["snake"].set(xlabel="x (dots: training points; dashed: truth)")
    _loss(panels["loss"], histories, final["noise_rmse"])

    _errors_by_distance(panels["distance"], problem, outside, models, final["mean_rmse_outside"])
    _error_bars(panels["bars"], final)
    return figure


def _errors_by_distance(
    axes: Axes, problem: Problem, outside: Points, models: dict[str, list[nn.Module]], mean_rmse: float
) -> None:
    (away,) = _numpy(outside[0].abs() - problem.side)
    width = (PERIODIC_REACH - problem.side) / 6
    for name, colour in zip(BEST_RATES, COLOURS, strict=False):
        squares = np.mean([_numpy((network_outputs(m, outside[0]) - outside[1]) ** 2)[0] for m in models[name]], axis=0)
        errors = [squares[away // width == i].mean() ** 0.5 for i in range(6)]
        axes.plot(width * (np.arange(6) + 0.5), errors, "o-", ms=3, color=colour, label=NAMES[name])
    axes.axhline(mean_rmse, color="0.5", ls=":", lw=1)
    axes.text(6, mean_rmse, "always the mean", fontsize=7, color="0.35", ha="right", va="bottom")
    axes.set(xlabel="distance from the training interval", ylabel="RMSE", xlim=(0, 6))
    _log(axes)
    axes.set_ylim(axes.get_ylim()[0] / 2.5, None)  # room for the legend
    axes.legend(fontsize=7, loc="lower center", ncols=3)


def _error_bars(axes: Axes, final: dict) -> None:
    for i, place in enumerate(("inside", "outside")):
        values, spreads = ([final[f"{name}_rmse_{place}{end}"] for name in BEST_RATES] for end in ("", "_std"))
        bars = axes.bar([j + 0.4 * i - 0.2 for j in range(3)], values, 0.36, yerr=spreads, color=COLOURS[:3])
        for bar in bars:
            bar.set_alpha(0.4 if place == "inside" else 1)
        for j, value in enumerate(values):
            axes.text(j + 0.4 * i - 0.2, 0.06, f"{value:.2f}", ha="center", fontsize=7, color="white" if i else "0.2")
    axes.set(ylim=(0.05, 7), ylabel="RMSE", xlabel="pale: inside, full: outside")
    _log(axes)
    axes.set_xticks(range(3), [NAMES[name] for name in BEST_RATES])


def pictures(images: Tensor, labels: Tensor, p: Tensor, classes: list[str], histories: Histories) -> Figure:
    """Draw the loss; from the first seed's probabilities `p` (N, C), the confusion of classes and the surest errors."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=[1, 1.45, 1.35])
    axes = left.subplots()
    for i, history in enumerate(histories):
        epochs, losses = [h["epoch"] for h in history], [h["train_loss"] for h in history]
        axes.plot(epochs, losses, color=COLOURS[0], lw=2 if i == 0 else 0.8)
    axes.set(xlabel="epoch", ylabel="training loss (nats)")

    check_labels(p, labels)
    axes, k = middle.subplots(), len(classes)
    guesses = p.argmax(dim=1)
    counts = torch.bincount(labels * k + guesses, minlength=k * k).view(k, k).cpu().numpy()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for i in range(k):
        for j in range(k):
            if shares[i, j] > 0.005:
                shade = "white" if shares[i, j] > 0.4 else "0.2"
                axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=7, color=shade)
    axes.set_xticks(range(k), classes, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(k), classes, fontsize=8)
    axes.set(xlabel="network's answer", ylabel="true class (each row: 100 %)")
    axes.grid(False)

    surest = torch.where(guesses == labels, -1.0, p.amax(dim=1)).argsort(descending=True)[:12]
    right.suptitle("its surest mistakes: answer, probability (truth)", fontsize=9)
    for axes, i in zip(right.subplots(3, 4).flat, surest.tolist(), strict=False):
        axes.imshow(images[i].view(28, 28).cpu().numpy(), cmap="gray")
        axes.set_title(f"{classes[guesses[i]]} {p[i].max():.0%}\n({classes[labels[i]]})", fontsize=7)
        axes.set_axis_off()
    return figure


def engines(problem: Problem, train: Points, ours: EngineMLP, theirs: nn.Module, history: list[dict]) -> Figure:
    """Draw two trainings that should be one: the fits, the losses, and the difference of the losses."""
    figure, panels = _mosaic(11, 3.4, [["fit", "loss", "gap"]], width_ratios=[1.5, 1, 1])
    x = _line(problem.side, train)
    panels["fit"].plot(*_numpy(*train), ".", color="0.75", ms=3)
    panels["fit"].plot(*_numpy(x, ours.predict(x)), color=COLOURS[1], lw=3.5, label="chapter 1's engine")
    panels["fit"].plot(*_numpy(x, network_outputs(theirs, x)), color="black", lw=1, ls="--", label="PyTorch")
    panels["fit"].set(xlabel="x", ylabel="y")
    panels["fit"].legend(fontsize=8, loc="upper left")
    epochs, losses, others = ([row[key] for row in history] for key in ("epoch", "train_loss", "torch_train_loss"))
    panels["loss"].plot(epochs, losses, color=COLOURS[1], lw=3.5)
    panels["loss"].plot(epochs, others, color="black", lw=1, ls="--")
    panels["loss"].set(xlabel="epoch", ylabel="training loss (mean squared error)")
    _log(panels["loss"])
    gaps = [max(abs(a - b), 2e-18) for a, b in zip(losses, others, strict=True)]
    panels["gap"].plot(epochs, gaps, "o-", ms=3, color="0.3")
    panels["gap"].set(xlabel="epoch", ylabel="difference of the losses", yscale="log", ylim=(1e-18, 1e-12))
    return figure


def _loss(axes: Axes, groups: dict[str, Histories], noise: float) -> None:
    """Draw the training error of each group of seeds, in the unit of y, and the floor that the noise sets."""
    for colour, (name, histories) in zip(COLOURS, groups.items(), strict=False):
        for i, history in enumerate(histories):
            epochs, errors = [h["epoch"] for h in history], [h["train_loss"] ** 0.5 for h in history]
            label = NAMES.get(name) if i == 0 else None
            axes.plot(epochs, errors, color=colour, lw=2 if i == 0 else 0.8, label=label)
    axes.axhline(noise, color="0.5", ls=":", lw=1)
    axes.text(0.02, noise, "noise", transform=axes.get_yaxis_transform(), va="bottom", fontsize=8, color="0.35")
    axes.set(xlabel="epoch", ylabel="training RMSE")
    _log(axes)
    if len(groups) > 1:
        axes.legend(fontsize=7)


def _log(axes: Axes) -> None:
    """Make the y axis logarithmic, with labels that can be read."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator([m * 10.0**k for k in range(-3, 2) for m in (1, 2, 3, 5)]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _mosaic(width: float, height: float, layout: list[list[str]], **ratios) -> tuple[Figure, dict[str, Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplot_mosaic(layout, **ratios)


def _line(side: float, like: Points) -> Tensor:
    """Points (601, 1) along [-side, side], of the type and on the device of the data."""
    return torch.linspace(-side, side, 601, dtype=like[0].dtype, device=like[0].device)[:, None]


def _numpy(*tensors: Tensor) -> list:
    return [t.cpu().flatten().numpy() for t in tensors]
