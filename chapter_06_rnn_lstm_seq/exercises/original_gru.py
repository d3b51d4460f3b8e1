"""Exercise: the GRU as its paper has it, which resets h before the product with U_n.
练习：按原论文写出 GRU：先用重置门作用于 h，再与 U_n 相乘。

    python -m pytest chapter_06_rnn_lstm_seq/exercises/test_original_gru.py
"""

from torch import Tensor


def original_gru_cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b: Tensor) -> Tensor:
    """Return h' = z h + (1 - z) n with n = tanh(W_n x + U_n (r h) + b_n)  (Cho et al. 2014, equations 5 to 8).

    r = sigmoid(W_r x + U_r h + b_r) and z = sigmoid(W_z x + U_z h + b_z). Products without a matrix are by element.
    The rows of the weights are for r, z and n, in this order.

    x (B, D), h (B, H), w_ih (3H, D), w_hh (3H, H), b (3H,) -> (B, H).
    """
    raise NotImplementedError
