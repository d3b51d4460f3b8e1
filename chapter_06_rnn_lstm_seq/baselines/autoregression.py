"""Forecasts that need no network: the last value for ever, and a weighted sum of the last few.
不需要神经网络的预测：永远重复最后一个值，或对最近若干值加权求和。
"""

import torch
from torch import Tensor

from chapter_02_nn_basics_mlp.linear_models import predict, ridge

ORDERS = (4, 8, 16, 32, 64, 96, 128, 192)
PENALTIES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0, 10.0, 100.0, 1e3, 1e4)


def persistence(context: Tensor, n_ahead: int) -> Tensor:
    """Repeat each series' last value: context (N, T) -> (N, n_ahead)."""
    return context[:, -1:].expand(-1, n_ahead)


class LinearAutoregression:
    """x_(t + k) = w_1 x_t + ... + w_p x_(t - p + 1) + b, solved by ridge regression.

    With `ahead` = 1 it goes on from its own predictions; with a larger k it sees k steps ahead at once, and no others.
    """

    def __init__(self, order: int, penalty: float, ahead: int = 1):
        self.order, self.penalty, self.ahead = order, penalty, ahead

    def fit(self, series: Tensor) -> "LinearAutoregression":
        """series (T,), longer than order + ahead."""
        windows = series.unfold(0, self.order + self.ahead, 1)  # (N, order + ahead)
        self.w = ridge(windows[:, : self.order], windows[:, -1], self.penalty)  # (order + 1,), the bias last
        return self

    def forecast(self, context: Tensor, n_ahead: int) -> Tensor:
        """Go on from context (N, T), T at least the order, for `n_ahead` steps: (N, n_ahead); iterated, `ahead` = 1."""
        window = context[:, -self.order :]
        for _ in range(n_ahead):
            following = predict(window[:, -self.order :], self.w)
            window = torch.cat([window, following[:, None]], dim=1)
        return window[:, -n_ahead:]

    def direct(self, context: Tensor) -> Tensor:
        """Predict the value `ahead` steps after context (N, T): (N,)."""
        return predict(context[:, -self.order :], self.w)


def best_autoregression(series: Tensor, validation: tuple[Tensor, Tensor], ahead: int = 1) -> LinearAutoregression:
    """Return the order and the penalty with the smallest error at the last step of the validation windows.

    Args:
        series: (T,), what to fit to.
        validation: contexts (N, C) and what follows (N, H).
        ahead: 1 for a model that goes on from its own predictions, or H.
    """
    context, truth = validation

    def error(model: LinearAutoregression) -> float:
        guess = model.direct(context) if ahead > 1 else model.forecast(context, truth.shape[1])[:, -1]
        return (guess - truth[:, -1]).square().mean().nan_to_num(nan=torch.inf).item()

    models = [
        LinearAutoregression(order, penalty, ahead).fit(series)
        for order in ORDERS
        if order <= context.shape[1]
        for penalty in PENALTIES
    ]
    return min(models, key=error)
