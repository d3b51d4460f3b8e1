"""The figures of visualize.py: slopes on a line, gradients by layer, maps and classes by depth, loss surfaces.
visualize.py 的图：直线上的斜率、各层的梯度、随深度变化的特征图与类别、损失曲面。
"""

from statistics import mean

import torch
from torch import Tensor

from chapter_04_cnn_classic.figures.canvas import canvas, show, write
from chapter_05_resnet_modern_cnn.src.figures.degradation import LABELS, LOOKS
from chapter_05_resnet_modern_cnn.src.probes.signals import geometric_mean
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

BLENDS = 9  # pictures of the way from one to the other
TILE = 104  # pixels of a feature map
TICKS = [-1, -0.5, 0, 0.5, 1]


def headline(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", weight="bold", fontsize=10)


# ---- untrained networks ----------------------------------------------------------------------------------------------


def shattered(start: Tensor, end: Tensor, curves: dict[str, dict]) -> Figure:
    """Draw a logit's slope on the way between two pictures (3, H, W), and how alike slopes are that lie apart.

    A row for each depth. `curves` has by network, such as "plain_20", "slopes" (N,), and for each seed the
    autocorrelation as "likeness" (lags + 1,).
    """
    depths = sorted({int(name.split("_")[1]) for name in curves})
    kinds = ["plain", "residual"]
    figure = Figure(figsize=(10, 0.7 + 2 * len(depths)), layout="constrained")
    rows = [[*(f"{kind}_{depth}" for kind in kinds), f"likeness_{depth}"] for depth in depths]
    panels = figure.subplot_mosaic(
        [["strip_0", "strip_1", "note"], *rows],
        height_ratios=[0.42] + [2.5] * len(depths),
        width_ratios=[1.25, 1.25, 1],
    )
    share = torch.linspace(0, 1, BLENDS)[:, None, None, None]
    strip = (start + share * (end.float() - start)).round().to(torch.uint8)  # (BLENDS, 3, H, W)
    strip = torch.cat(list(strip // 8 * 8), dim=2).movedim(0, -1).numpy()  # (H, BLENDS * W, 3); 32 shades store small
    for name in ("strip_0", "strip_1"):
        panels[name].imshow(strip, extent=(0, 100, 0, 1), aspect="auto", interpolation="nearest")
        panels[name].axis("off")
    note = (
        "The picture changes from left to right.\nBelow: how fast one answer of an\nuntrained network changes with it."
    )
    panels["note"].text(0, 0.5, note, va="center", fontsize=9)
    panels["note"].axis("off")
    for depth in depths:
        for kind in kinds:
            axes, slopes = panels[f"{kind}_{depth}"], curves[f"{kind}_{depth}"]["slopes"]
            t = torch.linspace(0, 100, len(slopes))
            axes.plot(t, slopes / slopes.std(), color=LOOKS[kind]["color"], lw=0.8)
            axes.set(xlim=(0, 100), ylim=(-4.2, 4.2), yticks=[-3, 0, 3])
            headline(axes, f"{LABELS[kind]}, {depth} layers")
            axes.set_title(f"deviation: {slopes.std():.3g}", loc="right", fontsize=8)
            if depth == depths[-1]:
                axes.set_xlabel("place on the way (%)")
        panels[f"plain_{depth}"].set_ylabel("slope (deviations)")
        axes = panels[f"likeness_{depth}"]
        for kind in kinds:
            likeness, colour = curves[f"{kind}_{depth}"]["likeness"], LOOKS[kind]["color"]
            apart = 100 * torch.arange(len(likeness[0])) / (len(t) - 1)
            for seed in likeness:
                axes.plot(apart, seed, color=colour, lw=0.7, alpha=0.5)
            average = torch.stack(likeness).mean(dim=0)
            axes.plot(apart, average, color=colour, lw=2, marker=".", ms=4, label=LABELS[kind])
        axes.axhline(0, color="black", lw=0.8, ls=":")
        axes.set(ylim=(-0.35, 1.05), ylabel="autocorrelation", xlim=(0, apart[-1].item()))
        headline(axes, f"likeness of slopes, {depth} layers")
        if depth == depths[-1]:
            axes.set_xlabel("distance between them (% of the way)")
    panels[f"likeness_{depths[0]}"].legend(fontsize=9)
    return figure


def highways(curves: dict[str, list[list[float]]]) -> Figure:
    """Draw by depth the gradient's norm at each convolution over the last one's, a thin line for each seed.

    `curves` has by network, such as "residual_v2_20", the norms of each seed.
    """
    depths = sorted({int(name.rsplit("_", 1)[1]) for name in curves})
    figure, panels = new_figure(12.5, 4.2, ncols=len(depths), sharey=True, squeeze=False)
    for axes, depth in zip(panels[0], depths, strict=True):
        for kind, looks in LOOKS.items():
            found, layers, colour = curves[f"{kind}_{depth}"], range(1, depth), looks["color"]
            for norms in found:
                axes.plot(layers, norms, color=colour, lw=0.7, alpha=0.5)
            middle = geometric_mean(found)
            first = mean(norms[0] for norms in found)
            label = f"{LABELS[kind]}: {first:,.0f} × at the first"
            axes.plot(layers, middle, color=colour, lw=2, marker=looks["marker"], ms=6, markevery=[0], label=label)
        stage = (depth - 2) // 3
        for border in (1.5, stage + 1.5, 2 * stage + 1.5):
            axes.axvline(border, color="black", lw=0.6, ls=":")
        axes.axhline(1, color="black", lw=0.8)
        axes.set(yscale="log", xlabel="convolution, from the pictures on; dotted: a new stage")
        headline(axes, f"{depth} layers, before training")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=9, loc="upper right")
    panels[0, 0].set_ylabel("gradient's norm, last convolution = 1")
    return figure


# ---- trained networks ------------------------------------------------------------------------------------------------


def maps(picture: Tensor, networks: dict[str, dict[str, Tensor]], most: int = 6) -> Figure:
    """Draw a picture (3, H, W), and by network and stage those of its maps (C, h, w) that answer most."""
    step, left = TILE + 6, 2 * TILE + 40
    wide, high = step * most + 40, step + 34
    stages = next(iter(networks.values()))
    figure = canvas(left + wide * len(networks) - 46, 30 + high * len(stages) - 10)
    write(figure, 0, 20, "the picture", ha="left", weight="bold", fontsize=10)
    show(figure, 0, 54, 2 * TILE, picture)
    for i, (name, found) in enumerate(networks.items()):
        x = left + wide * i
        write(figure, x, 20, name, ha="left", weight="bold", fontsize=10)
        for row, (stage, answers) in enumerate(found.items()):
            y, (n_channels, height, width) = 30 + high * row, answers.shape
            strongest = answers.float().flatten(1).max(dim=1).values.topk(min(most, n_channels)).indices.tolist()
            text = f"{stage}: {len(strongest)} of {n_channels} maps of {height} × {width}"
            write(figure, x, y + 18, text, ha="left", fontsize=8)
            for k, channel in enumerate(strongest):
                show(figure, x + step * k, y + 24, TILE, answers[channel].float(), cmap="magma")
    return figure


def readable(curves: dict[str, tuple], labels: Tensor) -> Figure:
    """Draw by network, after so many layers, how often the nearest class mean is right, and the network's own answer.

    `curves` has by network layers, accuracies, and the accuracy of its answer.
    """
    figure, axes = new_figure(6.6, 4.1)
    for (name, (layers, accuracies, own)), looks in zip(
        curves.items(), (LOOKS["residual"], LOOKS["plain"]), strict=True
    ):
        axes.plot(layers, [100 * value for value in accuracies], label=name, lw=2, **looks | {"ms": 5})
        axes.axhline(100 * own, color=looks["color"], ls="--", lw=1)
    axes.axhline(100 / len(labels.unique()), color="black", ls=":", lw=1)
    axes.set(xlabel="layers passed", ylabel="held-out pictures nearest to their class's mean (%)", ylim=(0, 100))
    axes.set_xticks(layers)
    headline(axes, "where the class becomes readable\ndashed: the network's own answers; dotted: guessing")
    axes.legend(fontsize=9, loc="lower right")
    return figure


def surfaces(axis: Tensor, found: dict[str, Tensor]) -> Figure:
    """Draw losses (N, N) on a square around each network as a relief and as a map, all on one logarithmic scale."""
    every = torch.stack(list(found.values())).clamp(min=1e-6).log10()
    low, high = every.min().item(), every.max().item()
    levels = torch.linspace(low, high, 15).tolist()
    figure = Figure(figsize=(3.9 * len(found) + 0.8, 6.2), layout="constrained")
    x, y = (t.numpy() for t in torch.meshgrid(axis, axis, indexing="ij"))
    flat = []
    for i, (name, loss) in enumerate(found.items()):
        heights = loss.log10().clamp(min=low)
        relief = figure.add_subplot(2, len(found), i + 1, projection="3d")
        looks = {"cmap": "viridis", "vmin": low, "vmax": high, "antialiased": False}
        relief.plot_surface(x, y, heights.numpy(), rcount=len(axis), ccount=len(axis), **looks)
        relief.set(zlim=(low, high), xlabel="direction a", ylabel="direction b", xticks=TICKS, yticks=TICKS)
        relief.set_zlabel("loss (nats)", labelpad=2)
        relief.zaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
        relief.view_init(32, -55)
        headline(relief, name)
        below = figure.add_subplot(2, len(found), len(found) + i + 1, aspect="equal")
        shades = below.contourf(x, y, heights.numpy(), levels, cmap="viridis")
        below.plot(0, 0, "+", color=COLOURS[1], ms=11, mew=2)
        below.set(
            xlabel="direction a (lengths of the filters)",
            ylabel="direction b" if i == 0 else "",
            xticks=TICKS,
            yticks=TICKS,
        )
        below.grid(False)
        flat.append(below)
    bar = figure.colorbar(shades, ax=flat, shrink=0.9, format=FuncFormatter(lambda value, _: f"{10**value:.2g}"))
    bar.set_label("loss (nats), logarithmic; cross: the network")
    return figure
