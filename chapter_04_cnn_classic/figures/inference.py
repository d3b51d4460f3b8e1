"""The figures of inference.py: pictures with the answers they got, and one picture's way through the stages.
inference.py 的图：图片与网络的回答，以及一张图片逐阶段的特征图。
"""

from torch import Tensor

from chapter_04_cnn_classic.answers import VERDICT_COLOURS, verdict
from chapter_04_cnn_classic.figures.canvas import FILE_NAME, canvas, frame, show, write

from matplotlib.figure import Figure

EDGE = 165  # pixels of a picture on the contact sheet


def contact_sheet(pictures: Tensor, seen: Tensor, answers: list[dict], columns: int = 5) -> Figure:
    """Draw pictures (N, 3, S, S), the pixels (N, 3, 32, 32) that the network saw of each, and its three first answers.

    Green: the file is named after the answer; red: after another class; blue: after none.
    """
    columns = min(columns, len(answers))
    wide, high = 2 * EDGE + 38, EDGE + 158
    figure = canvas(wide * columns - 30, high * -(-len(answers) // columns) - 30)
    for i, (picture, pixels, answer) in enumerate(zip(pictures, seen, answers, strict=True)):
        x, y = wide * (i % columns), high * (i // columns)
        name = answer["file"] if len(answer["file"]) < 36 else f"{answer['file'][:32]}..."
        write(figure, x, y + 18, name, ha="left", **FILE_NAME)
        show(figure, x, y + 28, EDGE, picture)
        show(figure, x + EDGE + 8, y + 28, EDGE, pixels)
        best = list(answer["top"].items())[:3]
        bars = frame(figure, x, y + EDGE + 36, 2 * EDGE + 8, 90)
        bars.barh(
            range(len(best)), [p for _, p in best], color=[VERDICT_COLOURS[verdict(answer)]] + ["0.5"] * 2, alpha=0.4
        )
        for place, (label, p) in enumerate(best):
            bars.text(0.01, place, f"{label} {p:.0%}", fontsize=8, va="center")
        bars.set(xlim=(0, 1), ylim=(2.5, -0.5))
        bars.axis("off")
    return figure


def feature_maps(image: Tensor, name: str, stages: list[tuple[str, int, Tensor]], most: int = 12) -> Figure:
    """Draw a picture (3, 32, 32) and, for each stage, those of its maps that are brightest anywhere.

    stages: name, side of the receptive field in pixels, and maps (C, h, w). All maps of a stage have one scale.
    """
    figure = canvas(300 + 118 * most, 158 * len(stages))
    write(figure, 0, 28, name, ha="left", **FILE_NAME)
    show(figure, 0, 40, 256, image)
    for row, (stage, field, maps) in enumerate(stages):
        y, (n_channels, height, width) = 158 * row, maps.shape
        peaks, order = maps.flatten(1).max(dim=1).values.topk(min(most, n_channels))
        shown = f"stage {stage}: {len(order)} of {n_channels} maps of {height} × {width}"
        write(figure, 300, y + 28, f"{shown}; a unit sees {field} × {field} pixels", ha="left")
        scale = {"cmap": "magma", "vmin": min(0.0, maps.min().item()), "vmax": peaks[0].item()}
        for k, i in enumerate(order.tolist()):
            show(figure, 300 + 118 * k, y + 40, 112, maps[i], **scale)
    return figure
