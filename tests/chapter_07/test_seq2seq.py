"""Encoder, decoder and attention together: steps equal the whole, padding says nothing, copies are in place.
编码器、解码器与注意力合在一起：逐步等于整体，填充不影响结果，复制的概率落在正确的位置。
"""

import pytest
import torch

from chapter_07_attention_mechanism.decoder import ATTENTIONS, DecoderConfig, Memory
from chapter_07_attention_mechanism.decoding import beam_search, greedy
from chapter_07_attention_mechanism.seq2seq import Seq2Seq
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID

SOURCE, LENGTHS = torch.randint(4, 12, (3, 7)), torch.tensor([7, 1, 4])
TOKENS = torch.randint(4, 12, (3, 5))


def build(attention, copy=False):
    torch.manual_seed(0)
    config = DecoderConfig(vocabulary=12, embedding=6, hidden=8, attention=attention, n_heads=2, copy=copy)
    return Seq2Seq(config).double().eval()


def test_copying_needs_attention():
    with pytest.raises(ValueError, match="nothing points at what to copy"):
        build("none", copy=True)


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("attention", ATTENTIONS[:-1])
def test_steps_equal_the_whole(attention, copy):
    model = build(attention, copy)
    whole = model(SOURCE, LENGTHS, TOKENS)
    assert whole.shape == (3, 5, 12)
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(3, 5, dtype=whole.dtype), rtol=0, atol=1e-6)
    state, steps = model.encode(SOURCE, LENGTHS), []
    for tokens in TOKENS.T:
        log_p, state = model.step(tokens, state)
        steps.append(log_p)
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_says_nothing(attention):
    model = build(attention, copy=attention != "none")
    alone = torch.cat([model(s[None, :n], n[None], t[None]) for s, n, t in zip(SOURCE, LENGTHS, TOKENS, strict=True)])
    torch.testing.assert_close(model(SOURCE, LENGTHS, TOKENS), alone, rtol=0, atol=1e-6)
    memory, states = model.encode(SOURCE, LENGTHS)
    weights = model.decode(TOKENS, memory, states)[2]
    assert weights[1, :, 1:].eq(0).all() and weights[2, :, 4:].eq(0).all()


def test_a_copy_goes_where_attention_points():
    """With the gate open, the probability of a token is the weight of all its places in the source."""
    model = build("additive", copy=True)
    model.copy_gate.weight.data.zero_()
    model.copy_gate.bias.data.fill_(-40.0)  # always copy
    memory, states = model.encode(SOURCE, LENGTHS)
    log_p, _, weights = model.decode(TOKENS, memory, states)
    expected = torch.zeros(3, 5, 12, dtype=weights.dtype)
    for b in range(3):
        for s in range(LENGTHS[b]):
            expected[b, :, SOURCE[b, s]] += weights[b, :, s]
    torch.testing.assert_close(log_p.exp().double(), expected, rtol=0, atol=1e-6)


def test_without_attention_the_source_is_one_vector():
    """Other values between the two ends, the same ends: the same answer."""
    model = build("none")
    memory, states = model.encode(SOURCE, LENGTHS)
    changed = memory.values.clone()
    changed[0, 1:-1] += 1
    both = [model.decode(TOKENS, Memory(v, *memory[1:]), states)[0] for v in (memory.values, changed)]
    assert torch.equal(*both)
    changed[0, -1] += 1
    assert not torch.equal(both[0], model.decode(TOKENS, Memory(changed, *memory[1:]), states)[0])


@pytest.mark.parametrize("attention", ["additive", "multihead"])
def test_a_tiny_model_learns_to_reverse(attention):
    """Reverse four letters, from 200 batches: attention has to look at another place each time."""
    torch.manual_seed(0)
    model = Seq2Seq(DecoderConfig(12, 16, 32, attention, n_heads=2, dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    lengths, ends = torch.full((64,), 4), torch.full((64, 1), EOS_ID)
    for _ in range(200):
        source = torch.randint(4, 12, (64, 4))
        target = torch.cat([torch.full((64, 1), BOS_ID), source.flip(1), ends], dim=1)
        loss = -model(source, lengths, target[:, :-1]).gather(2, target[:, 1:, None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    source, start = torch.randint(4, 12, (64, 4)), torch.full((64,), BOS_ID)
    wanted = source.flip(1).tolist()
    answers = greedy(model.step, model.encode(source, lengths), start, EOS_ID, 8)
    right = sum(answer == w for answer, w in zip(answers, wanted, strict=True))
    assert right >= 60
    answers, _ = beam_search(model.step, model.encode(source, lengths), start, EOS_ID, 8, beam=3)
    assert sum(answer == w for answer, w in zip(answers, wanted, strict=True)) >= right
