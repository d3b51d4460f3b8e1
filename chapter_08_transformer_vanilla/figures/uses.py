"""What a trained encoder is good for, how a picture becomes a sequence, and what a token costs.
训练好的编码器能派什么用场，图片怎样变成序列，以及一个词元要花多少计算。
"""

import torch

from chapter_07_attention_mechanism.dataset.scenes import Figure as Shape
from chapter_07_attention_mechanism.dataset.scenes import Scene, paint
from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, boxes, write
from chapter_08_transformer_vanilla.figures import PLACE, READ, TALK, THINK, WRITTEN
from chapter_08_transformer_vanilla.figures.structure import block
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PHRASES = {"good": (1, 1), "not bad": (-1, -1), "not good": (-1, 1), "bad": (1, -1)}  # not? and good or bad?
PRAISE = ["good", "not bad"]
PICTURE = [[1, 2, 0, 0], [3, 4, 0, 5], [6, 0, 1, 1], [0, 6, 1, 1]]
ROW = [1, 0, 0, -1]  # of the matrix that maps a patch of 2 x 2
SCENE = Scene((Shape("red", "star", 0.42, 0.4, 0.3, 0.3), Shape("blue", "disc", 0.78, 0.75, 0.16, 0.0)), ())
SHAPE = {"n_layers": 6, "d": 384, "v": 65}  # of the Transformer whose work is counted
LSTM = {"n_layers": 2, "d": 836, "v": 65}


def pictures() -> dict[str, Figure]:
    """All drawings of this file, by the names of their files."""
    return {f.__name__: f() for f in (transfer, patches, work)}


def transfer() -> Figure:
    """What is kept of a pre-trained model, and four phrases that a line cannot part until their features move."""
    figure, (left, middle, right) = new_figure(11, 3.9, ncols=3, width_ratios=[1.35, 1, 1])
    left.set(xlim=(0, 11.2), ylim=(0, 8.2))
    left.set_axis_off()
    for x, name, head, colour in ((2.6, "pre-training", "4,000 tokens", GREY), (8.6, "transfer", "2 classes", WRITTEN)):
        write(left, x, 7.9, name, fontweight="bold")
        for y, text, kind in ((1.2, "embedding", READ), (2.7, "layer 1", READ), (4.2, "layer 2", READ)):
            block(left, x, y, 3.8, 0.9, text, kind)
            arrow(left, (x, y + 0.47), (x, y + 1.02))
        block(left, x, 5.7, 3.8, 0.9, "layer 3", READ)
        arrow(left, (x, 6.17), (x, 6.62))
        block(left, x, 7.05, 3.8, 0.8, head, colour)
    for y in (1.2, 2.7, 4.2, 5.7):
        arrow(left, (4.6, y), (6.6, y), READ)
    write(left, 5.6, 3.45, "kept", color=READ)
    write(left, 5.6, 7.05, "new", color=WRITTEN)
    write(left, 5.6, 0.25, "2,211,840 parameters are kept, 514 are new", color=GREY, fontsize=8)
    points = torch.tensor(list(PHRASES.values()), dtype=torch.float64)
    total = points.sum(dim=1)
    scatter(middle, points, "frozen: no line parts them", ("a: has no “not”", "b: “good”, not “bad”"), (-1.8, 1.8))
    middle.plot([-1.8, 1.4], [1.4, -1.8], color=DARK, linestyle="--", linewidth=1)
    middle.text(-1.75, -1.7, "filled: praise; this line has 3 of 4 right", fontsize=8, color=GREY)
    moved = torch.stack([total.relu(), (-total).relu()], dim=1)
    scatter(right, moved, "fine-tuned: the features have moved", ("max(0, a + b)", "max(0, −a − b)"), (-0.5, 2.6))
    right.plot([-0.5, 1.5], [1.5, -0.5], color=DARK, linestyle="--", linewidth=1)
    return figure


def scatter(axes: Axes, points: torch.Tensor, title: str, names: tuple[str, str], limits: tuple[float, float]) -> None:
    """Draw each phrase at its two features (4, 2); praise is filled."""
    taken: dict[tuple, int] = {}
    for phrase, (x, y) in zip(PHRASES, points.tolist(), strict=True):
        praise = phrase in PRAISE
        axes.plot(x, y, "o", markersize=10, color=THINK if praise else "white", markeredgecolor=THINK)
        step = taken.get((x, y), 0)
        axes.annotate(phrase, (x, y), (0, 9 + 12 * step), textcoords="offset points", ha="center", fontsize=9)
        taken[x, y] = step + 1
    axes.set_title(title, fontsize=9)
    axes.set(xlabel=names[0], ylabel=names[1], xlim=limits, ylim=limits)


def patches() -> Figure:
    """A picture cut into 64 tokens; and one row of the matrix on four patches, which is a convolution."""
    figure, axes = blank(11, 3.9, 35.5, 12.4)
    cut_picture(axes)
    project_patches(axes)
    axes.set(xlim=(0, 35.5), ylim=(0, 12.4))  # pictures set their own
    return figure


def cut_picture(axes: Axes) -> None:
    """Draw a picture of 32 x 32 pixels, and some of its patches of 4 x 4."""
    picture = paint([SCENE], torch.Generator().manual_seed(0), side=32)[0].permute(1, 2, 0)  # (32, 32, 3)
    axes.imshow(picture, extent=(0.4, 8.4, 1.9, 9.9), zorder=1)
    for k in range(9):
        axes.plot([0.4 + k, 0.4 + k], [1.9, 9.9], color="white", linewidth=0.8, zorder=2)
        axes.plot([0.4, 8.4], [1.9 + k, 1.9 + k], color="white", linewidth=0.8, zorder=2)
    write(axes, 4.4, 11.4, "32 × 32 pixels of 3 colours", fontweight="bold")
    write(axes, 4.4, 0.9, "8 × 8 patches of 4 × 4 pixels", color=GREY, fontsize=8)
    write(axes, 16.0, 11.4, "64 tokens of 48 numbers", fontweight="bold")
    arrow(axes, (8.7, 5.9), (10.0, 5.9), READ, 1.5)
    block(axes, 11.2, 8.9, 1.6, 1.6, "class", WRITTEN, fontsize=8)
    write(axes, 11.2, 7.65, "0", color=PLACE, fontsize=8)
    for i, (row, column) in enumerate(((2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (3, 4))):
        x, y = 13.9 + 2.1 * (i % 3), 8.9 - 2.8 * (i // 3)
        patch = picture[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        axes.imshow(patch, extent=(x - 0.8, x + 0.8, y - 0.8, y + 0.8), zorder=1)
        write(axes, x, y - 1.25, f"{8 * row + column + 1}", color=PLACE, fontsize=8)
        write(axes, 20.3, y, "…", fontsize=14)
    write(axes, 16.0, 3.0, "pink: position, a learned vector", color=PLACE, fontsize=8)
    write(axes, 16.0, 1.9, "48 numbers × matrix = D numbers", color=THINK, fontsize=8)


def project_patches(axes: Axes) -> None:
    """Draw PICTURE in patches of 2 x 2, and ROW times each of them."""
    write(axes, 29.0, 11.4, "patches of 2 × 2, one row of the matrix", fontweight="bold")
    for i, line in enumerate(PICTURE):
        for j, value in enumerate(line):
            boxes(axes, 23.0 + 1.0 * j + 0.35 * (j // 2), 8.5 - 1.0 * i - 0.35 * (i // 2), [value], READ, 1.0)
    write(axes, 29.9, 9.9, "row", color=THINK)
    boxes(axes, 27.9, 8.9, ROW, THINK, 1.0)
    write(axes, 33.9, 10.2, "kernel, stride 2", color=THINK)
    for a in range(2):
        boxes(axes, 32.9, 9.1 - 1.0 * a, ROW[2 * a : 2 * a + 2], THINK, 1.0)
    grid = torch.tensor(PICTURE)
    for k, (i, j) in enumerate(((0, 0), (0, 2), (2, 0), (2, 2))):
        patch = grid[i : i + 2, j : j + 2].flatten().tolist()
        value = sum(w * x for w, x in zip(ROW, patch, strict=True))
        y = 6.3 - 1.5 * k
        boxes(axes, 27.9, y, patch, READ, 1.0)
        arrow(axes, (32.1, y), (33.2, y), THINK)
        boxes(axes, 33.4, y, [value], THINK, 1.0)


def transformer_work(n_layers: int, d: int, context: int, v: int) -> dict[str, float]:
    """Return FLOP a token by part, for a decoder whose feed-forward is 4 D wide."""
    return {
        "projections": 2 * n_layers * 4 * d**2,
        "scores and means": 2 * n_layers * (context + 1) * d,
        "feed-forward": 2 * n_layers * 8 * d**2,
        "head": 2 * d * v,
    }


def lstm_work(n_layers: int, d: int, v: int) -> dict[str, float]:
    """Return FLOP a token by part, for layers as wide as the embedding."""
    return {"gates": 2 * n_layers * 8 * d**2, "head": 2 * d * v}


def work(context: int = 256) -> Figure:
    """A token's work part by part, for a Transformer and an LSTM of equal work; and what the context adds."""
    figure, (left, right) = new_figure(10, 3.3, ncols=2, width_ratios=[1.3, 1])
    colours = {"projections": TALK, "scores and means": "#B79AD6", "feed-forward": THINK, "gates": READ, "head": GREY}
    rows = {"LSTM\n2 layers, 836 wide": lstm_work(**LSTM), "Transformer\n6 layers, 384 wide": None}
    rows["Transformer\n6 layers, 384 wide"] = transformer_work(context=context, **SHAPE)
    for name, parts in rows.items():
        start = 0.0
        for part, flop in parts.items():
            size = flop / 1e6
            left.barh(name, size, left=start, color=colours[part], height=0.5)
            if size > 3:
                left.text(start + size / 2, name, f"{part}\n{size:.2f}", ha="center", va="center", color="white")
            elif size > 0.5:
                label = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": DARK}
                left.annotate(f"{part} {size:.2f}", (start + size / 2, 1.25), (0, 6), **label)
            start += size
        left.text(start + 0.3, name, f"{start:.2f}", va="center")
    left.set(xlabel=f"million FLOP a token, at a context of {context}", xlim=(0, 26), ylim=(-0.5, 1.6))
    left.grid(False)
    lengths = torch.arange(0, 8193, 64)
    totals = [sum(transformer_work(context=int(t), **SHAPE).values()) / 1e6 for t in lengths]
    right.plot(lengths, totals, color=TALK, label="Transformer")
    right.axhline(sum(lstm_work(**LSTM).values()) / 1e6, color=READ, label="LSTM")
    doubled = 12 * SHAPE["d"] - 1
    height = sum(transformer_work(context=doubled, **SHAPE).values()) / 1e6
    right.plot(doubled, height, "o", color=TALK)
    note = f"at {doubled:,} tokens\nscores and means cost as\nmuch as the layers' matrices"
    style = {"xytext": (300, 49), "fontsize": 8, "color": TALK}
    right.annotate(note, (doubled, height), arrowprops={"arrowstyle": "-", "color": TALK}, **style)
    right.set(xlabel="context (tokens)", ylabel="million FLOP a token", ylim=(0, 65), xlim=(0, 8192))
    right.set_xticks([0, 2048, 4096, 6144, 8192])
    right.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
