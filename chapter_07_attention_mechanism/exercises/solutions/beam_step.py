"""Solution: all K V candidates of a sequence side by side, and the best K of them.
解答：把每个序列的 K V 个候选排成一行，取最好的 K 个。
"""

from torch import Tensor


def beam_step(total: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """total (B, K), log_p (B, K, V) -> totals, beginnings and tokens, each (B, K)."""
    candidates = (total[:, :, None] + log_p).flatten(1)  # (B, K, 1) + (B, K, V) -> (B, K V)
    best, place = candidates.topk(total.shape[1], dim=1)  # (B, K)
    return best, place // log_p.shape[-1], place % log_p.shape[-1]
