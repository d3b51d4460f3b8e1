"""Fails until fold_gains.py is solved.
在 fold_gains.py 完成之前，这里的测试不会通过。
"""

import torch

from chapter_10_llm_modern_components.exercises.fold_gains import fold_gains_
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig


def make(tied):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 24, "max_length": 8}
    model = LanguageModel(ModelConfig(11, qk_norm=True, tied=tied, **sizes)).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 2)
            else:
                parameter.mul_(20)  # so that every part matters
    return model, torch.randint(11, (2, 8))


def check(tied):
    model, ids = make(tied)
    before, table = model(ids).detach(), model.embedding.weight.detach().clone()
    fold_gains_(model)
    torch.testing.assert_close(model(ids).detach(), before, rtol=0, atol=1e-9)
    torch.testing.assert_close(model.embedding.weight.detach(), table, rtol=0, atol=0)
    gains = [norm.weight for block in model.blocks for norm in (block.norm1, block.norm2)]
    assert all(gain.eq(1).all() for gain in gains) and (tied or model.norm.weight.eq(1).all())
    assert model.embedding.weight.requires_grad


def test_answers_stay_with_two_tables():
    check(tied=False)


def test_answers_stay_with_one_table_for_both_ends():
    check(tied=True)
