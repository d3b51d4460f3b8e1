"""Fails until doubling_scan.py is solved.
在 doubling_scan.py 完成之前，这里的测试不会通过。
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from chapter_06_rnn_lstm_seq.exercises.doubling_scan import doubling_scan
from chapter_06_rnn_lstm_seq.scan import linear_recurrence


class CountOperations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def test_it_is_the_loop_for_every_length():
    generator = torch.Generator().manual_seed(0)
    for n_steps in (1, 2, 3, 4, 7, 8, 9, 100):
        a = torch.rand(n_steps, 2, 3, generator=generator, dtype=torch.float64)
        b = torch.randn(n_steps, 2, 3, generator=generator, dtype=torch.float64)
        given = a.clone(), b.clone()
        expected = linear_recurrence(a, b, torch.zeros(2, 3, dtype=torch.float64))
        torch.testing.assert_close(doubling_scan(a, b), expected, rtol=0, atol=1e-12)
        assert torch.equal(a, given[0]) and torch.equal(b, given[1])


def test_gates_of_0_and_1():
    a, b = torch.tensor([1.0, 1, 0, 1, 1]), torch.tensor([1.0, 2, 3, 4, 5])
    assert doubling_scan(a, b).tolist() == [1, 3, 3, 7, 12]


def test_a_thousand_steps_take_ten_rounds():
    a, b = torch.rand(1024, 4), torch.randn(1024, 4)
    with CountOperations() as counted:
        doubling_scan(a, b)
    assert counted.count < 200, "a round needs a few operations, and there are ten rounds"
