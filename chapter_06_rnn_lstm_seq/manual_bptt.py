"""Backpropagation through time by hand: a vanilla RNN that predicts the next token, and its gradients, in NumPy.
手工推导的沿时间反向传播：一个预测下一个词元的普通 RNN 及其全部梯度，用 NumPy 写成。

    python -m pytest tests/chapter_06/test_manual_bptt.py      # equals autograd to 1e-9: 5 s

    h_t = tanh(W_xh e(x_t) + W_hh h_(t-1) + b_h)      e(x): the unit vector of token x
    p_t = softmax(W_hy h_t + b_y),  L = mean over steps and sequences of -log p_t[target_t]

h_t acts on the loss in two ways: through the prediction made from it now, and through h_(t+1). Its gradient is the sum
of both, and so is computed from the last step to the first. A weight is used in every step; its gradient is the sum
over the steps.
h_t 经两条路影响损失：当前的预测，以及 h_(t+1)。因此梯度是两者之和，从最后一步往前算；权重每步都用，梯度对各步求和。
"""

import numpy as np

Weights = dict[str, np.ndarray]


def init_weights(n_tokens: int, hidden: int, rng: np.random.Generator) -> Weights:
    """Return random weights: W_xh (H, V), W_hh (H, H), b_h (H,), W_hy (V, H), b_y (V,)."""
    return {
        "w_xh": rng.normal(0, 1 / np.sqrt(hidden), (hidden, n_tokens)),
        "w_hh": rng.normal(0, 1 / np.sqrt(hidden), (hidden, hidden)),
        "b_h": np.zeros(hidden),
        "w_hy": rng.normal(0, 1 / np.sqrt(hidden), (n_tokens, hidden)),
        "b_y": np.zeros(n_tokens),
    }


def forward(x: np.ndarray, h0: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Return the states h (T, B, H) and the predictions p (T, B, V) for the tokens x (T, B), from h0 (B, H) on."""
    h, states = h0, []
    for x_t in x:
        h = np.tanh(weights["w_xh"].T[x_t] + h @ weights["w_hh"].T + weights["b_h"])  # (B, H)
        states.append(h)
    h = np.stack(states)  # (T, B, H)
    logits = h @ weights["w_hy"].T + weights["b_y"]  # (T, B, V)
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return h, p / p.sum(axis=-1, keepdims=True)


def cross_entropy(p: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean of -log p[target] in nats: p (T, B, V), targets (T, B)."""
    return float(-np.log(np.take_along_axis(p, targets[..., None], axis=-1)).mean())


def backward(
    x: np.ndarray, targets: np.ndarray, h0: np.ndarray, h: np.ndarray, p: np.ndarray, weights: Weights
) -> tuple[Weights, np.ndarray]:
    """Return the gradients of the loss by the weights, and by every state, dL/dh (T, B, H).

    The loss's gradient by the logits is (p - e(target)) / (T B). `h` and `p` are what `forward` returned.
    """
    n_steps, batch = x.shape
    dlogits = (p - np.eye(p.shape[-1])[targets]) / (n_steps * batch)  # (T, B, V)
    dh = dlogits @ weights["w_hy"]  # (T, B, H): through the predictions; the loop adds what comes through time
    da = np.empty_like(h)  # (T, B, H): before the tanh
    for t in reversed(range(n_steps)):
        da[t] = dh[t] * (1 - h[t] ** 2)
        if t > 0:
            dh[t - 1] += da[t] @ weights["w_hh"]  # one step back in time: one more product with W_hh
    before = np.concatenate([h0[None], h[:-1]])  # (T, B, H): the state that each step started from
    dw_xh = np.zeros_like(weights["w_xh"])
    np.add.at(dw_xh.T, x, da)  # a unit vector picks the column of its token
    return {
        "w_xh": dw_xh,
        "w_hh": np.einsum("tbi,tbj->ij", da, before),
        "b_h": da.sum(axis=(0, 1)),
        "w_hy": np.einsum("tbi,tbj->ij", dlogits, h),
        "b_y": dlogits.sum(axis=(0, 1)),
    }, dh
