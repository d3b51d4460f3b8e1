"""The house rules that can be read off the files: imports go down only, nothing is too large, names are free.
可以直接从文件检查的规矩：导入只能向下，文件不能过大，文件名不能冲突。
"""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT, SCRIPTS

MODULES = sorted([*ROOT.glob("utils/*.py"), *ROOT.glob("chapter_*/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/*.py"))
PLACES = [ROOT / "utils", ROOT / "tests", *ROOT.glob("chapter_*")]
MB = 1_000_000
LIMITS = {".gif": 3 * MB} | dict.fromkeys([".png", ".jpg", ".webp", ".svg"], 0.3 * MB)
WEIGHTS = {".pth", ".pt", ".safetensors"}
BUDGETS = {(1, 2, 3): 7, (4,): 8, (5,): 46, (6,): 10, (7,): 8, (8,): 30, (9,): 6, (10,): 23}  # MB of weights


def relative(path):
    return path.relative_to(ROOT).as_posix()


def shipped_files():
    """Every file in our folders but what git ignores."""
    files = [p for place in PLACES for p in place.rglob("*") if p.is_file()]
    return [p for p in files if not {"runs", "__pycache__"} & set(p.relative_to(ROOT).parts)]


def chapter(name: str) -> int | None:
    """The number in `chapter_03_optimization.optimizers`; None where there is none."""
    found = re.match(r"chapter_(\d+)_", name)
    return int(found[1]) if found else None


def dotted(path: Path) -> str:
    """The name under which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


OURS = {dotted(path): path for path in MODULES}


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[str]:
    """What a file imports, in order; of `from package import name` both `package` and `package.name`."""
    found = []
    nodes = [n for n in ast.walk(tree(path)) if isinstance(n, (ast.Import, ast.ImportFrom))]
    for node in sorted(nodes, key=lambda n: n.lineno):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        else:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def test_imports_go_down():
    """A chapter imports nothing from a later one, and utils, which has no number, from none."""
    pairs = [(relative(path), name) for path in MODULES for name in imports(path)]
    assert not [(path, name) for path, name in pairs if (chapter(name) or 0) > (chapter(path) or 0)]


def test_imports_make_no_circle():
    circles = TopologicalSorter({name: set(imports(path)) & (OURS.keys() - {name}) for name, path in OURS.items()})
    circles.prepare()  # raises CycleError, which shows the circle


def test_no_script_is_imported():
    """What two scripts share is a module."""
    assert not [(relative(path), name) for path in MODULES for name in imports(path) if OURS.get(name) in SCRIPTS]


IMPORT_EACH = """
import itertools, os, sys
import matplotlib.figure, numpy, torch
sys.dont_write_bytecode, sys.pycache_prefix = False, sys.argv.pop(1)  # what one has compiled the next ones only load
for folder, names in itertools.groupby(sys.argv[1:], key=lambda name: name.split(".")[0]):
    names = list(names)
    for name in names:
        sys.stdout.flush()
        if not (child := os.fork()):
            __import__(name)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print(name)
    for name in names:  # imports go down only: for the next chapter's modules these cannot make a difference
        __import__(name)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the libraries that are imported beforehand may not survive a fork")
def test_each_module_can_be_imported_first(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    modules = [name for name, path in OURS.items() if path not in SCRIPTS]
    names = sorted(modules, key=lambda name: (chapter(name) or 0, name))
    command = [sys.executable, "-c", IMPORT_EACH, tmp_path, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert not done.stdout and not done.returncode, done.stdout + done.stderr


def before(name: str, wanted: str, unwanted: str, seen: set[str]) -> bool | None:
    """Whether importing our module `name` reaches a module of `wanted` before one of `unwanted`; None: neither."""
    for part in imports(OURS[name]):
        if part.split(".")[0] in (wanted, unwanted):
            return part.split(".")[0] == wanted
        parents = [".".join(part.split(".")[:i]) for i in range(1, part.count(".") + 2)]
        for module in parents:
            if module in OURS and module not in seen:
                seen.add(module)
                found = before(module, wanted, unwanted, seen)
                if found is not None:
                    return found
    return None


def test_matplotlib_comes_after_utils():
    """`utils` sees to it that a notebook's MPLBACKEND does not end a script; see its __init__.py."""
    assert not [relative(path) for path in SCRIPTS if before(dotted(path), "utils", "matplotlib", set()) is False]


def test_only_scripts_touch_the_path():
    for path in MODULES:
        code = path.read_text(encoding="utf-8")
        if path in SCRIPTS:
            depth = len(path.relative_to(ROOT).parts) - 1
            bootstrap = f"sys.path.insert(0, str(Path(__file__).resolve().parents[{depth}]))"
            assert [line for line in code.splitlines() if "sys.path." in line] == [bootstrap], relative(path)
        else:
            assert "sys.path" not in code, relative(path)


def test_a_docstring_in_english_and_chinese():
    for path in MODULES + TESTS:
        docstring = ast.get_docstring(tree(path)) or ""
        english, chinese = (docstring + "\n\n").split("\n")[:2]
        assert english and english.isascii(), f"{relative(path)}: the first line is English"
        assert re.search("[\u4e00-\u9fff]", chinese), f"{relative(path)}: the second line is Chinese"


def test_no_module_hides_one_of_python_or_of_ours():
    """A script's folder comes first on the path, so a `random.py` beside it, or a `random/`, would be everybody's."""
    taken = sys.stdlib_module_names | {"matplotlib", "numpy", "tests", "torch", "torchvision", "tqdm", "utils"}
    taken |= {"compression"}  # of the standard library since Python 3.14
    assert not [name for name in OURS if "." in name and name.rpartition(".")[2] in taken]
    assert len(OURS) == len(MODULES), "a package hides a module beside it that has its name"


def test_python_files_are_short():
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {name: count for name, count in lines.items() if count > 330}


def test_shipped_files_are_small():
    limits = {path: LIMITS.get(path.suffix, 24 * MB) for path in shipped_files()}
    assert not [relative(path) for path, limit in limits.items() if path.stat().st_size > limit]


@pytest.mark.parametrize("chapters", BUDGETS, ids=lambda chapters: "-".join(map(str, chapters)))
def test_shipped_weights_keep_their_budget(chapters):
    weights = [p for p in shipped_files() if p.suffix in WEIGHTS and chapter(relative(p)) in chapters]
    assert sum(p.stat().st_size for p in weights) <= BUDGETS[chapters] * MB
