"""Chapter 3: schedules, clipping and averaging equal PyTorch's, and survive an interruption.
第 3 章：学习率调度、梯度截断与权重平均与 PyTorch 一致，且中断后可以恢复。
"""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as torch_schedules
from torch.optim import swa_utils

from chapter_03_optimization_regularization.optimizers import AdamW, schedules
from chapter_03_optimization_regularization.optimizers.averaging import EMA, SWA
from chapter_03_optimization_regularization.optimizers.clipping import (
    clip_adaptive_,
    clip_by_norm_,
    clip_by_value_,
    unit_norms,
)
from chapter_03_optimization_regularization.optimizers.schedules import SCHEDULES, Schedule, find_learning_rate, warmup
from utils.checkpoint import load_state, save_state
from utils.errors import UserError


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# --- schedules --------------------------------------------------------------------------------------------------------


def two_groups(kind):
    """Two groups, of peak rates 0.1 and 2."""
    a, b = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    return kind([{"params": [a]}, {"params": [b], "lr": 2.0}], lr=0.1)


def one_cycle(optimizer, **settings):
    return torch_schedules.OneCycleLR(optimizer, [0.1, 2.0], cycle_momentum=False, **settings)


def warmup_and_cosine(optimizer):
    rise = torch_schedules.LinearLR(optimizer, start_factor=0.25, total_iters=6)
    fall = torch_schedules.CosineAnnealingLR(optimizer, 34)
    return torch_schedules.SequentialLR(optimizer, [rise, fall], milestones=[6])


PARITY = {
    "step": (schedules.step_decay(7, gamma=0.3), lambda o: torch_schedules.StepLR(o, 7, gamma=0.3)),
    "exponential": (schedules.exponential(0.9), lambda o: torch_schedules.ExponentialLR(o, 0.9)),
    "cosine": (schedules.cosine(40), lambda o: torch_schedules.CosineAnnealingLR(o, 40)),
    "restarts": (
        schedules.warm_restarts(5, growth=2),
        lambda o: torch_schedules.CosineAnnealingWarmRestarts(o, 5, T_mult=2),
    ),
    "restarts of one length": (
        schedules.warm_restarts(6),
        lambda o: torch_schedules.CosineAnnealingWarmRestarts(o, 6),
    ),
    "one cycle": (schedules.one_cycle(41), lambda o: one_cycle(o, total_steps=41)),
    "one cycle of other settings": (
        schedules.one_cycle(41, warmup_share=0.5, start=0.1, end=0.001),
        lambda o: one_cycle(o, total_steps=41, pct_start=0.5, div_factor=10, final_div_factor=100),
    ),
    "linear warmup": (
        warmup(lambda step: 1.0, 8, start=0.2),
        lambda o: torch_schedules.LinearLR(o, start_factor=0.2, total_iters=8),
    ),
    "warmup, then cosine": (warmup(schedules.cosine(34), 6, start=0.25), warmup_and_cosine),
}


@pytest.mark.parametrize("name", PARITY)
@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW])
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning", "ignore:.*epoch parameter:UserWarning")
def test_rates_equal_pytorchs_for_both_groups(name, kind):
    factor, expected_schedule = PARITY[name]
    ours, theirs = two_groups(kind), two_groups(torch.optim.AdamW)
    schedule, expected = Schedule(ours, factor), expected_schedule(theirs)
    for step in range(41):
        for group, expected_group in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert group["lr"] == pytest.approx(expected_group["lr"], rel=1e-12, abs=1e-12), f"step {step}"
        if step < 40:
            schedule.step()
            expected.step()


def test_a_floor_is_a_share_of_the_peak():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
    expected = torch_schedules.CosineAnnealingWarmRestarts(optimizer, 8, eta_min=0.05)
    for step in range(20):
        assert 0.5 * schedules.warm_restarts(8, floor=0.1)(step) == pytest.approx(expected.get_last_lr()[0], rel=1e-12)
        if step < 8:
            assert schedules.cosine(8, floor=0.1)(step) == schedules.warm_restarts(8, floor=0.1)(step)
        expected.step()
    assert [schedules.cosine(8, floor=0.1)(step) for step in (8, 9, 100)] == [0.1] * 3


@pytest.mark.parametrize(
    ("factor", "steps", "expected"),
    [
        (
            schedules.warmup_stable_decay(20, warmup_share=0.2, decay_share=0.25),
            [0, 3, 4, 15, 16, 19, 20],
            [0.2, 0.8, 1, 1, 0.8, 0.2, 0],
        ),
        (schedules.warmup_stable_decay(20, 0.0, 0.5, floor=0.1), [0, 10, 15, 20, 99], [1, 1, 0.55, 0.1, 0.1]),
        (schedules.warmup_stable_decay(20, 0.0, 0.0), [0, 19, 20], [1, 1, 0]),
        (schedules.inverse_sqrt(4), [0, 5, 12, 32], [1, 2 / 3, 1 / 2, 1 / 3]),
        (warmup(schedules.inverse_sqrt(4), 4), [0, 3, 4, 9, 16, 36], [0.2, 0.8, 1, 2 / 3, 1 / 2, 1 / 3]),
        (warmup(schedules.step_decay(2), 0), [0, 1, 2], [1, 1, 0.1]),
    ],
)
def test_worked_numbers(factor, steps, expected):
    assert [factor(step) for step in steps] == pytest.approx(expected, rel=1e-14)


def test_inverse_sqrt_after_warmup_is_the_transformers():
    factor = warmup(schedules.inverse_sqrt(40), 40, start=0.0)
    for step in range(1, 400):
        transformer = min(step**-0.5, step * 40**-1.5)
        assert factor(step) == pytest.approx(transformer / 40**-0.5, rel=1e-14)


ENDS = {"constant": 1.0, "step": 0.01, "exponential": 0.01, "inverse_sqrt": math.sqrt(50 / 1050)}  # others: 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_named_schedule_goes_from_its_peak_to_its_end(name):
    shares = [SCHEDULES[name](1000)(step) for step in range(1001)]
    assert max(shares) == pytest.approx(1.0, abs=1e-4) and min(shares) >= 0
    assert shares[-1] == pytest.approx(ENDS.get(name, 0.0), abs=1e-4)
    for total in (0, 1, 2, 5):  # a dry run's; the schedule is also asked for the step after the last
        factor = SCHEDULES[name](total)
        assert all(0 < factor(step) <= 1 for step in range(total)) and 0 <= factor(total) <= 1


# --- the search for a rate --------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    """Regression through dropout, batch statistics and momentum: whatever could be left changed."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def forward(self, x):
        return self.layers(x)


def noisy_loss(model):
    x = torch.randn(16, 4)
    return ((model(x) - x.sum(dim=1, keepdim=True)) ** 2).mean()


def train(model, optimizer, *parts, steps):
    """Take so many steps, each with a batch of its own, then one of every other part."""
    for _ in range(steps):
        optimizer.zero_grad()
        noisy_loss(model).backward()
        optimizer.step()
        for part in parts:
            if hasattr(part, "update"):
                part.update(model)
            else:
                part.step()


@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW])
def test_the_search_leaves_everything_as_it_was(kind):
    ends = []
    for search in (False, True):
        torch.manual_seed(1)
        model = Noisy()
        optimizer = kind(model.parameters(), lr=1e-2)
        train(model, optimizer, steps=3)
        if search:
            before = copy.deepcopy(model.state_dict())
            found = find_learning_rate(model, optimizer, noisy_loss, high=1e3, steps=60)
            assert len(found.rates) == len(found.losses) > 10
            for name, value in model.state_dict().items():
                assert torch.equal(value, before[name])
            assert optimizer.param_groups[0]["lr"] == 1e-2
        train(model, optimizer, steps=3)
        ends.append(model.state_dict())
    for name in ends[0]:
        assert torch.equal(ends[0][name], ends[1][name])


def test_the_search_finds_where_descent_is_stable():
    """On curvature 50 gradient descent converges below a rate of 2 / 50 = 0.04, fastest at half of that."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 3.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def loss_of(model):
        return 1 + 25 * (model.weight - 0.1 * torch.randn(1, dtype=torch.float64)).square().sum()

    found = find_learning_rate(model, optimizer, loss_of, low=1e-6, high=1, steps=200)
    assert len(found.rates) < 200, "it stops when the loss explodes"
    assert 0.04 < found.rates[-1] < 0.12
    assert found.rates[0] == pytest.approx(1e-6) and found.losses[0] == pytest.approx(1 + 25 * 9, rel=0.2)
    assert found.rates[10] / found.rates[9] == pytest.approx(1e6 ** (1 / 199), rel=1e-12)
    assert all(found.losses[i] <= 4 * min(found.losses[:i]) for i in range(1, len(found.losses)))
    assert 0.0005 < found.suggestion < 0.02


def test_the_search_keeps_the_groups_ratio_and_reports_a_model_that_is_broken_already():
    seen = []

    class Watched(torch.optim.SGD):
        def step(self):
            seen.append([group["lr"] for group in self.param_groups])
            super().step()

    def loss_of(model):
        return sum((p**2).sum() for p in model)

    optimizer = two_groups(Watched)
    model = nn.ParameterList(group["params"][0] for group in optimizer.param_groups)
    find_learning_rate(model, optimizer, loss_of, low=1e-4, high=1e-3, steps=5)
    assert [first for first, _ in seen] == pytest.approx([1e-4 * 10 ** (k / 4) for k in range(5)], rel=1e-12)
    assert [second / first for first, second in seen] == pytest.approx([20.0] * 5, rel=1e-12)
    with pytest.raises(ValueError, match="nan"):
        find_learning_rate(model, optimizer, lambda model: loss_of(model) * math.nan)


# --- clipping ---------------------------------------------------------------------------------------------------------


def with_gradients(scale=1.0):
    parameters = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in [(3, 4), (5,), (2, 3, 1, 2), ()]]
    for p in parameters:
        p.grad = scale * torch.randn_like(p)
    return [*parameters, nn.Parameter(torch.ones(2))]  # the last has none


@pytest.mark.parametrize("limit", [1e-3, 0.7, 100.0])
def test_clipping_equals_pytorchs(limit):
    for ours_, theirs_ in [
        (clip_by_value_, nn.utils.clip_grad_value_),
        (clip_by_norm_, nn.utils.clip_grad_norm_),
        (lambda p, m: clip_by_norm_(p, m, check=False), nn.utils.clip_grad_norm_),
    ]:
        ours = with_gradients()
        theirs = copy.deepcopy(ours)
        for p, q in zip(ours, theirs, strict=True):
            q.grad = None if p.grad is None else p.grad.clone()
        addresses = [p.grad.data_ptr() for p in ours[:-1]]
        actual, expected = ours_(iter(ours), limit), theirs_(theirs, limit)
        if expected is not None:
            same(actual, expected)
        for p, q in zip(ours[:-1], theirs[:-1], strict=True):
            same(p.grad, q.grad)
        assert addresses == [p.grad.data_ptr() for p in ours[:-1]], "in place"


def test_clipping_on_worked_numbers():
    p = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    p.grad = torch.tensor([3.0, -4.0], dtype=torch.float64)
    assert clip_by_norm_([p], 10.0).item() == 5.0 and p.grad.tolist() == [3.0, -4.0]
    clip_by_norm_([p], 1.0)
    same(p.grad, torch.tensor([0.6, -0.8], dtype=torch.float64), 1e-6)
    clip_by_value_([p], 0.7)
    same(p.grad, torch.tensor([0.6, -0.7], dtype=torch.float64), 1e-6)
    assert clip_by_norm_([nn.Parameter(torch.ones(1))], 1.0).item() == 0.0
    p.grad.zero_()
    assert clip_by_norm_([p], 1.0).item() == 0.0 and p.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_stops_the_training_or_spreads(bad):
    p, q = (nn.Parameter(torch.ones(2)) for _ in range(2))
    p.grad, q.grad = torch.tensor([1.0, bad]), torch.ones(2)
    with pytest.raises(UserError, match=f"became {bad}"):
        clip_by_norm_([p, q], 1.0)
    assert q.grad.tolist() == [1.0, 1.0]
    assert not clip_by_norm_([p, q], 1.0, check=False).isfinite()
    assert p.grad[1].isnan()


def test_mixed_precision_shares_one_norm():
    p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    p.grad, q.grad = torch.tensor([3.0]), torch.tensor([4.0], dtype=torch.bfloat16)
    assert clip_by_norm_([p, q], 2.5).item() == 5.0
    assert p.grad.item() == pytest.approx(1.5) and q.grad.item() == 2.0 and q.grad.dtype == torch.bfloat16


def test_adaptive_clipping_compares_each_unit_with_its_weights():
    p = nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64))  # norms 5, 0.5, 0
    p.grad = torch.tensor([[0.6, 0.8], [0.003, 0.004], [3.0, 4.0]], dtype=torch.float64)  # norms 1, 0.005, 5
    bias = nn.Parameter(torch.tensor([0.6, 0.8], dtype=torch.float64))
    bias.grad = torch.tensor([0.0, 2.0], dtype=torch.float64)
    still = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    still.grad = torch.zeros_like(still)
    clip_adaptive_([p, bias, still, nn.Parameter(torch.ones(1))], ratio=0.1)
    expected = [[0.3, 0.4], [0.003, 0.004], [6e-5, 8e-5]]  # to 0.5; as it was, below 0.05; to 0.1 eps
    same(p.grad, torch.tensor(expected, dtype=torch.float64))
    same(bias.grad, torch.tensor([0.0, 0.1], dtype=torch.float64))
    assert not still.grad.any()
    kernel = torch.randn(4, 3, 5, 5)
    same(unit_norms(kernel), kernel.flatten(1).norm(dim=1)[:, None, None, None], 1e-6)


# --- averaging --------------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Weights used twice, running statistics with a counter, and a mask that is not saved."""

    def __init__(self):
        super().__init__()
        self.encode, self.norm = nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3)
        self.decode = nn.Linear(4, 3, bias=False)
        self.decode.weight = self.encode.weight
        self.register_buffer("mask", torch.full((2,), -math.inf), persistent=False)

    def forward(self, x):
        return self.norm(self.encode(x)) + self.decode(x)


@pytest.mark.parametrize(
    ("ours_of", "average"),
    [
        (lambda model: EMA(model, decay=0.9, warmup=False), swa_utils.get_ema_avg_fn(0.9)),
        (SWA, swa_utils.get_swa_avg_fn()),
    ],
)
def test_averages_equal_pytorchs(ours_of, average):
    model = Tied().double()
    ours, theirs = ours_of(model), swa_utils.AveragedModel(model, avg_fn=average, use_buffers=True)
    for _ in range(6):
        with torch.no_grad():
            model.encode.weight += torch.randn(3, 4)
            model(3 * torch.randn(8, 4, dtype=torch.float64) + 1)
        ours.update(model)
        theirs.update_parameters(model)
    expected = theirs.module.state_dict()
    for name, value in ours.model.state_dict().items():
        same(value, model.norm.num_batches_tracked if "num_batches" in name else expected[name])
    assert ours.model.decode.weight is ours.model.encode.weight and ours.model.mask.isinf().all()
    assert not ours.model.training and not any(p.requires_grad for p in ours.model.parameters())


def averages_of(average, values):
    model = nn.Linear(1, 1, bias=False).double()
    average = average(model)
    for value in values:
        nn.init.constant_(model.weight, value)
        average.update(model)
        yield average.model.weight.item()


def test_averages_on_worked_numbers():
    assert list(averages_of(SWA, [2.0, 4.0, 9.0])) == pytest.approx([2, 3, 5], rel=1e-14)
    plain = averages_of(lambda model: EMA(model, decay=0.75, warmup=False), [2.0, 4.0, 9.0])
    assert list(plain) == pytest.approx([2, 2.5, 4.125], rel=1e-14)
    warm = averages_of(lambda model: EMA(model, decay=0.15), [2.0, 4.0, 9.0, 9.0])  # keeps 0, 1/10, then 0.15
    assert list(warm) == pytest.approx([2, 3.8, 8.22, 8.883], rel=1e-14)


def test_a_warm_average_looks_back_over_a_tenth_of_the_steps():
    *_, last = averages_of(lambda model: EMA(model, decay=0.9999), map(float, range(1000)))
    assert 999 - last == pytest.approx(1000 / 10, rel=0.01)


@pytest.mark.parametrize("clip", [clip_by_value_, clip_by_norm_, clip_adaptive_])
def test_a_negative_limit_is_refused_and_turns_no_gradient_round(clip):
    p = torch.ones(2, requires_grad=True)
    p.grad = torch.tensor([3.0, 4.0])
    for limit in (-1.0, math.nan):
        with pytest.raises(ValueError, match="at least 0"):
            clip([p], limit)
    assert p.grad.tolist() == [3, 4]


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, math.nan])
def test_a_decay_that_keeps_too_much_or_less_than_nothing_is_refused(decay):
    with pytest.raises(ValueError, match="decay"):
        EMA(Noisy(), decay)


@pytest.mark.parametrize("kind", [EMA, SWA])
def test_a_loaded_average_shares_no_memory_with_its_source(kind):
    source, copied = kind(Noisy()), kind(Noisy())
    copied.load_state_dict(source.state_dict())
    theirs, ours = ({t.data_ptr() for t in a.model.state_dict().values()} for a in (source, copied))
    assert len(ours) == len(theirs) and not ours & theirs


def test_an_interrupted_training_goes_on_bit_by_bit(tmp_path):
    def start():
        torch.manual_seed(3)
        model = Noisy()
        optimizer = AdamW(model.parameters(), lr=0.01)
        parts = {"schedule": Schedule(optimizer, warmup(schedules.cosine(16), 4))}
        parts |= {"ema": EMA(model, decay=0.9), "swa": SWA(model)}
        return {"model": model, "optimizer": optimizer} | parts

    whole = start()
    train(*whole.values(), steps=20)
    first = start()
    train(*first.values(), steps=7)
    save_state(tmp_path / "state.pth", {}, 7, [], first)
    second = start()
    torch.manual_seed(99)
    load_state(tmp_path / "state.pth", {}, second)
    assert second["optimizer"].param_groups[0]["lr"] == first["optimizer"].param_groups[0]["lr"]
    train(*second.values(), steps=13)
    for kept, expected in [(second[name], whole[name]) for name in ("model", "ema", "swa")]:
        kept, expected = (part if isinstance(part, nn.Module) else part.model for part in (kept, expected))
        for name, value in expected.state_dict().items():
            assert torch.equal(kept.state_dict()[name], value), name
    assert second["schedule"].state_dict() == whole["schedule"].state_dict()

    late = Schedule(second["optimizer"], whole["schedule"].factor)  # takes the lowered rate for the peak
    late.load_state_dict(whole["schedule"].state_dict())
    assert late.peaks == [0.01] and second["optimizer"].param_groups[0]["lr"] == 0.01 * late.factor(20)
