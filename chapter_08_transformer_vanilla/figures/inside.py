"""Inside a trained language model and a Vision Transformer, and how fast the former learned beside a recurrent one.
训练好的语言模型与视觉 Transformer 的内部，以及前者与循环网络相比学得多快。
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, WEIGHT_MAP
from chapter_08_transformer_vanilla.figures import READ, TALK
from chapter_08_transformer_vanilla.figures.circuits import lens_rows
from utils.plotting import FILE_NAME, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LEAST_TOP = 0.1  # nats that are drawn dark, at least
SHOWN = {" ": "␣", "\n": "↵"}  # characters that cannot be seen


def visible(characters: str) -> list[str]:
    """Return each character as it is shown to people."""
    return [SHOWN.get(character, character) for character in characters]


def copying(found: dict) -> Figure:
    """Draw the loss by position in a text that repeats itself, how much each head copies, and what it costs without it.

    `found` is what `survey_copying` returns.
    """
    figure, (left, middle, right) = new_figure(11, 3.3, ncols=3, width_ratios=[1.3, 1, 1])
    losses = found["losses"].tolist()
    half = (len(losses) + 1) // 2
    left.plot(range(2, len(losses) + 2), losses, color=READ, linewidth=1.2)
    left.axvline(half + 0.5, color=GREY, linestyle="--", linewidth=1)
    left.text(half + 1.5, 1.05 * max(losses), "the same again", fontsize=8, color=GREY)
    left.set(xlabel="position", ylabel="loss (nats a character)", ylim=(0, 1.13 * max(losses)))
    title = f"weight on what is to be copied\n(everywhere alike: {found['uniform']:.3f})"
    head_grid(middle, found["weights"], title, top=1.0)
    top = max(found["costs"].max().item(), LEAST_TOP)
    head_grid(right, found["costs"], "rise of the second half's loss\nwithout the head (nats)", top)
    return figure


def head_grid(axes: Axes, values: Tensor, title: str, top: float) -> None:
    """Draw a number for each head (L, H), from 0, white, to `top`."""
    axes.imshow(values.numpy(), cmap=WEIGHT_MAP, vmin=0, vmax=top, aspect="auto")
    for (layer, head), value in np.ndenumerate(values.numpy()):
        ink = "white" if value > 0.4 * top else DARK
        axes.text(head, layer, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    for set_ticks, count in zip((axes.set_yticks, axes.set_xticks), values.shape, strict=True):
        set_ticks(range(count), [str(i + 1) for i in range(count)])
    axes.set(xlabel="head", ylabel="layer")
    axes.set_title(title, fontsize=9)
    axes.grid(False)


def lens(log_p: Tensor, text: str, characters: str) -> Figure:
    """Draw what the head would say after each layer, `logit_lens` (L + 1, T, V), and its mean loss on the text."""
    following = [characters.index(character) for character in text[1:]]
    losses = -log_p[:, range(len(following)), following].mean(dim=1)  # (L + 1,)
    names = ["embedding", *(f"layer {n}" for n in range(1, len(log_p)))]
    names = [f"{name}: {loss:.2f} nats" for name, loss in zip(names, losses.tolist(), strict=True)]
    p = dict(zip(names, log_p.exp(), strict=True))
    return lens_rows(p, visible(characters), visible(text), [*following, None])


def patch_attention(pictures: Tensor, shares: Tensor, answers: Sequence[str]) -> Figure:
    """Draw how much of what is looked at each patch gets, times its even share, over each picture.

    Args:
        pictures: (B, 3, S, S), uint8.
        shares: (B, L + 1, n, n), of each layer and of the rollout through all; those of a picture add up to 1.
        answers: what each picture is said to be.
    """
    n_rows, n_columns, across, _ = shares.shape
    names = [*(f"layer {n}" for n in range(1, n_columns)), "rollout"]
    figure, panels = new_figure(
        1.55 * (n_columns + 1) + 0.6, 1.75 * n_rows + 0.3, nrows=n_rows, ncols=n_columns + 1, squeeze=False
    )
    times = (shares * across**2).cpu().numpy()
    for line, picture, row, answer in zip(panels, pictures.cpu(), times, answers, strict=True):
        pixels = picture.permute(1, 2, 0).numpy()  # (3, S, S) -> (S, S, 3)
        side = len(pixels)
        line[0].imshow(pixels)
        line[0].set_xlabel(answer, **FILE_NAME)
        for axes, grid in zip(line[1:], row, strict=True):
            axes.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255)
            extent = (-0.5, side - 0.5, side - 0.5, -0.5)
            drawn = axes.imshow(grid, cmap="inferno", vmin=0, vmax=times.max(), alpha=0.6, extent=extent)
    for axes, name in zip(panels[0], ["", *names], strict=True):
        axes.set_title(name, fontsize=9)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
    figure.colorbar(drawn, ax=panels, shrink=0.8, label="times its even share")
    return figure


def race(runs: dict[str, dict]) -> Figure:
    """Draw the loss of trainings against time; each is {"history": rows, "final": figures}, as their results have.

    The history is of a part of the validation text, which may be easier or harder than all of it: each curve is shifted
    so that it ends at the loss on all of the text, and its label says by how much.
    """
    figure, axes = new_figure(6.5, 3.6)
    lowest = []
    for (name, run), colour, below in zip(runs.items(), (TALK, READ), (8, -14), strict=True):
        cores = int(run["machine"].rpartition(", ")[2].split()[0]) * run["final"].get("processes", 1)
        minutes = [row["seconds"] / 60 for row in run["history"]]
        shift = run["final"]["val_loss"] - run["history"][-1]["val_loss"]
        losses = [row["val_loss"] + shift for row in run["history"]]
        axes.plot(minutes, losses, "o-", ms=3, color=colour, label=f"{name} (cores: {cores}), shifted by {shift:+.3f}")
        last = run["final"]["train_seconds"] / 60, run["final"]["val_loss"]
        axes.plot(*last, "*", markersize=11, color=colour)
        axes.annotate(f"{last[1]:.3f}", last, (0, below), textcoords="offset points", ha="center", fontsize=8)
        lowest.append(min(losses))
    best = min(run["final"]["ngram_loss"] for run in runs.values())
    axes.axhline(best, color=GREY, linestyle="--", linewidth=1)
    axes.text(0.99, best + 0.01, "n-gram", fontsize=8, color=GREY, ha="right", transform=axes.get_yaxis_transform())
    axes.plot([], [], "*", color=DARK, markersize=9, linestyle="", label="in the end, on all of the text")
    bounds = min(lowest) - 0.1, min(lowest) + 0.8
    axes.set(xlabel="training (minutes)", ylabel="loss on validation (nats a character)", ylim=bounds)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    return figure
