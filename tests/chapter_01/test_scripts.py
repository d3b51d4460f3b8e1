"""Chapter 1's scripts on memory, an operation of one's own, and data parallelism show what is true.
第 1 章关于内存布局、自定义算子和数据并行的脚本，展示的内容真实无误。
"""

import json
import queue
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from chapter_01_tensor_autograd import custom_op, data_parallel_demo, dim_transform_torch
from chapter_01_tensor_autograd.custom_op import Softplus, loss_and_gradient
from chapter_01_tensor_autograd.data_parallel_demo import ring_all_reduce, ring_schedule, simulate
from chapter_01_tensor_autograd.dim_transform_torch import evaluate, reading_order, shares_memory
from tests.conftest import ROOT
from utils.errors import UserError

RESULTS = ROOT / "chapter_01_tensor_autograd" / "results"


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# dim_transform_torch


@pytest.mark.parametrize("expression", [*dim_transform_torch.DRAWN, "x[:, None].permute(2, 0, 1)", "x[1, 2]"])
def test_a_walk_visits_the_cells_that_reading_reads(expression):
    x = torch.arange(12).view(3, 4)
    tensor = evaluate(expression, {"x": x})
    assert reading_order(tensor) == tensor.flatten().tolist()


def test_memory_is_shared_exactly_where_a_write_shows_through():
    for expression in ("x.T", "x.reshape(4, 3)", "x.T.reshape(12)", "x[:, 1]", "x[[0, 2]]", "x.flip(0)"):
        x = torch.zeros(3, 4)
        result = evaluate(expression, {"x": x})
        result.fill_(1)
        assert shares_memory(result, x) == bool(x.any()), expression


def test_the_lesson_says_what_pytorch_does(capsys, tmp_path):
    dim_transform_torch.main(["--device", "cpu", "--out_dir", str(tmp_path)])
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    rows = {cells[2]: [cell for cell in cells[3:] if cell] for cells in rows if len(cells) > 3 and not cells[0]}
    assert [cell.strip() for cell in rows["x.T"]] == ["(4, 3)", "(1, 4)", "0", "shared", "False"]
    assert [cell.strip() for cell in rows["x[1:2].repeat(3, 1)"]] == ["(3, 4)", "(4, 1)", "0", "copied", "True"]
    assert (tmp_path / "strides.png").stat().st_size < 300_000


def test_an_expression_that_does_not_fail_is_not_shown_as_a_failure():
    with pytest.raises(AssertionError, match="meant to fail"):
        dim_transform_torch.fails("x.view(12)", x=torch.zeros(3, 4))


# custom_op


def test_softplus_has_all_its_digits_everywhere():
    x = torch.linspace(-700, 700, 2801, dtype=torch.float64)
    np.testing.assert_allclose(Softplus.apply(x).numpy(), np.logaddexp(0, x.numpy()), rtol=2e-15)
    single = Softplus.apply(x.clamp(-80, 80).float()).double().numpy()
    np.testing.assert_allclose(single, np.logaddexp(0, x.clamp(-80, 80).float().double().numpy()), rtol=3e-7)


@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (0,)])
def test_softplus_and_its_first_two_derivatives_equal_pytorchs(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ours, theirs = Softplus.apply(x), F.softplus(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)
    first = [torch.autograd.grad(softplus.sum(), x, create_graph=True)[0] for softplus in (ours, theirs)]
    torch.testing.assert_close(*first, rtol=1e-14, atol=1e-14)
    second = [torch.autograd.grad((g * g).sum(), x)[0] for g in first]
    torch.testing.assert_close(*second, rtol=1e-13, atol=1e-14)


def test_softplus_passes_both_gradient_checks():
    x = torch.tensor([[-800.0, -30, -1, 0], [1e-3, 2, 30, 800]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(Softplus.apply, x) and gradgradcheck(Softplus.apply, x)


def test_only_the_stable_formula_keeps_loss_and_gradient_at_large_logits():
    z = torch.tensor([30.0, 100.0])
    for name, formula in custom_op.FORMULAS.items():
        loss, gradient = loss_and_gradient(formula, z, 0.0)
        right = torch.equal(loss, z) and torch.equal(gradient, torch.ones(2))
        assert right == (name == "stable")
    assert loss_and_gradient(custom_op.textbook, z, 1.0)[1].isnan().all()  # right, and sure of it: NaN
    assert loss_and_gradient(custom_op.bce_loss, z, 0.0)[1].tolist() == [0, 0]  # wrong, and sure of it: no gradient


def test_all_formulas_agree_where_none_is_in_trouble():
    z = torch.linspace(-5, 5, 11, dtype=torch.float64)
    for label in (0.0, 1.0):
        expected = F.binary_cross_entropy_with_logits(z, torch.full_like(z, label), reduction="none")
        for formula in custom_op.FORMULAS.values():
            loss, gradient = loss_and_gradient(formula, z, label)
            torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
            torch.testing.assert_close(gradient, z.sigmoid() - label, rtol=1e-12, atol=1e-14)


def test_the_textbook_formula_stops_a_training_that_the_stable_one_finishes():
    textbook, stable = (
        custom_op.train_with(formula, seed=0, steps=120, lr=0.5, device=torch.device("cpu"))
        for formula in (custom_op.textbook, custom_op.stable)
    )
    assert textbook["stopped"] < 100 and textbook["accuracy"] is None
    assert stable["stopped"] is None and len(stable["losses"]) == 120


# data_parallel_demo


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_the_schedule_brings_every_term_everywhere_exactly_once(n):
    states = list(simulate(n))
    assert len(states) == 1 + 2 * (n - 1)
    assert all(sorted(terms) == list(range(n)) for chunks in states[-1] for terms in chunks)
    for step in range(n - 1):  # half-way: no sum has a term twice, and the sums grow by one term a step
        assert max(len(terms) for chunks in states[step] for terms in chunks) == step + 1


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_each_process_receives_the_chunk_that_its_neighbour_sends(n):
    for rank in range(n):
        sends, receives = ring_schedule((rank - 1) % n, n), ring_schedule(rank, n)
        assert [s[0] for s in sends] == [r[1] for r in receives]
        assert [r[1] for r in receives[:-1]] == [s[0] for s in receives[1:]]  # and passes it on in the next step


class Threads:
    """Stands in for torch.distributed: each process is a thread, each link a queue that holds one message."""

    def __init__(self, n):
        self.n, self.rank = n, threading.local()
        self.links = {(a, b): queue.Queue(maxsize=1) for a in range(n) for b in range(n)}

    def get_rank(self):
        return self.rank.value

    def get_world_size(self):
        return self.n

    def isend(self, tensor, to):
        message = tensor.clone()
        sender = threading.Thread(target=self.links[self.get_rank(), to].put, args=(message,), daemon=True)
        sender.start()
        sender.wait = sender.join
        return sender

    def recv(self, tensor, source):
        tensor.copy_(self.links[source, self.get_rank()].get(timeout=20))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("length", [1, 4, 7, 60])
def test_the_ring_sums_vectors_of_any_length(n, length, monkeypatch):
    group = Threads(n)
    monkeypatch.setattr(data_parallel_demo, "dist", group)
    vectors = [torch.randint(-99, 99, (length,), dtype=torch.float64) for _ in range(n)]
    total, sent = sum(vectors), [None] * n

    def process(rank):
        group.rank.value = rank
        sent[rank] = ring_all_reduce(vectors[rank])

    threads = [threading.Thread(target=process, args=(rank,), daemon=True) for rank in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(vector, total) for vector in vectors)
    assert sum(sent) == 2 * (n - 1) * length * 8  # 2 (n - 1) / n of the vector each, on average
    if length % n == 0:
        assert set(sent) == {2 * (n - 1) * length * 8 // n}


def test_real_processes_average_the_gradient_of_the_whole_batch(tmp_path, quick_processes):
    data_parallel_demo.main(["--dry_run", "--processes", "3", "--batch_size", "10", "--out_dir", str(tmp_path)])
    final = read(tmp_path / "data_parallel.json")["final"]
    assert final["ring_minus_whole"] < 1e-15 and final["ring_minus_library"] < 1e-15
    assert final["weights_minus_alone"] < 1e-15 and final["replicas_identical"]
    assert final["plain_minus_whole"] > 1e-6  # shares of 4, 3 and 3 examples
    assert sum(final["ring_bytes"]) == 4 * final["vector_bytes"]
    assert final["star_bytes"] == [2 * final["vector_bytes"], final["vector_bytes"], final["vector_bytes"]]


def test_a_process_without_an_example_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="--batch_size 3"):
        data_parallel_demo.main(["--processes", "4", "--batch_size", "3", "--out_dir", str(tmp_path)])


# What ships


def test_the_shipped_figures_hold():
    final = read(RESULTS / "custom_op.json")["final"]
    assert final["gradcheck"] is final["gradgradcheck"] is True
    assert final["textbook_stopped_count"] == final["run_count"] and final["stable_stopped_count"] == 0
    assert final["stable_solved_count"] > final["bce_loss_solved_count"]
    final = read(RESULTS / "data_parallel.json")["final"]
    assert final["ring_minus_whole"] < 1e-15 and final["replicas_identical"]
