"""What each of the four tasks learns from, minimises and measures; the loop that trains them is in train.py.
四个任务各自的数据、损失与评测；训练它们的循环在 train.py 中。

A module's `tasks` returns the trainings that it takes, one for each seed or speaker left out; the first one's model
ships. Each offers `config` and `build()`, `batch()` -> (inputs, targets), `loss(outputs, targets)`, `validate(model)`
for the history, `evaluate(model)` and `baselines()` for the figures, which the module's `summarize` puts together, and
`about(model)`, what inference needs to know.
"""

from chapter_06_rnn_lstm_seq.tasks import char_lm, digits, sentiment, series

TASKS = {"char_lm": char_lm, "digits": digits, "sentiment": sentiment, "series": series}
Task = char_lm.CharLM | digits.Digits | sentiment.Sentiment | series.Series

__all__ = ["TASKS", "Task"]
