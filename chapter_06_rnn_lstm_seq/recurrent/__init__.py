"""Recurrent networks: the cells by their equations, whole layers fast, and networks of layers.
循环网络：按公式写出的单元、快速的整层实现，以及由层组成的网络。
"""

from chapter_06_rnn_lstm_seq.recurrent.layers import (
    CELLS,
    GRU,
    LSTM,
    RNN,
    LayerNormLSTM,
    MinGRU,
    MinLSTM,
    Recurrent,
    make_recurrent,
)

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "LayerNormLSTM",
    "MinGRU",
    "MinLSTM",
    "RNN",
    "Recurrent",
    "make_recurrent",
]
