"""What trained models look at: sentences side by side, a picture word by word, heads one by one, and over training.
训练好的模型看哪里：两种语言的句子对照、逐词看图、逐个看头，以及训练过程中的变化。
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from chapter_07_attention_mechanism.captioner import CELLS
from chapter_07_attention_mechanism.figures.cells import DARK, GREY, OTHERS, QUERY, WEIGHT, weight_grid
from utils.file_io_util import atomic_write
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

LONGEST = 60  # pieces on either side of a figure
MAX_LETTERS = 20  # of a piece
MAX_COLUMNS = 32  # columns of alignments side by side


def shorten(pieces: list[str]) -> list[str]:
    """Make spaces visible, and the first 60 pieces no longer than 20 letters."""
    cut = [piece if len(piece) <= MAX_LETTERS else f"{piece[: MAX_LETTERS - 1]}…" for piece in pieces[:LONGEST]]
    return [piece if piece.strip() else "␣" for piece in cut]


def alignments(panels: list[tuple[list[str], list[str], Tensor, Tensor | None]]) -> Figure:
    """Draw, side by side where they fit, for each (read, written, weights, known), the weights (T, S) with both texts.

    A row is a piece written, a column a piece read, 60 of each at most. `known` (T, S), bool, says which places are
    known to be right; they are outlined.
    """
    lines: list[list] = []
    for read, written, *rest in panels:
        panel = (shorten(read), shorten(written), *rest)
        if not lines or columns_of([*lines[-1], panel]) > MAX_COLUMNS:
            lines.append([])
        lines[-1].append(panel)
    widest = max(columns_of(line) for line in lines)
    letters = max([1, *(len(piece) for line in lines for read, *_ in line for piece in read)])
    heights = [0.9 + 0.26 * max(len(written) for _, written, *_ in line) + 0.09 * letters for line in lines]
    figure = Figure(figsize=(max(3.0, 0.26 * widest + 0.4), max(1.8, sum(heights))), layout="constrained")
    parts = figure.subfigures(len(lines), squeeze=False, height_ratios=heights)
    for part, line in zip(parts[:, 0], lines, strict=True):
        widths = [columns_of([panel]) for panel in line]
        grid = part.add_gridspec(1, len(line) + 1, width_ratios=[*widths, widest - sum(widths) + 0.01])
        for place, (read, written, weights, known) in zip(grid, line, strict=False):
            axes = part.add_subplot(place)
            axes.set_anchor("N")
            weight_grid(axes, weights[:LONGEST, :LONGEST], written, read, form=None)
            if letters > 2:
                axes.tick_params(axis="x", labelrotation=90)
            for t, s in [] if known is None else torch.nonzero(known[:LONGEST, :LONGEST]).tolist():
                axes.add_patch(Rectangle((s - 0.5, t - 0.5), 1, 1, fill=False, edgecolor=DARK, linewidth=1.2))
    return figure


def columns_of(line: list[tuple]) -> int:
    """Return how many columns panels side by side take, with room for what is written."""
    return sum(len(read) + 4 for read, *_ in line)


def draw_attended(axes: Axes, picture: Tensor, weights: Tensor, word: str) -> None:
    """Draw a picture (3, H, W), darkened where the weights (64,) of a word are not."""
    axes.clear()
    axes.imshow(picture.permute(1, 2, 0).numpy(), extent=(0, CELLS, CELLS, 0))
    grid = weights.view(CELLS, CELLS)
    veil = torch.zeros(CELLS, CELLS, 4)
    veil[..., 3] = 0.8 * (1 - grid / grid.max().clamp(min=1e-9))
    axes.imshow(veil.numpy(), extent=(0, CELLS, CELLS, 0), interpolation="bilinear")
    axes.set_title(word, fontsize=9, color=QUERY)
    axes.set_axis_off()


def caption_sheet(picture: Tensor, words: list[str], weights: Tensor) -> Figure:
    """Draw the picture (3, H, W) once for each word, 24 at most, with where the model looked, weights (T, 64)."""
    words = words[:24]
    columns = min(8, len(words))
    rows = -(-len(words) // columns)
    figure, panels = new_figure(0.85 * columns, 1.02 * rows, nrows=rows, ncols=columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, word, row in zip(panels.flat, words, weights, strict=False):
        draw_attended(axes, picture, row, word)
    return figure


def save_gif(scenes: list[tuple[Tensor, list[str], Tensor]], path: Path) -> Path:
    """Write an animation: pictures side by side, each described word by word, with where the model looks."""
    figure, panels = new_figure(2.6 * len(scenes), 3.3, ncols=len(scenes), squeeze=False)
    figure.set_dpi(90)
    canvas, frames = FigureCanvasAgg(figure), []
    for i in range(max(len(words) for _, words, _ in scenes) + 3):
        for axes, (picture, words, weights) in zip(panels[0], scenes, strict=True):
            t = min(i, len(words) - 1)
            draw_attended(axes, picture, weights[t], words[t])
            lines = " ".join(words[: t + 1]).replace(" and ", "\nand ")
            axes.text(0, CELLS + 0.3, lines, va="top", fontsize=7)
        canvas.draw()
        frame = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        # the usual choice of 256 colours would spend them all on the grain of the grounds
        frames.append(frame.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE))
    with atomic_write(path) as temporary:
        frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=500, loop=0)
    return path


def head_maps(pieces: list[str], weights: Tensor, sign: int) -> Figure:
    """Draw each head's weights (H, T, T) while the answer is written: the rows from the task's sign on."""
    figure, panels = new_figure(10, 5.6, nrows=2, ncols=-(-len(weights) // 2), squeeze=False)
    written = [f"→ {piece}" for piece in [*pieces[sign + 1 :], "end"]]
    for h, (axes, head) in enumerate(zip(panels.flat, weights, strict=False)):
        weight_grid(axes, head[sign:], written, pieces, form=None, title=f"head {h + 1}")
        axes.get_xticklabels()[sign].set_fontsize(6.5)  # the task's name is longer than a number
        axes.axvline(sign - 0.5, color=GREY, linewidth=1)
        axes.axvline(sign + 0.5, color=GREY, linewidth=1)
    return figure


def bleu_by_length(rows: list[dict], without: list[dict]) -> Figure:
    """Draw BLEU by the length of the German sentence, with and without attention."""
    figure, axes = new_figure(6, 3.6)
    spans = [
        f"{row['words_from']} to {row['words_to']}" if row["words_from"] else f"up to {row['words_to']}" for row in rows
    ]
    labels = [f"{span}\n({row['count']})" for span, row in zip(spans, rows, strict=True)]
    places = range(len(rows))
    axes.plot(places, [row["bleu"] for row in rows], "o-", color=WEIGHT, label="with attention")
    if without:
        axes.plot(places, [row["bleu"] for row in without], "o-", color=GREY, label="one vector, no attention")
    axes.set_xticks(places, labels)
    axes.set(xlabel="words of the German sentence (sentences)", ylabel="BLEU", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def entropy_over_training(histories: dict[str, list[dict]]) -> Figure:
    """Draw the mean entropy of attention over training, a curve for each task."""
    figure, axes = new_figure(6, 3.6)
    for (task, history), colour in zip(histories.items(), OTHERS, strict=False):
        steps = [row["step"] for row in history]
        axes.plot(steps, [row["attention_entropy"] for row in history], "o-", markersize=3, color=colour, label=task)
    axes.set(xlabel="training step", ylabel="entropy of attention (nats)", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def accuracy_by_length(rows: list[dict], trained_up_to: int, unshifted: list[dict]) -> Figure:
    """Draw the share of faultless answers by the length of the list, for each of the sorter's tasks.

    `unshifted` are the rows, if any, of a model that was trained without shifted positions; they are dashed.
    """
    figure, axes = new_figure(6, 3.6)
    lengths = [row["length"] for row in rows]
    axes.axvspan(min(lengths) - 0.5, trained_up_to + 0.5, color="0.93", linewidth=0)
    axes.text(trained_up_to + 0.3, 0.03, "seen in training ", ha="right", fontsize=8, color=GREY)
    for task, colour in zip(("sort", "reverse", "unique"), OTHERS, strict=True):
        axes.plot(lengths, [row[task] for row in rows], "o-", markersize=3, color=colour, label=task)
        label = "without shifted positions" if task == "unique" and unshifted else None
        shares = [row[task] for row in unshifted]
        axes.plot([row["length"] for row in unshifted], shares, "--", linewidth=1, color=colour, label=label)
    axes.set(xlabel="numbers in the list", ylabel="share of faultless answers", ylim=(-0.02, 1.04))
    axes.legend(frameon=False)
    return figure
