"""Windows on a picture: where they lie, how many there are, a view of them all, and its transpose.
图像上的滑动窗口：位置、数目、不复制内存的视图，以及它的转置。
"""

from torch import Tensor

Pair = tuple[int, int]


def windows(x: Tensor, kernel: Pair, stride: Pair = (1, 1), dilation: Pair = (1, 1)) -> Tensor:
    """Return every window of x (B, C, H, W) as a view (B, C, kH, kW, H', W'): other strides, the same memory.

    Windows overlap, so one number of x appears at several places of the view. It is for reading only.
    """
    b, c, *size = x.shape
    spans = zip(size, kernel, stride, dilation, strict=True)
    places = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in spans]
    sb, sc, sh, sw = x.stride()
    strides = (sb, sc, sh * dilation[0], sw * dilation[1], sh * stride[0], sw * stride[1])
    return x.as_strided((b, c, *kernel, *places), strides)


def add_windows_(x: Tensor, columns: Tensor, stride: Pair = (1, 1), dilation: Pair = (1, 1)) -> None:
    """Add columns (B, C, kH, kW, H', W') to x, each number where `windows` reads it from: its transpose."""
    kh, kw, height, width = columns.shape[2:]
    for u in range(kh):
        for v in range(kw):
            top, left = u * dilation[0], v * dilation[1]
            bottom, right = top + (height - 1) * stride[0] + 1, left + (width - 1) * stride[1] + 1
            x[:, :, top : bottom : stride[0], left : right : stride[1]] += columns[:, :, u, v]


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Return how many places a kernel has along an axis of `size`: 32 with kernel 3 and padding 1 keeps 32."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def output_sizes(padded: Tensor, weight: Tensor, stride: Pair, dilation: Pair) -> Pair:
    """Return (H', W'). Raises ValueError where the kernel does not fit."""
    axes = zip(padded.shape[2:], weight.shape[2:], stride, dilation, strict=True)
    height, width = (output_size(n, k, s, 0, d) for n, k, s, d in axes)
    if min(height, width) < 1:
        raise ValueError(f"a kernel of {tuple(weight.shape[2:])} does not fit into {tuple(padded.shape[2:])}")
    return height, width


def pad(x: Tensor, padding: Pair, value: float = 0.0) -> Tensor:
    """Return x (B, C, H, W) with a border of `value`, as wide as `padding` says; x itself where that is (0, 0)."""
    (ph, pw), (b, c, height, width) = padding, x.shape
    if not ph and not pw:
        return x
    padded = x.new_full((b, c, height + 2 * ph, width + 2 * pw), value)
    crop(padded, padding).copy_(x)
    return padded


def crop(x: Tensor, padding: Pair) -> Tensor:
    """Return x (B, C, H, W) without such a border, as a view."""
    (ph, pw), (height, width) = padding, x.shape[2:]
    return x[:, :, ph : height - ph, pw : width - pw]


def pair(value: int | Pair) -> Pair:
    """Return (rows, columns); one number stands for both."""
    return (value, value) if isinstance(value, int) else tuple(value)


def check_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    transposed: bool = False,
) -> None:
    """Refuse what would be computed all the same, and be wrong: broadcasting asks no questions.

    Raises:
        ValueError: x (B, C, H, W) has other channels than the weight reads, the bias is not (O,), groups do not divide
            the weight, or a setting is out of range.
    """
    if x.ndim != 4 or weight.ndim != 4 or groups < 1 or len(weight) % groups:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)} and groups {groups} do not go together")
    c_out, c_in = len(weight), weight.shape[1] * groups
    if transposed:
        c_in, c_out = c_out, c_in
    if x.shape[1] != c_in:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)} and groups {groups} do not go together")
    if bias is not None and bias.shape != (c_out,):
        raise ValueError(f"a bias {tuple(bias.shape)} for {c_out} output channels: it should be {(c_out,)}")
    check_settings(kernel=tuple(weight.shape[2:]), stride=stride, padding=padding, dilation=dilation)


def check_settings(**settings: Pair) -> None:
    """Raise ValueError for a padding below 0, and for anything else (kernel, stride, dilation, size) below 1."""
    for name, values in settings.items():
        if min(values) < (0 if name == "padding" else 1):
            raise ValueError(f"{name} {values} is out of range")
