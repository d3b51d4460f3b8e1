"""What is seen inside a language model is what it computes.
在语言模型内部看到的，就是它真正计算的。
"""

import pytest
import torch

from chapter_06_rnn_lstm_seq.inspection import (
    correlations,
    gradient_by_distance,
    text_signals,
    trace_lstm,
    trace_model,
)
from chapter_06_rnn_lstm_seq.model import LanguageModel, LanguageModelConfig
from chapter_06_rnn_lstm_seq.recurrent import make_recurrent


def test_a_trace_ends_in_the_layers_own_output():
    torch.manual_seed(0)
    layer, x = make_recurrent("lstm", 5, 7).double(), torch.randn(11, 5, dtype=torch.float64)
    trace, (output, (_, c)) = trace_lstm(layer, x), layer(x[None])
    torch.testing.assert_close(trace["h"], output[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(trace["c"][-1], c[0, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(trace["f"][1:] * trace["c"][:-1] + trace["i"][1:] * trace["g"][1:], trace["c"][1:])


def test_layers_are_traced_one_after_another():
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(9, d_embedding=4, hidden_size=6)).eval()
    ids = torch.randint(9, (13,))
    last = trace_model(model, ids)[-1]["h"]
    torch.testing.assert_close(model.head(last), model(ids[None])[0][0], rtol=0, atol=1e-6)


def test_what_a_reader_of_plays_keeps_track_of():
    text = "KING:\nTo be, I say.\n"
    signals = text_signals(text)
    assert all(len(values) == len(text) for values in signals.values())
    assert signals["place in the line"].tolist() == [*range(6), *range(14)]
    assert signals["inside a speaker's name"].tolist() == [1] * 6 + [0] * 14
    assert signals["place in the word"].tolist()[6:13] == [1, 2, 0, 1, 2, 0, 0]
    assert signals["capitals"].tolist()[:7] == [1, 1, 1, 1, 0, 0, 1]


def test_correlations_are_pearsons():
    generator = torch.Generator().manual_seed(0)
    cells, signal = torch.randn(50, 4, generator=generator), torch.randn(50, generator=generator)
    cells[:, 3] = 2.5  # never varies
    wanted = torch.corrcoef(torch.cat([signal[:, None], cells[:, :3]], dim=1).T)[0, 1:]
    found = correlations(cells, signal)
    torch.testing.assert_close(found[:3], wanted)
    assert found[3] == 0
    assert correlations(-3 * signal[:, None] + 1, signal).item() == pytest.approx(-1, abs=1e-5)


def test_gradients_by_distance_are_differences():
    """A small step of one embedding changes the loss by gradient times step."""
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(9, "gru", 4, 6)).double().eval()
    ids = torch.randint(9, (1, 8))
    norms = gradient_by_distance(model, ids)
    x = model.embedding(ids[:, :-1]).detach()

    def loss(x):
        for layer in model.layers:
            x, _ = layer(x)
        return torch.nn.functional.cross_entropy(model.head(x[:, -1]), ids[:, -1])

    for distance in (0, 3, 6):
        place, step = 6 - distance, 1e-6
        partial = []
        for feature in range(4):
            moved = x.clone()
            moved[0, place, feature] += step
            partial.append((loss(moved) - loss(x)) / step)
        assert torch.stack(partial).norm().item() == pytest.approx(norms[distance].item(), rel=1e-4)
