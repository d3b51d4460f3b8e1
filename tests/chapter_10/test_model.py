"""The language model in every setting: causal, cached token for token, padded or not, in bfloat16, and learning.
语言模型的各种配置：因果、带缓存逐词元一致、有无填充一致、bfloat16 可用，并且能学会。
"""

import pytest
import torch
from torch.nn import functional as F

from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig, build_model

TINY = {"n_tokens": 11, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 24, "max_length": 20}
GPT2 = {"norm": "layer", "positions": "learned", "activation": "gelu", "bias": True, "n_kv_heads": None}
SETTINGS = {
    "llama": {},
    "llama3": {"rope_scaling": "llama3", "rope_factor": 4.0, "rope_original_length": 8, "tied": False, "d_head": 6},
    "linear": {"rope_scaling": "linear", "rope_factor": 2.0, "n_kv_heads": 1},
    "qwen3": {"qk_norm": True},
    "window": {"window": 3},
    "experts": {"n_experts": 4, "qk_norm": True},
    "gpt2": GPT2,
    "gpt2 without biases": GPT2 | {"bias": False, "positions": "none"},
}


def tiny(**options):
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(**TINY | options)).eval()
    model.initialize_(0.3)  # scores that differ
    return model


@torch.no_grad()
@pytest.mark.parametrize("setting", SETTINGS)
def test_cached_and_padded_reading_is_reading_it_all(setting):
    model = tiny(**SETTINGS[setting]).double()
    ids = torch.randint(11, (2, 14))
    whole = model(ids)
    caches = model.new_caches(14)
    parts = [model(part, caches) for part in ids.split([5, 3] + [1] * 6, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-9)
    other = ids.clone()
    other[:, 9:] = (other[:, 9:] + 1) % 11
    torch.testing.assert_close(model(other)[:, :9], whole[:, :9], rtol=0, atol=1e-9)  # what follows is not seen

    padded = torch.cat([torch.zeros(2, 4, dtype=torch.long), ids[:, :10]], dim=1)
    padded[1, :4], padded[1, 4:] = ids[1, :4], ids[1, 4:]
    n_padding, caches = torch.tensor([4, 0]), model.new_caches(14)
    parts = torch.cat([model(part, caches, n_padding) for part in padded.split([7, 3] + [1] * 4, dim=1)], dim=1)
    torch.testing.assert_close(parts[0, 4:], whole[0, :10], rtol=0, atol=1e-9)
    torch.testing.assert_close(parts[1], whole[1], rtol=0, atol=1e-9)
    assert parts.isfinite().all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_bfloat16_comes_near_float32(setting):
    model, ids = tiny(**SETTINGS[setting]).train(), torch.randint(11, (2, 12))
    whole = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids)
        half = F.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
    half.backward()
    assert logits.dtype == torch.bfloat16 and abs(half.item() - whole.item()) < 0.02 * whole.item()
    assert all(
        p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters() if p.grad is not None
    )


def test_a_window_reaches_as_far_as_its_layers_add_up():
    model, ids = tiny(window=2), torch.randint(11, (1, 12))
    x = model.embedding(ids).detach().requires_grad_()
    model.embedding.register_forward_hook(lambda *_: x)
    reached = torch.autograd.grad(model(ids)[0, 9].square().sum(), x)[0][0].abs().sum(-1) > 0
    assert reached.nonzero().flatten().tolist() == list(range(5, 10))  # 2 layers of 2 places back


@pytest.mark.parametrize("setting", ["llama", "experts", "gpt2"])
def test_it_learns_to_look_back(setting):
    """Texts that repeat three tokens over and over."""
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(**TINY | SETTINGS[setting])).train()
    model.initialize_(0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(100):
        ids = torch.randint(11, (16, 3)).repeat(1, 4)
        loss = F.cross_entropy(model(ids[:, :-1])[:, 2:].flatten(0, 1), ids[:, 3:].flatten())
        loss = loss + 0.01 * model.balance_loss() if model.config.n_experts else loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5  # guessing: log 11 = 2.4


def test_it_starts_near_guessing_and_shares_what_is_tied():
    model = build_model(TINY | {"n_layers": 8})
    std = {name: p.std().item() for name, p in model.named_parameters() if p.ndim == 2}
    assert "head.weight" not in std and model.head.weight is model.embedding.weight
    assert std["blocks.3.attention.qkv_proj.weight"] == pytest.approx(0.02, rel=0.1)
    assert std["blocks.3.feed_forward.down_proj.weight"] == pytest.approx(0.02 / 4, rel=0.15)
    ids = torch.randint(11, (4, 20))
    loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(2.4, abs=0.1)


@pytest.mark.parametrize("wrong,words", [({"norm": "none"}, "norm is one of"), ({"n_heads": 3}, "by 3 heads"),
                                         ({"n_kv_heads": 3}, "cannot share 3"), ({"d_head": 5}, "odd")])  # fmt: skip
def test_a_config_that_cannot_be_built_says_why(wrong, words):
    with pytest.raises(ValueError, match=words):
        build_model(TINY | wrong)
    with pytest.raises(ValueError, match="21 tokens are more than the 20"):
        build_model(TINY)(torch.zeros(1, 21, dtype=torch.long))
