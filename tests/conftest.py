"""What every test may use.
所有测试共用的部分。
"""

import argparse
import gc
import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each, before PyTorch is imported
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(p for p in ROOT.glob("chapter_*/**/*.py") if "\nif __name__ ==" in p.read_text(encoding="utf-8"))


def pytest_collection_finish() -> None:
    """What has been imported stays: do not search it for garbage again and again."""
    gc.freeze()


def load_script(path: Path) -> ModuleType:
    """Import a script, whose `main` can then be called."""
    return importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, which to a program is what a full disk is."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(autouse=True, scope="session")
def _temporary_files_vanish(tmp_path_factory):
    """Put the folders that --dry_run makes where pytest cleans up."""
    tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))


@pytest.fixture
def quick_processes(monkeypatch):
    """Let `mp.spawn` fork its processes from one that has imported PyTorch already, and nothing that would not survive.

    Each would else import it anew, which takes longer than what it is to do.
    """
    import torch.multiprocessing as mp  # not at the top: the number of threads is set first

    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.set_forkserver_preload(["torch.distributed", "matplotlib.figure"])
        monkeypatch.setattr(mp, "spawn", partial(mp.start_processes, start_method="forkserver"))


@pytest.fixture
def script():
    """Run a script as a user does: `script("chapter_x/train.py", "--dry_run", cwd=...)` -> CompletedProcess."""

    def call(path: str, *args: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
        command = [sys.executable, ROOT / path, *map(str, args)]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONIOENCODING": "utf-8"}
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8")

    return call


@pytest.fixture
def complaint(capsys) -> Callable[..., str]:
    """Run a script to the end that a user's mistake has: `complaint(main, "--image", path)` -> its one line."""

    def call(main: Callable[[list[str]], None], *arguments: object) -> str:
        from utils.cli import run  # not at the top: PyTorch is imported after the number of threads is set

        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run(lambda: main([str(argument) for argument in arguments]))
        shown = capsys.readouterr()
        line = shown.err
        assert stop.value.code == 2 and not shown.out and line.startswith("error: ") and line.count("\n") == 1
        return line

    return call


@pytest.fixture
def parser_of(monkeypatch) -> Callable[[Path], argparse.ArgumentParser]:
    """Run a script up to the point where it would parse its flags, and return its parser."""

    class Reached(Exception):
        pass

    def stop(parser, *args):
        raise Reached(parser)

    def call(path: Path) -> argparse.ArgumentParser:
        with monkeypatch.context() as patch, pytest.raises(Reached) as reached:
            patch.setattr(argparse.ArgumentParser, "parse_args", stop)
            load_script(path).main([])
        return reached.value.args[0]

    return call
