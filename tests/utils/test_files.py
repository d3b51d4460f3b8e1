"""Files are written whole or not at all, whoever else writes and whatever was killed before.
文件要么完整写入、要么不写，无论同时还有谁在写、之前谁被杀掉。
"""

import json
import os
import stat
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from utils import file_io_util
from utils.file_io_util import atomic_write, unfinished, write_json


def test_of_two_writers_the_last_to_finish_wins_whole(tmp_path):
    path = tmp_path / "model.pth"
    with atomic_write(path) as first:
        first.write_text("half of the fir")
        with atomic_write(path) as second:
            assert first != second, "of one process, as two containers may have one process id"
            second.write_text("the second")
        assert path.read_text() == "the second" and first.exists(), "a living writer's file was cleaned away"
        first.write_text("the first")
    assert path.read_text() == "the first" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows counts characters, not bytes")
@pytest.mark.parametrize("name", ["猫" * 83 + ".png", "x" * 251 + ".c", "a." + "b" * 250, "." + "c" * 200])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path, name):
    with atomic_write(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


KILLED = """
import os, signal, sys
from pathlib import Path
from utils.file_io_util import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of it")
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_what_a_killed_writer_leaves_is_cleaned_by_the_next(tmp_path):
    path = tmp_path / "state.pth"
    path.write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT)
    assert len(unfinished(tmp_path)) == 1 and path.read_text() == "old"
    with atomic_write(tmp_path / "other.json") as temporary:
        assert unfinished(tmp_path) == [temporary]
        temporary.write_text("{}")
    assert {p.name for p in tmp_path.iterdir()} == {"state.pth", "other.json"}


@pytest.mark.skipif(file_io_util.fcntl is None, reason="Windows has no flock")
def test_a_new_file_that_is_taken_for_an_orphan_is_made_again(tmp_path, monkeypatch):
    """Between its creation and its lock another process may delete it."""
    made = []

    def flock(file, operation):
        if len(made) < 2:
            made.extend(unfinished(tmp_path))
            made[-1].unlink()

    monkeypatch.setattr(file_io_util.fcntl, "flock", flock)
    with atomic_write(tmp_path / "x.txt") as temporary:
        temporary.write_text("x")
    assert len(made) == 2 and temporary not in made and (tmp_path / "x.txt").read_text() == "x"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_the_file_is_as_readable_as_any(tmp_path):
    with atomic_write(tmp_path / "x.txt") as temporary:
        temporary.write_text("x")
    (tmp_path / "y.txt").write_text("y")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x.txt", "y.txt")}
    assert len(modes) == 1


def test_json_holds_no_number_that_json_does_not_know(tmp_path):
    value = {"loss": [1.5, float("nan"), (float("inf"), 2)], "name": "猫", "odd": "a\udcff.png", "none": None}
    write_json(tmp_path / "x.json", value)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (tmp_path / "x.json").read_bytes().decode("utf-8")
    read = json.loads(text, parse_constant=refuse)
    assert read == value | {"loss": [1.5, None, [None, 2]]} and "猫" in text
