"""Layers and stacks of them against PyTorch's, outputs and gradients, under every kind of mask.
各层及其堆叠与 PyTorch 的对照：输出与梯度，覆盖各种掩码。
"""

import pytest
import torch
from torch import nn

from chapter_07_attention_mechanism.attention import causal_mask, padding_mask
from chapter_08_transformer_vanilla.layers import DecoderLayer, EncoderLayer
from chapter_08_transformer_vanilla.transformer import Decoder, Encoder

SHAPES = [(1, 1, 1), (1, 5, 1), (3, 1, 4), (2, 7, 5)]  # B, S, T
SIZES = {"n_heads": 2, "d_ff": 10}
OURS = {"self_attn": "self_attention", "multihead_attn": "cross_attention"}
OURS |= {"linear1": "feed_forward.linear1", "linear2": "feed_forward.linear2"}


def our_name(theirs: str) -> str:
    """The name here of a parameter of nn.Transformer's layers, in which two parts of the names are others."""
    return ".".join(OURS.get(part, part) for part in theirs.split("."))


def shake_(module: nn.Module) -> None:
    """Move every parameter from where it starts, or biases of 0 and gains of 1 would hide mistakes."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def gradients(output, inputs):
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * weights).sum(), inputs)


def check_equal(ours, theirs, our_output, their_output, inputs):
    """Compare the outputs, and their gradients by the inputs and by every parameter."""
    torch.testing.assert_close(our_output, their_output, rtol=0, atol=1e-9)
    parameters = dict(ours.named_parameters())
    names = [our_name(name) for name, _ in theirs.named_parameters()]
    assert sorted(names) == sorted(parameters)
    mine = gradients(our_output, [*inputs, *(parameters[name] for name in names)])
    wanted = gradients(their_output, [*inputs, *theirs.parameters()])
    for name, a, b in zip([f"input {i}" for i in range(len(inputs))] + names, mine, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def copy_(ours, theirs):
    shake_(theirs)
    ours.load_state_dict({our_name(name): tensor for name, tensor in theirs.state_dict().items()})


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_encoder_equals_pytorchs(shape, norm, activation):
    b, s, _ = shape
    ours = Encoder(2, 6, norm=norm, activation=activation, **SIZES).double().eval()
    layer = nn.TransformerEncoderLayer(6, 2, 10, 0.0, activation, batch_first=True, norm_first=norm == "pre")
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(6), enable_nested_tensor=False).double()
    copy_(ours, theirs)
    x, lengths = random(b, s, 6), torch.randint(1, s + 1, (b,))
    padding, causal = padding_mask(lengths, s), causal_mask(s)
    for mask, options in [
        (None, {}),
        (padding, {"src_key_padding_mask": ~padding[:, 0]}),
        (causal, {"mask": ~causal}),
        (causal & padding, {"mask": ~causal, "src_key_padding_mask": ~padding[:, 0]}),
    ]:
        check_equal(ours, theirs, ours(x, mask)[0], theirs(x, **options), [x])


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decoder_equals_pytorchs(shape, norm):
    b, s, t = shape
    ours = Decoder(2, 6, norm=norm, **SIZES).double().eval()
    layer = nn.TransformerDecoderLayer(6, 2, 10, 0.0, batch_first=True, norm_first=norm == "pre")
    theirs = nn.TransformerDecoder(layer, 2, nn.LayerNorm(6)).double()
    copy_(ours, theirs)
    x, memory = random(b, t, 6), random(b, s, 6)
    mask = padding_mask(torch.randint(1, s + 1, (b,)), s)
    for mine, options in [(None, {}), (mask, {"memory_key_padding_mask": ~mask[:, 0]})]:
        expected = theirs(x, memory, tgt_mask=~causal_mask(t), **options)
        check_equal(ours, theirs, ours(x, ours.start(memory, mine))[0], expected, [x, memory])


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_without_memory_is_a_causal_encoder(norm):
    ours = Decoder(2, 6, norm=norm, cross=False, **SIZES).double().eval()
    encoder = Encoder(2, 6, norm=norm, **SIZES).double().eval()
    shake_(encoder)
    ours.load_state_dict({name.replace("norm2", "norm3"): tensor for name, tensor in encoder.state_dict().items()})
    x = random(3, 5, 6)
    torch.testing.assert_close(ours(x, ours.start())[0], encoder(x, causal_mask(5))[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cross", [True, False])
def test_a_decoder_goes_on_where_it_stopped(cross):
    decoder = Decoder(2, 6, cross=cross, **SIZES).double().eval()
    shake_(decoder)
    x = random(3, 7, 6)
    start = decoder.start(random(3, 4, 6), padding_mask(torch.tensor([4, 1, 3]), 4)) if cross else decoder.start()
    whole = decoder(x, start)[0]
    for sizes in ([1] * 7, [3, 4], [2, 1, 4]):
        state, parts = start, []
        for part in x.split(sizes, dim=1):
            y, state, _ = decoder(part, state)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-10)


def test_a_memory_without_any_real_position_says_nothing():
    decoder = Decoder(2, 6, **SIZES).double().eval()
    shake_(decoder)
    x, memory = random(2, 3, 6), random(2, 4, 6)
    mask = padding_mask(torch.tensor([0, 4]), 4)
    output = decoder(x, decoder.start(memory, mask))[0]
    by_x, by_memory = gradients(output, [x, memory])
    assert output.isfinite().all() and by_x.isfinite().all() and by_memory[0].eq(0).all() and by_memory[1].ne(0).all()
    other = decoder(x, decoder.start(random(2, 4, 6), mask))[0]
    torch.testing.assert_close(other[0], output[0], rtol=0, atol=0)
    _, _, maps = decoder(x, decoder.start(memory, mask), need_weights=True)
    assert all(cross[0].eq(0).all() for _, cross in maps)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_weights_asked_for_change_nothing(norm):
    encoder, decoder = (kind(2, 6, norm=norm, **SIZES).double().eval() for kind in (Encoder, Decoder))
    x, memory, mask = random(2, 5, 6), random(2, 4, 6), padding_mask(torch.tensor([4, 2]), 4)
    for stack, inputs in [(encoder, (memory, mask)), (decoder, (x, decoder.start(memory, mask)))]:
        shake_(stack)
        torch.testing.assert_close(stack(*inputs, need_weights=True)[0], stack(*inputs)[0], rtol=0, atol=1e-11)


def test_dropout_is_of_what_a_branch_adds():
    """With everything dropped a pre-norm layer adds nothing, and a post-norm layer only normalises."""
    x, memory = torch.randn(2, 3, 6), (torch.randn(2, 2, 4, 3), torch.randn(2, 2, 4, 3))
    for kind, inputs, n_norms in [(EncoderLayer, (x,), 2), (DecoderLayer, (x, None, memory), 3)]:
        pre, post = (kind(6, dropout=1.0, norm=norm, **SIZES).train() for norm in ("pre", "post"))
        normalised = x
        for _ in range(n_norms):
            normalised = nn.functional.layer_norm(normalised, (6,))
        assert torch.equal(pre(*inputs)[0], x) and torch.equal(post(*inputs)[0], normalised)
        assert not torch.equal(pre.eval()(*inputs)[0], x)


def test_matrices_start_as_glorots_and_biases_at_0():
    torch.manual_seed(0)
    layer = DecoderLayer(96, 4, 200)
    for name, parameter in layer.named_parameters():
        if parameter.ndim == 2:
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert 0.99 * bound < parameter.abs().max() <= bound, name
        else:
            assert parameter.eq(1 if "norm" in name and "weight" in name else 0).all(), name


def test_a_norm_stands_pre_or_post():
    with pytest.raises(ValueError, match='not "Pre"'):
        EncoderLayer(6, norm="Pre", **SIZES)
