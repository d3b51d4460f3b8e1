"""Chapter 4: four convolutions and the transposed one equal PyTorch's, forwards and backwards.
第 4 章：四种卷积与转置卷积，前向和反向都与 PyTorch 一致。
"""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from chapter_04_cnn_classic.conv import conv2d as conv
from chapter_04_cnn_classic.conv import conv2d_im2col, conv2d_loops, conv_transpose2d, output_size, windows
from chapter_04_cnn_classic.conv import fast as conv_fast
from chapter_04_cnn_classic.conv.fast import conv2d_fft, conv2d_winograd, fast_size
from chapter_04_cnn_classic.conv.geometry import pair

CONVOLUTIONS = {"loops": conv2d_loops, "im2col": conv2d_im2col, "fft": conv2d_fft, "winograd": conv2d_winograd}
CHANNELS = {1: (3, 5), 2: (4, 6), 4: (4, 8)}  # groups: channels in and out; 4 groups of 4 channels are depthwise
SHAPES = [  # batch, height and width, kernel: they take turns over the settings, which have a different count
    (1, (9, 7), (3, 3)),
    (2, (7, 11), (3, 2)),
    (3, (8, 9), (1, 1)),
    (1, (9, 9), (5, 3)),
    (2, (7, 8), (2, 3)),
]


def cases(settings, shapes):
    """(batch, size, kernel, settings) for every combination of the settings, the shapes taking turns."""
    combinations = [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]
    return [(*shape, chosen) for shape, chosen in zip(itertools.cycle(shapes), combinations, strict=False)]


GENERAL = cases(
    {"stride": [1, 2, (2, 1), 3], "padding": [0, 1, (2, 1)], "dilation": [1, 2, (1, 3)], "groups": [1, 2, 4]}, SHAPES
)
WINOGRAD = cases(
    {"padding": [0, 1, 2, (0, 1), (3, 2)], "groups": [1, 2, 4], "stride": [1, (1, 1)], "dilation": [1, (1, 1)]},
    [(b, size, (3, 3)) for b, size in [(1, (3, 3)), (2, (4, 5)), (1, (7, 7)), (3, (6, 8)), (1, (3, 4)), (2, (9, 5))]]
    + [(1, (5, 3), (3, 3))],
)
TRANSPOSED = cases(
    {"stride": [1, 2, (3, 2)], "padding": [0, 1, (1, 2)], "dilation": [1, 2, (3, 1)], "groups": [1, 2, 4]},
    [(1, (4, 3), (3, 3)), (2, (3, 5), (3, 5)), (3, (5, 4), (4, 3)), (1, (3, 6), (5, 3)), (2, (6, 3), (3, 5))],
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def tensors(batch, size, kernel, groups, transposed=False):
    """x, weight and bias in float64."""
    c_in, c_out = CHANNELS[groups]
    weight = (c_in, c_out // groups) if transposed else (c_out, c_in // groups)
    return [torch.randn(*shape, dtype=torch.float64) for shape in ((batch, c_in, *size), (*weight, *kernel), (c_out,))]


def results(function, inputs, settings):
    """The output, and the gradients of a random sum of it."""
    inputs = [t.clone().requires_grad_() for t in inputs]
    y = function(*inputs, **settings)
    dy = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    return y, *torch.autograd.grad(y, inputs, dy)


def same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def name(value):
    return str(value).replace(" ", "") if not isinstance(value, dict) else "-".join(map(name, value.values()))


def test_there_are_enough_combinations():
    assert len(GENERAL) == len({str(case) for case in GENERAL}) == 108
    assert len(WINOGRAD) == len({str(case) for case in WINOGRAD}) == 60
    assert len(TRANSPOSED) == len({str(case) for case in TRANSPOSED}) == 81


@pytest.mark.parametrize(("batch", "size", "kernel", "settings"), GENERAL, ids=name)
def test_convolutions_equal_pytorchs(batch, size, kernel, settings):
    inputs = tensors(batch, size, kernel, settings["groups"])
    expected = results(F.conv2d, inputs, settings)
    same(conv2d_loops(*inputs, **settings), expected[0])
    same(results(conv2d_im2col, inputs, settings), expected)
    same(results(conv2d_fft, inputs, settings), expected)


@pytest.mark.parametrize(("batch", "size", "kernel", "settings"), WINOGRAD, ids=name)
def test_winograd_equals_pytorch(batch, size, kernel, settings):
    inputs = tensors(batch, size, kernel, settings["groups"])
    expected = results(F.conv2d, inputs, settings)
    same(results(conv2d_winograd, inputs, settings), expected)
    same(results(conv2d_im2col, inputs, settings), expected)


@pytest.mark.parametrize(("batch", "size", "kernel", "settings"), TRANSPOSED, ids=name)
def test_the_transposed_convolution_equals_pytorchs(batch, size, kernel, settings):
    inputs = tensors(batch, size, kernel, settings["groups"], transposed=True)
    steps = zip(*(pair(settings[key]) for key in ("stride", "dilation")), strict=True)
    for output_padding in {0, tuple(max(step) - 1 for step in steps)}:  # the least and the most that is allowed
        chosen = settings | {"output_padding": output_padding}
        same(results(conv_transpose2d, inputs, chosen), results(F.conv_transpose2d, inputs, chosen))


@pytest.mark.parametrize("convolve", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("layout", ["channels last", "every other column", "expanded batch"])
def test_x_may_lie_in_memory_in_any_way(convolve, layout):
    x, weight, bias = tensors(2, (6, 10), (3, 3), 1)
    if layout == "channels last":
        x = x.to(memory_format=torch.channels_last)
    else:
        x = x[..., ::2] if layout == "every other column" else x[:1].expand(3, -1, -1, -1)
    same(convolve(x, weight, bias), F.conv2d(x, weight, bias))
    same(convolve(x, weight, padding=1), F.conv2d(x, weight, padding=1))


def test_a_few_images_at_a_time_are_as_good_as_all(monkeypatch):
    """Small tests fit into the buffer whole; here one image fills it, and a batch takes several rounds."""
    inputs = tensors(5, (6, 7), (3, 3), 2)
    transposed = tensors(5, (6, 7), (3, 3), 2, transposed=True)
    settings = {"padding": 1, "groups": 2}
    expected = results(F.conv2d, inputs, settings)
    for images in (1, 2, 5, 9):
        same(conv2d_im2col(*inputs, **settings, images=images), expected[0])
    monkeypatch.setattr(conv, "BUFFER", 1)
    monkeypatch.setattr(conv_fast, "BUFFER", 1)
    same(results(conv2d_im2col, inputs, settings), expected)
    same(results(conv2d_winograd, inputs, settings), expected)
    same(results(conv_transpose2d, transposed, settings), results(F.conv_transpose2d, transposed, settings))


@pytest.mark.parametrize("settings", [{"padding": 1, "dilation": 2}, {"stride": (2, 3), "groups": 2}], ids=name)
def test_backward_passes_agree_with_small_differences(settings):
    groups = settings.get("groups", 1)
    for function, transposed in ((conv2d_im2col, False), (conv_transpose2d, True)):
        inputs = [t.requires_grad_() for t in tensors(2, (5, 6), (2, 3), groups, transposed)]
        assert torch.autograd.gradcheck(lambda *t, f=function: f(*t, **settings), inputs)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)], ids=name)
def test_only_gradients_that_are_asked_for(wanted):
    for ours, theirs, transposed in ((conv2d_im2col, F.conv2d, False), (conv_transpose2d, F.conv_transpose2d, True)):
        inputs = tensors(2, (5, 6), (3, 3), 1, transposed)
        leaves = [inputs[i].requires_grad_() for i in wanted]
        gradients = (torch.autograd.grad(f(*inputs).square().sum(), leaves) for f in (ours, theirs))
        same(*gradients)


def test_a_transposed_convolution_is_the_transpose():
    """<conv(x), y> = <x, conv_transpose(y)>, with the same weight and no other knowledge of either."""
    x, weight, _ = tensors(2, (9, 8), (3, 2), 2)
    y = conv2d_im2col(x, weight, stride=2, padding=1, groups=2)
    y_other = torch.randn_like(y)
    x_other = conv_transpose2d(y_other, weight, stride=2, padding=1, output_padding=0, groups=2)
    assert x_other.shape == x.shape
    same((y * y_other).sum(), (x * x_other).sum())


@pytest.mark.parametrize("function", [*CONVOLUTIONS.values(), conv_transpose2d], ids=lambda f: f.__name__)
def test_no_kernel_of_pytorchs_does_the_work(function):
    called = set()

    class Listen(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    inputs = [t.requires_grad_() for t in tensors(1, (5, 5), (3, 3), 4, transposed=function is conv_transpose2d)]
    with Listen():
        function(*inputs, groups=4).sum().backward()
        heard = set(called)
        F.conv2d(*tensors(1, (5, 5), (3, 3), 1))
        F.unfold(inputs[0], 3)
    forbidden = {n for n in called if "conv" in n or n in ("im2col", "col2im")}
    assert forbidden, "this test is deaf"
    assert heard and not heard & forbidden


def test_windows_are_a_view():
    x = torch.arange(25.0).view(1, 1, 5, 5)
    view = windows(x, (3, 3), stride=(2, 2))
    assert view.shape == (1, 1, 3, 3, 2, 2) and view.data_ptr() == x.data_ptr()
    assert view[0, 0, :, :, 1, 0].tolist() == [[10, 11, 12], [15, 16, 17], [20, 21, 22]]


@pytest.mark.parametrize(("settings", "expected"), [((32, 3, 1, 1), 32), ((32, 5), 28), ((32, 3, 2, 1), 16)])
def test_output_sizes(settings, expected):
    assert output_size(*settings) == expected


def test_fast_sizes():
    assert [fast_size(n) for n in (1, 7, 34, 36, 37, 97)] == [1, 8, 36, 36, 40, 100]


@pytest.mark.parametrize("convolve", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_what_does_not_go_together_is_refused(convolve):
    x, weight = torch.zeros(1, 4, 5, 5), torch.zeros(6, 4, 3, 3)
    with pytest.raises(ValueError, match="does not fit"):
        convolve(x[:, :, :2], weight)
    for bad in ({"x": x[:, :3]}, {"x": x[0]}, {"groups": 2}, {"weight": weight[:5, :2], "groups": 2}):
        with pytest.raises(ValueError, match="do not go together"):
            convolve(**({"x": x, "weight": weight} | bad))


def test_winograd_says_what_it_cannot_do():
    x = torch.zeros(1, 4, 9, 9)
    for kernel, settings in (((5, 5), {}), ((3, 1), {}), ((3, 3), {"stride": 2}), ((3, 3), {"dilation": (1, 2)})):
        with pytest.raises(ValueError, match="3x3 kernels with stride 1 and dilation 1"):
            conv2d_winograd(x, torch.zeros(6, 4, *kernel), **settings)


def test_a_transposed_convolution_refuses_too():
    x, weight = torch.zeros(1, 4, 3, 3), torch.zeros(4, 6, 3, 3)
    with pytest.raises(ValueError, match="output_padding"):
        conv_transpose2d(x, weight, stride=2, output_padding=2)
    with pytest.raises(ValueError, match="leaves nothing"):
        conv_transpose2d(x, weight, padding=3)
    with pytest.raises(ValueError, match="do not go together"):
        conv_transpose2d(x[:, :3], weight)


@pytest.mark.parametrize("convolve", [*CONVOLUTIONS.values(), conv_transpose2d], ids=lambda f: f.__name__)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_batch_of_0_has_an_output_and_gradients(convolve, groups):
    inputs = tensors(0, (6, 7), (3, 3), groups, transposed=convolve is conv_transpose2d)
    reference = F.conv_transpose2d if convolve is conv_transpose2d else F.conv2d
    settings = {"padding": 1, "groups": groups}
    same(results(convolve, inputs, settings), results(reference, inputs, settings))


@pytest.mark.parametrize("convolve", [*CONVOLUTIONS.values(), conv_transpose2d], ids=lambda f: f.__name__)
def test_a_bias_has_one_number_for_each_output_channel(convolve):
    """(1,) would be broadcast, and so would (6, 1, 1): right sums for wrong reasons, and a wrong gradient."""
    x, weight, bias = tensors(2, (6, 7), (3, 3), 1, transposed=convolve is conv_transpose2d)
    for bad in (bias[:1], bias[:2], bias[:, None], bias[None], bias.sum()):
        with pytest.raises(ValueError, match=r"a bias .* output channels"):
            convolve(x, weight, bad)


@pytest.mark.parametrize("convolve", [*CONVOLUTIONS.values(), conv_transpose2d], ids=lambda f: f.__name__)
@pytest.mark.parametrize("bad", [{"stride": 0}, {"stride": (1, -1)}, {"padding": -1}, {"dilation": 0}, {"groups": 0}])
def test_settings_out_of_range_are_refused(convolve, bad):
    x, weight, _ = tensors(2, (6, 7), (3, 3), 1, transposed=convolve is conv_transpose2d)
    with pytest.raises(ValueError, match=r"out of range|do not go together"):
        convolve(x, weight, **bad)
