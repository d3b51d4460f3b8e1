"""Exercise: truncated backpropagation through time. The state goes on from chunk to chunk, the gradient does not.
练习：截断的沿时间反向传播。状态在片段之间延续，梯度则不然。

    python -m pytest chapter_06_rnn_lstm_seq/exercises/test_truncated_bptt.py
"""

from torch import Tensor, nn


def truncated_bptt(net: nn.Module, readout: nn.Module, x: Tensor, targets: Tensor, chunk: int) -> float:
    """Add the truncated gradient of the mean squared error to the parameters' `.grad`; return the error.

    Cut the sequence into chunks of `chunk` steps (the last one may be shorter). Run `net` over each, starting from the
    state in which it left the one before, and call `backward` once a chunk, so that no more than `chunk` steps need to
    be remembered. The gradients of all chunks add up to those of the mean over the whole sequence.

    net: x (B, t, D), state -> output (B, t, H), state; the state is a tensor or, for an LSTM, a tuple of two.
    readout: (B, t, H) -> (B, t, K). x (B, T, D), targets (B, T, K).
    """
    raise NotImplementedError
