"""The theory's pictures, whose numbers are computed by the chapter's own code.
理论部分的插图，图中数字均由本章代码算出。
"""

import torch
from torch import nn

from chapter_06_rnn_lstm_seq.figures.colours import GATE, GRADIENT, INPUT, OUTPUT, STATE
from chapter_06_rnn_lstm_seq.figures.schemes import DARK, arrow, blank_axes, node
from chapter_06_rnn_lstm_seq.figures.theory_cells import draw_lstm, draw_scan_tree
from chapter_06_rnn_lstm_seq.figures.theory_signals import draw_chaos, draw_loss, draw_mel, draw_sampling
from chapter_06_rnn_lstm_seq.long_memory import gradient_by_lag
from chapter_06_rnn_lstm_seq.recurrent import RNN
from chapter_06_rnn_lstm_seq.recurrent.cells import rnn_cell
from chapter_06_rnn_lstm_seq.scan import linear_recurrence
from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure

SHADES = [COLOURS[1], COLOURS[4], "black", COLOURS[5], COLOURS[0]]  # from vanishing to exploding


def draw_unrolled() -> Figure:
    """One unit, h' = tanh(x + 0.5 h), fed with 1 0 0 0: folded, unrolled with its states, and its gradients back."""
    one, half, none = (torch.full((1, 1), v, dtype=torch.float64) for v in (1.0, 0.5, 0.0))
    h, states = none, []
    for x in (1.0, 0.0, 0.0, 0.0):
        h = rnn_cell(torch.full_like(one, x), h, one, half.requires_grad_(), none[0], none[0])
        states.append(h)
    gradients = torch.autograd.grad(h.sum(), states)
    figure, axes = blank_axes(9.5, 3.3, (-2.6, 6.6), (-1.4, 1.7))
    node(axes, -2, 0.5, "$h$", STATE, 11)
    node(axes, -2, -0.9, "$x$", INPUT, 11)
    arrow(axes, (-2, -0.6), (-2, 0.2), INPUT, "· 1")
    arrow(axes, (-1.88, 0.78), (-2.12, 0.78), STATE, curve=3.5)
    axes.text(-2, 1.3, "· 0.5", color=STATE, fontsize=9, ha="center")
    axes.text(-0.95, -0.2, "=", fontsize=18, ha="center", va="center")
    node(axes, -0.3, 0.5, "$h_0 = 0$", STATE)
    for t, (state, gradient, x) in enumerate(zip(states, gradients, (1, 0, 0, 0), strict=True)):
        place = 1.3 + 1.6 * t
        node(axes, place, 0.5, f"$h_{t + 1} = {state.item():.3f}$", STATE)
        node(axes, place, -0.9, f"$x_{t + 1} = {x}$", INPUT)
        arrow(axes, (place, -0.65), (place, 0.25), INPUT, "· 1")
        arrow(axes, (place - 1.6 + 0.35 + 0.2, 0.5), (place - 0.57, 0.5), STATE, "· 0.5")
        axes.text(place, 1.35, f"{gradient.item():.3f}", color=GRADIENT, ha="center", va="center", fontsize=10)
        if t:
            label = f"· 0.5 · {1 - state.item() ** 2:.3f}"
            arrow(axes, (place - 0.35, 1.35), (place - 1.6 + 0.35, 1.35), GRADIENT, label)
    axes.text(-0.3, 1.35, "$dL/dh_t$,  $L = h_4$:", color=GRADIENT, ha="center", va="center", fontsize=10)
    return figure


def scaled_rnn(hidden: int, radius: float, seed: int = 0) -> RNN:
    """Return an RNN of 2 inputs whose W_hh is random and has this spectral radius."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        net = RNN(2, hidden)
        w = torch.randn(hidden, hidden)
        net.weight_hh_l0.copy_(w * radius / torch.linalg.eigvals(w).abs().max())
        net.weight_ih_l0.mul_(0.1)
    return net


def draw_gradient_products() -> Figure:
    """A number multiplied again and again, and the gradient of a random RNN of the same spectral radius."""
    figure, (left, right) = new_figure(9.5, 3.6, ncols=2, sharey=True)
    x, readout = torch.randn(16, 101, 2, generator=torch.Generator().manual_seed(0)), nn.Linear(64, 1)
    for radius, colour in zip((0.5, 0.9, 1.0, 1.1, 1.5), SHADES, strict=True):
        left.plot([radius**k for k in range(101)], color=colour, label=f"{radius}")
        norms = gradient_by_lag(scaled_rnn(64, radius), x, readout)
        right.plot((norms / norms[0]).tolist(), color=colour, label=f"{radius}")
    left.set(xlabel="k (steps)", yscale="log", ylim=(1e-8, 1e5), title="$w^k$")
    right.set(xlabel="lag k (steps)", title="$|dL/dh_{T-k}|$ / $|dL/dh_T|$,  64 tanh units")
    right.legend(frameon=False, title="$w$, spectral radius", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_leaky() -> Figure:
    """A value to hold among others: leaky integrators with a constant k, and one whose k is a gate."""
    n_steps, marked = 60, 10
    x = torch.rand(n_steps, generator=torch.Generator().manual_seed(1))
    x[marked] = 0.9
    gate = torch.ones(n_steps)
    gate[marked] = 0.0
    constant = {k: torch.full((n_steps,), k) for k in (0.5, 0.9, 0.99)}
    figure, (top, middle, bottom) = new_figure(9, 5.2, nrows=3, sharex=True, height_ratios=[1, 2, 0.8])
    top.vlines(range(n_steps), 0, x, color=INPUT, linewidth=2, alpha=0.4)
    top.vlines(marked, 0, x[marked], color=INPUT, linewidth=4)
    top.set(ylabel="$x_t$", ylim=(0, 1))
    for (k, keep), shade in zip(constant.items(), (0.35, 0.6, 0.9), strict=True):
        h = linear_recurrence(keep, (1 - keep) * x, torch.tensor(0.0))
        middle.plot(h, color="grey", alpha=shade, linewidth=1.5, label=f"$k = {k}$")
    middle.plot(linear_recurrence(gate, (1 - gate) * x, torch.tensor(0.0)), color=STATE, lw=2.5, label="$k_t$: a gate")
    middle.axhline(x[marked], color=INPUT, linestyle=":", linewidth=1)
    middle.set(ylabel="$h_t$", ylim=(0, 1))
    middle.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    bottom.step(range(n_steps), gate, where="mid", color=GATE, linewidth=2)
    bottom.set(xlabel="t (steps)", ylabel="$k_t$", ylim=(-0.1, 1.1))
    return figure


def draw_bidirectional() -> Figure:
    """Two sequences of lengths 4 and 2 in one batch: each direction starts at a sequence's own end."""
    figure, axes = blank_axes(8, 4.6, (-1.0, 4.2), (-4.1, 1.1))
    for row, length in enumerate((4, 2)):
        y = -3.0 * row
        for t in range(4):
            filled = t < length
            node(axes, t, y, f"$x_{t + 1}$" if filled else "0", INPUT if filled else "#bbbbbb", 10)
        for t in range(length):
            node(axes, t, y + 0.85, rf"$\overrightarrow{{h}}_{t + 1}$", STATE, 10)
            node(axes, t, y - 0.85, rf"$\overleftarrow{{h}}_{t + 1}$", OUTPUT, 10)
            arrow(axes, (t, y + 0.25), (t, y + 0.55), INPUT)
            arrow(axes, (t, y - 0.25), (t, y - 0.55), INPUT)
            arrow(axes, (t - 0.75, y + 0.85), (t - 0.22, y + 0.85), STATE)
            arrow(axes, (t + 0.75, y - 0.85), (t + 0.22, y - 0.85), OUTPUT)
        axes.text(-0.85, y + 0.85, "0", color=STATE, ha="center", va="center", fontsize=10)
        axes.text(length - 0.15, y - 0.85, "0", color=OUTPUT, ha="center", va="center", fontsize=10)
    return figure


def draw_truncated() -> Figure:
    """Nine steps in chunks of three: the state crosses a border, the gradient does not."""
    figure, axes = blank_axes(9, 2.6, (-0.9, 8.8), (-1.2, 1.2))
    for t in range(9):
        node(axes, t, 0, f"$h_{t + 1}$", STATE, 10)
        if t:
            arrow(axes, (t - 0.72, 0), (t - 0.28, 0), STATE)
        if t % 3:
            arrow(axes, (t - 0.1, -0.55), (t - 0.9, -0.55), GRADIENT)
    for border in (2.5, 5.5):
        axes.plot([border, border], [-1, 1], color=DARK, linestyle=":", linewidth=1.4)
        axes.plot(border, -0.55, "x", color=GRADIENT, markersize=9, markeredgewidth=2)
    for i in range(3):
        axes.text(3 * i + 1, 0.85, f"$L_{i + 1}$", color=GRADIENT, ha="center", va="center", fontsize=11)
    return figure


THEORY_PICTURES = {
    "unrolled": draw_unrolled,
    "gradient_products": draw_gradient_products,
    "leaky": draw_leaky,
    "lstm": draw_lstm,
    "scan_tree": draw_scan_tree,
    "bidirectional": draw_bidirectional,
    "truncated": draw_truncated,
    "loss": draw_loss,
    "sampling": draw_sampling,
    "mel": draw_mel,
    "chaos": draw_chaos,
}
