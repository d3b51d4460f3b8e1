"""The README's second half: its plain code equals the model's parts, and its pictures show the same numbers.
README 的后半部分：其中的代码与模型的各部分相等，插图里的数字也一致。
"""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from chapter_06_rnn_lstm_seq.model import LanguageModel, LanguageModelConfig
from chapter_07_attention_mechanism.vocab import SPECIAL
from chapter_08_transformer_vanilla.classifier import from_masked_model
from chapter_08_transformer_vanilla.figures import circuits, families, uses
from chapter_08_transformer_vanilla.induction import copying_layers, copying_stream
from chapter_08_transformer_vanilla.layers import FeedForward
from chapter_08_transformer_vanilla.masking import MASK_ID, mask_tokens, unmask
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from chapter_08_transformer_vanilla.vit import PatchTokenizer, VisionTransformer, ViTConfig
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


def test_so_many_positions_answer():
    """By the plain code and by `mask_tokens`, which draws the other word from a large vocabulary."""
    torch.manual_seed(0)
    n = 200_000
    shown = [NAMES["show"]("dog", u, "green") for u in torch.rand(n, dtype=torch.float64).tolist()]
    plain = [shown.count(word) / n for word in ("<mask>", "green", "dog")]
    dog = 77
    tokens, _, truth = mask_tokens(torch.full((1, n), dog), 10_000)
    fast = [(tokens == kind).sum().item() / n for kind in (MASK_ID, dog)]
    fast.insert(1, 1 - sum(fast))
    assert plain == pytest.approx([0.12, 0.015, 0.865], abs=0.003)
    assert fast == pytest.approx([0.12, 0.015, 0.865], abs=0.003)
    assert truth.numel() / n == 0.15 and (truth == dog).all()


def test_an_encoder_sees_the_answer():
    """The logits at a position depend on the next token in an encoder, not in a decoder."""
    for model, depends in ((tiny(2, 0), True), (tiny(0, 2), False)):
        logits = [model(torch.tensor([[1, 2, token, 4]]))[0, 1] for token in (3, 5)]
        assert logits[0].equal(logits[1]) is not depends


def test_the_pictures_guesses_are_the_texts():
    assert families.CORPUS == NAMES["corpus"]
    for shown in ([None] * 8, ["the", "dog", *[None] * 5, "day"], [None, "cat", *[None] * 6]):
        assert families.best_guesses(shown) == NAMES["guess"](families.CORPUS, shown)


def test_steps_of_one_position_write_a_sentence_of_the_corpus():
    """By the chain rule; words of one step need not go together."""
    sentences = {" ".join(s) for s in families.CORPUS}
    assert NAMES["unmask"](families.CORPUS, 1) in sentences
    assert NAMES["unmask"](families.CORPUS, 8) not in sentences


class Counted(nn.Module):
    """Guesses as the README's `guess`: by the share of the sentences that fit; words are numbered as they come."""

    def __init__(self):
        super().__init__()
        self.words = [*SPECIAL, *dict.fromkeys(word for sentence in families.CORPUS for word in sentence)]
        self.head = nn.Linear(1, 1)  # tells where the model is

    def forward(self, tokens):
        shown = [None if i == MASK_ID else self.words[i] for i in tokens[0].tolist()]
        fitting = [s for s in families.CORPUS if all(w in (None, v) for w, v in zip(shown, s, strict=True))]
        counts = torch.tensor([[[words.count(word) for word in self.words] for words in zip(*fitting, strict=True)]])
        return (counts / len(fitting)).log()


@pytest.mark.parametrize("per_step", [1, 2, 3, 8])
def test_unmasking_is_the_plain_codes(per_step):
    model = Counted()
    steps = list(unmask(model, [MASK_ID] * 8, per_step, temperature=0))
    assert " ".join(model.words[i] for i in steps[-1]) == NAMES["unmask"](families.CORPUS, per_step)
    assert [step.count(MASK_ID) for step in steps] == [max(8 - per_step * n, 0) for n in range(1, len(steps) + 1)]


def test_what_transfer_keeps_and_adds():
    model = Transformer(TransformerConfig(4000, 256, 4, 256, 3, 0))
    classifier = from_masked_model(model, 2, dropout=0.1)
    kept = sum(p.numel() for p in model.parameters())  # the old head is the embedding
    assert (kept, sum(p.numel() for p in classifier.parameters()) - kept) == (2_211_840, 514)


def test_no_line_parts_the_frozen_features():
    """Whatever the line: where good and not bad lie on one side, so does the mean of the others, which is theirs."""
    frozen, praise = (torch.tensor(NAMES[name]) for name in ("frozen", "praise"))
    frozen = frozen.double()
    torch.testing.assert_close(frozen[praise].mean(dim=0), frozen[~praise].mean(dim=0))
    assert [tuple(row) for row in frozen.int().tolist()] == list(uses.PHRASES.values())
    layer = FeedForward(2, 2, "relu").double()
    with torch.no_grad():
        layer.linear1.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
        layer.linear1.bias.zero_()
        moved = torch.relu(layer.linear1(frozen))
    assert moved.tolist() == [[float(x) for x in row] for row in NAMES["moved"]]


@pytest.mark.parametrize(("height", "width", "p"), [(4, 4, 2), (6, 9, 3), (2, 4, 1)])
def test_patches_are_a_strided_convolution(height, width, p):
    torch.manual_seed(0)
    images = torch.randn(2, 3, height, width, dtype=torch.float64)
    tokenizer = PatchTokenizer(p, 5).double()
    kernel = tokenizer.linear.weight.view(5, 3, p, p)
    convolved = nn.functional.conv2d(images, kernel, tokenizer.linear.bias, stride=p)  # (B, 5, h, w)
    torch.testing.assert_close(tokenizer(images), convolved.flatten(2).transpose(1, 2), rtol=0, atol=1e-12)
    plain = torch.tensor(NAMES["patches"](images[0, 1].tolist(), p), dtype=torch.float64)  # (h w, p p), one colour
    wanted = nn.functional.conv2d(images[:1, 1:2], kernel[:, 1:2], stride=p)[0].flatten(1)  # (5, h w)
    torch.testing.assert_close(kernel[:, 1].flatten(1) @ plain.T, wanted, rtol=0, atol=1e-12)
    assert NAMES["picture"] == uses.PICTURE


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_shuffled_patches_need_shuffled_positions_only(pooling):
    torch.manual_seed(0)
    config = ViTConfig(image_size=8, patch_size=2, d_model=8, n_heads=2, d_ff=12, n_layers=2, pooling=pooling)
    model, images = VisionTransformer(config).double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    order = torch.randperm(16)
    blocks = nn.functional.pixel_unshuffle(images, 2).flatten(2)  # (B, 12, 16)
    shuffled = nn.functional.pixel_shuffle(blocks[:, :, order].unflatten(2, (4, 4)), 2)
    wanted, moved = model(images), model(shuffled)
    assert not torch.allclose(wanted, moved)
    first = int(pooling == "class")
    with torch.no_grad():
        model.positions.weight[first:] = model.positions.weight[first:][order]
    torch.testing.assert_close(model(shuffled), wanted, rtol=0, atol=1e-12)


def test_what_a_patch_weighs():
    scores = torch.zeros(65)  # the class token's, for itself and 64 patches
    scores[7] = 5.0
    assert scores.softmax(dim=0)[7].item() == pytest.approx(0.70, abs=0.005)
    assert 1 / 64 == pytest.approx(0.016, abs=0.0005)


@pytest.mark.parametrize("text", [circuits.TEXT, [0, 2, 1, 1, 2, 3, 1], [0, 3, 3, 3], [0, 1, 2, 3]])
def test_two_layers_copy_as_the_plain_code_does(text):
    x, weights = copying_stream(text, 4), None
    for layer in copying_layers(4, len(text)):
        x, _, (weights, _) = layer(x, need_weights=True)
    fetched = x[0, :, :4] - nn.functional.one_hot(torch.tensor(text), 4)  # (T, V)
    plain = NAMES["copying"](text)
    for t, answer in enumerate(plain):
        after = [s for s in range(1, t + 1) if text[s - 1] == text[t]]  # all positions behind one like t's
        share = torch.zeros(4, dtype=torch.float64)
        for s in after:
            share[text[s]] += 3 / len(after)
        torch.testing.assert_close(fetched[t], share, rtol=0, atol=1e-3)
        assert answer == (text[after[0]] if after else 0)
    if text == circuits.TEXT:
        assert weights[0, 0, range(4, 7), range(2, 5)].min() > 0.999  # positions t and t - n + 1


def test_one_layer_cannot_copy():
    """Without notes the second layer's keys do not say who stands before them: its weight stays at <bos>."""
    alone = copying_layers(4, 7)[1]
    _, _, (weights, _) = alone(copying_stream(circuits.TEXT, 4), need_weights=True)
    assert weights[0, 0, 1:, 0].min() > 0.99


def test_the_lens_at_the_top_is_the_model():
    model = tiny(0, 3)
    tokens, states = torch.tensor([[1, 7, 3, 2]]), []
    for layer in model.decoder.layers:
        layer.register_forward_hook(lambda _, __, result: states.append(result[0]))
    logits = model(tokens)
    rows = {token: row.tolist() for token, row in enumerate(model.head.weight)}
    for x, wanted in zip(model.decoder.norm(states[-1])[0], logits[0], strict=True):
        said, share = NAMES["lens"](x.tolist(), rows)
        assert said == wanted.argmax() and share == pytest.approx(wanted.softmax(dim=0).max().item(), rel=1e-9)
    for x, drawn in zip(([0, 1, 0, 0], [0, 1, 3, 0]), (circuits.run_layers()[0][i][4] for i in (1, 2)), strict=True):
        assert drawn[:4].tolist() == pytest.approx(x, abs=1e-3)


def test_work_is_counted_as_pytorch_counts_it():
    """Its counter takes scores for all pairs, ours for those that the mask allows, (T + 1) / 2T of them."""
    n_layers, d, n_positions, v = 2, 8, 6, 11
    model = Transformer(TransformerConfig(v, d, 2, 4 * d, 0, n_layers, dropout=0.0))
    with FlopCounterMode(display=False) as counter:
        state = model.decoder.start()
        model.head(model.decoder(model.embed(torch.arange(n_positions)[None]), state, need_weights=True)[0])
    pairs = n_layers * 4 * n_positions**2 * d
    expected = (counter.get_total_flops() - pairs + pairs * (n_positions + 1) / (2 * n_positions)) / n_positions
    assert NAMES["transformer_flop"](n_layers, d, n_positions, v) == expected
    assert sum(uses.transformer_work(n_layers, d, n_positions, v).values()) == expected
    lstm = LanguageModel(LanguageModelConfig(v, d_embedding=d, hidden_size=d, n_layers=3))
    matrices = [p for name, p in lstm.named_parameters() if p.ndim == 2 and "embedding" not in name]
    assert NAMES["lstm_flop"](3, d, v) == 2 * sum(p.numel() for p in matrices)
    assert sum(uses.lstm_work(3, d, v).values()) == NAMES["lstm_flop"](3, d, v)


def test_the_example_is_the_one_that_is_drawn():
    assert NAMES["transformer_flop"](context=256, **uses.SHAPE) == sum(
        uses.transformer_work(context=256, **uses.SHAPE).values()
    )
    assert NAMES["lstm_flop"](**uses.LSTM) == pytest.approx(
        NAMES["transformer_flop"](context=256, **uses.SHAPE), rel=1e-3
    )
    assert 12 * 6 * 384**2 + 384 * 65 == 10_641_792
