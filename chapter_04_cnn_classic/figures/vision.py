"""The figures of visualize.py: filters, what a network looks at, what its units want, where it errs.
visualize.py 的图：滤波器、网络盯着哪里、各单元想看到什么、它错在哪里。
"""

from torch import Tensor

from chapter_04_cnn_classic.evaluation import per_class
from chapter_04_cnn_classic.figures.canvas import DARK, canvas, show, write
from utils.plotting import COLOURS

from matplotlib.figure import Figure

BLUE, RED = COLOURS[:2]


def filters(image: Tensor, weight: Tensor, answers: Tensor, most: int = 32, columns: int = 8) -> Figure:
    """Draw first-layer filters (C, 3, k, k) as tiles, from grey to colourful, and what each makes of a picture.

    In a tile grey stands for 0: it is the small picture that the filter answers to most. In an answer grey is 0, too.
    """
    colour = (weight - weight.mean(dim=1, keepdim=True)).square().sum((1, 2, 3)) / weight.square().sum((1, 2, 3))
    order = colour[:most].argsort().tolist()
    figure = canvas(256 + 190 * columns, max(250, 108 * -(-len(order) // columns) + 18))
    write(figure, 0, 18, "picture", ha="left")
    write(figure, 256, 18, "a filter, and its answer to the picture (white: positive, black: negative)", ha="left")
    show(figure, 0, 30, 224, image)
    for k, i in enumerate(order):
        x, y = 256 + 190 * (k % columns), 30 + 108 * (k // columns)
        show(figure, x, y, 72, 0.5 + weight[i] / (2 * weight[i].abs().max()))
        peak = answers[i].abs().max().item()
        show(figure, x + 76, y, 96, answers[i], cmap="gray", vmin=-peak, vmax=peak)
    return figure


def explanations(views: list[dict]) -> Figure:
    """Draw in a column for each picture what the network says, the two gradients, and what hiding a square costs.

    Each map has a scale of its own, up to its largest value, or for occlusion its largest fall.
    """
    figure = canvas(196 + 168 * len(views), 4 * 168 + 62)
    labels = ["picture", "gradient", "SmoothGrad", "occlusion"]
    for k, label in enumerate(labels):
        write(figure, 184, 36 + 168 * k + 74, label, ha="right")
        if k:
            write(figure, 184, 36 + 168 * k + 98, "own scale in each", ha="right", fontsize=7)
    write(figure, 184, 36 + 4 * 168 + 20, "worst square", ha="right")
    for k, view in enumerate(views):
        x = 196 + 168 * k
        write(figure, x + 80, 26, view["title"], color=DARK if view["right"] else RED)
        show(figure, x, 36, 160, view["picture"])
        show(figure, x, 36 + 168, 160, view["gradient"], cmap="magma", vmin=0)
        show(figure, x, 36 + 2 * 168, 160, view["smoothed"], cmap="magma", vmin=0)
        falls = view["occlusion"].cpu()
        peak = max(falls.abs().max().item(), 0.05)  # where nothing matters, the map stays pale
        grey = view["picture"].float().mean(dim=0)
        axes = show(figure, x, 36 + 3 * 168, 160, grey, cmap="gray", vmin=-120, vmax=300)
        strength = (falls.abs() / peak).clamp(max=1) ** 0.7
        axes.imshow(falls.numpy(), "RdBu_r", vmin=-peak, vmax=peak, alpha=0.8 * strength.numpy(), aspect="auto")
        write(figure, x + 80, 36 + 4 * 168 + 20, f"−{100 * view['falls'].max():.1f} points")
    return figure


def drawn_classes(row: dict, columns: int = 5) -> Figure:
    """Draw for each class the four photographs that excite it most and the picture drawn for it."""
    wide, high = 292, 190
    cells = list(zip(row["names"], row["cells"], strict=True))
    figure = canvas(wide * min(columns, len(cells)) - 28, high * -(-len(cells) // columns) - 20)
    for k, (name, (drawn, photographs)) in enumerate(cells):
        x, y = wide * (k % columns), high * (k // columns)
        write(figure, x, y + 22, name, ha="left", weight="bold")
        _with_photographs(figure, x, y + 32, drawn, photographs)
    return figure


def drawn_units(stages: list[dict], columns: int = 5) -> Figure:
    """Draw by stage the picture drawn for each unit and the patches of photographs that excite it most."""
    lines = [-(-len(stage["cells"]) // columns) for stage in stages]
    figure = canvas(292 * columns - 28, sum(48 + 144 * n for n in lines) - 12)
    y = 0
    for stage, n_lines in zip(stages, lines, strict=True):
        field = stage["field"]
        sees = f"{field} × {field} pixels" if field < 32 else "the whole picture"
        write(figure, 0, y + 32, f"stage {stage['stage']}: a unit sees {sees}", ha="left", weight="bold")
        for k, (drawn, patches) in enumerate(stage["cells"]):
            _with_photographs(figure, 292 * (k % columns), y + 48 + 144 * (k // columns), drawn, patches)
        y += 48 + 144 * n_lines
    return figure


def _with_photographs(figure: Figure, x: int, y: int, drawn: Tensor, photographs: list[Tensor]) -> None:
    """Put a drawn picture at (x, y), and beside it up to four photographs, two in a row."""
    show(figure, x, y, 132, drawn)
    for i, photograph in enumerate(photographs):
        show(figure, x + 136 + 68 * (i % 2), y + 68 * (i // 2), 64, photograph)


def confusion(matrix: Tensor, classes: list[str], order: list[int], border: int) -> Figure:
    """Draw the mistakes of a confusion matrix (K, K), classes in this order, and each class's recall and precision.

    Only mistakes are coloured. A line after the first `border` classes parts two groups.
    """
    names = [classes[i] for i in order]
    matrix = matrix[order][:, order]
    figures = per_class(matrix)
    shares = (100 * matrix.double() / matrix.sum(dim=1, keepdim=True).clamp(min=1)).numpy()
    mistakes = shares.copy()
    k = len(order)
    mistakes[range(k), range(k)] = 0
    figure = Figure(figsize=(10.2, 4.8), layout="constrained")
    table, bars = figure.subplots(1, 2, width_ratios=[1.35, 1])
    peak = max(mistakes.max(), 0.1)
    table.imshow(mistakes**0.5, cmap="OrRd", vmin=0, vmax=1.15 * peak**0.5)
    for i in range(k):
        for j in range(k):
            if i == j:
                table.text(j, i, f"{shares[i, j]:.1f}", ha="center", va="center", fontsize=8, color="0.55")
            elif matrix[i, j]:
                shade = "white" if mistakes[i, j] > 0.55 * peak else DARK
                table.text(j, i, f"{shares[i, j]:.1f}", ha="center", va="center", fontsize=8, color=shade)
    if border:
        for line in (table.axhline, table.axvline):
            line(border - 0.5, color=DARK, lw=1)
    table.set_xticks(range(k), names, rotation=45, ha="right")
    table.set_yticks(range(k), names)
    table.set(xlabel="network's answer", ylabel="true class", title="of each class, in %: mistakes coloured")
    table.grid(False)
    table.tick_params(length=0)

    recall, precision = (100 * figures[name] for name in ("recall", "precision"))
    bars.hlines(range(k), recall, precision, color="0.75", lw=2)
    for values, other, colour, label in (
        (recall, precision, BLUE, "recall: found, of the class"),
        (precision, recall, RED, "precision: right, of the answers"),
    ):
        bars.plot(values, range(k), "o", color=colour, ms=6, label=label)
        for i, (value, beside) in enumerate(zip(values.tolist(), other.tolist(), strict=True)):
            shift, side = (0.25, "left") if value >= beside else (-0.25, "right")  # the number stands outside
            bars.text(value + shift, i, f"{value:.1f}", va="center", ha=side, fontsize=8, color=colour)
    low = 100 * min(figures["recall"].min(), figures["precision"].min()).item()
    bars.set(xlim=(max(0, low - 2.5), 101.5), ylim=(k - 0.5, -0.5), xlabel="%")
    bars.set_yticks(range(k), names)
    bars.grid(axis="y", visible=False)
    bars.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    return figure


def mistakes(images: Tensor, labels: Tensor, p: Tensor, classes: list[str], most: int = 24, columns: int = 8) -> Figure:
    """Draw the mistakes of which the network was surest: its answer, the probability, and the true class."""
    surest, answers = p.max(dim=1)  # (N,)
    wrong = (answers != labels).nonzero()[:, 0]
    order = wrong[surest[wrong].argsort(descending=True)][:most].tolist()
    figure = canvas(204 * columns - 12, 264 * max(1, -(-len(order) // columns)))
    for k, i in enumerate(order):
        x, y = 204 * (k % columns), 264 * (k // columns)
        write(figure, x + 96, y + 26, f"{classes[answers[i]]} {surest[i]:.1%}", color=RED)
        show(figure, x, y + 34, 192, images[i])
        write(figure, x + 96, y + 248, f"is: {classes[labels[i]]}")
    return figure
