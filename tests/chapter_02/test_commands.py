"""Every command that the chapter's README prints also runs small, with --dry_run appended, and without any data set.
本章 README 中的每条命令，加上 --dry_run 都能在没有任何数据集的情况下小规模地跑完。
"""

import shutil

import pytest
import torch

from tests.conftest import ROOT, load_script
from tests.test_scripts import commands

CHAPTER = ROOT / "chapter_02_nn_basics_mlp"
PRINTED = sorted({(name, *words) for name, words in commands((CHAPTER / "README.md").read_text(encoding="utf-8"))})


@pytest.fixture(autouse=True)
def _threads_stay():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("command", PRINTED, ids=" ".join)
def test_a_printed_command_runs_with_dry_run_appended(command, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a dry run downloads nothing")

    monkeypatch.setattr("utils.file_io_util.urlopen", refuse)
    monkeypatch.setenv("DLFS_DATA", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    picture = ROOT / "chapter_01_tensor_autograd" / "images" / "6_shirt.png"
    shutil.copy(picture, tmp_path / "my_photo.jpg")  # stands for the reader's own
    name, *words = command
    load_script(ROOT / name).main([*words, "--dry_run", "--out_dir", str(tmp_path / "out")])
    assert any((tmp_path / "out").iterdir()) or name.endswith("inference.py")
