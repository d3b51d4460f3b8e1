"""The small shared modules: eval mode, spreads, rates, shapes, BatchNorm, tables.
共用的小模块：评估模式、离散程度、学习率搜索、形状检查、BatchNorm、表格。
"""

import math
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from utils.batch_norm import recompute_batch_norm_
from utils.evaluating import evaluating
from utils.memory import torch_peak
from utils.rate_search import best_rate, search_rate, search_rates
from utils.shape_checks import check_labels, check_same_shape
from utils.spread import mean_and_std, over_seeds
from utils.tables import aligned, display_width, final_lines, padded, printable

# --- eval mode --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_every_layer_gets_its_own_mode_back(fails):
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    model[1][1].eval()
    before = [module.training for module in model.modules()]
    try:
        with evaluating(model, training=[model[1][0]]):
            assert [m.training for m in model.modules()] == [False, False, False, True, False]
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert [module.training for module in model.modules()] == before == [True, True, True, True, False]


# --- spreads ----------------------------------------------------------------------------------------------------------


def test_means_and_spreads_over_the_seeds():
    assert mean_and_std("loss", [1.0, 2.0, 6.0]) == {"loss": 3.0, "loss_std": pytest.approx(7**0.5)}
    assert mean_and_std("loss", [4.0]) == {"loss": 4.0, "loss_std": 0.0}
    rows = [{"seed": 7, "a": 1.0, "curve": [1, 2]}, {"seed": 8, "a": 3.0, "curve": [3]}]
    assert over_seeds(rows, ["a"]) == {"a": 2.0, "a_std": pytest.approx(2**0.5)}
    assert over_seeds([{"seed": 7, "a": 1.0, "b": 0}]) == {"a": 1.0, "a_std": 0.0, "b": 0, "b_std": 0.0}
    with pytest.raises(TypeError):
        over_seeds(rows)  # a curve has no mean


# --- rates ------------------------------------------------------------------------------------------------------------


def peak(at):
    """A score that is highest at the rate 10^at."""
    return lambda rate: -abs(math.log10(rate) - at)


def test_a_grid_grows_until_the_best_rate_lies_inside():
    tried = []
    found = search_rate(lambda rate: tried.append(rate) or peak(-3)(rate), [1.0, 0.1], ratio=10, reach=5)
    assert list(found) == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1]) and best_rate(found) == pytest.approx(1e-3)
    assert len(tried) == 5, "no rate is tried twice"
    assert list(search_rate(peak(1), [0.1, 1, 10, 100], ratio=10, reach=5)) == [0.1, 1, 10, 100]
    assert list(search_rate(peak(9), [1, 10], ratio=10, reach=3)) == pytest.approx([1, 10, 100, 1e3, 1e4])


def test_all_arms_get_as_many_trials():
    peaks = {"low": peak(-2), "high": peak(3), "middle": peak(0)}
    found = search_rates(lambda arm, rate: peaks[arm](rate), dict.fromkeys(peaks, [0.1, 1, 10]), ratio=10, reach=9)
    assert {tuple(round(math.log10(rate)) for rate in scores) for scores in found.values()} == {tuple(range(-3, 5))}
    assert [round(math.log10(best_rate(found[arm]))) for arm in peaks] == [-2, 3, 0]


def test_of_equal_rates_the_lowest_wins_and_nan_loses():
    assert best_rate({1.0: 0.5, 0.1: 0.5, 2.0: math.nan}) == 0.1
    assert best_rate({1.0: math.nan, 2.0: -math.inf}) == 2.0


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [torch.zeros, np.zeros], ids=["torch", "numpy"])
@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (1,), (4, 3), ()])
def test_labels_of_another_shape_are_refused(make, shape):
    integers = torch.int64 if make is torch.zeros else np.int64
    logits = make((4, 3))
    check_labels(logits, make((4,), dtype=integers))
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4,\), not " + re.escape(str(shape))):
        check_labels(logits, make(shape, dtype=integers))
    with pytest.raises(ValueError, match=r"\(4,\).*\(4, 3\)"):
        check_same_shape(make((4,)), make((4, 3)))


def test_labels_out_of_range_are_refused():
    logits = torch.zeros(2, 5, 3)
    check_labels(logits, torch.full((2, 5), 2))
    check_labels(logits[:0], torch.zeros(0, 5, dtype=torch.int64))
    check_labels(logits, torch.full((2, 5), -100), ignore_index=-100)
    for wrong in (torch.full((2, 5), 3), torch.full((2, 5), -1)):
        with pytest.raises(ValueError, match="3 classes"):
            check_labels(logits, wrong)
    with pytest.raises(ValueError, match="whole numbers"):
        check_labels(logits, torch.zeros(2, 5))


# --- BatchNorm --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [False, True])
def test_statistics_are_those_of_the_data(labelled):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.BatchNorm1d(3, momentum=0.2), nn.ReLU()).double()
    x = torch.randn(48, 4, dtype=torch.float64)
    hidden = model[0](x).detach()
    model[0].eval()
    model[2].running_mean.fill_(9)
    parts = [hidden[:20], hidden[20:40], hidden[40:]]  # every row counts alike
    recompute_batch_norm_(model, [(part, None) if labelled else part for part in x.split(20)])
    variances = torch.stack([part.var(dim=0) * len(part) / 48 for part in parts]).sum(dim=0)
    torch.testing.assert_close(model[2].running_mean, hidden.mean(dim=0))
    torch.testing.assert_close(model[2].running_var, variances)
    assert model[2].momentum == 0.2 and [m.training for m in model] == [False, True, True, True]


def test_a_failing_batch_leaves_modes_and_momenta():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        recompute_batch_norm_(model, [torch.zeros(5, 3), torch.zeros(5, 4)])
    assert model[0].momentum == 0.1 and all(m.training for m in model.modules())


# --- tables -----------------------------------------------------------------------------------------------------------


def test_columns_line_up_whatever_the_names():
    names = ["cat.png", "猫的照片.png", "ｃ", "é", "e\N{COMBINING ACUTE ACCENT}", "[한국어]"]
    assert [display_width(name) for name in names] == [7, 12, 2, 1, 1, 8]
    assert padded("猫", 4) == "猫  " and padded("猫", 4, ">") == "  猫"
    lines = aligned([(name, "1.5", "x") for name in names], "<>")
    assert {display_width(line[: line.index("1.5")]) for line in lines} == {14}
    assert aligned([("a", 1), ("bb", 100)], "<>") == ["a     1", "bb  100"]
    assert unicodedata.normalize("NFC", names[4]) == names[3]


def test_the_figures_of_a_run_are_printed_with_their_spreads():
    final = {"accuracy": 0.91234, "accuracy_std": 0.0012, "count": 10000, "curve": [1], "stopped_at": None}
    assert final_lines(final) == ["accuracy    0.9123 ± 0.0012", "count       10000", "stopped_at  None"]
    assert final_lines({}) == []


def test_names_that_are_not_utf_8_can_be_printed():
    assert printable("猫.png") == "猫.png"
    assert printable("a\udcff.png").encode("utf-8").decode("utf-8") == "a\N{REPLACEMENT CHARACTER}.png"


def test_peak_memory_is_that_of_the_worst_moment():
    def call():
        a = torch.zeros(1000)  # 4,000 bytes
        del a
        b, c = torch.zeros(1000), torch.zeros(2000)  # 12,000 at once
        return b.sum() + c.sum()

    assert 12_000 <= torch_peak(call) < 13_000 and torch_peak(lambda: None) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's C library can be told")
def test_freed_memory_is_kept():
    lines = """
import resource
import numpy as np
from utils.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(5_000_000)  # 40 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = [faults(), faults()][1]
keep_freed_memory()
print(returned, [faults(), faults()][1])
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", lines], cwd=root, capture_output=True, text=True, check=True)
    returned, kept = map(int, done.stdout.split())
    assert kept < returned / 4
