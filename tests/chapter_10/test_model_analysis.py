"""What is read off a pre-trained model: weights that are known, losses computed another way, words beside each other.
从预训练模型里读出的东西：已知的注意力权重、另一种算法得到的损失、彼此相邻的词。
"""

import json
import math

import pytest
import torch
from torch.nn import functional as F

from chapter_08_transformer_vanilla.lm_analysis import copying_weights
from chapter_10_llm_modern_components import model_analysis, visualize
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig

TINY = {"n_tokens": 11, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 24, "max_length": 20}


def tiny(**options):
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(**TINY | options)).eval()
    model.initialize_(0.5)
    return model


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"window": 3}, {"positions": "learned", "norm": "layer"}])
def test_weights_are_those_that_the_model_uses(options):
    """Each layer's weights times its values, through its last matrix, are what its attention returns."""
    model, ids, outputs = tiny(**options), torch.randint(11, (2, 9)), []
    for block in model.blocks:
        block.attention.register_forward_hook(lambda attention, args, out: outputs.append((attention, args, out)))
    maps = model_analysis.attention_maps(model, ids)
    assert len(maps) == len(outputs) == 2
    for weights, (attention, (x, rotation, *_), out) in zip(maps, outputs, strict=True):
        v = attention.project(x, rotation)[2].repeat_interleave(2, dim=1)
        torch.testing.assert_close(attention.out_proj((weights @ v).transpose(1, 2).flatten(2)), out)
        assert weights.triu(1).count_nonzero() == 0
    assert len(model.blocks[0].attention._forward_hooks) == 1, "a hook was left behind"


@torch.no_grad()
def test_a_model_without_scores_looks_at_all_alike_and_one_with_a_sink_does_not():
    model, windows = tiny(positions="none", norm="layer"), torch.randint(1, 11, (3, 6))
    windows[:, 0] = 0
    for block in model.blocks:
        block.attention.qkv_proj.weight[: 6 * 4] = 0  # q and k of 4 and 2 heads of 4 numbers
    even = model_analysis.even_first_weight(6)
    assert even == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6) / 5)
    torch.testing.assert_close(model_analysis.first_token_weights(model, windows), torch.full((2, 4), even))
    model.embedding.weight[:] = torch.eye(16)[1]
    model.embedding.weight[0] = torch.eye(16)[0]  # the first token alone points along 0, all others along 1
    first = model.blocks[0].attention.qkv_proj.weight
    first[0, 1], first[16, 0] = 50.0, 50.0  # head 1: others ask, the first answers; head 2 has its keys, but asks not
    weights = model_analysis.first_token_weights(model, windows)
    assert weights[0, 0] > 0.99 and weights[0, 1:].tolist() == pytest.approx([even] * 3, abs=1e-6)


def test_followers_are_what_copying_looks_at():
    ids = torch.tensor([3, 1, 4, 3, 1, 3])
    found = [tuple(place) for place in model_analysis.followers(ids).nonzero().tolist()]
    assert found == [(3, 1), (4, 2), (5, 1), (5, 4)]
    twice = torch.randperm(8).repeat(2)
    assert copying_weights(model_analysis.followers(twice)[None, None].float()).item() == 1.0


@torch.no_grad()
def test_bits_by_position_are_those_of_each_beginning_alone():
    model, text = tiny(), torch.randint(11, (40,))
    windows = model_analysis.cut_windows([text, text[:5], text[7:]], 9)  # of 40, 5 and 33 tokens: 4, none, 3
    assert windows.shape == (7, 10) and windows[1].equal(text[9:19]) and windows[4].equal(text[7:17])
    bits = model_analysis.bits_by_position(model, windows)
    for n in range(1, 10):
        p = model(windows[:, :n])[:, -1].softmax(dim=-1)  # (N, V): having read n tokens
        torch.testing.assert_close(bits[:, n - 1], -p.gather(1, windows[:, n : n + 1])[:, 0].log2())
    assert model_analysis.cut_windows([text[:5]], 9).equal(text[None, :5])

    sizes = torch.randint(1, 5, bits.shape)
    rows = model_analysis.by_context(bits, sizes)
    assert [(row["from"], row["to"]) for row in rows] == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 9)]
    assert rows[3]["bits_per_byte"] == pytest.approx((bits[:, 4:8].sum() / sizes[:, 4:8].sum()).item())
    alike = model_analysis.by_context(bits, torch.ones_like(bits))[0]  # where all are of one byte: a mean's error
    assert alike["std_error"] == pytest.approx(bits[:, 0].double().std().item() / math.sqrt(7))


def test_neighbours_are_whole_words_nearest_first():
    merges, words = [], {"ab": [1.0, 0.0, 5.0], "cd": [0.8, 0.6, 5.0], "ef": [-1.0, 0.1, 5.0]}
    for word in words:
        merges += [(32, ord(word[0])), (256 + len(merges), ord(word[1]))]  # " a" and " ab"
    tokenizer = ByteTokenizer(merges, ["<|end|>"])
    table = torch.randn(len(tokenizer), 3)
    for i, vector in zip((257, 259, 261), words.values(), strict=True):
        table[i] = torch.tensor(vector)  # the 5 is common to all
    found = model_analysis.nearest_words(table, tokenizer, ["ab", "gh"], 5)
    assert list(found) == ["ab"] and [word for word, _ in found["ab"]] == ["cd", "ef"]
    centred = [torch.tensor(v) - torch.tensor(list(words.values())).mean(dim=0) for v in words.values()]
    assert found["ab"][0][1] == pytest.approx(F.cosine_similarity(centred[0], centred[1], dim=0).item(), abs=1e-6)


def test_the_part_draws_what_it_measures_and_says_what_is_missing(tmp_path, capsys, complaint, monkeypatch):
    flags = ["--parts", "model", "--results_dir", str(tmp_path), "--out_dir", str(tmp_path)]
    monkeypatch.setattr(visualize, "CHECKPOINTS", tmp_path)
    visualize.main(flags)
    assert "stories.pth is not there: chapter_10_llm_modern_components/pretrain.py makes it" in capsys.readouterr().out
    flags.append("--dry_run")
    visualize.main(flags)
    assert "pretrain_untrained.json is not there" in capsys.readouterr().out
    final = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))["final"]
    assert final["windows"] == 1 and final["heads"] == 4 and final["bits_per_byte_first"] > 0
    assert (tmp_path / "looking.png").exists() and not (tmp_path / "learning.png").exists()
    row = {"step": 2, "train_bits_per_byte": 2.0, "validation_bits_per_byte": 2.1}
    final = {"bits_per_byte": 2.2, "bits_per_byte_ngram": 2.5, "bits_per_byte_xz_primed": 2.6, "epochs": 3.0}
    results, path = {"history": [row], "final": final}, tmp_path / "pretrain_untrained.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    assert "pretrain_untrained.json holds no results" in complaint(visualize.main, *flags)
    path.write_text(json.dumps(results | {"final": final | {"ngram_order": 7}}), encoding="utf-8")
    visualize.main(flags)
    assert (tmp_path / "learning.png").stat().st_size > 0
