"""What is timed side by side computes the same; the cache is as large as said.
并排计时的两方计算结果相同；缓存的大小与所说的一致。
"""

import torch

from chapter_08_transformer_vanilla import benchmark as script
from chapter_08_transformer_vanilla import lm_benchmark
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from tests.chapter_08.test_layers import our_name, shake_

CONFIG = TransformerConfig(11, d_model=8, n_heads=2, d_ff=12, n_encoder_layers=2, n_decoder_layers=3, dropout=0.0)
SOURCE, TARGET = torch.randint(11, (2, 3, 6), generator=torch.Generator().manual_seed(0))


def build():
    torch.manual_seed(0)
    return Transformer(CONFIG)


def test_both_sides_of_the_training_compute_the_same():
    ours = build().double()
    theirs = script.PyTorchTransformer(ours).double()
    shake_(theirs.stacks)
    ours.load_state_dict({our_name(name): t for name, t in theirs.stacks.state_dict().items()}, strict=False)
    inputs = SOURCE, torch.tensor([6, 2, 4]), TARGET
    for model in (ours, theirs):
        script.train_step(model, inputs, TARGET)
    torch.testing.assert_close(ours(*inputs), theirs(*inputs), rtol=0, atol=1e-9)
    names = dict(ours.named_parameters())
    for name, parameter in theirs.stacks.named_parameters():
        torch.testing.assert_close(names[our_name(name)].grad, parameter.grad, rtol=0, atol=1e-9)


def test_both_language_models_compute_the_same():
    torch.manual_seed(0)
    config = {"n_encoder_layers": 0, "n_decoder_layers": 3, "dropout": 0.0, "activation": "gelu"}
    ours = Transformer(TransformerConfig(11, d_model=8, n_heads=2, d_ff=12, **config)).double()
    theirs = lm_benchmark.PyTorchDecoder(ours).double()
    shake_(theirs.stack)

    def our_name_of(name):
        return our_name(name).replace("norm2", "norm3")  # a decoder's second norm is cross-attention's

    weights = {f"decoder.{our_name_of(name)}": t for name, t in theirs.stack.state_dict().items()}
    assert not ours.load_state_dict(weights, strict=False).unexpected_keys
    torch.testing.assert_close(ours(SOURCE), theirs(SOURCE), rtol=0, atol=1e-9)
    for model in (ours, theirs):
        model(SOURCE).logsumexp(dim=-1).sum().backward()
    names = dict(ours.named_parameters())
    for name, parameter in theirs.stack.named_parameters():
        torch.testing.assert_close(names[f"decoder.{our_name_of(name)}"].grad, parameter.grad, rtol=0, atol=1e-9)


@torch.no_grad()
def test_without_cache_the_same_is_computed_again_and_again():
    model = build().double().eval()
    state, again = model.start(SOURCE), script.first_state(model, SOURCE)
    for tokens in TARGET.T:
        log_p, state = model.step(tokens, state)
        expected, again = script.step_without_cache(model, tokens, again)
        torch.testing.assert_close(log_p, expected, rtol=0, atol=1e-9)
    assert again[1].tolist() == TARGET.tolist()


@torch.no_grad()
def test_the_cache_is_as_large_as_its_tokens():
    model = build().eval()
    state = model.start(SOURCE[:1])
    for n_written in range(4):
        assert script.cache_bytes(state) == script.bytes_a_token(CONFIG) * (SOURCE.shape[1] + n_written)
        state = model.step(TARGET[:1, 0], state)[1]
    assert script.bytes_a_token(CONFIG) == 2 * 3 * 8 * 4, "key and value, three layers, eight numbers of four bytes"
