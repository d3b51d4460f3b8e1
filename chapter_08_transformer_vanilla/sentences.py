"""Sentences about films and whether they praise: chapter 6's data and its parts, in the form in which books are read.
电影评论句子及其褒贬：沿用第 6 章的数据与划分，并整理成与书籍文本相同的形式。
"""

from pathlib import Path

from torch import Tensor

from chapter_06_rnn_lstm_seq.dataset import polarity
from chapter_06_rnn_lstm_seq.toy import toy_sentences
from chapter_08_transformer_vanilla.books import plain_text

CLASSES = ["negative", "positive"]
TENTHS = {"train": range(2, 10), "validation": [1], "test": [0]}  # of the sentences, as in chapter 6
Part = tuple[list[str], Tensor]  # sentences, and labels (N,): 1 for praise


def load_sentences(dataset: str, root: Path) -> dict[str, Part]:
    """Return each of TENTHS, of the "full" data or of "toy" ones that are made up here.

    Raises:
        UserError: the file is missing and cannot be downloaded.
    """
    texts, labels, tenths = polarity(root) if dataset == "full" else toy_sentences(400)
    parts = {}
    for name, wanted in TENTHS.items():
        rows = [i for i, tenth in enumerate(tenths.tolist()) if tenth in wanted]
        parts[name] = [plain_text(texts[i]) for i in rows], labels[rows]
    return parts
