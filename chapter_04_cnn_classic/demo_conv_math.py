"""Convolution with numbers that you can check by hand, kernels on a picture, and the growth of receptive fields.
能用笔验算的卷积，作用在图片上的卷积核，以及感受野的增长。

    python chapter_04_cnn_classic/demo_conv_math.py     # 10 s: prints the lesson, draws two figures

Every number that it prints was computed by the package conv.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from chapter_01_tensor_autograd.lesson import numbers, say, section
from chapter_04_cnn_classic.conv import conv2d_im2col, output_size
from chapter_04_cnn_classic.conv.kernels import (
    BINOMIAL,
    F64,
    KERNELS,
    LUMINANCE,
    convolve,
    correlate,
    most_varied_window,
    peak,
)
from chapter_04_cnn_classic.conv.receptive_field import (
    Field,
    effective_field,
    measured_receptive_field,
    middle_size,
    receptive_field,
    stage_paths,
)
from chapter_04_cnn_classic.figures import conv as figures
from chapter_04_cnn_classic.model import MODELS, build, conv_block
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results
from utils.shapes import shapes

SIZES = [  # input, kernel, stride, padding, dilation
    *[(5, 3, 1, 0, 1), (5, 3, 1, 1, 1), (5, 3, 2, 0, 1), (5, 3, 1, 0, 2)],
    *[(32, 3, 1, 1, 1), (32, 5, 1, 2, 1), (32, 3, 1, 2, 2), (32, 3, 2, 1, 1), (31, 3, 2, 1, 1), (32, 2, 2, 0, 1)],
]
STACKS = {  # layers of (kernel, stride, dilation)
    "three 3x3": [(3, 1, 1)] * 3,
    "one 7x7": [(7, 1, 1)],
    "three 3x3 of stride 2": [(3, 2, 1)] * 3,
    "three 3x3, dilations 1, 2, 4": [(3, 1, 1), (3, 1, 2), (3, 1, 4)],
}
STAR = 5  # which of the drawn pictures


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--side", type=positive, default=96, help="pixels along each side of the drawn picture")
    parser.add_argument("--layers", type=positive, nargs="+", default=[5, 10, 20, 50], help="depths of stacks")
    parser.add_argument("--pictures", type=positive, default=16, help="random pictures per effective field")
    args = begin(parser, argv, dry_run={"side": 40, "layers": [1, 3], "pictures": 1})
    if args.side < 16:
        raise UserError(f"--side {args.side}: a picture needs at least 16 pixels for these kernels")

    one_row()
    two_dimensions()
    sizes()
    panels = on_a_picture(shapes(STAR + 1, args.side, args.seed)[0][STAR].double() / 255)
    one_by_one()
    growth()
    fields = networks()
    layers = sorted(set(args.layers))
    effective, maps = how_much_counts(layers, args.pictures, args.device)
    cones = {
        "3x3, three times: two pixels more each time": STACKS["three 3x3"],
        "with stride 2: twice as wide, half as many units": STACKS["three 3x3 of stride 2"],
        "with dilations 1, 2, 4: as wide, at every place": STACKS["three 3x3, dilations 1, 2, 4"],
    }
    curve = [{"layers": n} | row for n, row in zip(layers, effective, strict=False)]  # then come the five networks
    drawn = {f"{name.capitalize()}, untrained": maps[name] for name in (f"{layers[-1]} layers of 3x3", "inception")}
    save_figure(figures.kernel_gallery(panels), args.out_dir / "conv_kernels.png")
    save_figure(figures.receptive_fields(cones, curve, drawn), args.out_dir / "receptive_field.png")
    write_results(args.out_dir / "demo_conv_math.json", args, {"fields": fields, "effective": effective})
    print(f"\nwritten to {args.out_dir}")


def one_row() -> None:
    """One dimension: the kernel slides, is flipped, is dilated."""
    x, w = torch.tensor([1, 3, 2, 5, 4], **F64), torch.tensor([1, 2, -1], **F64)
    section("Cross-correlation and convolution")
    say(f"x = {numbers(x)} and w = {numbers(w)}. Slide w along x, multiply what lies on top of each other, add up:")
    print_places(x, w)
    say(f"""This is cross-correlation, and what deep learning calls convolution. Convolution proper flips the kernel
        first, to {numbers(w.flip(0))}:""")
    print_places(x, w.flip(0))
    pulse = torch.tensor([0, 0, 1, 0, 0], **F64)
    say(f"""A single 1 shows the difference. Of {numbers(pulse)}, with a zero more at each end, cross-correlation makes
        {numbers(correlate(pulse, w, padding=1))}, the kernel backwards, and convolution
        {numbers(correlate(pulse, w.flip(0), padding=1))}, the kernel as it is.""")
    full, swapped = correlate(x, w.flip(0), padding=2), correlate(w, x.flip(0), padding=4)
    say(f"""With two zeros more at each end, convolution gives {numbers(full)}. These are the coefficients of
        1 + 3t + 2t^2 + 5t^3 + 4t^4 times 1 + 2t - t^2. Like factors, x and w may change places: {numbers(swapped)}. In
        cross-correlation they may not: {numbers(correlate(x, w, padding=2))} becomes
        {numbers(correlate(w, x, padding=4))}.""")

    section("Stride and dilation")
    say(f"""A stride of 2 keeps every second place: of {numbers(correlate(x, w))} it leaves
        {numbers(correlate(x, w, stride=2))}. A dilation of 2 reads every second number:""")
    print_places(x, w, dilation=2)
    holes = torch.tensor([1, 0, 2, 0, -1], **F64)
    say(f"""It is the kernel {numbers(holes)}, which gives {numbers(correlate(x, holes))} as well, without the products
        with 0. Three weights cover 3, 5, 9, 17 numbers with dilations 1, 2, 4, 8: 2d + 1.""")


def two_dimensions() -> None:
    """Two dimensions: a window, padding, and the dark rim that padding leaves."""
    x = torch.tensor([[1, 2, 0, 1], [0, 1, 3, 2], [2, 1, 0, 1], [1, 0, 2, 3]], **F64)
    w = torch.tensor([[1, 0], [2, -1]], **F64)
    section("In two dimensions")
    say("From left to right: a picture x, a kernel w, their cross-correlation, and the same with stride 2:")
    print_side_by_side(x, w, convolve(x, w), convolve(x, w, stride=2))
    window, y = x[:2, 2:], convolve(x, w)
    say(f"The number at the top right: {products(w, window)} = {y[0, 2]:g}.")
    mean = torch.full((3, 3), 1 / 9, **F64)
    say("""Padding keeps the size, but its zeros take part. The mean of 3x3 windows over a picture of ones, with padding
        1, times 9:""")
    print_side_by_side(9 * convolve(torch.ones(4, 5, **F64), mean, padding=1))
    say("In a corner 4 of the 9 numbers are real, at an edge 6: pictures get a dark rim.")


def sizes() -> None:
    """The size of the output: by the formula, as counted, and where the windows lie."""
    section("The size of the output")
    say(
        "n numbers, a kernel of k, stride s, padding p, dilation d; on the right, what the first and last window cover."
    )
    print(f"     n  k  s  p  d   {'(n + 2p - d(k - 1) - 1)/s + 1':<39}counted  windows")
    for n, k, s, p, d in SIZES:
        counted = conv2d_im2col(torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k), None, s, p, d).shape[2]
        exact, size, reach = (n + 2 * p - d * (k - 1) - 1) / s + 1, output_size(n, k, s, p, d), d * (k - 1)
        formula = f"({n} + {2 * p} - {reach} - 1)/{s} + 1 = {exact:g}{'' if exact == size else f' -> {size}'}"
        first, last = -p, (counted - 1) * s - p
        windows = f"{first}..{first + reach} to {last}..{last + reach}"
        print(f"    {n:>2}  {k}  {s}  {p}  {d}   {formula:<39}{counted:<9}{windows}")
    say("""Numbers below 0 or from n on are padding. Half a window is none: 16.5 is rounded down. So in the row of 32
        with stride 2 and padding 1 the last window ends at 31, and the zero on the right is never read.""")


def on_a_picture(picture: Tensor) -> list[figures.Panel]:
    """Run the kernels over a picture (3, H, W) with values from 0 to 1; return what there is to draw."""
    grey = (255 * conv2d_im2col(picture[None], LUMINANCE.view(1, 3, 1, 1))[0, 0]).round()  # (H, W)
    section("Kernels on a picture")
    say(f"""A drawn star, {picture.shape[1]}x{picture.shape[2]}, in grey levels from {grey.min():g} to {grey.max():g}. A
        flat area is multiplied by the sum of the weights: by 1 it stays, by 0 it vanishes and edges are left.""")
    print(f"    {'kernel':<16}{'size':<7}{'sum':>4}{'least':>9}{'most':>9}")
    made = {name: convolve(grey, kernel) for name, kernel in KERNELS.items()}
    for name, y in made.items():
        kernel = KERNELS[name]
        size = f"{len(kernel)}x{len(kernel)}"
        print(f"    {name:<16}{size:<7}{kernel.sum().round():>4.0f}{y.min():>9.1f}{y.max():>9.1f}")
    sobel, y = KERNELS["Sobel, across"], made["Sobel, across"]
    i, j = peak(y)
    window = grey[i : i + 3, j : j + 3]
    say(f"The window with the largest Sobel, across: rows {i} to {i + 2}, columns {j} to {j + 2}, and the kernel:")
    print_side_by_side(window, sobel)
    say(f"It gets {products(sobel, window)} = {y[i, j]:g}: dark on the left, bright on the right.")

    sharp = (made["sharpen"] - (grey[1:-1, 1:-1] - made["Laplacian"])).abs().max()
    down_first = convolve(convolve(grey, BINOMIAL[:, None]), BINOMIAL[None])
    say(f"""Sharpening is the picture minus its Laplacian (largest difference: {sharp:.1g}). The Gaussian is a column
        times a row, so 7 + 7 products a pixel do what 49 do (largest difference:
        {(down_first - made["Gaussian blur"]).abs().max():.1g}).""")
    piece, (i, j) = most_varied_window(grey, len(grey) // 4)
    found = convolve(grey, piece)
    say(f"""A kernel is a picture of what it looks for. Cut out the {len(piece)}x{len(piece)} pixels that vary most, at
        row {i}, column {j}, and take their mean off: as a kernel, they answer most at row {peak(found)[0]}, column
        {peak(found)[1]}.""")

    panels = []
    for name in list(KERNELS)[:5]:
        colours = torch.stack([convolve(channel, KERNELS[name]) for channel in picture])
        panels.append(figures.Panel(name, [KERNELS[name]], colours))
    across, down, laplacian = (figures.Panel(name, [KERNELS[name]], made[name]) for name in list(KERNELS)[5:])
    strength = torch.hypot(across.result, down.result)
    panels += [across, down, figures.Panel("both: how steep", across.kernels + down.kernels, strength), laplacian]
    return [*panels, figures.Panel("a piece finds itself", [piece], found, spot=peak(found))]


def one_by_one() -> None:
    """A kernel of 1x1 is a matrix over the channels."""
    x = torch.tensor([[[0.5, 1], [0, 0.2]], [[0.25, 1], [0, 0.4]], [[0.75, 1], [1, 0.6]]], **F64)  # (3, 2, 2)
    w = torch.stack([LUMINANCE, torch.tensor([1, 0, -1], **F64)])  # (2, 3)
    section("A kernel of 1x1")
    say(f"""Two kernels over red, green, blue: brightness, {numbers(w[0])}, and red minus blue, {numbers(w[1])}. The
        first pixel, {numbers(x[:, 0, 0])}, becomes {numbers(w @ x[:, 0, 0])}: {products(w[0], x[:, 0, 0])} and
        {products(w[1], x[:, 0, 0])}. A matrix does that to all four pixels at once: w, the pixels as columns, and their
        product:""")
    pixels = x.flatten(1)  # (3, 4)
    print_side_by_side(w, pixels, w @ pixels)
    gap = (conv2d_im2col(x[None], w[:, :, None, None])[0].flatten(1) - w @ pixels).abs().max()
    say(f"As a 1x1 convolution it is the same (largest difference: {gap:.1g}).")


def growth() -> None:
    """Receptive fields, layer by layer."""
    section("Receptive fields: the rule")
    say("""A unit sees r pixels, and its neighbour just as many, j further on. With another layer on top, of kernel k,
        stride s and dilation d, r grows by d (k - 1) j, and then j becomes s j. Here is r, and the number of weights
        with 64 channels in and out:""")
    for title, layers in STACKS.items():
        field, steps, weights = Field(), [], 0
        for kernel, stride, dilation in layers:
            before, field = field, field.through(kernel, stride, dilation=dilation)
            steps.append(f"{before.size} + {dilation}*{kernel - 1}*{before.jump} = {field.size}")
            weights += 64 * 64 * kernel**2
        print(f"    {title:<30}{',  '.join(steps):<50}{weights:>8,} weights")


def networks() -> dict[str, list[dict]]:
    """Compare rule and gradient for every stage of the five networks; narrow ones, since width does not matter."""
    section("Receptive fields of the five networks")
    print(f"    {'':<21}{'by rule':<24}{'by gradient'}")
    print(f"    {'':<21}{'size  jump  start':<24}{'size  jump  start'}")
    fields = {}
    for name in MODELS:
        fields[name] = []
        for stage, path in stage_paths(build({"model": name, "width": 0.1})).items():
            rule, measured = receptive_field(path), measured_receptive_field(path)
            columns = "       ".join(f"{f.size:>4}{f.jump:>6}{f.start:>7}" for f in (rule, measured))
            print(f"    {name:<11}{stage:<10}{columns}")
            row = {"stage": stage, "size": rule.size, "jump": rule.jump, "start": rule.start}
            fields[name].append(row | {"measured": measured.size})
    return fields


def how_much_counts(
    layers: list[int], pictures: int, device: torch.device
) -> tuple[list[dict], dict[str, tuple[Tensor, range, int]]]:
    """Measure how much of a field counts, in untrained networks on noise; return a row for each, and maps to draw."""
    section("How much of it counts")
    say("""The size of the gradient at each pixel of a field, in untrained networks, over pictures of noise. The middle
        is the smallest square with 95 % of it.""")
    print(f"    {'':<21}{'field':<9}{'middle':<9}share of the field's area")
    nets = {f"{n} layers of 3x3": nn.Sequential(*(conv_block(16 if i else 3, 16, 3) for i in range(n))) for n in layers}
    nets |= {name: build({"model": name, "width": 0.25}) for name in MODELS}
    rows, maps = [], {}
    for name, model in nets.items():
        field = receptive_field(model)
        unit = -(field.start // field.jump)  # the first one whose field begins inside the picture,
        seen = field.pixels(unit)  # which shall be just large enough
        weight = effective_field(model.to(device), torch.randn(pictures, 3, seen.stop, seen.stop, device=device), unit)
        middle = middle_size(weight, (seen[0] + seen[-1]) / 2)
        share = (middle / field.size) ** 2
        rows.append({"network": name, "field": field.size, "middle": middle, "share": share})
        maps[name] = weight.cpu(), seen, middle
        print(f"    {name:<21}{field.size:<9}{middle:<9}{share:.0%}")
    return rows, maps


# How it prints.


def products(weights: Tensor, window: Tensor) -> str:
    """Write a weighted sum out: "1*1 + 2*3 - 1*2"; weights of 0 are left out."""
    terms = [(w, v) for w, v in zip(weights.flatten().tolist(), window.flatten().tolist(), strict=True) if w]
    (w, v), *rest = terms
    return f"{w:g}*{v:g}" + "".join(f" {'-' if w < 0 else '+'} {abs(w):g}*{v:g}" for w, v in rest)


def print_places(x: Tensor, w: Tensor, dilation: int = 1) -> None:
    for place, y in enumerate(correlate(x, w, dilation=dilation).tolist()):
        print(f"    place {place}: {products(w, x[place::dilation][: len(w)])} = {y:g}")


def print_side_by_side(*grids: Tensor) -> None:
    """Print matrices next to each other, their first rows in line."""
    for i in range(max(map(len, grids))):
        cells = [
            [f"{v:>6.4g}" for v in grid[i].tolist()] if i < len(grid) else [" " * 6] * grid.shape[1] for grid in grids
        ]
        print("  " + "     ".join("".join(row) for row in cells).rstrip())


if __name__ == "__main__":
    run(main)
