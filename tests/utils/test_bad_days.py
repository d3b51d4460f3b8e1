"""A user's mistake, an odd environment or a full machine: one clear line and status 2, never a traceback.
使用者的失误、古怪的环境、资源耗尽：只给一行清楚的说明，状态码为 2，绝不甩出报错堆栈。
"""

import argparse
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from tests.conftest import ROOT, file_size_limit
from utils import cli, data
from utils.checkpoint import save_state, write_model
from utils.distributed import process_group, world_size
from utils.errors import UserError
from utils.file_io_util import atomic_write, write_json
from utils.flags import check_flags, typed
from utils.plotting import new_figure, save_figure

from matplotlib.animation import FuncAnimation, PillowWriter


@dataclass
class Config:
    width: int = 100


def parser():
    made = cli.script_parser("A demonstration.", str(ROOT / "chapter_00_demo/demo.py"))
    cli.add_training_flags(made, epochs=10, batch_size=32, lr=0.1)
    cli.add_data_flag(made)
    made.add_argument("--point", type=float, nargs=2, default=[0.3, -0.2], help="a point")
    made.add_argument("--image", type=Path, nargs="+", default=[], help="pictures")
    return made


def end(capsys, main, *words):
    """Run `main` as a script that was called with `words`; return its status and its one line on stderr."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["demo.py", *words])
        cli.run(main)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return stop.value.code, line


# --- flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["-1e-3", "0.5"], ["-.5", "-2E+10"], ["-1.", "-7"], ["-inf", "1"]])
def test_negative_numbers_in_any_form_are_values(words):
    assert parser().parse_args(["--point", *words]).point == [float(word) for word in words]


def test_a_seed_is_one_that_every_generator_takes(tmp_path, capsys):
    args = cli.begin(parser(), ["--seed", str(2**63 - 1), "--out_dir", str(tmp_path)], dry_run={})
    torch.Generator().manual_seed(args.seed + 100)
    for seed in (2**63, 2**127, -1):
        with pytest.raises(SystemExit) as stop:
            cli.begin(parser(), [f"--seed={seed}"], dry_run={})
        assert stop.value.code == 2


def test_the_home_folder_has_a_short_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    words = ["--data_root=~/sets", "--out_dir=~/out", "--image", "~/a.png", "b~.png"]
    args = cli.begin(parser(), words, dry_run={})
    assert args.data_root == tmp_path / "sets" and args.out_dir == tmp_path / "out"
    assert args.image == [tmp_path / "a.png", Path("b~.png")]
    monkeypatch.setenv("DLFS_DATA", "~/sets")
    assert data.default_data_root() == tmp_path / "sets"
    monkeypatch.setenv("DLFS_DATA", "")
    assert data.default_data_root() == ROOT / "data"


def test_advice_can_be_typed():
    saved = {"lr": 0.1, "widths": [4, 2], "ema": True, "mixup": False, "path": None, "prompt": "a b", "note": "-x"}
    now = {"lr": 0.2, "widths": [4], "ema": False, "mixup": True, "path": "p", "prompt": "c", "note": "y"}
    with pytest.raises(UserError) as error:
        check_flags("state.pth", saved, now)
    words = "--lr 0.1 --widths 4 2 --ema --prompt 'a b' --note=-x and without --mixup --path: repeat that"
    assert f"state.pth was made with {words}" in str(error.value)
    check_flags("state.pth", saved, dict(saved))
    with pytest.raises(UserError, match="made without --ema:"):
        check_flags("state.pth", {"ema": False}, {"ema": True})
    with pytest.raises(UserError, match="another version.*--ema"):
        check_flags("state.pth", {"ema": False}, {})
    assert typed("points", [-0.001, 2.0]) == ["--points", "-0.001", "2.0"]


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path, monkeypatch):
    """Root may write everywhere, so the refusal is played."""

    def refuse(path, flags, *mode, _open=os.open):
        if Path(path).parent == tmp_path and flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", str(path))
        return _open(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=f"--out_dir {tmp_path} cannot be written to: Permission denied"):
        cli.begin(parser(), ["--out_dir", str(tmp_path)], dry_run={})


def test_a_full_disk_is_seen_at_the_start(tmp_path):
    with file_size_limit(100), pytest.raises(UserError, match="--out_dir.*File too large"):
        cli.begin(parser(), ["--out_dir", str(tmp_path)], dry_run={})
    assert not any(tmp_path.iterdir())


def save_film(path):
    figure, axes = new_figure(2, 1)
    FuncAnimation(figure, lambda i: axes.set_title(str(i)), 2).save(path, writer=PillowWriter(fps=2))


def into(path, write):
    with atomic_write(path) as temporary:
        write(temporary)


WRITERS = {  # all the ways in which the scripts write
    "results.json": lambda path: write_json(path, list(range(10_000))),
    "state.pth": lambda path: save_state(path, {}, 1, [], {"model": nn.Linear(100, 100)}),
    "model.pth": lambda path: write_model(path, {"w": torch.zeros(100, 100)}, Config(), {}),
    "figure.png": lambda path: save_figure(new_figure()[0], path),
    "film.gif": lambda path: into(path, save_film),
    "picture.png": lambda path: into(path, Image.effect_noise((200, 200), 50).save),
    "cache.npz": lambda path: into(path, partial(np.savez, images=np.zeros(10_000))),
    "table.csv": lambda path: into(path, lambda temporary: temporary.write_text("1,2\n" * 10_000)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_fills_up_later_costs_the_new_file_and_nothing_else(name, tmp_path, capsys):
    path = tmp_path / name
    path.write_text("old")
    with file_size_limit(2000):
        status, line = end(capsys, lambda: WRITERS[name](path))
    assert status == 2 and line == f"error: {path}: File too large\n"
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# --- the end of a script ----------------------------------------------------------------------------------------------


def exhausted(kind):
    """Ask for more than any machine has."""
    if kind == "numpy":
        np.zeros((10**6, 10**6, 10**3))
    elif kind == "torch":
        torch.zeros(10**6, 10**6, 10**3)
    elif kind == "overflow":
        torch.zeros(10**12, 10**12)
    elif kind == "python":
        [0] * 2**62
    elif kind == "layer":
        nn.Linear(10**9, 10**9)
    elif kind == "too long":
        torch.zeros(10**30)
    elif kind == "numpy shape":
        np.zeros((2**40, 2**40))


@pytest.mark.parametrize("kind", ["numpy", "torch", "overflow", "python", "layer", "too long", "numpy shape"])
def test_asking_for_too_much_names_the_flags(kind, capsys):
    words = ["--width", "100000", "--epochs", "3", "--batch_size=1000000", "--lr", "0.1"]
    status, line = end(capsys, lambda: exhausted(kind), *words)
    assert status == 2 and "try less than --batch_size 1000000 --width 100000 (" in line
    assert "--help" in end(capsys, lambda: exhausted(kind))[1]


def test_a_batch_of_one_is_explained(capsys):
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))
    status, line = end(capsys, lambda: model(torch.zeros(1, 4)))
    assert status == 2 and "batch of one" in line and "--batch_size" in line


def test_a_complaint_does_not_stick_to_a_progress_bar(capsys):
    bar = tqdm(total=3, desc="training")

    def main():
        bar.update()
        raise UserError("so")

    _, shown = end(capsys, main)
    bar.close()
    assert "\rerror: so\n" in shown


def test_the_disks_errors_name_the_file(tmp_path, capsys):
    status, line = end(capsys, lambda: (tmp_path / "missing" / "x.txt").write_text("x"))
    assert status == 2 and "missing" in line and "No such file" in line


def test_mistakes_in_a_program_keep_their_traceback(monkeypatch):
    for error in (KeyError("x"), RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("x")):

        def main(error=error):
            raise error

        with pytest.raises(type(error)):
            cli.run(main)


class Notebook(io.StringIO):
    """A stream as IPython has it."""

    reconfigure = property()  # not there: AttributeError


@pytest.mark.parametrize("kind", ["none", "closed", "notebook"])
def test_streams_may_be_of_any_kind(kind, monkeypatch):
    stream = None if kind == "none" else Notebook()
    if kind == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)

    def main():
        print("猫")
        raise UserError("so")

    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    assert stop.value.code == 2
    if kind == "notebook":
        assert stream.getvalue() == "猫\nerror: so\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's syntax")
def test_closed_streams_do_not_end_a_script(tmp_path):
    command = f"{sys.executable} chapter_01_tensor_autograd/train.py --dry_run --out_dir {tmp_path} >&- 2>&-"
    assert subprocess.run(command, shell=True, cwd=ROOT).returncode == 0
    assert any(tmp_path.glob("*.json"))


# --- the environment --------------------------------------------------------------------------------------------------


ELSEWHERE = """
import utils
import matplotlib
from utils.plotting import new_figure, save_figure
figure, axes = new_figure(2, 1)
axes.set_title("a_b")
save_figure(figure, "x.png")
print(matplotlib.rcParams["text.usetex"], matplotlib.rcParams["font.size"])
"""


def test_a_users_matplotlib_settings_do_not_count(tmp_path):
    """A backend that is not installed, LaTeX, large letters."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\n")
    environment = os.environ | {
        "MPLBACKEND": "inline_that_is_not_there",
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
    }
    environment |= {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "False 10.0\n" and (tmp_path / "x.png").exists(), done.stderr


def test_text_from_file_names_is_no_formula(tmp_path):
    from utils.plotting import FILE_NAME

    figure, _ = new_figure(2, 1)
    figure.text(0.1, 0.5, "a_$x_{$.png", **FILE_NAME)
    save_figure(figure, tmp_path / "x.png")


def test_a_stray_rank_means_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with process_group(torch.device("cpu")):
        assert world_size() == 1


def test_flags_that_several_scripts_have():
    made = argparse.ArgumentParser()
    cli.add_amp_flag(made, "off")
    cli.add_train_size_flag(made, 7)
    assert vars(made.parse_args([])) == {"amp": "off", "train_size": 7}
