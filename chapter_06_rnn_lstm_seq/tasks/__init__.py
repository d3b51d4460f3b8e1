"""What each of the four tasks learns from, minimises and measures; the loop that trains them is in train.py.
四个任务各自的数据、损失与评测；训练它们的循环在 train.py 中。

A task offers `config` and `build()`, `batch()` -> (inputs, targets), `loss(outputs, targets)`, `validate(model)` for
the history, `evaluate(model)` and `baselines()` for the final figures, and `about(model)`, what inference needs
to know.
"""

from chapter_06_rnn_lstm_seq.tasks.char_lm import CharLM

Task = CharLM
TASKS = {"char_lm": CharLM.load}
