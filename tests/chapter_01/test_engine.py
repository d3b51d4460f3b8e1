"""Chapter 1's engine equals PyTorch, operation by operation, and keeps its promises about graphs.
第 1 章的自动微分引擎逐个运算与 PyTorch 对照，并验证它对计算图的各项承诺。
"""

import ast
import gc
import subprocess
import sys
import weakref
from graphlib import TopologicalSorter

import numpy as np
import torch

from chapter_01_tensor_autograd.engine import Tensor, ancestors, grad, no_grad
from tests.conftest import ROOT


def test_a_gradient_of_a_gradient_of_a_gradient():
    x = Tensor(0.7, requires_grad=True)
    y, derivatives = x.sin() * x**4, []
    for _ in range(4):
        (y,) = grad(y, [x], create_graph=True)
        derivatives.append(y.item())
    t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    u, expected = t.sin() * t**4, []
    for _ in range(4):
        (u,) = torch.autograd.grad(u, t, create_graph=True)
        expected.append(u.item())
    np.testing.assert_allclose(derivatives, expected, rtol=1e-12)


def test_gradients_accumulate_on_leaves_and_where_asked():
    x = Tensor([1.0, 2.0], requires_grad=True)
    h = x * 3
    h.retain_grad()
    for _ in range(2):
        (h * h).sum().backward()
    np.testing.assert_array_equal(x.grad.data, 2 * 18 * x.data)
    np.testing.assert_array_equal(h.grad.data, 2 * 6 * x.data)
    x.grad = None
    assert x.grad is None


def test_a_hook_sees_and_may_replace_a_gradient():
    x = Tensor([1.0, 2.0], requires_grad=True)
    h, seen = x * 2, []
    h.register_hook(seen.append)
    h.register_hook(lambda g: g * 10)
    h.sum().backward()
    np.testing.assert_array_equal(seen[0].data, [1, 1])
    np.testing.assert_array_equal(x.grad.data, [20, 20])


def test_no_grad_and_detach_stop_the_recording():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with no_grad():
        assert not (x * x).requires_grad
    assert not (x.detach() * 2).requires_grad
    (x * x.detach()).sum().backward()
    np.testing.assert_array_equal(x.grad.data, x.data)


def test_grad_leaves_grad_alone_and_gives_zeros_where_nothing_depends():
    x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor(3.0, requires_grad=True)
    gx, gy = grad((x * x).sum(), [x, y])
    assert x.grad is None and gy.item() == 0
    np.testing.assert_array_equal(gx.data, [2, 4])


def test_a_chain_of_100_000_operations():
    x = y = Tensor(1.0, requires_grad=True)
    for _ in range(100_000):
        y = y + 1e-5
    assert len(ancestors(y.node)) == 100_001
    y.backward()
    assert x.grad.item() == 1
    del y  # freeing the chain must not overflow the stack either


def test_a_graph_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = Tensor(np.ones(3), requires_grad=True)
        h = x.exp()
        y, saved = h.softmax(0).sum(), weakref.ref(h.data)
        del h
        y.backward()
        assert saved() is not None  # exp and softmax both need it
        del y
        assert saved() is None
    finally:
        gc.enable()


def test_a_tensor_of_one_number_acts_as_that_number():
    assert float(Tensor(2.5)) == 2.5 and not Tensor(0.0)
    assert Tensor(Tensor(np.ones(2))).dtype == np.float64


def test_a_tensor_can_be_looped_over():
    x = Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    rows = list(x)
    assert len(rows) == len(x) == 3
    (rows[0] * rows[2]).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [[4, 5], [0, 0], [0, 1]])


ENGINE = sorted((ROOT / "chapter_01_tensor_autograd" / "engine").glob("*.py"))


def imported_modules(path):
    """The engine's modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and ".engine" in (node.module or "")]
    stems = {other.stem for other in ENGINE}
    return {s for line in lines for s in (line.module.split(".")[-1], *(a.name for a in line.names)) if s in stems}


def test_the_engines_modules_import_in_no_circle_and_the_tensor_imports_none():
    imports = {path.stem: imported_modules(path) for path in ENGINE}
    assert imports["tensor"] == set() and {"tensor", "ops"} <= imports["__init__"]
    list(TopologicalSorter(imports).static_order())  # raises CycleError


def test_each_module_of_the_engine_can_be_imported_first():
    names = [f"chapter_01_tensor_autograd.engine.{path.stem}" for path in ENGINE if path.stem != "__init__"]
    code = f"""
import importlib, sys
for name in {names}:
    for loaded in [m for m in sys.modules if m.startswith("chapter_01")]:
        del sys.modules[loaded]
    assert importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_what_a_reader_looks_for_is_in_the_package():
    from chapter_01_tensor_autograd import engine

    wanted = {"Tensor", "grad", "no_grad", "vjp", "jvp", "jacobian", "hvp", "gradcheck", "checkpoint", "ops", "record"}
    assert wanted <= set(engine.__all__) and all(hasattr(engine, name) for name in engine.__all__)
