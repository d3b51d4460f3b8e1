"""Looking into a trained language model: its gates, cells that keep track of something, and how far back it listens.
窥视训练好的语言模型：门的开合、追踪某种信息的单元，以及它能听到多远之前。
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from chapter_06_rnn_lstm_seq.model import LanguageModel
from chapter_06_rnn_lstm_seq.recurrent import LSTM


@torch.no_grad()
def trace_lstm(layer: LSTM, x: Tensor) -> dict[str, Tensor]:
    """Return an LSTM layer's gates i, f, o, candidate g, cell c and output h at each step of x (T, D): (T, H) each."""
    w_ih, w_hh, b_ih, b_hh = layer.weights("_l0")
    h = c = x.new_zeros(layer.hidden_size)
    steps = []
    for x_t in x:  # (D,)
        i, f, g, o = (F.linear(x_t, w_ih, b_ih) + F.linear(h, w_hh, b_hh)).chunk(4)  # (H,)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        h = o * c.tanh()
        steps.append((i, f, g, o, c, h))
    return {name: torch.stack(values) for name, values in zip("ifgoch", zip(*steps, strict=True), strict=True)}


def trace_model(model: LanguageModel, ids: Tensor) -> list[dict[str, Tensor]]:
    """Return `trace_lstm` of each layer over a text ids (T,)."""
    x, traces = model.embedding(ids).detach(), []
    for layer in model.layers:
        traces.append(trace_lstm(layer, x))
        x = traces[-1]["h"]
    return traces


def text_signals(text: str) -> dict[str, Tensor]:
    """Return what a reader of plays keeps track of, one number a character, (T,) each."""
    signals = {"place in the line": [], "inside a speaker's name": [], "place in the word": [], "capitals": []}
    for line in text.splitlines(keepends=True):
        head = line.split(":")[0] if ":" in line else ""
        is_name = line.rstrip().endswith(":") and len(head) < 30  # a line of its own, such as "First Citizen:"
        place = 0
        for i, character in enumerate(line):
            place = place + 1 if character.isalpha() else 0
            signals["place in the line"].append(i)
            signals["inside a speaker's name"].append(float(is_name))
            signals["place in the word"].append(place)
            signals["capitals"].append(float(character.isupper()))
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in signals.items()}


def correlations(cells: Tensor, signal: Tensor) -> Tensor:
    """Return each unit's correlation with a signal: cells (T, H), signal (T,) -> (H,), 0 where one does not vary."""
    centred, wanted = cells - cells.mean(dim=0), signal - signal.mean()
    product = (centred * wanted[:, None]).mean(dim=0)
    return product / (centred.square().mean(dim=0) * wanted.square().mean()).sqrt().clamp(min=1e-12)


def gradient_by_distance(model: LanguageModel, ids: Tensor) -> Tensor:
    """Return how strongly the last prediction depends on the character `distance` before it, (T,), from distance 0.

    The norm of d(loss of the last token) / d(embedding), averaged over texts: ids (B, T + 1).
    """
    x = model.embedding(ids[:, :-1]).detach().requires_grad_()  # (B, T, E)
    y = x
    for layer in model.layers:
        y, _ = layer(y)
    loss = F.cross_entropy(model.head(y[:, -1]), ids[:, -1], reduction="sum")
    return torch.autograd.grad(loss, x)[0].norm(dim=-1).mean(dim=0).flip(0)  # (T,)
