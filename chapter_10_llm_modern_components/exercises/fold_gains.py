"""Exercise: multiply the gains of the norms into the matrices behind them, and leave the model's answers as they are.
练习：把归一化的增益乘进后面的矩阵，而模型的输出不变。

    python -m pytest chapter_10_llm_modern_components/exercises/test_fold_gains.py
"""

from chapter_10_llm_modern_components.model import LanguageModel


def fold_gains_(model: LanguageModel) -> None:
    """Make the gains of each block's two RMSNorms 1, and those of the last norm too if nothing else suffers from it.

    A matrix W that reads gamma * x / r may as well read x / r, if its columns have been multiplied by gamma. But a
    matrix that has another task besides (`config.tied`) has to stay as it is, and so have the gains in front of it.

    Args:
        model: with RMSNorm, SwiGLU and no experts; changed in place. Gains in front of queries and keys stay.
    """
    raise NotImplementedError
