"""Ways to save memory or time leave the gradient as it is, and what memory holds is counted to the byte.
省内存、省时间的办法不改变梯度；内存里放了什么，一个字节也不会数错。
"""

import pytest
import torch
from torch.nn import functional as F

from chapter_10_llm_modern_components.efficiency import Step, parse, relative_error
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.scaling.memory import activation_bytes, kept_bytes, kept_numbers, state_bytes
from utils.memory import torch_peak


@pytest.fixture
def args():
    return parse(["--dry_run", "--depth", "2", "--batch_size", "8", "--accumulate", "4"])


def test_accumulated_gradients_are_those_of_the_large_batch(args):
    assert relative_error(Step("accumulation", args).gradient(), Step("plain", args).gradient()) < 1e-6


def test_checkpointed_gradients_are_identical(args):
    assert torch.equal(Step("checkpointing", args).gradient(), Step("plain", args).gradient())


def test_bfloat16_gives_nearly_the_same(args):
    assert 1e-5 < relative_error(Step("bf16", args).gradient(), Step("plain", args).gradient()) < 0.05


def test_checkpointing_and_accumulation_need_less_memory(args):
    args.depth, args.length = 4, 64
    plain, checkpointing, accumulation = (Step(arm, args).peak() for arm in ("plain", "checkpointing", "accumulation"))
    assert checkpointing < 0.6 * plain and accumulation < 0.6 * plain


def test_states_are_four_numbers_a_parameter():
    model = LanguageModel(ModelConfig(10, d_model=8, n_layers=1, n_heads=2, d_ff=8))
    n = sum(p.numel() for p in model.parameters())
    assert state_bytes(model) == {"weight_bytes": 4 * n, "gradient_bytes": 4 * n, "moment_bytes": 8 * n}


def test_activations_grow_with_the_batch_and_shrink_with_checkpoints():
    model = LanguageModel(ModelConfig(10, d_model=8, n_layers=4, n_heads=2, d_ff=16, max_length=16)).train()
    one, two = (activation_bytes(model, batch, 16) for batch in (1, 2))
    constant = 2 * one - two  # places, masks and the like are there once
    assert 0 <= constant < 0.1 * one
    model.checkpointing = True
    assert activation_bytes(model, 2, 16) < 0.4 * two


def test_what_is_kept_of_a_token_is_counted_by_hand_too():
    config = ModelConfig(300, d_model=32, n_layers=3, n_heads=4, n_kv_heads=2, d_ff=80, max_length=16)
    counts = kept_numbers(config)
    end = counts.pop("end")
    found = activation_bytes(LanguageModel(config).train(), 4, 16)
    tables = 2 * 4 * 16 * 8  # cosines and sines
    assert found == pytest.approx(4 * 4 * 16 * (3 * sum(counts.values()) + end) + tables, rel=1e-3)


def test_with_checkpoints_the_end_is_gone_before_a_block_comes_back():
    """936 numbers more at the end are 936 more without checkpoints; behind a larger block they do not show."""

    def peak(n_tokens, checkpointing):
        config = ModelConfig(n_tokens, d_model=32, n_layers=2, n_heads=2, d_ff=1024, max_length=64)
        counts = kept_numbers(config)
        assert counts["end"] < sum(counts.values()) - counts["end"]
        model = LanguageModel(config).train()
        model.checkpointing = checkpointing
        ids = torch.zeros(16, 64, dtype=torch.long)

        def step():
            F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()

        step()
        model.zero_grad()  # before it is measured: the profiler does not know how large older memory is
        return torch_peak(step) / 4 / 1024

    assert peak(1000, False) - peak(64, False) == pytest.approx(936, rel=0.1)
    assert peak(1000, True) - peak(64, True) < 0.1 * 936


@pytest.mark.parametrize("checkpointing", [False, True])
def test_at_the_turn_logits_and_two_gradients_come_on_top(checkpointing):
    config = ModelConfig(1000, d_model=32, n_layers=2, n_heads=2, d_ff=80, max_length=64)
    model, tokens = LanguageModel(config).train(), 16 * 64
    model.checkpointing = checkpointing
    ids = torch.zeros(16, 64, dtype=torch.long)

    def step():
        logits = model(ids)
        F.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()

    step()
    model.zero_grad()
    at_end = config.n_layers * config.d_model + kept_numbers(config)["end"]
    kept = 4 * tokens * at_end if checkpointing else kept_bytes(config, tokens)["activation_bytes"]
    assert torch_peak(step) - kept == pytest.approx(3 * 4 * tokens * config.n_tokens, rel=0.01)
