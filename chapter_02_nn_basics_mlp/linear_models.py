"""Linear, ridge, logistic and softmax regression: solved in closed form, by gradient descent and by Newton's method.
线性回归、岭回归、逻辑回归与 softmax 回归：闭式解、梯度下降与牛顿法。

Throughout, `x` is (N, D) without a column of ones, and a solution is one tensor whose last entry (row) is the bias:
(D + 1,), or (D + 1, C) for C classes. Methods that iterate return it with the history of the loss. All start from zero.
Without `lr`, descent takes steps of one over the largest curvature: the longest that can be proved safe.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from chapter_02_nn_basics_mlp.activations import sigmoid
from chapter_02_nn_basics_mlp.losses import binary_cross_entropy_with_logits, cross_entropy, log_softmax, mse
from utils.shape_checks import check_same_shape

Solution = tuple[torch.Tensor, list[float]]


def with_bias(x: torch.Tensor) -> torch.Tensor:
    """x (N, D) -> (N, D + 1): a column of ones at the end, whose weight is the bias."""
    return torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def predict(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the scores x w + b: (N,), or logits (N, C)."""
    return with_bias(x) @ w


# --- linear regression: y (N,) real numbers ---------------------------------------------------------------------------


def linear_normal_equations(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Solve X^T X w = X^T y. Fast, but X^T X has the square of X's condition number: half of the digits can be lost."""
    return ridge(x, y, penalty=0.0)


def linear_qr(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Solve R w = Q^T y, where X = Q R and Q has orthonormal columns: R is no worse conditioned than X itself."""
    check_same_shape(x[:, 0], y)
    q, r = torch.linalg.qr(with_bias(x))  # (N, D + 1), (D + 1, D + 1)
    return torch.linalg.solve_triangular(r, (q.T @ y)[:, None], upper=True)[:, 0]  # (D + 1,)


def linear_gradient_descent(x: torch.Tensor, y: torch.Tensor, steps: int, lr: float | None = None) -> Solution:
    """Lower the mean squared error step by step; the gradient is 2 X^T (X w - y) / N."""
    x = with_bias(x)

    def loss_and_gradient(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        prediction = x @ w  # (N,)
        return mse(prediction, y), 2 * x.T @ (prediction - y) / len(x)

    return _descend(loss_and_gradient, x.new_zeros(x.shape[1]), steps, lr or 1 / (2 * _largest_eigenvalue(x)))


def ridge(x: torch.Tensor, y: torch.Tensor, penalty: float) -> torch.Tensor:
    """Minimise |y - X w|^2 + penalty |w|^2, the bias unpenalised: solve (X^T X + penalty diag(1, ..., 1, 0)) w = X^T y.

    Penalising the bias would make the fit depend on where y has its zero.
    """
    check_same_shape(x[:, 0], y)
    x = with_bias(x)
    return torch.linalg.solve(x.T @ x + penalty * torch.diag(_penalised(x)), x.T @ y)  # (D + 1,)


# --- logistic regression: y (N,) of 0 and 1 ---------------------------------------------------------------------------
# loss = mean cross-entropy + l2 / 2 |w|^2, the bias unpenalised


def logistic_gradient_descent(
    x: torch.Tensor, y: torch.Tensor, steps: int, lr: float | None = None, l2: float = 0.0
) -> Solution:
    """Lower the loss step by step; the gradient is X^T (p - y) / N + l2 w, with p = sigmoid(X w)."""
    x = with_bias(x)
    lr = lr or 1 / (_largest_eigenvalue(x) / 4 + l2)  # p (1 - p) is at most 1/4
    return _descend(lambda w: _logistic(x, y, w, l2)[:2], x.new_zeros(x.shape[1]), steps, lr)


def logistic_newton(x: torch.Tensor, y: torch.Tensor, l2: float = 0.0) -> Solution:
    """Solve for the step to the minimum of the local parabola: iteratively reweighted least squares.

    The Hessian is X^T diag(p (1 - p)) X / N + l2 I. If a plane separates the classes and l2 = 0, no optimum exists: the
    weights then grow until the loss is zero to rounding.
    """
    x = with_bias(x)

    def loss_gradient_hessian(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loss, gradient, p = _logistic(x, y, w, l2)
        return loss, gradient, (x.T * (p * (1 - p))) @ x / len(x) + l2 * torch.diag(_penalised(x))

    return _newton(loss_gradient_hessian, x.new_zeros(x.shape[1]))


def _logistic(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, l2: float) -> tuple[torch.Tensor, ...]:
    z, penalised = x @ w, _penalised(x) * w  # (N,), (D + 1,)
    p = sigmoid(z)  # (N,)
    loss = binary_cross_entropy_with_logits(z, y) + l2 / 2 * (penalised**2).sum()
    return loss, x.T @ (p - y) / len(x) + l2 * penalised, p


# --- softmax regression: y (N,) of whole numbers from 0 to C - 1 ------------------------------------------------------
# loss = mean cross-entropy + l2 / 2 |W|^2, the biases unpenalised


def softmax_gradient_descent(
    x: torch.Tensor, y: torch.Tensor, n_classes: int, steps: int, lr: float | None = None, l2: float = 0.0
) -> Solution:
    """Lower the loss step by step; the gradient is X^T (P - Y) / N + l2 W, with P = softmax(X W) and Y one-hot."""
    x = with_bias(x)
    lr = lr or 1 / (_largest_eigenvalue(x) / 2 + l2)  # diag(p) - p p^T has no eigenvalue above 1/2
    w = x.new_zeros(x.shape[1], n_classes)
    return _descend(lambda w: _softmax(x, y, w, l2)[:2], w, steps, lr)


def softmax_newton(x: torch.Tensor, y: torch.Tensor, n_classes: int, l2: float = 0.0) -> Solution:
    """Newton's method with the full Hessian, C (D + 1) numbers square: for small problems.

    The block for classes c and e is X^T diag(p_c (1[c = e] - p_e)) X / N. Adding one vector to every class's weights
    changes no probability, so the Hessian is singular along these directions. The gradient has no part along them; a
    unit curvature put there makes the system solvable and leaves the step as it was, with weights that sum to zero over
    the classes, just as descent's do.
    """
    x = with_bias(x)
    d = x.shape[1]
    all_alike = torch.kron(x.new_ones(n_classes, n_classes) / n_classes, torch.eye(d, dtype=x.dtype, device=x.device))

    def loss_gradient_hessian(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loss, gradient, p = _softmax(x, y, w.view(n_classes, d).T, l2)
        weights = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]  # (N, C, C)
        hessian = torch.einsum("nce,ni,nj->ciej", weights, x, x) / len(x)  # (C, D + 1, C, D + 1)
        hessian = hessian.reshape(n_classes * d, n_classes * d) + l2 * torch.diag(_penalised(x).repeat(n_classes))
        return loss, gradient.T.reshape(-1), hessian + all_alike  # class after class: (C (D + 1),), and its square

    w, history = _newton(loss_gradient_hessian, x.new_zeros(n_classes * d))
    return w.view(n_classes, d).T, history  # (D + 1, C)


def _softmax(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, l2: float) -> tuple[torch.Tensor, ...]:
    z, penalised = x @ w, _penalised(x)[:, None] * w  # (N, C), (D + 1, C)
    p = log_softmax(z).exp()  # (N, C)
    loss = cross_entropy(z, y) + l2 / 2 * (penalised**2).sum()
    return loss, x.T @ (p - F.one_hot(y, w.shape[1])) / len(x) + l2 * penalised, p


# --- the two ways downhill --------------------------------------------------------------------------------------------


def _descend(
    loss_and_gradient: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], w: torch.Tensor, steps: int, lr: float
) -> Solution:
    history = []
    for _ in range(steps):
        loss, gradient = loss_and_gradient(w)
        history.append(loss.item())
        w = w - lr * gradient
    return w, history


def _newton(
    loss_gradient_hessian: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], w: torch.Tensor, max_steps: int = 100
) -> Solution:
    history = []
    for _ in range(max_steps):
        loss, gradient, hessian = loss_gradient_hessian(w)
        history.append(loss.item())
        step = torch.linalg.solve(hessian, gradient)
        decrement = gradient @ step / 2  # how far the loss can still fall, if it is the parabola that it looks like
        if decrement < 100 * torch.finfo(w.dtype).eps:
            return w - step, history
        while loss_gradient_hessian(w - step)[0] > loss:  # far from the optimum the parabola may promise too much
            step = step / 2
        w = w - step
    return w, history


def _largest_eigenvalue(x: torch.Tensor) -> float:
    return torch.linalg.eigvalsh(x.T @ x / len(x))[-1].item()


def _penalised(x: torch.Tensor) -> torch.Tensor:
    """1 for each weight and 0 for the bias, (D + 1,)."""
    mask = x.new_ones(x.shape[1])
    mask[-1] = 0
    return mask
