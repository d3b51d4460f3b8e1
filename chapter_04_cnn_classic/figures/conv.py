"""The figures of demo_conv_math.py: what kernels make of a picture, how fields grow, and how much each pixel counts.
demo_conv_math.py 的图：卷积核把图片变成什么样、感受野怎样增长、每个像素各占多少分量。
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from chapter_04_cnn_classic.conv import output_size
from chapter_04_cnn_classic.conv.receptive_field import Field
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle


@dataclass
class Panel:
    """What a kernel makes of the picture: (3, H, W) in colour, or (H, W) with a sign; `spot` is a place to mark."""

    title: str
    kernels: Sequence[Tensor]  # (k, k) each
    result: Tensor
    spot: tuple[int, int] | None = None


def kernel_gallery(panels: list[Panel]) -> Figure:
    """Draw each panel's result, and its kernels below: blue weights are positive, red ones negative."""
    columns = (len(panels) + 1) // 2
    ratios = {"height_ratios": [3, 1.25, 3, 1.25]}
    figure, grid = new_figure(2.25 * columns, 7.2, nrows=4, ncols=columns, gridspec_kw=ratios)
    for axes in grid.flat:
        axes.axis("off")
    for i, panel in enumerate(panels):
        row, column = 2 * (i // columns), i % columns
        _picture(grid[row, column], panel)
        for k, kernel in enumerate(panel.kernels):
            _kernel(grid[row + 1, column], kernel, 1.2 * (k - (len(panel.kernels) - 1) / 2))
        grid[row + 1, column].set(xlim=(-1.25, 1.25), ylim=(0.56, -0.56), aspect="equal")
    return figure


def _picture(axes: Axes, panel: Panel) -> None:
    if panel.result.ndim == 3:
        axes.imshow(panel.result.clamp(0, 1).permute(1, 2, 0).numpy())
    else:
        limit = panel.result.abs().max().item()
        axes.imshow(panel.result.numpy(), cmap="RdBu", vmin=-limit, vmax=limit)
    if panel.spot:
        axes.add_patch(Circle(panel.spot[::-1], 5, fill=False, edgecolor="black", linewidth=1.5))
    axes.set_title(panel.title, fontsize=10)


def _kernel(axes: Axes, kernel: Tensor, centre: float) -> None:
    """Draw the weights on a square of side 1 around `centre`, and write them in where there is room."""
    half, n, limit = 0.5, len(kernel), kernel.abs().max().item()
    extent = (centre - half, centre + half, half, -half)
    axes.imshow(kernel.numpy(), cmap="RdBu", vmin=-1.6 * limit, vmax=1.6 * limit, extent=extent)
    axes.add_patch(Rectangle((centre - half, -half), 1, 1, fill=False, edgecolor="0.6", linewidth=0.8))
    for edge in range(1, n if n < 10 else 1):
        axes.plot([centre - half, centre + half], [edge / n - half] * 2, color="white", lw=0.5)
        axes.plot([centre - half + edge / n] * 2, [-half, half], color="white", lw=0.5)
    if n > 3:
        return
    for i, row in enumerate(kernel.tolist()):
        for j, weight in enumerate(row):
            axes.text(centre - half + (j + 0.5) / n, -half + (i + 0.5) / n, f"{weight:g}", ha="center", va="center")


def receptive_fields(
    cones: dict[str, list[tuple[int, int, int]]], curve: list[dict], maps: dict[str, tuple[Tensor, range, int]]
) -> Figure:
    """Draw three ways for a field to grow, and how much of it counts.

    cones: title -> layers (kernel, stride, dilation) without padding. curve: rows of "layers", "field", "middle".
    maps: title -> (effective field (H, W) of a unit, the pixels that it sees, side of the middle).
    """
    figure, grid = new_figure(13, 7.4, nrows=2, ncols=3, gridspec_kw={"height_ratios": [1, 1.15]})
    for axes, (title, layers) in zip(grid[0], cones.items(), strict=True):
        _cone(axes, title, layers)
    _growth(grid[1, 0], curve)
    for axes, (title, drawn) in zip(grid[1, 1:], maps.items(), strict=True):
        _effective(axes, title, *drawn)
    return figure


def _cone(axes: Axes, title: str, layers: list[tuple[int, int, int]], pixels: int = 15) -> None:
    """Draw the units of each layer above the middle of what they see, and what one unit at the top depends on."""
    fields, counts = [Field()], [pixels]
    for kernel, stride, dilation in layers:
        fields.append(fields[-1].through(kernel, stride, dilation=dilation))
        counts.append(output_size(counts[-1], kernel, stride, dilation=dilation))
    used = {counts[-1] // 2}
    for level in range(len(layers), -1, -1):
        field, colour = fields[level], COLOURS[level]
        for unit in range(counts[level]):
            x = _middle(field, unit)
            face = colour if unit in used else "0.9"
            axes.add_patch(Rectangle((x - 0.36, level - 0.12), 0.72, 0.24, facecolor=face, zorder=2))
        if level:
            kernel, stride, dilation = layers[level - 1]
            wires = {(unit, unit * stride + dilation * tap) for unit in used for tap in range(kernel)}
            for top, bottom in wires:
                ends = [_middle(field, top), _middle(fields[level - 1], bottom)]
                axes.plot(ends, [level - 0.12, level - 0.88], color=colour, lw=1, alpha=0.55, zorder=1)
            axes.text(pixels + 0.1, level, f"sees {field.size}", va="center", color=colour, fontsize=9)
            used = {bottom for _, bottom in wires}
        axes.text(-1, level, f"layer {level}" if level else "pixels", ha="right", va="center", color="0.3", fontsize=9)
    axes.set(xlim=(-3.6, pixels + 3), ylim=(-0.3, len(layers) + 0.3))
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def _middle(field: Field, unit: int) -> float:
    seen = field.pixels(unit)
    return (seen[0] + seen[-1]) / 2


def _growth(axes: Axes, curve: list[dict]) -> None:
    layers = [row["layers"] for row in curve]
    axes.plot(layers, [row["field"] for row in curve], "o-", label="field: grows like the layers")
    axes.plot(layers, [row["middle"] for row in curve], "s-", label="middle with 95 % of the weight")
    scale = curve[-1]["middle"] / layers[-1] ** 0.5
    axes.plot(layers, [scale * n**0.5 for n in layers], ":", color="0.4", label="the square root of the layers, scaled")
    axes.set(xlabel="3x3 convolutions, one on another", ylabel="side (pixels)", ylim=(0, None), xticks=layers)
    axes.set_title("A pixel that is seen may hardly count", fontsize=10)
    axes.legend(fontsize=8)


def _effective(axes: Axes, title: str, weight: Tensor, seen: range, middle: int) -> None:
    centre = (seen[0] + seen[-1]) / 2
    axes.imshow(weight.numpy(), cmap="magma", norm=PowerNorm(0.5, 0))  # the root shows the faint parts
    for side, style, label in (
        (len(seen), "--", f"field, {len(seen)} x {len(seen)}"),
        (middle, "-", f"95 % of the weight, {middle} x {middle}"),
    ):
        corner = (centre - side / 2, centre - side / 2)
        axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="white", linestyle=style, label=label))
    margin = 0.7 * len(seen)
    axes.set(xlim=(centre - margin, centre + margin), ylim=(centre + margin, centre - margin), xticks=[], yticks=[])
    axes.set_facecolor("black")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, facecolor="0.25", labelcolor="white", loc="upper left")
