"""The figures of visualize.py: filters, what a network looks at, what its units want, where it errs.
visualize.py 的图：滤波器、网络盯着哪里、各单元想看到什么、它错在哪里。
"""

from matplotlib.figure import Figure
from torch import Tensor

from chapter_04_cnn_classic.evaluation import per_class
from chapter_04_cnn_classic.figures.canvas import DARK, canvas, show, write
from utils.plotting import COLOURS

BLUE, RED = COLOURS[:2]


def filters(image: Tensor, weight: Tensor, answers: Tensor, most: int = 32, columns: int = 8) -> Figure:
    """Draw first-layer filters (C, 3, k, k) as tiles, from grey to colourful, and what each makes of a picture.

    In a tile grey stands for 0: it is the small picture that the filter answers to most. In an answer grey is 0, too.
    """
    colour = (weight - weight.mean(dim=1, keepdim=True)).square().sum((1, 2, 3)) / weight.square().sum((1, 2, 3))
    order = colour[:most].argsort().tolist()
    figure = canvas(256 + 190 * columns, max(224, 108 * -(-len(order) // columns) - 12))
    show(figure, 0, 0, 224, image)
    for k, i in enumerate(order):
        x, y = 256 + 190 * (k % columns), 108 * (k // columns)
        show(figure, x, y, 72, 0.5 + weight[i] / (2 * weight[i].abs().max()))
        peak = answers[i].abs().max().item()
        show(figure, x + 76, y, 96, answers[i], cmap="gray", vmin=-peak, vmax=peak)
    return figure


def looks(rows: list[dict]) -> Figure:
    """Draw in a column for each picture what the network says, the two gradients, and the map of occlusion."""
    figure = canvas(140 + 168 * len(rows), 4 * 168 + 62)
    for k, label in enumerate(["picture", "gradient", "SmoothGrad", "occlusion"]):
        write(figure, 128, 36 + 168 * k + 80, label, ha="right", va="center")
    write(figure, 128, 36 + 4 * 168 + 20, "largest fall", ha="right")
    for k, row in enumerate(rows):
        x = 140 + 168 * k
        write(figure, x + 80, 26, row["title"], color=DARK if row["right"] else RED)
        show(figure, x, 36, 160, row["picture"])
        show(figure, x, 36 + 168, 160, row["gradient"], cmap="magma")
        show(figure, x, 36 + 2 * 168, 160, row["smoothed"], cmap="magma")
        falls = row["occlusion"].cpu()
        peak = max(falls.abs().max().item(), 0.05)  # where nothing matters, the map stays pale
        axes = show(figure, x, 36 + 3 * 168, 160, row["picture"].float().mean(dim=0), cmap="gray", vmin=-120, vmax=300)
        strength = (falls.abs() / peak).clamp(max=1) ** 0.7
        axes.imshow(falls.numpy(), "RdBu_r", vmin=-peak, vmax=peak, alpha=0.8 * strength.numpy(), aspect="auto")
        write(figure, x + 80, 36 + 4 * 168 + 20, f"{100 * falls.max():.1f} points")
    return figure


def units(rows: list[dict], columns: int = 5) -> Figure:
    """Draw by stage, and for the classes, the picture drawn for each unit and the patches that excite it most."""
    lines = [-(-len(row["cells"]) // columns) for row in rows]
    figure = canvas(292 * columns - 28, sum(48 + 144 * n for n in lines) + 30 * lines[-1])
    y = 0
    for row, n_lines in zip(rows, lines, strict=True):
        names, field = row["names"], row["field"]
        sees = f"{field} × {field} pixels" if field < 32 else "the whole picture"
        title = "the classes" if names else f"stage {row['stage']}: a unit sees {sees}"
        write(figure, 0, y + 32, title, ha="left", weight="bold")
        y, step = y + 48, 144 + 30 * bool(names)
        for k, (drawn, patches) in enumerate(row["cells"]):
            x, top = 292 * (k % columns), y + step * (k // columns)
            if names:
                write(figure, x + 64, top + 22, names[k])
                top += 30
            show(figure, x, top + 2, 128, drawn // 8 * 8)  # 32 shades of each colour look the same and store small
            for i, patch in enumerate(patches):
                show(figure, x + 132 + 68 * (i % 2), top + 68 * (i // 2), 64, patch // 8 * 8)
        y += step * n_lines
    return figure


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

    for name, colour, shift, label in (
        ("recall", BLUE, -0.18, "recall: found, of the class"),
        ("precision", RED, 0.18, "precision: right, of the answers"),
    ):
        values = (100 * figures[name]).numpy()
        bars.hlines([i + shift for i in range(k)], 0, values, color=colour, lw=2, alpha=0.5)
        bars.plot(values, [i + shift for i in range(k)], "o", color=colour, ms=5, label=label)
        for i, value in enumerate(values):
            bars.text(value + 0.4, i + shift, f"{value:.1f}", va="center", fontsize=7, color=colour)
    low = 100 * min(figures["recall"].min(), figures["precision"].min()).item()
    bars.set(xlim=(max(0, low - 3), 101.5), ylim=(k - 0.5, -0.5), xlabel="%")
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
