"""Three graphs differentiated by hand, by our engine and by PyTorch, side by side.
三张计算图的导数：手算、自制引擎与 PyTorch 并排对照。

    python chapter_01_tensor_autograd/autograd.py       # 3 s
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from chapter_01_tensor_autograd import worked_graphs
from chapter_01_tensor_autograd.worked_graphs import ENGINE, PYTORCH, Arrays, WorkedGraph, differentiate
from utils.cli import add_output_flags, begin, run, script_parser
from utils.results import write_results

SCALAR = """
f = x y + sin x  at  x = pi/3, y = 2. Every step makes one new number:

    p = x y     s = sin x     f = p + s

Write da for df/da. Start at the end, where df = 1, and walk backwards:

    f = p + s       dp = df * 1 = {dp}         ds = df * 1 = {ds}
    s = sin x       hands x   ds * cos x = 1 * {cos} = {cos}
    p = x y         hands x   dp * y     = 1 * {y} = {y}       and y   dp * x = {dy}
    x was used twice, so it adds what it was handed:   dx = {y} + {cos} = {dx}
"""

LINEAR = """
y = x W + b for two examples (the rows of x). The loss behind it is somebody else's: all that we are told is its
gradient g = dL/dy, one number for each number in y.

    y[i,j] = sum over k of x[i,k] W[k,j] + b[j],   so a nudge of one entry moves L by

    x[i,k]:  sum over j of g[i,j] W[k,j]     dx = g W^T      (B, d_out) (d_out, d_in) -> (B, d_in)
    W[k,j]:  sum over i of x[i,k] g[i,j]     dW = x^T g      (d_in, B) (B, d_out)     -> (d_in, d_out)
    b[j]:    sum over i of g[i,j]            db = column sums of g: every example used b

For example dW[3,1] = x[1,3] g[1,1] + x[2,3] g[2,1] = (-1)(1) + (3)(-1) = -4.
"""

NETWORK = """
x -> relu(x W1 + b1) -> relu(h1 W2 + b2) -> tanh(h2 W3 + b3) -> h3 W4 + b4 -> L, the cross-entropy of class 0.
Backwards, each layer repeats two moves: through the activation, then through the product.

    dz4 = p - y                  softmax and cross-entropy together; y is 1 at the right class, else 0
    dh3 = dz4 W4^T               dW4 = h3^T dz4      db4 = dz4
    dz3 = dh3 (1 - h3^2)         tanh' = 1 - tanh^2
    dh2 = dz3 W3^T               dW3 = h2^T dz3      db3 = dz3
    dz2 = dh2 where z2 > 0       relu lets through what it let through on the way up
    dh1 = dz2 W2^T               dW2 = h1^T dz2      db2 = dz2
    dz1 = dh1 where z1 > 0
    dx  = dz1 W1^T               dW1 = x^T dz1       db1 = dz1
"""


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    args = begin(parser, argv, dry_run={})

    scalar, linear, network = worked_graphs.scalar(), worked_graphs.linear(), worked_graphs.network()
    numbers = {name: f"{value:.4g}" for name, value in scalar.by_hand.items()}
    text = SCALAR.format(**numbers, cos=f"{np.cos(scalar.inputs['x']):.4g}", y=f"{scalar.inputs['y']:.4g}")
    final = {}
    worked = [("1. A scalar function", text, scalar), ("2. A linear layer", LINEAR, linear)]
    worked += [("3. Four layers and a loss", NETWORK, network)]
    for title, derivation, graph in worked:
        print(f"\n{title}\n{'=' * len(title)}\n{derivation}")
        ours, theirs = differentiate(graph, ENGINE), differentiate(graph, PYTORCH)
        show(graph, ours, theirs)
        name = title.split()[-1].removesuffix("s")
        final |= {f"{name}_hand_minus_engine": gap(graph.by_hand, ours)}
        final |= {f"{name}_engine_minus_pytorch": gap({k: ours[k] for k in graph.by_hand}, theirs)}

    random = worked_graphs.at_random(np.random.default_rng(args.seed))
    for name, graph in random.items():
        ours, theirs = differentiate(graph, ENGINE), differentiate(graph, PYTORCH)
        final[f"random_{name}_difference"] = max(gap(graph.by_hand, ours), gap(graph.by_hand, theirs))
    worst = max(final.values())
    print(f"\nLargest difference between any two of the three, at these points and at random ones: {worst:.1e}")
    write_results(args.out_dir / "autograd.json", args, final | {"largest_difference": worst})
    print(f"wrote {args.out_dir / 'autograd.json'}")


def show(graph: WorkedGraph, ours: Arrays, theirs: Arrays) -> None:
    """Print every value and gradient found by hand, and how far the two libraries are from it."""
    print(f"{'':5}{'by hand':<44}{'engine off by':>15}{'PyTorch off by':>16}")
    for name, value in graph.by_hand.items():
        off = [gap({name: value}, found) for found in (ours, theirs)]
        for i, line in enumerate(np.array2string(np.asarray(value), precision=4, suppress_small=True).split("\n")):
            print(f"{name:5}{line:<44}{off[0]:>15.1e}{off[1]:>16.1e}" if i == 0 else f"{'':5}{line}")


def gap(a: Arrays, b: Arrays) -> float:
    """Return the largest difference between arrays of the same name."""
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


if __name__ == "__main__":
    run(main)
