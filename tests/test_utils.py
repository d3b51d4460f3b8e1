"""What the chapters share does what it promises: flags, devices, batches, timing, tables.
各章共用的部分符合各自的承诺：参数、设备、批次、计时、统计表。
"""

import argparse
import json
import re
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from chapter_02_nn_basics_mlp.network import Linear
from tests.conftest import ROOT
from utils import cli, data, device, timer
from utils.errors import UserError, check_finite
from utils.model_summary import model_summary
from utils.plotting import new_figure, save_figure
from utils.results import write_results
from utils.seed import set_seed

from matplotlib.image import imread

CPU = torch.device("cpu")


def demo_parser():
    parser = cli.script_parser("A demonstration.", str(ROOT / "chapter_00_demo/demo.py"))
    cli.add_training_flags(parser, epochs=10, batch_size=32, lr=0.1)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 8], help="widths")
    parser.add_argument("--prompt", default="Once", help="text")
    parser.add_argument("--model_path", type=Path, default=ROOT / "chapter_00_demo/model.pth", help="a model")
    return parser


def test_a_command_repeats_its_run(tmp_path):
    words = ["--epochs", "3", "--widths", "4", "2", "--prompt", "a b's", "--amp", "off", "--resume"]
    args = cli.begin(demo_parser(), [*words, "--out_dir", str(tmp_path / "new")], dry_run={})
    assert args.command == "python chapter_00_demo/demo.py --epochs 3 --amp off --widths 4 2 --prompt 'a b'\"'\"'s'"
    assert args.flags["model_path"] == "chapter_00_demo/model.pth"
    assert not args.flags.keys() & {"device", "data_root", "out_dir", "resume"}, "where it ran is nobody's business"
    json.dumps(args.flags)
    assert (tmp_path / "new").is_dir()


def test_a_dry_run_swaps_defaults_only(tmp_path):
    args = cli.begin(demo_parser(), ["--dry_run", "--lr", "7", "--amp", "off"], dry_run={"epochs": 1, "lr": 9.0})
    assert (args.epochs, args.lr, args.batch_size) == (1, 7.0, 32)
    assert args.out_dir.parent == Path(tempfile.gettempdir())
    assert args.command == "python chapter_00_demo/demo.py --dry_run --lr 7.0 --amp off"
    given = cli.begin(demo_parser(), ["--dry_run", "--out_dir", str(tmp_path / "here")], dry_run={})
    assert given.out_dir == tmp_path / "here"


def test_beginning_seeds_the_generators(tmp_path):
    draws = []
    for seed in ("1", "1", "2"):
        cli.begin(demo_parser(), ["--seed", seed, "--out_dir", str(tmp_path)], dry_run={})
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[1] != draws[2]


def test_a_script_in_numpy_has_no_other_device(capsys):
    parser = cli.script_parser("A demonstration.", str(ROOT / "chapter_00_demo/demo.py"), cpu_only=True)
    cli.add_training_flags(parser, epochs=10, batch_size=32, lr=0.1)
    assert parser.parse_args([]).device == parser.parse_args(["--device", "auto"]).device == "cpu"
    for refused in (["--device", "cuda"], ["--amp", "bf16"]):
        with pytest.raises(SystemExit):
            parser.parse_args(refused)


@pytest.mark.parametrize("wrong", [["--epochs", "0"], ["--epochs", "x"], ["--epo", "3"], ["stray"]])
def test_wrong_flags_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.begin(demo_parser(), wrong, dry_run={})
    assert stop.value.code == 2


def test_an_impossible_out_dir_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out_dir"):
        cli.begin(demo_parser(), ["--out_dir", str(tmp_path / "file" / "folder")], dry_run={})


def test_processes_of_one_training_may_try_the_out_dir_at_once(tmp_path, monkeypatch):
    removed = Path.unlink

    def twice(path, missing_ok=False):  # as if another process had just done the same
        removed(path, missing_ok=True)
        removed(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", twice)
    cli.begin(demo_parser(), ["--out_dir", str(tmp_path)], dry_run={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error, status, words", [(UserError("so"), 2, "error: so\n"), (KeyboardInterrupt(), 130, "")])
def test_a_script_ends_with_one_line_and_a_status(error, status, words, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    printed = capsys.readouterr().err
    assert stop.value.code == status and printed.count("\n") == 1 and printed.startswith(words)


def test_devices_and_precisions(monkeypatch):
    assert device.get_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.get_device("auto") == CPU
    with pytest.raises(UserError, match="--device cuda"):
        device.get_device("cuda")
    assert device.resolve_amp("off", CPU) == "off" and device.resolve_amp("bf16", CPU) == "bf16"
    assert device.resolve_amp("auto", CPU) in {"off", "bf16"}
    for amp, dtype in {"off": torch.float32, "bf16": torch.bfloat16}.items():
        with device.autocast(CPU, amp):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_batches_stay_aligned_and_hold_everything_once():
    x, y = torch.arange(10.0)[:, None], torch.arange(10)
    set_seed(0)
    parts = list(data.batches(x, y, batch_size=4, shuffle=True))
    assert [len(b) for _, b in parts] == [4, 4, 2] and all(torch.equal(a[:, 0], b.float()) for a, b in parts)
    order = torch.cat([b for _, b in parts])
    assert order.tolist() != y.tolist() and order.sort().values.tolist() == y.tolist()
    assert torch.cat([b for (b,) in data.batches(y, batch_size=3)]).tolist() == y.tolist()


def test_the_data_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("DLFS_DATA", raising=False)
    assert data.default_data_root() == ROOT / "data"
    monkeypatch.setenv("DLFS_DATA", str(tmp_path))
    assert data.default_data_root() == tmp_path


def test_times_are_compared_in_turns(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def work(name, seconds):
        calls.append(name)
        clock[0] += next(seconds)

    a, b = iter([9, 1, 2, 7]), iter([9, 4, 5, 6])
    medians = timer.compare_times({"a": partial(work, "a", a), "b": partial(work, "b", b)}, rounds=3, warmup=1)
    assert medians == {"a": 2, "b": 5} and "".join(calls) == "abababab"


def test_results_hold_what_readers_need_and_no_path(tmp_path):
    args = cli.begin(demo_parser(), ["--out_dir", str(tmp_path)], dry_run={})
    write_results(tmp_path / "r.json", args, {"loss": 0.5}, [{"epoch": 1}], per_seed=[{"seed": 0, "loss": 0.5}])
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["command", "flags", "machine", "versions", "history", "per_seed", "final"]
    assert ROOT.as_posix() not in text and tmp_path.as_posix() not in text


def test_figures_need_no_display(tmp_path):
    figure, axes = new_figure(2, 1)
    axes.plot([1, 2])
    assert save_figure(figure, tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["f.png"]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_diverged_training_stops(loss):
    check_finite(0.5, 3)
    with pytest.raises(UserError, match="step 3.*--lr"):
        check_finite(loss, 3)


class Everything(nn.Module):
    """A layer of each counted kind, one that is used twice, tied weights, and some that are never called."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(6, 2, 4, groups=2)
        self.lstm = nn.LSTM(8, 5)
        self.twice = nn.Linear(5, 5)
        self.tied = nn.Linear(5, 5, bias=False)
        self.tied.weight = self.twice.weight
        self.dropout = nn.Dropout(0.5)
        self.idle = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.ones(7))

    def forward(self, x):
        h = self.up(self.conv(x))  # (1, 2, 8, 8) from (1, 6, 5, 5)
        h, _ = self.lstm(h[0, :1].expand(2, 8, 8).transpose(0, 1))  # (8, 2, 5)
        return self.dropout(self.tied(self.twice(self.twice(h))))


def test_a_summary_counts_what_can_be_counted_by_hand():
    model = Everything()
    model.idle.eval()
    modes = [m.training for m in model.modules()]
    summary = model_summary(model, torch.zeros(1, 4, 10, 10))
    assert [(r.name, r.output, r.parameters, r.macs) for r in summary.rows] == [
        ("conv", "(1, 6, 5, 5)", 6 * 2 * 9 + 6, 6 * 25 * 2 * 9),  # each output value: 2 channels in its group, 3 x 3
        ("up", "(1, 2, 8, 8)", 6 * 1 * 16 + 2, 6 * 25 * 1 * 16),  # each input value: 1 channel in its group, 4 x 4
        ("lstm", "(8, 2, 5)", 4 * 5 * (8 + 5 + 2), 8 * 2 * 4 * 5 * (8 + 5)),
        ("twice", "(8, 2, 5)", 5 * 5 + 5, 8 * 2 * 5 * 5),
        ("twice", "(8, 2, 5)", 0, 8 * 2 * 5 * 5),
        ("tied", "(8, 2, 5)", 0, 8 * 2 * 5 * 5),
        ("dropout", "(8, 2, 5)", 0, 0),
        ("(model)", "(8, 2, 5)", 7, 0),
        ("idle", "not called", 2 * 3 + 3, 0),
    ]
    assert summary.parameters == sum(p.numel() for p in model.parameters())
    assert modes == [m.training for m in model.modules()]
    lines = str(summary).splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[-1].split()[-1] == f"{summary.macs:,}"


def test_a_summary_knows_a_linear_layer_built_from_scratch():
    built, torchs = nn.Sequential(Linear(5, 3), nn.LayerNorm(3)), nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3))
    x = torch.zeros(2, 4, 5)
    assert model_summary(built, x).macs == model_summary(torchs, x).macs == 2 * 4 * 5 * 3


def test_a_summary_leaves_the_model_as_it_was_even_if_that_fails():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(9, 9))
    with pytest.raises(RuntimeError):
        model_summary(model, torch.ones(2, 3))
    assert all(m.training and not m._forward_hooks for m in model.modules())
    assert model[1].num_batches_tracked == 0


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readmes_examples_print_and_draw_what_it_shows(readme, tmp_path, monkeypatch, capsys):
    text = (ROOT / "utils" / readme).read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for code, shown in re.findall(r"^```python\n(.*?)^```\n\n^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(code, {})
        assert capsys.readouterr().out == shown
    drawn, shipped = (imread(folder / "shapes.png") for folder in (tmp_path, ROOT / "utils"))
    assert np.abs(drawn - shipped).max() < 1.5 / 255  # another machine's sines may round to the neighbouring level


@pytest.mark.parametrize(("text", "valid"), [("0", True), ("2.5", True), ("-1", False), ("inf", False), ("nan", False)])
def test_an_amount_is_finite_and_not_negative(text, valid):
    if valid:
        assert cli.amount(text) == float(text)
    else:
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            cli.amount(text)
