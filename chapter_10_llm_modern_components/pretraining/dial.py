"""One dial for the size of a model: its depth, from which width, heads, learning rate and batch follow.
一个旋钮决定模型大小：由深度推出宽度、头数、学习率与批大小。
"""


def dial(depth: int, **given: float | None) -> dict[str, float]:
    """Return the sizes of a `ModelConfig`, `lr` and `batch_size` that belong to a depth.

    A deeper model is wider, needs smaller steps, and can use larger batches. What is given and not None stays, and what
    is derived from it follows.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    chosen.setdefault("n_layers", depth)
    n_heads = chosen.setdefault("n_heads", max(1, round(0.8 * depth)))
    half = max(1, n_heads // 2)
    chosen.setdefault("n_kv_heads", max(n for n in range(1, half + 1) if n_heads % n == 0))
    d_model = chosen.setdefault("d_model", 64 * n_heads)
    chosen.setdefault("d_ff", 16 * max(1, round(d_model * 8 / 3 / 16)))
    chosen.setdefault("lr", 0.006 * (5 / depth) ** 0.5)
    chosen.setdefault("batch_size", 4 * max(2, round(0.8 * depth)))
    return chosen
