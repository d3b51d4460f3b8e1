"""The README's second half: its plain code equals the model's parts, and its pictures show the same numbers.
README 的后半部分：其中的代码与模型的各部分相等，插图里的数字也一致。
"""

import math

import pytest
import torch
from torch import nn

from chapter_08_transformer_vanilla.figures import families
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from tests.chapter_08.test_readme import NAMES


def tiny(n_encoder, n_decoder, **options):
    torch.manual_seed(0)
    config = TransformerConfig(11, 8, 2, 12, n_encoder, n_decoder, dropout=0.0, **options)
    return Transformer(config).double().eval()


@pytest.mark.parametrize(("n_read", "n"), [(6, 6), (0, 6), (3, 6), (2, 7), (1, 2)])
def test_who_may_look_at_whom_is_what_each_family_does(n_read, n):
    n_written = n - n_read
    model = tiny(2 * (n_read > 0), 2 * (n_written > 0))
    read, written = torch.arange(n_read)[None], torch.arange(n_written)[None]
    maps = model.attention_maps(read, None, written) if n_read else model.attention_maps(written)
    seen = torch.zeros(n, n, dtype=torch.bool)
    blocks = {"encoder": seen[:n_read, :n_read], "cross": seen[n_read:, :n_read], "decoder": seen[n_read:, n_read:]}
    for name, block in blocks.items():
        for weights in maps[name]:
            block |= (weights[0] > 0).any(dim=0)  # (H, T, S) -> (T, S)
    assert seen.tolist() == NAMES["may_look"](n_read, n)
    assert [families.N_READ, len(families.PAIR)] == [3, 6]


def test_pieces_cost_what_their_characters_cost():
    """A model of characters rates a text; the same probabilities, taken piece by piece, need the same bits."""
    pieces, model = list(families.NATS), tiny(0, 1)
    tokens = torch.arange(11)[None]
    costs = nn.functional.cross_entropy(model(tokens[:, :-1])[0], tokens[0, 1:], reduction="none")  # (10,)
    by_piece = torch.stack([part.sum() for part in costs.split([1, 4, 5])])
    bits = [NAMES["bits_per_character"](x.mean().item(), len(x), 10) for x in (costs, by_piece)]
    assert bits[0] == pytest.approx(bits[1], rel=1e-12)
    assert bits[0] == pytest.approx(costs.sum().item() / math.log(2) / 10, rel=1e-12)
    assert [len(piece) for piece in pieces] == [len(nats) for nats in families.NATS.values()] == [1, 4, 6]
    assert sum(map(sum, families.NATS.values())) == pytest.approx(6.6)


def test_so_many_places_answer():
    draws = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    shown = [NAMES["show"]("dog", u, "green") for u in draws]
    answering = [word for word, u in zip(shown, draws, strict=True) if u < 0.15]
    shares = [answering.count(word) / len(draws) for word in ("<mask>", "green", "dog")]
    assert shares == pytest.approx([0.12, 0.015, 0.015], abs=0.002)
    assert shown.count("dog") / len(draws) == pytest.approx(0.865, abs=0.003)


def test_an_encoder_sees_the_answer():
    """The logits at a place depend on the next token in an encoder, not in a decoder."""
    for model, depends in ((tiny(2, 0), True), (tiny(0, 2), False)):
        logits = [model(torch.tensor([[1, 2, token, 4]]))[0, 1] for token in (3, 5)]
        assert logits[0].equal(logits[1]) is not depends


def test_the_pictures_guesses_are_the_texts():
    assert families.CORPUS == NAMES["corpus"]
    for shown in ([None] * 8, ["the", "dog", *[None] * 5, "day"], [None, "cat", *[None] * 6]):
        assert families.best_guesses(shown) == NAMES["guess"](families.CORPUS, shown)


def test_steps_of_one_place_write_a_sentence_of_the_corpus():
    """By the chain rule; words of one step need not go together."""
    sentences = {" ".join(s) for s in families.CORPUS}
    assert NAMES["unmask"](families.CORPUS, 1) in sentences
    assert NAMES["unmask"](families.CORPUS, 8) not in sentences
