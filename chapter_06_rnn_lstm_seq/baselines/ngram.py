"""An n-gram language model with interpolated Kneser-Ney smoothing: counting, and being modest about it.
插值 Kneser-Ney 平滑的 n 元语言模型：先计数，再给没见过的留余地。

What a recurrent network has to beat: it looks back n - 1 tokens and no further.
"""

import torch
from torch import Tensor

MAX_CODE = 2**63 - 1


class KneserNey:
    """p_n(w | c) = max(count(c w) - D, 0) / count(c) + D kinds(c) / count(c) p_(n-1)(w | c without its first token).

    `kinds(c)` is how many different tokens were seen after c. Below the highest order an n-gram's count is how many
    different tokens were seen before it: "Francisco" is frequent, but only after "San" (Kneser & Ney 1995; interpolated
    as in Chen & Goodman 1999). D = n1 / (n1 + 2 n2), of n-grams counted once and twice. Below order 1 lies 1 / V.

    An n-gram is stored as one whole number, its tokens being the digits in base V.
    """

    def __init__(self, ids: Tensor, n_tokens: int, order: int):
        """ids (T,), each from 0 to n_tokens - 1; `order` is n.

        Raises:
            ValueError: the text is shorter than one n-gram, or n-grams do not fit into 64 bits.
        """
        if not 1 <= order <= len(ids) or n_tokens**order > MAX_CODE:
            raise ValueError(f"order {order} does not fit {len(ids)} tokens of {n_tokens} kinds")
        self.n_tokens, self.order = n_tokens, order
        grams, counts = torch.unique(_codes(ids, n_tokens, order), return_counts=True)
        tables = []
        for n in range(order, 0, -1):
            contexts, places = torch.unique(
                grams // n_tokens, return_inverse=True
            )  # grams are sorted, so these are too
            totals = torch.zeros_like(contexts).index_add_(0, places, counts)
            kinds = torch.bincount(places)
            once, twice = ((counts == times).sum().item() for times in (1, 2))
            discount = once / (once + 2 * twice) if once else 0.0
            tables.append((grams, counts, contexts, totals, kinds, discount))
            grams, counts = torch.unique(grams % n_tokens ** (n - 1), return_counts=True)  # each after how many tokens
        self.tables = tables[::-1]  # from order 1 up

    def probability(self, grams: Tensor) -> Tensor:
        """grams (N, order) -> p(last token | those before it), (N,), float64."""
        p = torch.full((len(grams),), 1 / self.n_tokens, dtype=torch.float64)
        for n, (seen, counts, contexts, totals, kinds, discount) in enumerate(self.tables, start=1):
            code = _codes(grams[:, -n:], self.n_tokens, n)[:, 0]  # (N,)
            count = _look_up(seen, counts, code)
            total = _look_up(contexts, totals, code // self.n_tokens)
            kind = _look_up(contexts, kinds, code // self.n_tokens)
            mixed = ((count - discount).clamp(min=0) + discount * kind * p) / total.clamp(min=1)
            p = torch.where(total > 0, mixed, p)  # a context never seen says nothing
        return p

    def loss(self, ids: Tensor, context: Tensor) -> float:
        """Return the mean of -log p (nats) over ids (T,), which follow `context` (at least order - 1 tokens)."""
        n = self.order
        text = torch.cat([context[len(context) - n + 1 :], ids])
        return -self.probability(text.unfold(0, n, 1)).log().mean().item()

    def next_token(self, context: Tensor) -> Tensor:
        """Return p (V,) of every token after `context`, of which the last order - 1 tokens count."""
        tail = context[len(context) - self.order + 1 :].expand(self.n_tokens, -1)  # (V, order - 1)
        return self.probability(torch.cat([tail, torch.arange(self.n_tokens)[:, None]], dim=1))


def best_order(train: Tensor, ids: Tensor, n_tokens: int, highest: int = 9) -> tuple[float, int]:
    """Return the lowest loss (nats a token) that a model of `train` has on all of ids (T,) but the first; its order."""
    context = torch.cat([train, ids[:1]])
    losses = {n: KneserNey(train, n_tokens, n).loss(ids[1:], context) for n in range(1, highest + 1)}
    best = min(losses, key=losses.__getitem__)
    return losses[best], best


def _codes(ids: Tensor, n_tokens: int, n: int) -> Tensor:
    """Return each window of n tokens along the last axis as one number, (..., T - n + 1)."""
    count = ids.shape[-1] - n + 1
    codes = torch.zeros((), dtype=ids.dtype)
    for i in range(n):  # Horner's rule: no table of all windows, which for a long text would not fit into memory
        codes = codes * n_tokens + ids[..., i : i + count]
    return codes


def _look_up(keys: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """Return the value of each wanted key as float64, 0 where it is missing; keys are sorted."""
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[place] == wanted, values[place], 0).double()
