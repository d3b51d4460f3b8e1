"""What each task learns from and how it is measured; the loop that trains them all is in train.py.
每个任务的数据与评测；训练它们的循环在 train.py 中。

A task offers `name` and `config`; `build()`; `batch()` -> (the model's inputs, each with B in front, and targets (B, T)
or (B,), IGNORED where nothing is to be learned), for which the model returns logits (B, T, V) or (B, V);
`n_epochs(steps)`; `validate(model)` for the history; `evaluate(model)` for the final figures and `baselines()` for what
they must beat; and `about(model)`, what inference needs to know.
"""

IGNORED = -100  # F.cross_entropy's own default

__all__ = ["IGNORED"]
