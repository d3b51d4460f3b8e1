"""The figures of detect.py.
detect.py 的插图。
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_04_cnn_classic.detection import iou, match
from chapter_04_cnn_classic.detection.scenes import Scene
from utils.plotting import COLOURS, new_figure

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

HUES = torch.tensor([to_rgb(colour) for colour in colormaps["tab10"].colors])  # (10, 3): one for each class


def overview(scene: Scene, heats: list[Tensor], found: dict[str, Tensor], classes: list[str]) -> Figure:
    """Draw a canvas, what glows on it, the boxes; below, each class's heat (K, h, w) without and with "nothing"."""
    height, width = scene.canvas.shape[1:]
    columns = len(classes)
    figure = Figure(figsize=(15, 15 * (height / width) * (1 / 3 + 2 / columns) + 1.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    top, bottom = figure.subfigures(2, 1, height_ratios=[columns / 3, 2.25])
    canvas, glow, boxes = top.subplots(1, 3)
    picture = scene.canvas.permute(1, 2, 0)  # (H, W, 3)
    _show(canvas, picture, "what the network gets")
    _show(glow, _glow(picture, heats[1]), "what it sees where, one colour a class", (0, width, height, 0))
    _show(boxes, picture, "what it says (dashed: wrong; white: missed)")
    _draw_boxes(boxes, scene, found, classes)

    rows = bottom.subplots(2, columns)
    for row, heat, name in zip(rows, heats, ("ten classes only", 'and "nothing"'), strict=True):
        for axes, values, label, hue in zip(row, heat, classes, HUES, strict=False):
            fade = torch.linspace(0, 1, 64)[:, None]
            colours = (fade * 2).clamp(max=1) * hue + (fade * 2 - 1).clamp(min=0) * (1 - hue)  # black, hue, white
            picture = colours[(values * 63).round().long()]  # (h, w, 3)
            _show(axes, picture, label if heat is heats[0] else "")
        row[0].set_ylabel(name)
    return figure


def curves(curves: list[tuple[Tensor, Tensor]], table: list[dict]) -> Figure:
    """Draw precision against recall, with a dot where the threshold chosen on validation scenes lies."""
    figure, axes = new_figure(6.5, 4.2)
    for (precision, recall), row, colour in zip(curves, table, COLOURS, strict=False):
        axes.plot(100 * recall, 100 * precision, color=colour, label=row["method"])
        axes.plot(100 * row["hit_rate"], 100 * row["precision"], "o", color=colour)
    axes.set(xlabel="hit rate (%)", ylabel="precision (%)", xlim=(0, 100), ylim=(0, 101))
    axes.set_title("each step adds to the one before; dots: the thresholds in use", fontsize=10)
    axes.legend(frameon=False)
    return figure


def _show(axes: Axes, picture: Tensor, title: str, extent: tuple | None = None) -> None:
    axes.imshow(picture.numpy(), extent=extent, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _glow(picture: Tensor, heat: Tensor) -> Tensor:
    """Light up a darkened grey picture (H, W, 3) in the colour of the class that is hottest at each place."""
    height, width = picture.shape[:2]
    smooth = F.interpolate(heat[None], (height, width), mode="bilinear")[0]  # (K, H, W)
    strength, best = smooth.max(dim=0)  # (H, W)
    grey = picture.float().mean(dim=2, keepdim=True) / 255
    strength = strength[..., None].sqrt()  # faint heat shows too
    return ((1 - strength) * 0.35 * grey + strength * (0.35 * grey + 0.65) * HUES[best % 10]).clamp(0, 1)


def _draw_boxes(axes: Axes, scene: Scene, found: dict[str, Tensor], classes: list[str]) -> None:
    hits = match(found["boxes"], found["labels"], scene.boxes, scene.labels)
    reached = (iou(found["boxes"][hits > 0], scene.boxes) >= 0.5).any(
        dim=0
    )  # things do not overlap: one box, one thing
    for box in scene.boxes[~reached]:
        _frame(axes, box, edgecolor="white", linewidth=1.5)
    for box, score, label, hit in zip(found["boxes"], found["scores"], found["labels"], hits, strict=True):
        colour, wrong = HUES[label % 10].tolist(), hit == 0
        _frame(axes, box, edgecolor=colour, linewidth=2.5, linestyle=(0, (2, 1.5)) if wrong else "solid")
        text = {"color": "white", "fontsize": 8, "va": "bottom", "bbox": {"facecolor": colour, "pad": 1.5, "lw": 0}}
        axes.text(box[0], max(box[1] - 2, 9), f"{classes[label]} {100 * score:.0f}", **text)


def _frame(axes: Axes, box: Tensor, **style: object) -> None:
    x1, y1, x2, y2 = (box - 0.5).tolist()  # imshow puts pixel 0 at -0.5 to 0.5
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style))
