"""Every coding exercise fails while it is unsolved, and passes with the solution beside it.
每道编程练习在未完成时测试不通过，换成旁边的参考解法后全部通过。

An exercise is chapter_x/exercises/name.py, with test_name.py and solutions/name.py. Its tests are plain functions that
take no arguments, so that they can be called here without another run of pytest.
"""

import importlib
import inspect
import re
import sys

import pytest

from tests.conftest import ROOT

EXERCISES = sorted(p for p in ROOT.glob("chapter_*/exercises/*.py") if not re.match("test_|__init__", p.name))


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def load_tests(path):
    """Import the exercise's test file anew, so that it takes what `sys.modules` holds now, and return its tests."""
    name = module_name(path.with_name(f"test_{path.name}"))
    sys.modules.pop(name, None)
    tests = inspect.getmembers(importlib.import_module(name), lambda f: inspect.isfunction(f) and f.__module__ == name)
    tests = [function for label, function in tests if label.startswith("test_")]
    assert tests and not any(inspect.signature(test).parameters for test in tests)
    return tests


@pytest.mark.parametrize("path", EXERCISES, ids=module_name)
def test_an_unsolved_exercise_fails(path):
    for test in load_tests(path):
        with pytest.raises(NotImplementedError):
            test()


@pytest.mark.parametrize("path", EXERCISES, ids=module_name)
def test_the_solution_passes(path, monkeypatch):
    stub = importlib.import_module(module_name(path))
    solution = importlib.import_module(module_name(path.parent / "solutions" / path.name))
    for name, function in inspect.getmembers(stub, inspect.isfunction):
        if function.__module__ == stub.__name__:
            wanted, solved = inspect.signature(function), inspect.signature(getattr(solution, name))
            assert solved == wanted, f"{name} takes other arguments in the solution"
    monkeypatch.setitem(sys.modules, stub.__name__, solution)
    for test in load_tests(path):
        test()
