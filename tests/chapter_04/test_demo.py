"""Chapter 4: all arithmetic that demo_conv_math.py prints is right.
第 4 章：demo_conv_math.py 打印的每一步运算都正确。
"""

import json
import re

import pytest
import torch

from chapter_04_cnn_classic import demo_conv_math as demo
from chapter_04_cnn_classic.conv import conv2d_loops
from chapter_04_cnn_classic.conv.kernels import KERNELS, convolve, most_varied_window, peak
from utils.errors import UserError

SUM = re.compile(r"((?:[-+*/().\d]| (?! ))+) = (-?\d+(?:\.\d+)?)")  # such as "1*1 + 2*3 - 1*2 = 5"


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What a dry run prints, and the folder that it wrote."""
    with pytest.MonkeyPatch.context() as patch:
        lines, folder = [], tmp_path_factory.mktemp("demo")
        patch.setattr("builtins.print", lambda *parts: lines.append(" ".join(map(str, parts))))
        demo.main(["--dry_run", "--device", "cpu", "--out_dir", str(folder)])
    return "\n".join(lines), folder


def test_every_printed_sum_is_right(lesson):
    sums = SUM.findall(re.sub(r"\n(?=\S)", " ", lesson[0]))  # a long line goes on at the start of the next
    assert len(sums) > 25
    for left, right in sums:
        assert eval(left.strip()) == pytest.approx(float(right), rel=1e-4), f"{left} = {right}"


def test_sizes_are_those_counted(lesson):
    rows = re.findall(r"^ +(?:\d+ +){5}\(.* = .*?(\d+) +(\d+) +-?\d+\.\.", lesson[0], re.MULTILINE)
    assert len(rows) == len(demo.SIZES) and all(formula == counted for formula, counted in rows)


def test_rule_and_gradient_agree_in_the_file(lesson):
    final = json.loads((lesson[1] / "demo_conv_math.json").read_text(encoding="utf-8"))["final"]
    assert set(final["fields"]) == {"lenet", "alexnet", "vgg", "nin", "inception"}
    assert all(stage["size"] == stage["measured"] for stages in final["fields"].values() for stage in stages)
    assert [row["field"] for row in final["effective"]] == [3, 7, 32, 51, 52, 27, 122]
    assert {p.name for p in lesson[1].glob("*.png")} == {"conv_kernels.png", "receptive_field.png"}


def test_kernels_do_what_their_names_say():
    ramp = torch.arange(8.0, dtype=torch.float64).expand(8, 8)  # brighter by 1 with each column
    made = {name: convolve(ramp, kernel) for name, kernel in KERNELS.items()}
    for name in ("box blur", "Gaussian blur", "identity", "sharpen"):  # symmetric, and their sum is 1
        margin = len(KERNELS[name]) // 2
        torch.testing.assert_close(made[name], ramp[margin:-margin, margin:-margin], rtol=0, atol=1e-12)
    assert (made["Sobel, across"] == 8).all() and not made["Sobel, down"].any() and not made["Laplacian"].any()


def test_convolve_is_cross_correlation_as_defined():
    x, kernel = torch.randn(7, 9, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    expected = conv2d_loops(x[None, None], kernel[None, None], stride=2, padding=1)[0, 0]
    torch.testing.assert_close(convolve(x, kernel, stride=2, padding=1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_most_varied_window_finds_itself(seed):
    picture = torch.randn(20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    piece, place = most_varied_window(picture, 5)
    answer = convolve(picture, piece)
    assert peak(answer) == place
    assert answer[place] == pytest.approx(piece.square().sum().item())


def test_products_are_written_out():
    weights, window = torch.tensor([[-1.0, 0.0], [2.0, 0.5]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    assert demo.products(weights, window) == "-1*3 + 2*5 + 0.5*6"


def test_a_picture_too_small_is_refused(tmp_path):
    with pytest.raises(UserError, match="16 pixels"):
        demo.main(["--side", "15", "--out_dir", str(tmp_path)])
