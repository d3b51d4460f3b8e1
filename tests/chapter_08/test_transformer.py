"""The whole model: equal to nn.Transformer, step by step equal to all at once, and able to learn.
整个模型：与 nn.Transformer 相等，逐步解码与一次算完相等，并且学得会。
"""

import io
import itertools

import pytest
import torch
from torch import nn

from chapter_03_optimization_regularization.optimizers import Adam
from chapter_07_attention_mechanism.attention import causal_mask, padding_mask
from chapter_07_attention_mechanism.decoding import beam_search, greedy
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from tests.chapter_08.test_layers import gradients, our_name, shake_

TINY = {"n_tokens": 11, "d_model": 8, "n_heads": 2, "d_ff": 12, "n_encoder_layers": 2, "n_decoder_layers": 2}
BOS, EOS = 1, 0
SOURCE, LENGTHS = torch.randint(2, 11, (3, 6), generator=torch.Generator().manual_seed(0)), torch.tensor([6, 1, 4])
TARGET = torch.randint(2, 11, (3, 5), generator=torch.Generator().manual_seed(1))
PARTS = {"encoder-decoder": {}, "decoder-only": {"n_encoder_layers": 0}, "encoder-only": {"n_decoder_layers": 0}}


def build(seed=0, **options):
    torch.manual_seed(seed)
    return Transformer(TransformerConfig(**TINY | options)).double().eval()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 6, 5), (2, 1, 7)], ids=str)
def test_model_equals_pytorchs(shape, norm, tie_weights):
    """nn.Transformer stands between our embedding and our head, with masks for source and target.

    It also masks the target's padding, which a causal decoder need not: what is compared are the real positions.
    """
    b, s, t = shape
    ours = build(norm=norm, tie_weights=tie_weights)
    theirs = nn.Transformer(8, 2, 2, 2, 12, 0.0, batch_first=True, norm_first=norm == "pre").double()
    shake_(theirs)
    stacks = {our_name(name): tensor for name, tensor in theirs.state_dict().items()}
    assert not ours.load_state_dict(stacks, strict=False).unexpected_keys
    source, target = torch.randint(11, (b, s)), torch.randint(11, (b, t))
    lengths, target_lengths = torch.randint(1, s + 1, (b,)), torch.randint(1, t + 1, (b,))
    padding, target_padding = ~padding_mask(lengths, s)[:, 0], ~padding_mask(target_lengths, t)[:, 0]
    hidden = theirs(
        ours.embed(source),
        ours.embed(target),
        tgt_mask=~causal_mask(t),
        src_key_padding_mask=padding,
        tgt_key_padding_mask=target_padding,
        memory_key_padding_mask=padding,
    )
    expected, logits = (x[~target_padding] for x in (ours.head(hidden), ours(source, lengths, target)))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)

    names = dict(ours.named_parameters())
    outer = [names.pop(name) for name in list(names) if not name.startswith(("encoder.", "decoder."))]
    assert len(outer) == (1 if tie_weights else 2) and sorted(names) == sorted(stacks)
    mine = gradients(logits, [*outer, *(names[our_name(name)] for name, _ in theirs.named_parameters())])
    wanted = gradients(expected, [*outer, *theirs.parameters()])
    for a, e in zip(mine, wanted, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-9)


def test_without_lengths_nothing_is_padding():
    model, full = build(), torch.full((3,), 6)
    torch.testing.assert_close(model(SOURCE, None, TARGET), model(SOURCE, full, TARGET), rtol=0, atol=1e-12)
    assert model.encode(SOURCE)[1] is None and model.encode(SOURCE, LENGTHS)[1].shape == (3, 1, 6)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "none"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_steps_equal_the_whole(norm, positions):
    both = build(norm=norm, positions=positions)
    alone = build(norm=norm, positions=positions, n_encoder_layers=0)
    for model, whole, state in [
        (both, both(SOURCE, LENGTHS, TARGET), both.start(SOURCE, LENGTHS)),
        (alone, alone(TARGET), alone.start(TARGET[:, :0])),
    ]:
        steps = []
        for tokens in TARGET.T:
            log_p, state = model.step(tokens, state)
            steps.append(log_p)
        torch.testing.assert_close(torch.stack(steps, dim=1), whole.log_softmax(dim=-1), rtol=0, atol=1e-9)


def test_a_beginning_is_read_at_once():
    model = build(n_encoder_layers=0)
    log_p, _ = model.step(TARGET[:, -1], model.start(TARGET[:, :-1]))
    torch.testing.assert_close(log_p, model(TARGET)[:, -1].log_softmax(dim=-1), rtol=0, atol=1e-9)


def test_padding_and_neighbours_in_the_batch_say_nothing():
    model = build()
    alone = torch.cat([model(s[None, :n], None, t[None]) for s, n, t in zip(SOURCE, LENGTHS, TARGET, strict=True)])
    torch.testing.assert_close(model(SOURCE, LENGTHS, TARGET), alone, rtol=0, atol=1e-9)
    encoder = build(n_decoder_layers=0)
    together = encoder(SOURCE, LENGTHS)
    for row, tokens, n in zip(together, SOURCE, LENGTHS, strict=True):
        torch.testing.assert_close(row[:n], encoder(tokens[None, :n])[0], rtol=0, atol=1e-9)


def lively(seed, n_tokens):
    """A model with weights so large that it does not just repeat its last token."""
    model = build(seed, n_tokens=n_tokens, tie_weights=False)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.5)
    return model


@torch.no_grad()
def greedy_by_the_whole(model, source, length, max_length):
    """The likeliest token again and again, the whole target computed anew for each."""
    target = [BOS]
    while len(target) <= max_length:
        logits = model(source[None, :length], None, torch.tensor([target]))
        target.append(logits[0, -1].argmax().item())
        if target[-1] == EOS:
            return target[1:-1]
    return target[1:]


def test_greedy_decoding_equals_the_whole_and_a_beam_of_one():
    endings = set()
    for seed in range(6):
        model, source, start = lively(seed, 5), SOURCE % 5, torch.full((3,), BOS)
        answers = greedy(model.step, model.start(source, LENGTHS), start, EOS, 8)
        assert answers == [greedy_by_the_whole(model, s, n, 8) for s, n in zip(source, LENGTHS, strict=True)]
        assert answers == beam_search(model.step, model.start(source, LENGTHS), start, EOS, 8, beam=1)[0]
        endings |= {len(answer) for answer in answers}
    assert len(endings) > 2  # some end early, some not at all


@torch.no_grad()
def exhaustive(model, source, length, max_length, length_penalty):
    """Rate every target that ends, or is of max_length tokens, by the whole model; return the best and its score."""
    n_tokens, candidates = model.config.n_tokens, {}
    for target in itertools.product(range(n_tokens), repeat=max_length):
        end = target.index(EOS) + 1 if EOS in target else max_length
        candidates[target[:end]] = None
    best = (-torch.inf, None)
    for size in range(1, max_length + 1):
        targets = torch.tensor([target for target in candidates if len(target) == size])
        given = torch.cat([torch.full((len(targets), 1), BOS), targets[:, :-1]], dim=1)
        log_p = model(source[None, :length].expand(len(targets), -1), None, given).log_softmax(dim=-1)
        totals = log_p.gather(2, targets[:, :, None])[:, :, 0].sum(dim=1) / ((5 + size) / 6) ** length_penalty
        index = totals.argmax().item()
        best = max(best, (totals[index].item(), [token for token in targets[index].tolist() if token != EOS]))
    return best


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_a_full_beam_is_exhaustive_search(length_penalty):
    n_tokens, max_length = 4, 4
    model, source = lively(3, n_tokens), SOURCE % n_tokens
    state, start = model.start(source, LENGTHS), torch.full((3,), BOS)
    found, scores = beam_search(model.step, state, start, EOS, max_length, n_tokens**max_length, length_penalty)
    for answer, score, tokens, length in zip(found, scores, source, LENGTHS, strict=True):
        best_score, best = exhaustive(model, tokens, length, max_length, length_penalty)
        assert answer == best and score.item() == pytest.approx(best_score, abs=1e-5)


def test_attention_maps_are_weights_of_every_layer_and_head():
    maps = build().attention_maps(SOURCE, LENGTHS, TARGET)
    shapes = {"encoder": (3, 2, 6, 6), "decoder": (3, 2, 5, 5), "cross": (3, 2, 5, 6)}
    for name, shape in shapes.items():
        assert [tuple(weights.shape) for weights in maps[name]] == [shape] * 2
        for weights in maps[name]:
            torch.testing.assert_close(weights.sum(-1), torch.ones(shape[:-1], dtype=weights.dtype))
    assert all(weights[1, :, :, 1:].eq(0).all() for weights in maps["encoder"] + maps["cross"])
    assert all(weights.triu(1).eq(0).all() for weights in maps["decoder"])
    assert {name: len(maps) for name, maps in build(n_encoder_layers=0).attention_maps(TARGET).items()} == {
        "encoder": 0,
        "decoder": 2,
        "cross": 0,
    }
    assert len(build(n_decoder_layers=0).attention_maps(SOURCE, LENGTHS)["encoder"]) == 2


def test_queries_that_ask_nothing_look_at_all_real_positions_alike():
    model = build(n_encoder_layers=1, n_decoder_layers=1)
    model.encoder.layers[0].self_attention.in_proj_weight.data.zero_()
    weights = model.attention_maps(SOURCE, LENGTHS, TARGET)["encoder"][0]
    expected = padding_mask(LENGTHS, 6).double() / LENGTHS[:, None, None]
    torch.testing.assert_close(weights, expected[:, None].expand_as(weights), rtol=0, atol=1e-12)


@pytest.mark.parametrize("parts", PARTS)
def test_tied_weights_are_one_tensor(parts):
    model = build(**PARTS[parts])
    weights = model.state_dict()
    assert weights["head.weight"].data_ptr() == weights["embedding.weight"].data_ptr()
    assert sum(p is model.embedding.weight for p in model.parameters()) == 1
    untied = build(**PARTS[parts], tie_weights=False)
    sizes = []
    for each in (model, untied):
        torch.save(each.state_dict(), file := io.BytesIO())
        sizes.append(file.tell())
    n_more = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in model.parameters())
    assert n_more == 11 * 8 and sizes[1] - sizes[0] >= 8 * n_more
    assert not any("positions" in name for name in weights)  # sines are computed, not stored


def test_the_embedding_has_the_size_of_the_positions():
    model = Transformer(TransformerConfig(n_tokens=500, d_model=128)).eval()
    x = model.embed(torch.arange(500)[None]) - model.positions(torch.zeros(1, 500, 128))
    assert x.std().item() == pytest.approx(1, abs=0.02)


def test_a_model_has_a_layer():
    with pytest.raises(ValueError, match="at least one layer"):
        build(n_encoder_layers=0, n_decoder_layers=0)


@pytest.mark.parametrize("parts", PARTS)
def test_bfloat16_is_near(parts):
    model = Transformer(TransformerConfig(**TINY | PARTS[parts])).eval()
    inputs = {"encoder-decoder": (SOURCE, LENGTHS, TARGET), "decoder-only": (TARGET,)}.get(parts, (SOURCE, LENGTHS))
    exact = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*inputs)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.1)


def reversals(n_rows, length, generator):
    """Rows of tokens from 2 on, and the same from the last to the first, between BOS and EOS."""
    source = torch.randint(2, 11, (n_rows, length), generator=generator)
    ends = torch.full((n_rows, 1), BOS), torch.full((n_rows, 1), EOS)
    return source, torch.cat([ends[0], source.flip(1), ends[1]], dim=1)


def test_it_learns_to_reverse():
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_ff": 64, "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.0}
    model, generator = Transformer(TransformerConfig(**TINY | sizes)), torch.Generator().manual_seed(0)
    optimizer = Adam(model.parameters(), lr=5e-3)
    for _ in range(300):
        source, target = reversals(64, 5, generator)
        logits = model(source, None, target[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source, _ = reversals(200, 5, generator)
    answers = greedy(model.eval().step, model.start(source), torch.full((200,), BOS), EOS, 10)
    assert sum(a == s for a, s in zip(answers, source.flip(1).tolist(), strict=True)) >= 195
