"""The figures of visualize.py: paths on maps, schedules, loss surfaces, contraction rates.
visualize.py 的图：地图上的路径、学习率调度、损失曲面和收缩率。
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from chapter_03_optimization_regularization.experiments.landscapes import LANDSCAPES
from chapter_03_optimization_regularization.figures.optimizer_comparison import COLOUR, LABELS
from utils.file_io_util import atomic_write
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgba_array
from matplotlib.figure import Figure

STAR = "#ffd21f"
RACERS = ["sgd", "momentum", "nesterov", "rmsprop", "adam", "lion"]  # Muon is for matrices
EXACT = to_rgba_array([*(COLOUR[name] for name in RACERS), STAR, "white"])[:, :3]  # colours that no palette may change
WIDTH = {"lion": 2.4, "sgd": 2.0}  # what the others run over is broader, and lies below them
TITLES = {
    "rosenbrock": "Rosenbrock: a bent valley",
    "beale": "Beale: plateau, then flat valley",
    "ravine": "ravine: 50 times steeper across",
    "saddle": "saddle: no slope at the pass",
}
HEIGHT = LinearSegmentedColormap.from_list("height", ["#ffffff", "#e3e9ed", "#b4c1ca", "#8396a5"])  # paths stand out
Runs = dict[str, dict]  # optimizer -> what landscapes.quickest returns


def trajectories(runs: dict[str, Runs]) -> Figure:
    """Draw every path on the map of its landscape, a dot for each step, with what the run needed to come to rest."""
    figure, panels = new_figure(10, 7.6, nrows=2, ncols=2)
    for axes, (place, found) in zip(panels.flat, runs.items(), strict=True):
        draw_map(axes, place)
        for name in RACERS:
            run, width = found[name], WIDTH.get(name, 1.1)
            rest = "not at rest" if run["steps"] is None else f"{run['steps']} steps"
            label = f"{LABELS[name]}, rate {run['lr']:.2g}: {rest}"
            axes.plot(
                *run["path"].T, ".-", color=COLOUR[name], lw=width, ms=2 + width, mew=0, zorder=4 - width, label=label
            )
        draw_marks(axes, place)
        axes.legend(fontsize=7, framealpha=0.85, labelspacing=0.3)
    return figure


def draw_map(axes: Axes, place: str, side: int = 300) -> None:
    """Shade a landscape by the logarithm of its height."""
    left, right, bottom, top = LANDSCAPES[place].window
    x, y = torch.meshgrid(torch.linspace(left, right, side), torch.linspace(bottom, top, side), indexing="xy")
    height = LANDSCAPES[place].function(torch.stack([x, y], dim=-1)).add(1e-2).log10()  # (side, side)
    levels = np.linspace(height.quantile(0.001).item(), height.max().item(), 14)
    axes.contourf(x, y, height, levels, cmap=HEIGHT, extend="min")
    axes.contour(x, y, height, levels, colors="#5d6f7d", linewidths=0.3, linestyles="solid")
    axes.grid(False)
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axes.set_title(TITLES[place], loc="left", weight="bold", fontsize=10)
    axes.spines[:].set_visible(False)


def draw_marks(axes: Axes, place: str) -> None:
    landscape = LANDSCAPES[place]
    axes.plot(*landscape.start, "o", color="black", ms=6, zorder=5)
    axes.plot(*landscape.minimum, "*", color=STAR, mec="black", mew=0.8, ms=14, zorder=5)


def film(runs: dict[str, Runs], frames: int, path: Path) -> None:
    """Film races side by side, the values falling below; equal ratios of steps take equal times."""
    figure, panels = new_figure(10, 4.8, nrows=2, ncols=len(runs), height_ratios=[2.3, 1], squeeze=False)
    steps = max(len(run["path"]) for found in runs.values() for run in found.values()) - 1
    movers = []
    for (above, below), (place, found) in zip(panels.T, runs.items(), strict=True):
        draw_map(above, place)
        draw_marks(above, place)
        for name in RACERS:
            looks = {"color": COLOUR[name], "animated": True, "solid_capstyle": "round"}
            trail, comet = (above.plot([], [], lw=width, alpha=alpha, **looks)[0] for width, alpha in TAIL)
            (head,) = above.plot([], [], "o", mec="white", mew=0.9, ms=8, label=LABELS[name], **looks)
            (curve,) = below.plot([], [], lw=1.6, **looks)
            movers.append((found[name], trail, comet, head, curve))
        below.set(xlim=(1, steps + 1), ylim=(1e-8, 1e2), xscale="log", yscale="log", xlabel="step, the start being 1")
        below.minorticks_off()
    panels[1, 0].set_ylabel("height above the minimum", fontsize=8)
    panels[0, -1].legend(fontsize=8, framealpha=0.85, labelspacing=0.3, loc="upper right")

    render(figure, dpi=96)  # draws everything but what moves
    canvas = figure.canvas
    ground, shots = canvas.copy_from_bbox(figure.bbox), []
    for moment in np.expm1(np.linspace(0, np.log1p(steps), frames)):
        canvas.restore_region(ground)
        for run, trail, comet, head, curve in movers:
            trail.set_data(*path_until(run["path"], moment).T)
            comet.set_data(*path_until(run["path"], moment, since=0.8 * moment - 2).T)
            head.set_data(*path_until(run["path"], moment)[-1:].T)
            values = run["values"][: int(moment) + 1]
            curve.set_data(range(1, len(values) + 1), values.clamp(min=1e-9))
        for layer in zip(*(mover[1:] for mover in movers), strict=True):  # all trails lie below all heads
            for artist in layer:
                artist.axes.draw_artist(artist)
        shots.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    palette = few_colours(shots[-1])  # one for all frames: what stands still does not flicker and costs nothing
    shots = [shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in shots]
    with atomic_write(path) as temporary:
        durations = [40] * (len(shots) - 1) + [2500]  # milliseconds
        shots[0].save(temporary, save_all=True, append_images=shots[1:], duration=durations, loop=0)


TAIL = [(1.2, 0.6), (2.6, 1.0)]  # width and opacity of the whole trail, and of its last fifth


def render(figure: Figure, dpi: int) -> Image.Image:
    """Return the figure as pixels; its canvas keeps them."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def few_colours(image: Image.Image) -> Image.Image:
    """Keep 256 colours, those in EXACT exactly: thin lines have few pixels, and would fade into the ground."""
    room = 256 - len(EXACT)
    ground = image.quantize(room)
    shades = [
        255 if c >= 250 else c for c in ground.getpalette()
    ]  # paper stays white: Pillow takes what is nearly white
    ground.putpalette((shades + [0] * 3 * room)[: 3 * room] + [round(255 * c) for c in EXACT.flat])
    return image.quantize(palette=ground, dither=Image.Dither.NONE)


def save_small(figure: Figure, path: Path) -> Path:
    """Write a PNG of 256 colours: shaded figures take a third of the space."""
    with atomic_write(path) as temporary:
        few_colours(render(figure, dpi=150)).save(temporary, optimize=True)
    return path


def path_until(path: Tensor, moment: float, since: float = 0.0) -> Tensor:
    """Return the points of a path (steps + 1, 2) from step `since` to `moment`; between two steps it is straight."""
    done = min(int(moment), len(path) - 1)
    after = min(done + 1, len(path) - 1)
    now = torch.lerp(path[done], path[after], moment - int(moment))
    return torch.cat([path[max(int(since), 0) : done + 1], now[None]])


def schedules(factors: dict, total: int) -> Figure:
    """Draw the share of the peak rate over a training, one panel for each schedule."""
    figure, panels = new_figure(10, 4, nrows=2, ncols=4, sharex=True, sharey=True)
    steps = range(total)
    for axes, (name, factor), colour in zip(panels.flat, factors.items(), COLOURS + COLOURS[:2], strict=True):
        shares = [factor(step) for step in steps]
        axes.plot(steps, shares, color=colour, lw=1.8)
        axes.fill_between(steps, shares, color=colour, alpha=0.15, lw=0)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set(xlim=(0, total), ylim=(0, 1.08), xticks=[0, total // 2, total])
    for axes in panels[1]:
        axes.set_xlabel("step")
    figure.supylabel("share of the peak rate", fontsize=10)
    return figure


def surfaces(
    bowls: dict[str, Tensor], reach: Tensor, plane: Tensor, sides: list[Tensor], shadows: dict[str, Tensor]
) -> Figure:
    """Draw the loss around two minima as hills, and a map with two paths on it."""
    figure = Figure(figsize=(12, 4.3), layout="constrained")
    u, v = np.meshgrid(reach, reach, indexing="ij")
    top = 3.0
    for i, (title, losses) in enumerate(bowls.items()):
        axes = figure.add_subplot(1, 3, i + 1, projection="3d")
        axes.plot_surface(
            u, v, losses.clamp(max=top).numpy(), cmap="viridis", vmin=0, vmax=top, rcount=80, ccount=80, lw=0
        )
        axes.contour(u, v, losses.numpy(), np.linspace(0.2, top, 8), offset=-1.2, cmap="viridis", linewidths=0.8)
        axes.set(zlim=(-1.2, top), zticks=[0, 1, 2, 3], xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        axes.set_title(f"loss {title} (cut off at {top:.0f})", weight="bold", fontsize=10)
        axes.set(xlabel="direction 1", ylabel="direction 2")
        axes.view_init(32, -55)
    axes = figure.add_subplot(1, 3, 3)
    height = plane.clamp(min=1e-3).log10()
    levels = np.linspace(height.min().item(), height.max().item(), 18)
    axes.contourf(*sides, height.T, levels, cmap=HEIGHT)
    axes.contour(*sides, height.T, levels, colors="#5d6f7d", linewidths=0.3, linestyles="solid")
    for name, shadow in shadows.items():
        axes.plot(*shadow.T, ".-", color=COLOUR[name], lw=1.2, ms=3, label=LABELS[name])
        axes.plot(*shadow[-1], "*", color=COLOUR[name], mec="black", mew=0.8, ms=13, zorder=5)
    axes.plot(0, 0, "o", color="black", ms=6, zorder=5)
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(False)
    axes.set_title("one start, two optimizers, two ends", weight="bold", fontsize=10)
    axes.set(aspect="equal", xlabel="distance along the plane", ylabel="distance along the plane")
    return figure


def condition(rows: list[dict], methods) -> Figure:
    """Draw one run of each method, the measured factor per step on the theory's lines, and the steps to a millionth."""
    figure, (left, middle, right) = new_figure(12, 3.8, ncols=3)
    shown = sorted({row["condition"] for row in rows})
    shown = min(shown, key=lambda k: abs(k - 100))
    line = np.geomspace(1.5, 1.5 * max(row["condition"] for row in rows), 200)
    for (method, best), colour in zip(methods.items(), (COLOURS[0], COLOURS[2], COLOURS[1]), strict=True):
        mine = [row for row in rows if row["method"] == method]
        kappas = [row["condition"] for row in mine]
        run = next(row for row in mine if row["condition"] == shown)
        name = method.replace("_", " ").replace("nesterov", "Nesterov")
        left.plot(run["distances"], color=colour, label=name)
        rates = [best(k)[2] for k in line]
        middle.plot(line, rates, color=colour, lw=1)
        middle.plot(kappas, [row["measured"] for row in mine], "o", color=colour, ms=5, label=name)
        right.plot(line, np.log(1e-6) / np.log(rates), color=colour, lw=1)
        right.plot(kappas, [row["steps"] for row in mine], "o", color=colour, ms=5, label=name)
    left.set(title=f"condition number {shown}", xlabel="step", yscale="log", xlim=(0, 700), ylim=(1e-8, 3))
    left.set_ylabel("distance to the minimum, relative")
    middle.set(title="what a step leaves of the distance", xlabel="condition number κ", xscale="log", ylim=(0, 1.03))
    right.set(title="steps to a millionth of the distance", xlabel="condition number κ", xscale="log", yscale="log")
    middle.legend(fontsize=8, title="dots: measured, lines: theory", title_fontsize=8, loc="lower right")
    return figure
