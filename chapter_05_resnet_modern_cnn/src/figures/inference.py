"""The figures of inference.py: what the network says of each picture, and which others look like it.
inference.py 的图：网络对每张图片的回答，以及与它相似的其他图片。
"""

from torch import Tensor

from chapter_04_cnn_classic.answers import VERDICT_COLOURS, verdict
from chapter_04_cnn_classic.figures.canvas import FILE_NAME, canvas, frame, show, write
from chapter_05_resnet_modern_cnn.src.figures.cam import shortened

from matplotlib.figure import Figure

TILE = 192  # pixels of a picture


def contact_sheet(images: Tensor, answers: list[dict], columns: int = 5) -> Figure:
    """Draw each picture as the network sees it, and its five most probable classes.

    Green: the file is named after the answer; red: after another class; blue: after none.
    """
    wide, high = TILE + 32, TILE + 170
    columns = min(columns, len(answers))
    figure = canvas(wide * columns - 32, high * -(-len(answers) // columns) - 24)
    for i, (image, answer) in enumerate(zip(images, answers, strict=True)):
        x, y = wide * (i % columns), high * (i // columns)
        write(figure, x, y + 18, shortened(answer["file"], 21), ha="left", **FILE_NAME)
        show(figure, x, y + 26, TILE, image)
        colour = VERDICT_COLOURS[verdict(answer)]
        bars = frame(figure, x, y + TILE + 32, TILE, 22 * len(answer["top"]))
        bars.barh(range(len(answer["top"])), list(answer["top"].values()), color=[colour] + ["#808080"] * 4, alpha=0.4)
        for place, (label, p) in enumerate(answer["top"].items()):
            bars.text(0.02, place, label, fontsize=8, va="center")
            bars.text(0.99, place, f"{p:.1%}", fontsize=8, va="center", ha="right")
        bars.set(xlim=(0, 1), ylim=(len(answer["top"]) - 0.5, -0.5))
        bars.axis("off")
    return figure


def neighbour_sheet(images: Tensor, answers: list[dict], cosines: Tensor, others: Tensor, columns: int = 2) -> Figure:
    """Draw the first pictures, as many as have a row in `cosines` (n, k), and beside each its neighbours."""
    n, k = others.shape
    wide, high, columns = (TILE + 10) * (k + 1) + 50, TILE + 40, min(columns, n)
    figure = canvas(wide * columns - 44, high * -(-n // columns) - 14)
    for i in range(n):
        x, y = wide * (i % columns), high * (i // columns)
        write(figure, x, y + 18, shortened(answers[i]["file"], 21), ha="left", **FILE_NAME, weight="bold")
        show(figure, x, y + 26, TILE, images[i])
        for place, (cosine, other) in enumerate(zip(cosines[i].tolist(), others[i].tolist(), strict=True), start=1):
            left = x + (TILE + 10) * place + 6
            name = shortened(answers[other]["file"], 16)
            write(figure, left, y + 18, f"{cosine:.2f} {name}", ha="left", **FILE_NAME)
            show(figure, left, y + 26, TILE, images[other])
    return figure
