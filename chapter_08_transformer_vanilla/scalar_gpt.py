"""A Transformer on one page: plain Python, one number at a time, with six functions of the standard library.
一页纸的 Transformer：纯 Python，每次只算一个数，只用标准库里的六个函数。

Read it from top to bottom. A number that remembers how it was computed; vectors as lists of such numbers; what the
Transformer does to vectors; the model; the step that learns. `ladder.py` trains it beside three faster ones.
"""

from functools import reduce
from math import exp, log, sqrt
from operator import add, mul

# ---- a number that remembers ----------------------------------------------------------------------------------------


class Value:
    """A number, the numbers that it was computed from, and its derivative by each of these.

    y = x * x has the inputs (x, x) and the slopes (x, x): together 2x, which `y.backward()` leaves in `x.grad`.
    """

    __slots__ = ("data", "grad", "inputs", "slopes")

    def __init__(self, data: float, inputs: tuple = (), slopes: tuple = ()):
        self.data, self.grad, self.inputs, self.slopes = data, 0.0, inputs, slopes

    def __add__(self, other):
        if isinstance(other, Value):
            return Value(self.data + other.data, (self, other), (1.0, 1.0))
        return Value(self.data + other, (self,), (1.0,))  # a plain number needs no gradient

    def __mul__(self, other):
        if isinstance(other, Value):
            return Value(self.data * other.data, (self, other), (other.data, self.data))
        return Value(self.data * other, (self,), (other,))

    def __pow__(self, n: float):
        return Value(self.data**n, (self,), (n * self.data ** (n - 1),))

    def exp(self):
        y = exp(self.data)
        return Value(y, (self,), (y,))

    def log(self):
        return Value(log(self.data), (self,), (1 / self.data,))

    def relu(self):
        return Value(max(self.data, 0.0), (self,), (float(self.data > 0),))

    def backward(self) -> None:
        """Add the derivative of this number by each number that it came from to that number's `grad`.

        A number hands on its gradient once all that were computed from it have handed theirs to it (the chain rule).
        """
        waiting_for, stack = {self: 0}, [self]  # of how many results each number still awaits the gradient
        while stack:
            for x in stack.pop().inputs:
                if x not in waiting_for:
                    waiting_for[x] = 0
                    stack.append(x)
                waiting_for[x] += 1
        self.grad, complete = 1.0, [self]
        while complete:
            y = complete.pop()
            for x, slope in zip(y.inputs, y.slopes, strict=True):
                x.grad += slope * y.grad
                waiting_for[x] -= 1
                if waiting_for[x] == 0:
                    complete.append(x)


# ---- vectors: lists of numbers --------------------------------------------------------------------------------------

Vector = list[Value]


def total(x: Vector) -> Value:
    return reduce(add, x)


def dot(x: Vector, y: Vector) -> Value:
    return total(map(mul, x, y))


def plus(x: Vector, y: Vector) -> Vector:
    return list(map(add, x, y))


def linear(x: Vector, weight: list[Vector], bias: Vector | None = None) -> Vector:
    """W x + b: a dot product for each row of W."""
    y = [dot(row, x) for row in weight]
    return y if bias is None else plus(y, bias)


def softmax(scores: Vector) -> Vector:
    """e^s / sum of e^s; the largest score is taken off first, which changes nothing but keeps e^s small."""
    largest = max(s.data for s in scores)
    powers = [(s + -largest).exp() for s in scores]
    share = total(powers) ** -1
    return [p * share for p in powers]


def layer_norm(x: Vector, weight: Vector, bias: Vector, eps: float = 1e-5) -> Vector:
    """Shift to mean 0, scale to variance 1, then let each number have a scale and a shift of its own."""
    mean = total(x) * (1 / len(x))
    centred = [number + mean * -1.0 for number in x]
    scale = (dot(centred, centred) * (1 / len(x)) + eps) ** -0.5
    return [c * scale * w + b for c, w, b in zip(centred, weight, bias, strict=True)]


# ---- the Transformer ------------------------------------------------------------------------------------------------

Weights = dict[str, list]  # by the names that the PyTorch model gives them; matrices are lists of rows


def attention(w: Weights, name: str, xs: list[Vector], n_heads: int) -> list[Vector]:
    """Let each position fetch from those up to it: queries, keys and values from one matrix, one above the other."""
    width = len(xs[0])
    size = width // n_heads
    rows = [linear(x, w[f"{name}.in_proj_weight"], w[f"{name}.in_proj_bias"]) for x in xs]  # q, k, v of each position
    found = []
    for t in range(len(xs)):
        heads = []
        for start in range(0, width, size):
            query = rows[t][start : start + size]
            keys = [row[width + start : width + start + size] for row in rows[: t + 1]]
            values = [row[2 * width + start : 2 * width + start + size] for row in rows[: t + 1]]
            weights = softmax([dot(query, key) * size**-0.5 for key in keys])
            heads += [dot(weights, column) for column in zip(*values, strict=True)]
        found.append(linear(heads, w[f"{name}.out_proj.weight"], w[f"{name}.out_proj.bias"]))
    return found


def feed_forward(w: Weights, name: str, x: Vector) -> Vector:
    hidden = linear(x, w[f"{name}.linear1.weight"], w[f"{name}.linear1.bias"])
    return linear([h.relu() for h in hidden], w[f"{name}.linear2.weight"], w[f"{name}.linear2.bias"])


def transformer(w: Weights, tokens: list[int], n_heads: int) -> list[Vector]:
    """Return for each token the scores (logits) of what may follow it."""

    def norm(name: str, x: Vector) -> Vector:
        return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"])

    embedding, positions = w["embedding.weight"], w["positions.weight"]
    scale = sqrt(len(embedding[0]))
    xs = [plus([e * scale for e in embedding[token]], positions[t]) for t, token in enumerate(tokens)]
    i = 0
    while (layer := f"decoder.layers.{i}") + ".norm1.weight" in w:
        found = attention(w, f"{layer}.self_attention", [norm(f"{layer}.norm1", x) for x in xs], n_heads)
        xs = list(map(plus, xs, found))
        xs = [plus(x, feed_forward(w, f"{layer}.feed_forward", norm(f"{layer}.norm3", x))) for x in xs]
        i += 1
    return [linear(norm("decoder.norm", x), embedding) for x in xs]


# ---- learning -------------------------------------------------------------------------------------------------------


def as_values(x: float | list) -> Value | list:
    """Make every number in nested lists a Value."""
    return [as_values(part) for part in x] if isinstance(x, list) else Value(x)


def flat(x: Value | list) -> list[Value]:
    """Return all that nested lists hold, in one list."""
    return [value for part in x for value in flat(part)] if isinstance(x, list) else [x]


class ScalarGPT:
    """The model with its weights, and Adam's memory of their gradients (Kingma and Ba 2015, algorithm 1)."""

    def __init__(self, weights: dict[str, list], n_heads: int):
        self.weights, self.n_heads = {name: as_values(numbers) for name, numbers in weights.items()}, n_heads
        self.parameters = flat(list(self.weights.values()))
        self.m, self.v = [0.0] * len(self.parameters), [0.0] * len(self.parameters)
        self.steps = 0

    def loss(self, batch: list[list[int]]) -> Value:
        """Return the mean of -log p(next token), in nats, over all tokens of the sequences."""
        losses = []
        for tokens in batch:
            logits = transformer(self.weights, tokens[:-1], self.n_heads)
            losses += [softmax(row)[token].log() * -1.0 for row, token in zip(logits, tokens[1:], strict=True)]
        return total(losses) * (1 / len(losses))

    def step(self, batch: list[list[int]], lr: float) -> float:
        """Forward, loss, backward, step; return the loss."""
        loss = self.loss(batch)
        loss.backward()
        self.steps += 1
        m, v = self.m, self.v
        for i, p in enumerate(self.parameters):
            m[i] = 0.9 * m[i] + 0.1 * p.grad
            v[i] = 0.999 * v[i] + 0.001 * p.grad**2
            m_hat, v_hat = m[i] / (1 - 0.9**self.steps), v[i] / (1 - 0.999**self.steps)
            p.data -= lr * m_hat / (sqrt(v_hat) + 1e-8)
            p.grad = 0.0
        return loss.data
