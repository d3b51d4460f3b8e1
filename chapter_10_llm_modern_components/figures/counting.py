"""Counting: operations of one matrix, forwards and backwards, and of the whole model as the text grows.
计数：一个矩阵前向与反向的运算次数，以及整个模型随文本变长的运算次数。
"""

import numpy as np

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, boxes, write
from chapter_10_llm_modern_components.figures import TALK, THINK
from chapter_10_llm_modern_components.model import LanguageModel
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WEIGHTS, TOKEN, GRADIENT = [[1, 2, 0], [3, 1, 2]], [1, 2, 3], [1, 2]


def products() -> tuple[list[int], list[int], list[list[int]]]:
    """Return the output, the gradient of the token, and that of the weights."""
    w, x, g = np.array(WEIGHTS), np.array(TOKEN), np.array(GRADIENT)
    return (w @ x).tolist(), (w.T @ g).tolist(), np.outer(g, x).tolist()


def counts(model: LanguageModel, n: int) -> dict[str, int]:
    """Return the parameters of each part, operations for a token that looks back at n others, bytes kept in 16 bits."""
    c, attention = model.config, model.blocks[0].attention
    sizes = dict.fromkeys(("tokens", "attention", "feed_forward", "norms"), 0)
    for name, parameter in model.named_parameters():
        parts = ("norm", "norms"), ("attention", "attention"), ("feed_forward", "feed_forward"), ("embedding", "tokens")
        sizes[next(part for word, part in parts if word in name)] += parameter.numel()
    total = sum(sizes.values())
    read = 2 * total + 4 * c.n_layers * attention.n_heads * attention.d_head * n
    kept = 2 * c.n_layers * attention.n_kv_heads * attention.d_head * 2
    work = {"parameters": total, "operations_to_read": read, "operations_to_learn": 3 * read, "cache_bytes": kept}
    return sizes | work | {"looks_back": n, "context": c.max_length}


def counting(model: LanguageModel) -> Figure:
    """Three products with one matrix of six weights; operations a token against the tokens before it."""
    n_params, n_layers, width = counts(model, 0)["parameters"], model.config.n_layers, model.config.d_model
    figure, (left, right) = new_figure(11, 4.1, ncols=2, width_ratios=[1.2, 1])
    left.set(xlim=(0, 15), ylim=(0, 9.6), aspect="equal")
    left.set_axis_off()
    output, grad_x, grad_w = products()
    for y, name, result, colour in (
        (7.9, "forwards: y = W x", (WEIGHTS, TOKEN, output), THINK),
        (4.75, "backwards to the token: Wᵀ g", (np.transpose(WEIGHTS).tolist(), GRADIENT, grad_x), GREY),
        (1.5, "backwards to the weights: g xᵀ", (None, None, grad_w), GREY),
    ):
        row(left, y, name, result, colour)
    n = 2.0 ** np.arange(6, 15)
    right.plot(n, np.full_like(n, 2 * n_params / 1e6), color=THINK, linewidth=2.2, label="weights: 2 N")
    right.plot(n, 4 * n_layers * width * n / 1e6, color=TALK, linewidth=2.2, label="attention: 4 L D n")
    equal = n_params / (2 * n_layers * width)
    right.plot(equal, 2 * n_params / 1e6, "o", color=DARK, zorder=4)
    right.annotate(f"equal at {equal:,.0f}", (equal, 2 * n_params / 1e6), xytext=(-6, 8), ha="right",
                   textcoords="offset points", fontsize=9)  # fmt: skip
    right.set_xscale("log", base=2)
    right.set(yscale="log", xlabel="n, tokens looked back at", ylabel="million operations a token, forwards")
    right.set_xticks([64, 256, 1024, 4096, 16384], ["64", "256", "1,024", "4,096", "16,384"])
    right.set_yticks([1, 10, 100], ["1", "10", "100"])
    right.minorticks_off()
    right.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def row(axes: Axes, y: float, name: str, parts: tuple, colour: str) -> None:
    """Draw a product; without a matrix, an outer one of the gradient and the token."""
    matrix, vector, result = parts
    size = 0.72
    if matrix is None:
        column(axes, 1.4, y, GRADIENT, DARK, size)
        boxes(axes, 2.9, y, TOKEN, GREY, size)
    else:
        for i, line in enumerate(matrix):
            boxes(axes, 0.4, y + (len(matrix) / 2 - 0.5 - i) * size, line, THINK, size)
        column(axes, 0.9 + len(matrix[0]) * size, y, vector, GREY if colour is THINK else DARK, size)
    write(axes, 5.6, y, "=", fontsize=12)
    if matrix is None:
        for i, line in enumerate(result):
            boxes(axes, 6.1, y + (0.5 - i) * size, line, GREY, size)
    else:
        column(axes, 6.1, y, result, colour, size)
    write(axes, 8.8, y + 0.35, name, fontsize=9, ha="left", fontweight="bold")
    write(axes, 8.8, y - 0.4, "6 times ×, 6 times +", fontsize=8, color=GREY, ha="left")


def column(axes: Axes, x: float, y: float, values: list, colour: str, size: float) -> None:
    """Draw numbers in a column whose middle is at height y."""
    for i, value in enumerate(values):
        boxes(axes, x, y + (len(values) / 2 - 0.5 - i) * size, [value], colour, size)
