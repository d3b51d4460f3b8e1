"""Pre-training: killed and resumed equals uninterrupted, two processes equal one, and bits per byte are what they say.
预训练：被杀后恢复与不中断一致，两个进程等同一个，每字节比特数名副其实。
"""

import importlib
import json
import math
import os
import shutil
import signal
import socket
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from random import Random
from threading import Thread

import pytest
import torch
import torch.multiprocessing as mp
from torch.distributed.fsdp import FSDPModule

from chapter_06_rnn_lstm_seq.toy import toy_text
from chapter_10_llm_modern_components import pretrain as script
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.pretraining import dial
from chapter_10_llm_modern_components.pretraining.data import SPECIAL, utf8
from chapter_10_llm_modern_components.pretraining.measuring import (
    bits_per_byte,
    functions,
    ngram_bits_per_byte,
    parses,
    xz_bits_per_byte,
)
from chapter_10_llm_modern_components.pretraining.sharding import FORCE_SUM
from chapter_10_llm_modern_components.shipped import load_writer
from utils.errors import UserError

CPU = torch.device("cpu")
TINY = ["--dry_run", "--device", "cpu", "--amp", "off"]
NEWER = pytest.mark.skipif(not hasattr(FSDPModule, FORCE_SUM), reason="this PyTorch cannot shard on a CPU")
KILLS = 10
TIMES = {"seconds", "tokens_per_second", "mfu", "peak_flops"}


def read(folder):
    return json.loads((folder / "pretrain_toy.json").read_text(encoding="utf-8"))


def losses(folder):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in read(folder)["history"]]


def weights(folder):
    return torch.load(folder / "toy.pth", weights_only=True)["weights"]


def kill_after(state, n_saves, seconds):
    """End this process by kill -9, some time after it has saved its state so often: it gets on, however slowly."""
    for _ in range(n_saves):
        last = written(state)
        while written(state) == last:
            time.sleep(1e-3)
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def written(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def run_in_a_fork(flags, log, killed=None):
    """Run the script in a new process, perhaps one that is `killed` in the middle; return its exit status."""
    child = os.fork()
    if child == 0:
        try:
            script.peak_speed = lambda *_: 1e9  # which takes longer than many a step, and changes no loss
            if killed is not None:
                Thread(target=kill_after, args=killed, daemon=True).start()
            with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
                script.main(flags)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train_whole_and_with_kills(_, flags, folder):
    """What a process does that has not computed yet, and so may be forked: it notes where each kill found the other."""
    importlib.import_module("torch._dynamo")  # else each of them would, when it makes its model
    assert run_in_a_fork([*flags, "--out_dir", str(folder / "whole")], folder / "log.txt") == 0
    seconds = read(folder / "whole")["history"][-1]["seconds"]
    (folder / "parts").mkdir()
    for path in (folder / "whole").glob("tokenizer_*.json"):  # to learn it takes as long as several parts
        shutil.copy(path, folder / "parts")
    state, moments, positions = folder / "parts" / "state_toy.pth", Random(0), []
    flags = [*flags, "--out_dir", str(folder / "parts")]
    for _ in range(KILLS):
        resume = ["--resume"] if state.exists() else []
        later = moments.uniform(0, seconds / 20)  # of 30 saves one and a half at most: a moment, not a step
        killed = state, moments.randrange(3), later
        assert run_in_a_fork([*flags, *resume], folder / "log.txt", killed) == -signal.SIGKILL
        positions.append(torch.load(state, weights_only=True)["position"] if state.exists() else 0)
    assert run_in_a_fork([*flags, "--resume"], folder / "log.txt") == 0
    (folder / "positions.json").write_text(json.dumps(positions))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="ten new processes would each import PyTorch")
def test_ten_times_killed_and_resumed_equals_uninterrupted(tmp_path, quick_processes):
    """To the last bit, with dropout, an average and windows of more than one epoch, wherever the kills come."""
    flags = [*TINY, "--max_steps", "60", "--save_every", "2", "--dropout", "0.1", "--batch_size", "6", "--lr", "0.01"]
    mp.spawn(train_whole_and_with_kills, (flags, tmp_path), nprocs=1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert read(whole)["final"]["epochs"] > 1
    first, last = (losses(whole)[i]["train_loss"] for i in (0, -1))
    assert last < 0.8 * first, "it learns"
    positions = json.loads((tmp_path / "positions.json").read_text())
    assert len(positions) == 10 and len(set(positions)) > 4 and positions[-1] < 60, "at different moments of it"
    assert losses(parts) == losses(whole)
    assert all(torch.equal(tensor, weights(parts)[name]) for name, tensor in weights(whole).items())


def test_interrupted_and_resumed_in_one_process(tmp_path, monkeypatch):
    """As in a notebook: by Ctrl-C, with generators that have been used meanwhile; other flags are refused."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = [*TINY, "--max_steps", "8", "--dropout", "0.1"]
    script.main([*flags, "--out_dir", str(whole)])
    save = script.save_state

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "save_state", save_and_stop)
        script.main([*flags, "--out_dir", str(parts)])
    torch.rand(3)
    script.main([*flags, "--out_dir", str(parts), "--resume"])
    assert losses(parts) == losses(whole)
    with pytest.raises(UserError, match="--dropout 0.1"):
        script.main([*TINY, "--out_dir", str(parts), "--resume"])


def train_as_one_of_two(process, port, flags, folder):
    """What each of the two processes does: the script, and keep what it prints."""
    own = {"RANK": str(process), "LOCAL_RANK": str(process), "WORLD_SIZE": "2"}
    os.environ.update(own, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    with (folder / f"printed_{process}.txt").open("w") as file, redirect_stdout(file):
        script.main(flags)


def die_after_the_first_state(process, port, flags, folder):
    save = script.save_state

    def save_and_die(*args):
        save(*args)
        os._exit(9)

    script.save_state = save_and_die
    train_as_one_of_two(process, port, flags, folder)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


@pytest.mark.skipif(sys.platform == "win32", reason="two processes meet through a store that Windows builds may lack")
@pytest.mark.parametrize("parallel", ["ddp", pytest.param("fsdp", marks=NEWER)])
def test_two_processes_train_as_one(tmp_path, quick_processes, parallel):
    """And so does one that keeps all activations and computes each batch at once; what is resumed goes on alike."""
    one, two, parts = (tmp_path / name for name in ("one", "two", "parts"))
    flags = [*TINY, "--optimizer", "adamw", "--lr", "0.002"]
    half, whole = ([*flags, "--parallel", parallel, "--out_dir", str(folder)] for folder in (parts, two))
    mp.spawn(train_as_one_of_two, (free_port(), whole, tmp_path), nprocs=2)
    printed = [(tmp_path / f"printed_{process}.txt").read_text() for process in (0, 1)]
    assert "bits_per_byte" in printed[0] and not printed[1], "the first process alone prints"
    script.main([*flags, "--out_dir", str(one), "--accumulate", "1"])
    for ours, theirs in zip(losses(one), losses(two), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert read(two)["final"]["processes"] == 2
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[name].float(), tensor.float(), atol=1e-3, rtol=0)
    if parallel == "fsdp":
        with pytest.raises((mp.ProcessExitedException, mp.ProcessRaisedException)):
            mp.spawn(die_after_the_first_state, (free_port(), half, tmp_path), nprocs=2)
        mp.spawn(train_as_one_of_two, (free_port(), [*half, "--resume"], tmp_path), nprocs=2)
        assert losses(parts) == losses(two)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(256 + 1 + len(SPECIAL), d_model=8, n_layers=1, n_heads=2, d_ff=8, max_length=16))


def test_bits_per_byte_are_of_the_whole_text(model):
    """A text that fits into a window is read at once; a longer one's tokens see at least half a window."""
    tokenizer = ByteTokenizer([(97, 98)], SPECIAL)
    for text in ("abé", "ab" * 20 + "c"):
        ids = [tokenizer.special["<|endoftext|>"], *tokenizer.encode(text)]
        total, length = 0.0, 16
        for place in range(1, len(ids)):
            window = max(0, -(-(place - length) // 8)) * 8  # the first that the token lies in
            window = min(window, max(0, len(ids) - 1 - length))
            logits = model(torch.tensor([ids[window:place]]))[0, -1]
            total -= logits.log_softmax(0)[ids[place]].item() / math.log(2)
        assert bits_per_byte(model, tokenizer, [text, ""], length) == pytest.approx(total / len(utf8(text)), rel=1e-5)


def test_what_xz_has_seen_costs_it_little():
    text = bytes(torch.randint(256, (4000,), generator=torch.Generator().manual_seed(0)).tolist())
    assert xz_bits_per_byte(b"", text) > 8 and xz_bits_per_byte(text, text) < 0.2


def test_the_n_grams_order_is_chosen_on_the_validation_text():
    text, other = (toy_text(200, seed=seed).encode() for seed in (0, 1))
    shuffled = bytes(other[i] for i in torch.randperm(len(other), generator=torch.Generator().manual_seed(0)))
    of_each = {n: ngram_bits_per_byte(text, other, other, [n])[0] for n in (1, 2, 4)}
    assert of_each[4] < of_each[2] < of_each[1]
    assert ngram_bits_per_byte(text, other, other, [1, 2, 4]) == (of_each[4], 4)
    assert ngram_bits_per_byte(text, shuffled, other, [1, 2, 4]) == (of_each[1], 1)
    calm, surprised = (ngram_bits_per_byte(text * 3, other, part, [2])[0] for part in (other, other + "é".encode()))
    assert calm < surprised < calm + 0.1, "a byte that was never seen costs much, but not everything"


def test_functions_of_real_code_are_cut_out():
    code = "".join(f"x = {i}\ndef f{i}():\n" + "    pass\n" * 12 for i in range(9))
    found = functions(["no code", code], 3)
    assert [text.count("\n") for text in found] == [10] * 3 and all(map(parses, found))
    assert [text[4:6] for text in found] == ["f0", "f3", "f6"] and len(functions([code], 100)) == 9


@pytest.mark.parametrize(
    ("text", "expected"), [("def f():\n    return 1\n", True), ("def f(:\n", False), ("x = 1\n" * 10 + "(", True)]
)
def test_ten_lines_parse(text, expected):
    assert parses(text) is expected


def test_the_dial_turns_everything_and_flags_say_otherwise():
    small, large = dial(2), dial(10)
    assert all(
        small[name] < large[name] for name in ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_ff", "batch_size")
    )
    assert small["lr"] > large["lr"]
    assert dial(10, d_model=240, lr=0.0) == large | {"d_model": 240, "d_ff": 640, "lr": 0.0}


@pytest.mark.parametrize(("corpus", "megabytes"), [("stories", 11), ("code", 8)])
def test_the_recipes_models_are_small_enough(corpus, megabytes):
    parser = script.build_parser()
    parser.set_defaults(**script.RECIPES[corpus])
    args = parser.parse_args([])
    sizes = script.set_sizes(args)
    config = ModelConfig(args.vocab_size, **{name: sizes[name] for name in sizes if name not in ("lr", "batch_size")})
    with torch.device("meta"):
        count = sum(p.numel() for p in LanguageModel(config).parameters())
    assert count <= 5_000_000 and 2 * count + 100_000 <= megabytes * 1e6


def test_the_file_writes_by_itself_and_mistakes_are_told(tmp_path, complaint):
    script.main([*TINY, "--max_steps", "2", "--out_dir", str(tmp_path)])
    writer = load_writer(tmp_path / "toy.pth", CPU)
    assert [*writer.tokenizer.special] == SPECIAL and len(writer.end_tokens) == 2
    assert (tmp_path / "samples_toy.txt").read_text(encoding="utf-8").count("--- ") == 10
    ByteTokenizer([], []).save(tmp_path / "plain.json")
    assert "<|endoftext|>" in complaint(script.main, *TINY, "--tokenizer", tmp_path / "plain.json")
    assert "--batch_size 3" in complaint(script.main, *TINY, "--batch_size", 3)
    assert "--optimizer adamw" in complaint(script.main, *TINY, "--parallel", "fsdp")
    assert "missing.json: no such file" in complaint(script.main, *TINY, "--tokenizer", tmp_path / "missing.json")
    assert "no room for 256 bytes" in complaint(script.main, *TINY, "--vocab_size", 100)
    assert "--length is at least 16" in complaint(script.main, *TINY, "--length", 8)
    assert "lower --length" in complaint(script.main, *TINY, "--length", 100_000)


@pytest.mark.parametrize(("flags", "words"), [("--d_model 100 --n_heads 3", "by 3 heads"),
                                              ("--n_heads 4 --n_kv_heads 3", "cannot share 3"),
                                              ("--d_model 10 --n_heads 2", "odd")])  # fmt: skip
def test_sizes_that_cannot_be_are_told_before_the_corpus_is_read(flags, words, complaint, monkeypatch):
    monkeypatch.setattr(script, "load_corpus", None)
    line = complaint(script.main, *TINY, *flags.split())
    assert "--d_model, --n_heads or --n_kv_heads" in line and words in line


def test_the_books_ten_minutes_are_a_million_parameters():
    """The command of the quick start, whose model is small enough to read several million tokens in that time."""
    args = script.build_parser().parse_args("--depth 3 --max_steps 1500 --megabytes 10".split())
    sizes = script.set_sizes(args)
    tokens = args.max_steps * sizes.pop("batch_size") * args.length
    del sizes["lr"]
    with torch.device("meta"):
        count = sum(p.numel() for p in LanguageModel(ModelConfig(args.vocab_size, **sizes)).parameters())
    assert count == 1_059_712 and tokens == 6_144_000
