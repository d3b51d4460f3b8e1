"""Chapter 9's tasks, and its training: resumed to the same numbers, shipped and loaded again.
第 9 章的任务与训练：续训得到相同的数值，保存后可以再读入。
"""

import json

import pytest
import torch

from chapter_06_rnn_lstm_seq.toy import toy_text
from chapter_09_efficient_attention import benchmark, exactness_report, train
from chapter_09_efficient_attention.capacity_tasks import IGNORED, parity_batch, recall_batch
from chapter_09_efficient_attention.costs import crossover, fitted_exponent
from chapter_09_efficient_attention.language import CharacterTask
from chapter_09_efficient_attention.model import ATTENTIONS, build_decoder
from utils.checkpoint import load_model

TINY = ["--dataset", "toy", "--batch_size", "4", "--length", "16", "--amp", "off", "--save_every", "2"]
TINY += [
    "--kept_length",
    "16",
    "--decode_tokens",
    "2",
    "--d_model",
    "16",
    "--n_heads",
    "2",
    "--d_ff",
    "16",
    "--n_layers",
    "2",
    "--device",
    "cpu",
]


def test_recall_asks_for_the_value_of_each_key():
    inputs, targets = recall_batch(50, n_pairs=5, n_keys=8, n_values=3)
    assert inputs.shape == targets.shape == (50, 15)
    for row, wanted in zip(inputs.tolist(), targets.tolist(), strict=True):
        pairs = dict(zip(row[:10:2], row[1:10:2], strict=True))
        assert len(pairs) == 5 and set(pairs) <= set(range(8)) and set(pairs.values()) <= {8, 9, 10}
        assert wanted[:10] == [IGNORED] * 10 and wanted[10:] == [pairs[key] for key in row[10:]]
        assert sorted(row[10:]) == sorted(pairs)
    asked_in_order = (inputs[:, 10:] == inputs[:, :10:2]).all(dim=1)
    assert asked_in_order.float().mean() < 0.1
    with pytest.raises(ValueError, match="9 pairs need as many different keys: there are 8"):
        recall_batch(1, n_pairs=9, n_keys=8, n_values=3)


def test_parity_is_that_of_the_ones_so_far():
    bits, targets = parity_batch(20, 9)
    assert targets.tolist() == [[sum(row[: i + 1]) % 2 for i in range(9)] for row in bits.tolist()]
    assert 0.3 < bits.float().mean() < 0.7


def test_the_loss_is_over_second_halves_that_lie_side_by_side():
    task = CharacterTask(toy_text(60), batch_size=3, length=9, device=torch.device("cpu"))
    x, y = task.batch()
    assert x.shape == y.shape == (3, 9) and torch.equal(x[:, 1:], y[:, :-1])
    seen = []

    class Spy(torch.nn.Module):
        """Is sure of the right character at all places but the first four, where it is sure of a wrong one."""

        def forward(self, ids):
            seen.append(ids)
            logits = torch.zeros(*ids.shape, len(task.characters))
            following = torch.cat([ids[:, 1:], ids[:, :1]], dim=1)
            logits.scatter_(2, following[..., None], 100.0)
            logits[:, :4] = logits[:, :4].roll(1, dims=-1)
            logits[:, -1] = 0  # of the last one it knows nothing
            return logits, None

    loss, count = task.loss(Spy())
    ids = torch.cat(seen)  # (N, 9): windows that begin 5 after one another, of which the last 5 places count
    assert count == 5 * len(ids) and torch.equal(ids[1:, :4], ids[:-1, 5:])
    assert loss == pytest.approx(torch.tensor(len(task.characters)).log().item() / 5, rel=1e-4)
    assert task.loss(Spy(), n_windows=2)[1] == 10


def test_a_resumed_training_ends_with_the_same_numbers(tmp_path, complaint, monkeypatch):
    options = [*TINY, "--attention", "gated_delta,mha", "--max_steps", "4"]
    train.main([*options, "--out_dir", str(tmp_path / "whole")])

    class Stop(Exception):
        pass

    def save_and_stop(*arguments):
        save_state(*arguments)
        raise Stop

    save_state = train.save_state
    monkeypatch.setattr(train, "save_state", save_and_stop)
    with pytest.raises(Stop):
        train.main([*options, "--out_dir", str(tmp_path / "parts")])
    monkeypatch.setattr(train, "save_state", save_state)
    train.main([*options, "--out_dir", str(tmp_path / "parts"), "--resume"])
    whole, parts = (torch.load(tmp_path / name / "gated_delta_mha.pth") for name in ("whole", "parts"))
    assert all(torch.equal(parts["weights"][name], tensor) for name, tensor in whole["weights"].items())
    other = ["--n_layers", "1", "--out_dir", tmp_path / "parts", "--resume"]
    assert "--n_layers" in complaint(train.main, *options, *other)

    model, about = load_model(tmp_path / "whole" / "gated_delta_mha.pth", build_decoder, torch.device("cpu"))
    with torch.no_grad():
        probe = model(torch.tensor(about["probe_text"])[None])[0][0, -1]
    torch.testing.assert_close(probe, torch.tensor(about["probe"]))
    final = json.loads((tmp_path / "whole" / "gated_delta_mha.json").read_text())["final"]
    state, rows = 2 * 8 * 8, 2 * 16 * 16  # 2 heads of 8 x 8 numbers, and keys and values of 16 tokens of 16
    assert final["cache_bytes"] == 4 * (state + rows + 2 * 3 * 16)  # and 3 tokens for each layer's convolution


def test_several_variants_are_compared_and_only_what_is_new_is_trained(tmp_path, monkeypatch):
    options = [*TINY, "--max_steps", "2", "--runs", "2", "--out_dir", str(tmp_path), "--attention"]
    train.main([*options, "gqa"])
    before = json.loads((tmp_path / "gqa.json").read_text())
    batch, drawn = CharacterTask.batch, []
    monkeypatch.setattr(CharacterTask, "batch", lambda task: drawn.append(1) or batch(task))
    train.main([*options, "gqa", "delta,gqa", "--resume"])
    assert len(drawn) == 2 * 2  # two steps with two seeds, of the new one
    quality = json.loads((tmp_path / "quality.json").read_text())
    final, rows = quality["final"], quality["per_seed"]
    losses = [row["val_loss"] for row in rows if row["attention"] == "gqa"]
    assert final["gqa_val_loss"] == before["final"]["val_loss"] == pytest.approx(sum(losses) / 2)
    assert losses[0] != losses[1] and [row["seed"] for row in rows] == [0, 1, 0, 1]
    assert final["gqa_cache_bytes_a_token"] == 4 * 2 * 2 * 16  # 2 layers, keys and values
    assert final["delta_gqa_cache_bytes_a_token"] == 4 * 2 * 16 and final["delta_gqa_tokens_a_second"] > 0
    assert (tmp_path / "delta_gqa.pth").exists()
    assert train.file_name("gated_delta,gated_delta,gated_delta,mha") == "gated_delta_x3_mha"


def test_every_attention_ships(tmp_path):
    attention, n_layers = ",".join(ATTENTIONS), str(len(ATTENTIONS))
    options = [*TINY, "--attention", attention, "--n_layers", n_layers, "--max_steps", "1", "--out_dir", str(tmp_path)]
    train.main(options)
    model, _ = load_model(tmp_path / f"{attention.replace(',', '_')}.pth", build_decoder, torch.device("cpu"))
    assert model.config.attention == attention


def test_flags_that_do_not_fit_are_named(complaint, tmp_path):
    options = [*TINY, "--max_steps", "1", "--out_dir", tmp_path]
    assert "no attention is called softmax" in complaint(train.main, *options, "--attention", "softmax")
    assert "--n_heads" in complaint(train.main, *options, "--d_model", "15")
    assert "--length 9999" in complaint(train.main, *options, "--length", "9999999")
    assert "one without a partner" in complaint(train.main, *options, "--d_model", "12", "--n_heads", "4")
    for length in ("1", "9999999"):
        assert f"--kept_length {length} is not from 2" in complaint(train.main, *options, "--kept_length", length)
    assert "holds no state" in complaint(train.main, *options, "--resume")


def test_the_report_finds_every_variant_exact(tmp_path):
    exactness_report.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path)])
    final = json.loads((tmp_path / "exactness.json").read_text())["final"]
    assert final["largest_float64"] < 1e-9 and final["quantization_error_of_bound"] <= 1.0001
    assert -0.6 < final["random_features_slope"] < -0.4
    assert 0 < final["largest_float64"] and max(row["float32"] for row in final["variants"].values()) < 1e-5


def test_exponents_and_crossovers_are_found_again():
    lengths = [256, 1024, 4096]
    assert fitted_exponent(lengths, [3e-6 * n**1.9 for n in lengths]) == pytest.approx(1.9)
    assert crossover(lengths, [5, 5, 5], [1, 6, 9]) == 1024
    assert crossover(lengths, [0, 5, 5], [1, 4, 9]) == 4096 and crossover(lengths, [5, 5, 5], [9, 6, 1]) is None


def test_the_benchmark_decodes_the_same_tokens_and_counts_caches(tmp_path):
    benchmark.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path)])
    final = json.loads((tmp_path / "benchmark.json").read_text())["final"]
    assert final["decode_identical"] and final["cache_bytes"]["mha"] == 4 * 24 * 2 * 16
    assert {"softmax_seconds", "softmax_bytes"} <= final["by_length"][0].keys()
    assert "softmax_seconds" not in final["by_length"][1] and "delta_bytes_exponent" in final
