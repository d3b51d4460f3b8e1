"""Training: a resumed run equals a whole one, two processes equal one, and what the files hold.
训练：恢复后与未中断一致，两个进程等同于一个，以及写出的文件。
"""

import copy
import json
import socket
import subprocess
import sys

import pytest
import torch

from chapter_03_optimization_regularization.optimizers import Muon
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_08_transformer_vanilla import train as script
from chapter_08_transformer_vanilla.shipped import build, load_translator
from chapter_08_transformer_vanilla.tasks.translate import Translate
from tests.conftest import ROOT
from utils.checkpoint import load_model
from utils.errors import UserError

CPU = torch.device("cpu")
TINY = ["--dry_run", "--device", "cpu"]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def interrupt_after(count, save):
    calls = []

    def interrupted(*args):
        save(*args)
        calls.append(args)
        if len(calls) == count:
            raise KeyboardInterrupt

    return interrupted


def test_a_resumed_training_equals_a_whole_one(tmp_path):
    """Dropout and the last batches of the interrupted run included: each step has a seed of its own."""
    flags = [*TINY, "--max_steps", "6", "--dropout", "0.2", "--out_dir"]
    script.main([*flags, str(tmp_path / "whole")])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "save_state", interrupt_after(1, script.save_state))
        script.main([*flags, str(tmp_path / "parts")])
    torch.rand(3)  # whatever the generators have been used for meanwhile
    script.main([*flags, str(tmp_path / "parts"), "--resume"])
    whole, parts = (torch.load(tmp_path / name / "translate_de_en.pth") for name in ("whole", "parts"))
    assert all(torch.equal(whole["weights"][name], parts["weights"][name]) for name in whole["weights"])
    histories = [
        [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in read(tmp_path / name / "translate_de_en.json")["history"]
        ]
        for name in ("whole", "parts")
    ]
    assert histories[0] == histories[1] and [row["step"] for row in histories[0]] == [2, 4, 6]
    with pytest.raises(UserError, match="--dropout 0.2"):
        script.main([*TINY, "--max_steps", "6", "--out_dir", str(tmp_path / "parts"), "--resume"])


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


@pytest.mark.skipif(sys.platform == "win32", reason="two processes meet through a store that Windows builds may lack")
def test_two_processes_train_as_one(tmp_path):
    """At the same global batch, whose rows, some longer than others, are dealt out to the processes."""
    one, two = tmp_path / "one", tmp_path / "two"
    flags = [*TINY, "--max_steps", "8", "--dropout", "0", "--d_model", "16"]
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"]
    path = ROOT / "chapter_08_transformer_vanilla/train.py"
    command = [sys.executable, *torchrun, f"--master_port={free_port()}", str(path)]
    done = subprocess.run([*command, *flags, "--out_dir", str(two)], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bleu_greedy") == 1, "the first process alone prints"
    script.main([*flags, "--out_dir", str(one)])
    histories = [read(folder / "translate_de_en.json")["history"] for folder in (one, two)]
    for ours, theirs in zip(*histories, strict=True):
        for name in ("train_loss", "validation_loss", "lr"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-5)
    assert read(two / "translate_de_en.json")["final"]["processes"] == 2


def test_shares_of_a_batch_may_be_empty():
    """Five processes and a batch of three sentences: the others add gradients of 0."""
    torch.manual_seed(0)
    model = build({"n_tokens": 300, "d_model": 8, "n_heads": 2, "d_ff": 8})
    source, target = torch.zeros(0, 4, dtype=torch.long), torch.zeros(0, 3, dtype=torch.long)
    logits = model(source, torch.zeros(0, dtype=torch.long), target)
    assert logits.shape == (0, 3, 300)
    logits.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("pair", ["de-en", "zh-en"])
def test_results_and_weights_hold_what_is_reported(pair, tmp_path):
    script.main([*TINY, "--pair", pair, "--out_dir", str(tmp_path)])
    name = f"translate_{pair.replace('-', '_')}"
    results = read(tmp_path / f"{name}.json")
    final = results["final"]
    names = {"bleu", "bleu_cased", "bleu_greedy", "bleu_nearest", "by_length", "signature", "n_parameters", "epochs"}
    names |= {"test_count", "split", "beam", "length_penalty", "train_seconds", "processes", "validation_count"}
    assert names <= final.keys() and final["split"] == "toy" and final["processes"] == 1
    assert {"train_loss", "validation_loss", "validation_bleu", "lr", "seconds"} <= results["history"][0].keys()
    model, about = load_model(tmp_path / f"{name}.pth", build, CPU)
    assert final["n_parameters"] == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        source = torch.tensor([about["probe_source"]])
        logits = model(source, torch.tensor([source.shape[1]]), torch.tensor([about["probe_target"]]))
    torch.testing.assert_close(logits[0, -1, : len(about["probe"])], torch.tensor(about["probe"]))
    translator = load_translator(pair, tmp_path / f"{name}.pth", CPU)
    assert len(translator.tokenizer) == len(translator.odds) == model.config.n_tokens
    other = "en-de" if pair == "de-en" else "de-en"
    assert load_translator(other, tmp_path / f"{name}.pth", CPU).pair == pair, "a file brings its own pair"


def test_muon_takes_the_hidden_matrices_and_no_embedding():
    for positions in ("sinusoidal", "learned"):
        model = build({"n_tokens": 300, "d_model": 8, "n_heads": 2, "d_ff": 16, "positions": positions})
        muon, adamw = make_optimizers(model, "muon", 0.01, 0.1)
        assert isinstance(muon, Muon)
        layers = [p for part in (model.encoder, model.decoder) for p in part.parameters() if p.ndim == 2]
        assert {*muon.state} == {*layers} and len(layers) == 3 * (4 + 6)
        assert {*adamw.state} == {*model.parameters()} - {*layers} and model.embedding.weight in adamw.state


def test_the_shipped_model_is_small_enough():
    """Of the recipe's sizes, with the largest vocabulary that it allows."""
    recipe = script.RECIPES["translate"]
    for variant in ({}, *script.VARIANTS["translate"].values()):
        flags = recipe | variant
        config = {name: flags[name] for name in ("d_model", "n_heads", "d_ff", "n_encoder_layers", "n_decoder_layers")}
        model = build(config | {"n_tokens": flags["vocab_size"]})
        n_parameters = sum(p.numel() for p in model.parameters())
        assert n_parameters <= 4_200_000 and 2 * n_parameters + 400_000 < 9_000_000


@pytest.mark.parametrize(
    "flags,message",
    [
        ("--d_model 10 --n_heads 4", "--d_model 10 cannot be shared by 4 heads"),
        ("--d_model 9 --n_heads 3", "take an even number"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        script.main([*TINY, *flags.split()])


def test_gradients_are_of_the_smoothed_loss_over_real_tokens(tmp_path, monkeypatch):
    """One step of plain gradient descent, by hand in float64, against the script's."""
    flags = [*TINY, "--max_steps", "1", "--optimizer", "sgd", "--warmup", "0", "--clip", "1000", "--ema", "0"]
    flags += ["--dropout", "0", "--weight_decay", "0", "--lr", "0.5", "--label_smoothing", "0.1"]

    class Watched(Translate):
        def build(self):
            model = super().build()
            self.start = copy.deepcopy(model).double()
            return model

        def batch(self):
            self.drawn = super().batch()
            return self.drawn

    tasks = []
    monkeypatch.setattr(script, "Translate", lambda *args: tasks.append(Watched(*args)) or tasks[-1])
    script.main([*flags, "--out_dir", str(tmp_path)])
    [task] = tasks
    inputs, following = task.drawn
    log_p = task.start(*inputs).log_softmax(dim=-1)
    real = following >= 0
    of_target = log_p.gather(2, following.clamp(min=0)[:, :, None])[:, :, 0]
    loss = -(0.9 * of_target + 0.1 * log_p.mean(dim=2))[real].mean()
    loss.backward()
    assert read(tmp_path / "translate_de_en.json")["history"][0]["train_loss"] == pytest.approx(loss.item(), abs=1e-5)
    saved = torch.load(tmp_path / "state_translate_de_en.pth", weights_only=True)["model"]
    for name, p in task.start.named_parameters():
        torch.testing.assert_close(saved[name].double(), (p - 0.5 * p.grad).detach(), atol=1e-5, rtol=1e-4)
