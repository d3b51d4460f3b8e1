"""What each task learns from and how it is measured; the loop that trains them all is in train.py.
每个任务的数据与评测；训练它们的循环在 train.py 中。

A task offers `config` and `build()`; `batch()` -> (the model's inputs, targets (B, T) filled up with PAD_ID), for which
the model returns log-probabilities (B, T, V); `validate(model)` for the history; `evaluate(model)` for the final
figures and `baselines()` for what they must beat; and `about()`, what inference needs to know.
"""
