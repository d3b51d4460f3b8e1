"""The theory's pictures of the LSTM's paths and of the scan's tree, with numbers from the chapter's own code.
理论部分的插图：LSTM 的各条通路与扫描的合并树，数字由本章代码算出。
"""

import torch

from chapter_06_rnn_lstm_seq.figures.colours import GATE, GRADIENT, INPUT, OUTPUT, STATE
from chapter_06_rnn_lstm_seq.figures.schemes import DARK, arrow, blank_axes, node
from chapter_06_rnn_lstm_seq.recurrent.cells import lstm_cell
from chapter_06_rnn_lstm_seq.scan import scan

from matplotlib.figure import Figure


def lstm_step(i: float, f: float, g: float, o: float, c: float) -> tuple[float, float]:
    """Return h' and c' of one LSTM unit whose gates have these values: the biases that give them, no other weights."""
    gates = torch.tensor([i, f, (g + 1) / 2, o], dtype=torch.float64).logit()
    gates[2] /= 2  # tanh(a) = 2 sigmoid(2 a) - 1
    none = torch.zeros(4, 1, dtype=torch.float64)
    state = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), c, dtype=torch.float64)
    h_new, c_new = lstm_cell(state[0], *state, none, none, gates, none[:, 0])
    return h_new.item(), c_new.item()


def draw_lstm() -> Figure:
    """One unit of an LSTM with its gates' values; the cell's straight path, and what a gradient meets on it."""
    i, f, g, o, c = 0.2, 0.9, 0.5, 0.6, 0.8
    h_new, c_new = lstm_step(i, f, g, o, c)
    figure, axes = blank_axes(9, 4.4, (-0.6, 8.9), (-2.9, 1.5))
    node(axes, 0.2, 0, f"$c_{{t-1}} = {c}$", STATE, 11)
    node(axes, 2.4, 0, "×", STATE, 13)
    node(axes, 4.4, 0, "+", STATE, 13)
    node(axes, 7.9, 0, f"$c_t = {c_new:.2f}$", STATE, 11)
    for start, end, label in ((0.95, 2.15, ""), (2.65, 4.15, f"{f * c:.2f}"), (4.65, 7.15, f"{c_new:.2f}")):
        arrow(axes, (start, 0), (end, 0), STATE, label, linewidth=2.4)
    node(axes, 2.4, -1.3, f"$f = {f}$", GATE, 11)
    arrow(axes, (2.4, -1.0), (2.4, -0.28), GATE)
    node(axes, 4.4, -1.3, "×", INPUT, 13)
    arrow(axes, (4.4, -1.0), (4.4, -0.28), INPUT, f"{i * g:.2f}")
    node(axes, 3.7, -2.5, f"$i = {i}$", GATE, 11)
    node(axes, 5.1, -2.5, f"$g = {g}$", INPUT, 11)
    arrow(axes, (3.75, -2.2), (4.25, -1.55), GATE)
    arrow(axes, (5.05, -2.2), (4.55, -1.55), INPUT)
    arrow(axes, (6.3, 0), (6.3, -1.02), OUTPUT, " tanh")
    node(axes, 6.3, -1.3, "×", OUTPUT, 13)
    node(axes, 6.3, -2.5, f"$o = {o}$", GATE, 11)
    arrow(axes, (6.3, -2.2), (6.3, -1.58), GATE)
    node(axes, 7.9, -1.3, f"$h_t = {h_new:.2f}$", OUTPUT, 11)
    arrow(axes, (6.55, -1.3), (7.15, -1.3), OUTPUT)
    arrow(axes, (7.3, 0.75), (0.9, 0.75), GRADIENT, f"$dL/dc_{{t-1}} = f \\cdot dL/dc_t = {f}\\, dL/dc_t$", linewidth=2)
    return figure


def draw_scan_tree() -> Figure:
    """Four steps of h' = h / 2 + b, b = 1 2 3 4: pairs merged, merged again, and the states in between filled in."""
    a, b = [0.5] * 4, [1.0, 2.0, 3.0, 4.0]
    pairs = [(a[k + 1] * a[k], a[k + 1] * b[k] + b[k + 1]) for k in (0, 2)]
    (first_a, first_b), (second_a, second_b) = pairs
    h = scan(*(torch.tensor(v, dtype=torch.float64) for v in (a, b)), torch.tensor(0.0, dtype=torch.float64)).tolist()
    figure, axes = blank_axes(9, 4.8, (-0.9, 6.9), (-0.6, 4.7))
    for t in range(4):
        node(axes, 2 * t, 0, f"({a[t]:g},  {b[t]:g})", INPUT, 11)
    for k, (pair_a, pair_b) in enumerate(pairs):
        place = 4 * k + 2
        node(axes, place, 1.3, f"({pair_a:g},  {pair_b:g})", INPUT, 11)
        arrow(axes, (place - 1.8, 0.32), (place - 0.35, 1.0), DARK)
        arrow(axes, (place, 0.32), (place, 1.0), DARK)
    node(axes, 6, 2.6, f"({second_a * first_a:g},  {second_a * first_b + second_b:g})", INPUT, 11)
    arrow(axes, (2.65, 1.5), (5.3, 2.4), DARK)
    arrow(axes, (6, 1.62), (6, 2.3), DARK)
    for t in range(4):
        node(axes, 2 * t, 4.1, f"$h_{t + 1} = {h[t]:g}$", STATE, 11)
    arrow(axes, (6, 2.92), (6, 3.8), STATE)
    arrow(axes, (2, 1.62), (2, 3.8), STATE)
    arrow(axes, (0, 0.32), (0, 3.8), STATE)
    arrow(axes, (4, 0.32), (4, 3.8), STATE)
    arrow(axes, (2.75, 4.1), (3.2, 4.1), STATE)
    return figure
