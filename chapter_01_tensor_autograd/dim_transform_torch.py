"""Reshape, transpose, expand and their kin: what each does to shape, strides and memory.
变形、转置、扩展等操作：它们各自怎样改变形状、步长和内存。

    python chapter_01_tensor_autograd/dim_transform_torch.py     # 3 s: prints the lesson, draws strides.png
"""

import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F

from chapter_01_tensor_autograd.lesson import numbers, say, section
from utils.cli import add_output_flags, begin, run, script_parser
from utils.plotting import COLOURS, new_figure, save_figure

from matplotlib.patches import Rectangle

DRAWN = {"x": "as stored", "x.T": "transposed", "x[1:2].expand(3, 4)": "expanded", "x[::2, 1::2]": "sliced"}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    args = begin(parser, argv, dry_run={})

    x = torch.arange(12.0, device=args.device).view(3, 4)
    lesson(x)
    print(f"wrote {plot_walks(x, args.out_dir / 'strides.png')}")


def lesson(x: torch.Tensor) -> None:
    """Print the lesson. Its tables and figures are computed from `x`, a contiguous (3, 4) that counts from 0."""
    section("A strip of memory")
    say("A tensor is a strip of memory cells and a note on how to read them: shape, strides, offset. Let x be")
    print("\n".join("    " + "".join(f"{number:4.0f}" for number in row) for row in x.tolist()))
    (down, right), offset = x.stride(), x.storage_offset()
    cell = offset + 1 * down + 2 * right
    say(f"""Its strides are ({down}, {right}): one step down skips {down} cells, one step to the right {right}. So
        x[1, 2] lies in cell {offset} + 1*{down} + 2*{right} = {cell}, which holds
        {memory_cells(x)[cell]:.0f}. An operation either writes a new note for x's cells ("shared" below) or fills cells
        of its own ("copied"). A tensor is
        contiguous if reading it in order walks its cells from left to right, one by one.""")

    section("view, reshape, flatten: the same cells in the same order")
    shared = table("x", "x.view(2, 6)", "x.view(2, -1, 3)", "x.reshape(4, 3)", "x.flatten()", x=x)
    y = x.clone()
    y.view(12)[5] = 50
    say(f"Shared means shared: on a clone y of x, y.view(12)[5] = 50 turns y[1, 1] from {x[1, 1]:g} into {y[1, 1]:g}.")

    section("transpose, permute: the same cells in another order")
    shared += table("x.T", "x.transpose(0, 1)", "x.view(2, 3, 2).permute(2, 0, 1)", "x.T.contiguous()", x=x)
    agree = (x.T == x.view(4, 3)).sum()
    say(f"""Only the strides change places. Beware of view where you mean transpose: x.view(4, 3) has the shape of x.T
        and raises no error, but only {agree} of its {x.numel()} values stand where x.T has them. Its first row is
        {numbers(x.view(4, 3)[0])}, that of x.T {numbers(x.T[0])}.""")
    fails("x.T.view(12)", x=x)
    (down, right), length = x.T.stride(), x.T.size(1)
    say(f"""Why: a single row needs a single stride. Along a row of x.T the next element is {right} cells on, but from
        the end of a row to the start of the next it is {down} - {length - 1}*{right} = {down - (length - 1) * right}.
        Two dimensions merge when the outer stride is the inner length times the inner stride; here {down} is not
        {length}*{right}. Splitting a dimension always works; reshape and flatten view if they can, else copy.""")
    shared += table("x.T.view(2, 2, 3)", "x.T.reshape(12)", "x.T.flatten()", x=x)

    section("squeeze, unsqueeze: dimensions of length 1 cost nothing")
    shared += table("x.unsqueeze(0)", "x.unsqueeze(-1)", "x[:, None]", "x[:, None].squeeze(1)", x=x)
    two, one = torch.zeros(2, 1, 4), torch.zeros(1, 1, 4)
    say(f"""Beware of the bare squeeze(): of a batch {tuple(two.shape)} it makes {tuple(two.squeeze().shape)}, but of a
        last batch of one, {tuple(one.shape)}, it makes {tuple(one.squeeze().shape)}: the batch dimension is gone. Name
        the dimension, squeeze(1), and it stays.""")

    section("expand, repeat: the same values many times")
    shared += table("x[1:2].expand(3, 4)", "x[:, :1].expand(3, 4)", "x[1:2].repeat(3, 1)", x=x)
    row = torch.zeros(1, 1000)
    expanded, repeated = (t.untyped_storage().nbytes() for t in (row.expand(1000, 1000), row.repeat(1000, 1)))
    say(f"""Stride 0 stands still and reads its cells again. A row of 1,000 floats shown as 1,000 rows takes
        {expanded:,} bytes with expand and {repeated:,} with repeat, {repeated // expanded:,} times as many. The price:
        all rows are one, so PyTorch refuses to write into them.""")
    fails("x[1:2].expand(3, 4).add_(1)", x=x)

    section("slices move the offset and stretch the strides; lists and masks copy")
    shared += table("x[1:]", "x[:, 1]", "x[::2, 1::2]", "x[[0, 2]]", "x[x > 5]", "x.flip(0)", x=x)
    fails("x[::-1]", x=x)
    say(f"""NumPy reads backwards with negative strides: in bytes, its x[::-1] has {x.cpu().numpy()[::-1].strides}.
        PyTorch has none, so flip has to copy.""")

    section("cat, stack: several tensors in new cells")
    shared += table("torch.cat([x, x])", "torch.cat([x, x], 1)", "torch.stack([x, x])", "torch.stack([x, x], 2)", x=x)
    same = torch.equal(torch.stack([x, x]), torch.cat([x[None], x[None]]))
    say(f"cat lengthens a dimension, stack adds one. stack([x, x]) equals cat([x[None], x[None]]): {same}.")

    section("gather: one pick for each place of an index")
    labels = torch.tensor([3, 0, 1], device=x.device)
    shared += table("x.gather(1, labels[:, None])", x=x, labels=labels)
    picked, log_p = (t.gather(1, labels[:, None])[:, 0] for t in (x, x.log_softmax(1)))
    gap = (log_p + F.cross_entropy(x, labels, reduction="none")).abs().max()
    say(f"""out[i, j] = x[i, index[i, j]]: labels {numbers(labels)} pick {numbers(picked)}, one from each row. Picked
        from log-probabilities, with the sign changed, they are the cross-entropy: the largest difference from
        F.cross_entropy is {gap:.1g}.""")

    section("einsum: name each dimension; a name missing on the right is summed over")
    by_hand = {
        "torch.einsum('ij->ji', x)": "x.T",
        "torch.einsum('ij->j', x)": "x.sum(0)",
        "torch.einsum('ij,ij->i', x, x)": "(x * x).sum(1)",
        "torch.einsum('ij,kj->ik', x, x)": "x @ x.T",
        "torch.einsum('bij,bjk->bik', b, b)": "b @ b",
        "torch.einsum('bii->bi', b)": "b.diagonal(0, 1, 2)",
    }
    names = {"x": x, "b": x.view(3, 2, 2)}
    shared += table(*by_hand, **names)
    gap = max((evaluate(line, names) - evaluate(other, names)).abs().max() for line, other in by_hand.items())
    say(f"""Here b is x.view(3, 2, 2). In order, these are {", ".join(by_hand.values())}; the largest difference
        is {gap:.1g}.""")

    section("In short")
    say(f"""{sum(shared)} of the {len(shared)} tensors in the tables read x's own cells. That is possible only if one
        offset, and one stride of at least 0 for each dimension, reach all elements. It is not always done: x[[0, 2]]
        holds what x[::2] holds ({torch.equal(x[[0, 2]], x[::2])}), but a list of indices always copies.""")


# What prints. An expression is evaluated from the text that is shown, so no table can show what was not run.


def table(*expressions: str, **names: torch.Tensor) -> list[bool]:
    """Print a row for each expression over `names`; return which of their values share the memory of `names["x"]`."""
    print(f"    {'expression':<36}{'shape':<13}{'strides':<13}{'offset':<8}{'memory':<8}contiguous")
    shared = []
    for expression in expressions:
        t = evaluate(expression, names)
        shared.append(shares_memory(t, names["x"]))
        columns = f"{tuple(t.shape)!s:<13}{t.stride()!s:<13}{t.storage_offset():<8}"
        print(f"    {expression:<36}{columns}{'shared' if shared[-1] else 'copied':<8}{t.is_contiguous()}")
    return shared


def fails(expression: str, **names: torch.Tensor) -> None:
    """Print the first line of the error that the expression raises."""
    try:
        evaluate(expression, names)
    except (RuntimeError, ValueError) as error:
        say(f"{expression} raises {type(error).__name__}: {str(error).splitlines()[0]}", indent="    ")
    else:
        raise AssertionError(f"{expression} was meant to fail")


def evaluate(expression: str, names: dict[str, torch.Tensor]) -> torch.Tensor:
    return eval(expression, {"torch": torch}, names)


# What is computed.


def memory_cells(tensor: torch.Tensor) -> torch.Tensor:
    """All the memory cells under `tensor`, in order."""
    return tensor.as_strided((tensor.untyped_storage().nbytes() // tensor.itemsize,), (1,), 0)


def shares_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def reading_order(tensor: torch.Tensor) -> list[int]:
    """The cells that reading `tensor` in order visits: offset + index_0 * stride_0 + index_1 * stride_1 + ..."""
    places = product(*map(range, tensor.shape))
    return [tensor.storage_offset() + sum(i * s for i, s in zip(at, tensor.stride(), strict=True)) for at in places]


def plot_walks(x: torch.Tensor, path: Path) -> Path:
    """Draw for each tensor of DRAWN its values, the memory, and the way that reading it takes over the memory."""
    figure, panels = new_figure(12.5, 3.7, ncols=len(DRAWN))
    for axes, (expression, what) in zip(panels, DRAWN.items(), strict=True):
        t = evaluate(expression, {"x": x})
        (rows, columns), cells, memory = t.shape, reading_order(t), memory_cells(x).tolist()
        for (i, j), number in zip(product(range(rows), range(columns)), t.flatten().tolist(), strict=True):
            draw_cell(axes, 6 - columns / 2 + j, 4.8 - i, number, COLOURS[i])
        for cell, number in enumerate(memory):
            draw_cell(axes, cell, 0, number, "0.4" if cell in cells else "0.85")
            axes.plot([cell + 0.5] * 2, [-0.5, -9.4], color="0.93", lw=0.8, zorder=0)
        spots = [(cell + 0.5, -0.9 - 0.75 * step) for step, cell in enumerate(cells)]
        for step, (across, y) in enumerate(spots):
            colour, jump = COLOURS[step // columns], step % columns == 0
            axes.plot(across, y, "o", color=colour, markersize=5)
            if step == 0:
                continue
            arrow = {"color": "0.5", "linestyle": ":"} if jump else {"color": colour}
            arrow |= {"arrowstyle": "->", "lw": 1.3, "shrinkA": 3, "shrinkB": 3}
            axes.annotate("", (across, y), spots[step - 1], arrowprops=arrow)
            if step in (1, columns):  # the first step along a row, and the first to a new row
                middle = (across + spots[step - 1][0]) / 2
                stride = f"{cells[step] - cells[step - 1]:+d}"
                axes.text(middle, y + 0.55, stride, ha="left", va="bottom", fontsize=8, color=arrow["color"])
        axes.text(6, 7.2, expression, ha="center", family="monospace", fontsize=11, weight="bold")
        note = f"{what}: shape {tuple(t.shape)}, strides {t.stride()}, offset {t.storage_offset()}"
        axes.text(6, 6.3, note, ha="center", fontsize=8.5)
        axes.set(xlim=(-0.2, 12.2), ylim=(-9.6, 8), aspect="equal")
        axes.axis("off")
    places = {"the tensor": 4.3, "memory": 0.5, "reading: step 1": -0.9, "step 6": -4.65, "step 12": -9.15}
    for label, y in places.items():
        panels[0].text(-0.8, y, label, ha="right", va="center", color="0.35", fontsize=9)
    return save_figure(figure, path)


def draw_cell(axes, left: float, bottom: float, number: float, colour: str) -> None:
    axes.add_patch(Rectangle((left, bottom), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
    axes.text(left + 0.5, bottom + 0.47, f"{number:.0f}", ha="center", va="center", color="white", fontsize=8)


if __name__ == "__main__":
    run(main)
