"""Every command that the chapter prints also runs small, with --dry_run appended, and without any data set.
本章印出的每条命令，加上 --dry_run 都能在没有任何数据集的情况下小规模地跑完。
"""

import pytest

from tests.conftest import ROOT, load_script
from tests.test_scripts import commands

CHAPTER = ROOT / "chapter_04_cnn_classic"
TEXTS = [path.read_text(encoding="utf-8") for path in (CHAPTER / "README.md", *sorted(CHAPTER.glob("*.py")))]
# Without flags every script is tried elsewhere; --resume and my_... speak of what only the reader has.
PRINTED = sorted(
    {
        (name, *words)
        for text in TEXTS
        for name, words in commands(text)
        if words and "--resume" not in words and not any("my_" in word for word in words)
    }
)


def test_commands_are_found():
    assert len(PRINTED) >= 5


@pytest.mark.parametrize("command", PRINTED, ids=" ".join)
def test_a_printed_command_runs_with_dry_run_appended(command, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a dry run downloads nothing")

    monkeypatch.setattr("utils.file_io_util.urlopen", refuse)
    monkeypatch.setenv("DLFS_DATA", str(tmp_path / "none"))
    monkeypatch.chdir(ROOT)  # some name a file of the repository
    name, *words = command
    load_script(ROOT / name).main([*words, "--dry_run", "--device", "cpu", "--out_dir", str(tmp_path / "out")])
    assert any((tmp_path / "out").glob("*.json"))
