"""Writing with attention: beam search as a tree, copying as a mixture, and where the right places to look are known.
用注意力来写：束搜索的树、复制的混合分布，以及已知“该看哪里”的数据。
"""

import torch

from chapter_07_attention_mechanism.captioner import CELLS
from chapter_07_attention_mechanism.dataset.dates import Example
from chapter_07_attention_mechanism.dataset.scenes import Scene, cells_of
from chapter_07_attention_mechanism.figures.cells import (
    DARK,
    GREY,
    OTHERS,
    WEIGHT,
    arrow,
    blank,
    tint,
    weight_grid,
    write,
)
from utils.plotting import new_figure

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

ON_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1}
TREE = {  # after these tokens: the probability of each next one
    (): {"a": 0.5, "the": 0.4, "some": 0.1},
    ("a",): {"cat": 0.4, "dog": 0.3, "pet": 0.3},
    ("the",): {"cat": 0.9, "dog": 0.05, "pet": 0.05},
}


def beam_tree() -> Figure:
    """The tree of two steps in which greedy decoding misses the likeliest sequence, and a beam of two finds it."""
    figure, axes = blank(8.5, 3.9, 13, 6.2)
    best = max(((a, b) for a in ("a", "the") for b in TREE[(a,)]), key=lambda p: TREE[()][p[0]] * TREE[(p[0],)][p[1]])
    write(axes, 1.0, 3.1, "start", fontweight="bold")
    places = {"a": 4.9, "the": 2.1, "some": 0.3}
    for first, p in TREE[()].items():
        y = places[first]
        kept = first != "some"
        arrow(axes, (1.6, 3.1), (4.2, y), DARK if kept else GREY, 0.6 + 4 * p)
        write(axes, 2.9, (3.1 + y) / 2, f"{p:g}", color=DARK if kept else GREY, bbox=ON_WHITE)
        write(axes, 4.7, y, first, fontweight="bold", color=DARK if kept else GREY)
    for first in ("a", "the"):
        greedy = max(TREE[(first,)], key=TREE[(first,)].get)
        for i, (second, p) in enumerate(TREE[(first,)].items()):
            y, total = places[first] + 1.0 - i, TREE[()][first] * p
            colour = DARK if (first, second) == best else OTHERS[0] if (first, second) == ("a", greedy) else GREY
            arrow(axes, (5.3, places[first]), (7.9, y), colour, 0.6 + 4 * p)
            write(axes, 6.6, (places[first] + y) / 2, f"{p:g}", color=colour, fontsize=8, bbox=ON_WHITE)
            note = {DARK: "  found by a beam of 2", OTHERS[0]: "  greedy ends here"}.get(colour, "")
            write(axes, 8.1, y, f"{second}   {TREE[()][first]:g} × {p:g} = {total:.3g}{note}", ha="left", color=colour)
    return figure


def copying(own: dict[str, float], weights: dict[str, float], gate: float) -> Figure:
    """The mixture of writing a word of one's own and copying one of the source, as stacked bars."""
    words = list(own) + [word for word in weights if word not in own]
    figure, panels = new_figure(9.5, 2.9, ncols=3, sharey=True)
    own_p = torch.tensor([own.get(word, 0.0) for word in words])
    pointed = torch.tensor([weights.get(word, 0.0) for word in words])
    parts = [
        ("its own words", [(own_p, OTHERS[1])]),
        ("attention on the source", [(pointed, WEIGHT)]),
        (f"{gate:g} × own + {1 - gate:g} × copied", [(gate * own_p, OTHERS[1]), ((1 - gate) * pointed, WEIGHT)]),
    ]
    for axes, (title, layers) in zip(panels, parts, strict=True):
        bottom = torch.zeros(len(words))
        for heights, colour in layers:
            axes.bar(words, heights, bottom=bottom, color=colour, alpha=0.85, width=0.7)
            bottom = bottom + heights
        for i, total in enumerate(bottom.tolist()):
            if total:
                axes.text(i, total + 0.02, f"{total:.2f}", ha="center", fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 0.95)
        axes.tick_params(axis="x", labelsize=8)
    panels[0].set_ylabel("probability")
    return figure


def known_alignment(examples: list[Example]) -> Figure:
    """Dates whose right places to look are known: a row for each character of the answer, marked where it is told."""
    lengths = [len(example.source) for example in examples]
    figure, panels = new_figure(10, 2.5, ncols=len(examples), width_ratios=lengths)
    for axes, example in zip(panels, examples, strict=True):
        told = 0.6 * places_that_tell(example)
        weight_grid(axes, told, list(example.target), list(example.source.replace(" ", "␣")), form=None)
    return figure


def places_that_tell(example: Example) -> torch.Tensor:
    """Return (T, S), bool: which characters of the source tell each character of the answer."""
    told = torch.zeros(len(example.target), len(example.source), dtype=torch.bool)
    for j, places in enumerate(example.tells):
        told[list(places), j] = True
    return told


def scene_in_cells(picture: torch.Tensor, scene: Scene) -> Figure:
    """A picture (3, H, W) with the grid that attention looks at, each figure's cells outlined in its own colour."""
    figure, axes = new_figure(4.4, 4.6)
    side = picture.shape[-1]
    axes.imshow(picture.permute(1, 2, 0).numpy(), extent=(0, CELLS, CELLS, 0), interpolation="nearest")
    for i, (figure_, colour) in enumerate(zip(scene.figures, OTHERS, strict=False)):
        inset = 0.05 + 0.07 * i  # a cell may belong to two figures
        for cell in cells_of(figure_, CELLS):
            corner = (cell % CELLS + inset, cell // CELLS + inset)
            side_length = 1 - 2 * inset
            axes.add_patch(Rectangle(corner, side_length, side_length, fill=False, edgecolor=colour, linewidth=1.6))
    axes.set_xticks(range(CELLS + 1), [])
    axes.set_yticks(range(CELLS + 1), [])
    axes.grid(True, color="white", alpha=0.35, linewidth=0.6)
    axes.set_title(scene.sentence.replace(" and ", "\nand "), fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"{side} × {side} pixels, {CELLS} × {CELLS} cells", fontsize=8, color=GREY)
    axes.set_facecolor(tint(GREY))
    return figure
