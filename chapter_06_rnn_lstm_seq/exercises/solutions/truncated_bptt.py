"""Solution: detach the state between two chunks, and weigh each chunk's error by its share of the steps.
解答：在两个片段之间用 detach 切断状态的梯度，并按步数占比给每个片段的误差加权。
"""

from torch import Tensor, nn


def truncated_bptt(net: nn.Module, readout: nn.Module, x: Tensor, targets: Tensor, chunk: int) -> float:
    """x (B, T, D), targets (B, T, K) -> the mean squared error; gradients are added to `.grad`."""
    state, error = None, 0.0
    for x_chunk, target in zip(x.split(chunk, dim=1), targets.split(chunk, dim=1), strict=True):  # (B, t, D), (B, t, K)
        output, state = net(x_chunk, state)
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        loss = (readout(output) - target).square().sum() / targets.numel()
        loss.backward()
        error += loss.item()
    return error
