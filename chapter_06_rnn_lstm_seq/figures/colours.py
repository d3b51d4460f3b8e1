"""One colour for one concept, in every figure of the chapter.
本章所有图中，同一概念用同一种颜色。
"""

from utils.plotting import COLOURS

CELL_COLOURS = {"rnn": COLOURS[1], "lstm": COLOURS[0], "gru": COLOURS[2], "mingru": COLOURS[3], "mingru_2": COLOURS[4]}
CELL_NAMES = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "mingru": "minGRU", "mingru_2": "minGRU, 2 layers"}

INPUT, STATE, GATE, GRADIENT, OUTPUT = COLOURS[2], COLOURS[0], COLOURS[4], COLOURS[1], COLOURS[3]
