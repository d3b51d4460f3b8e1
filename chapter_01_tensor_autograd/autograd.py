"""Three graphs differentiated by hand, by our engine and by PyTorch: the same numbers three times.
用手算、自制引擎和 PyTorch 分别对三张计算图求导：三次得到同样的数。

    python chapter_01_tensor_autograd/autograd.py     # 3 s: prints the derivations, pencil and paper welcome
"""

import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from chapter_01_tensor_autograd.engine import Tensor, gradcheck, hvp
from chapter_01_tensor_autograd.graphs.worked_graphs import (
    ENGINE,
    PYTORCH,
    Arrays,
    WorkedGraph,
    at_random,
    backward,
    differentiate,
    forward,
    linear,
    network,
    scalar,
)
from chapter_01_tensor_autograd.lesson import section
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.results import write_results


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    parser.add_argument("--points", type=positive, default=200, help="random points at which to compare once more")
    args = begin(parser, argv, dry_run={"points": 3})

    final = {}
    for name, graph, lesson in [
        ("scalar", scalar(), scalar_lesson),
        ("linear", linear(), linear_lesson),
        ("network", network(), network_lesson),
    ]:
        lesson(graph.inputs | graph.by_hand)
        final[f"{name}_difference"] = compare(graph, show=True)
    final["hessian_difference"] = hessian_lesson(*scalar().inputs.values())

    section("And at points that nobody chose")
    rng = np.random.default_rng(args.seed)
    drawn = [at_random(rng) for _ in range(args.points)]
    for name in drawn[0]:
        final[f"random_{name}_difference"] = max(compare(graphs[name]) for graphs in drawn)
    worst = max(final.values())
    print(f"""\
The same formulas and the same code at {args.points} random inputs each, now in batches of 5 and 4.
Largest difference in any value: {worst:.1e}. A double holds 16 digits, and each operation rounds the
last; the three do not always add up in the same order.""")
    nudged = max(gradcheck(result_of(graph), *graph.inputs.values()) for graph in drawn[0].values())
    print(f"Central differences, which know no formula, differ by {nudged:.1e} at the first of these points.")
    final |= {"largest_difference": worst, "points": args.points, "central_differences_apart": nudged}
    write_results(args.out_dir / "autograd.json", args, final)
    print(f"\nwrote {args.out_dir / 'autograd.json'}")


# ---- the derivations: `v` holds the inputs and what was found by hand ----------------------------------------------


def scalar_lesson(v: Arrays) -> None:
    section("1. A scalar: f = x*y + sin x, at x = pi/3, y = 2")
    x, y, p, s, f, dx, dy, cos = (number(n) for n in [*(v[name] for name in "x y p s f dx dy".split()), np.cos(v["x"])])
    print(f"""\
Cut f into steps of one operation each. Forward, from the inputs to f:
    p = x*y                      = {x} * {y} = {p}
    s = sin x                    = sin {x} = {s}
    f = p + s                    = {p} + {s} = {f}

Backward, from f to the inputs. Write da for df/da. Start with df = 1; each step multiplies what it
receives by its own derivative, and hands it on:
    f = p + s    dp = df * 1     = {number(v["dp"])}
                 ds = df * 1     = {number(v["ds"])}
    p = x*y      dy = dp * x     = {dy}
                 dx = dp * y     = {number(v["dp"] * v["y"])}, but x has a second way to f:
    s = sin x       + ds * cos x = {number(v["dp"] * v["y"])} + {number(v["ds"])} * {cos} = {dx}
A value used twice gets the sum of both gradients. By the rules of school, df/dx = y + cos x.
Our engine completes them in the order {", ".join(sweep_order(scalar()))}: each after all that it went into.""")


def linear_lesson(v: Arrays) -> None:
    section("2. A linear layer: y = x W + b, for a batch of two")
    x, W, g = v["x"], v["W"], v["dy"]
    print("g is the gradient of some loss L with respect to y: what the layers above hand down to this one.")
    print(side_by_side("    x =", x, "  W =", W, "  b =", v["b"], "  g =", g, "  y = x W + b =", v["y"]))
    print("""
Entry by entry, y_nj = sum_i x_ni W_ij + b_j. The chain rule sums over all y that an input touches:
    dL/dx_ni = sum_j g_nj dy_nj/dx_ni = sum_j g_nj W_ij   row n of g times row i of W:        g W^T
    dL/dW_ij = sum_n g_nj dy_nj/dW_ij = sum_n x_ni g_nj   column i of x times column j of g:  x^T g
    dL/db_j  = sum_n g_nj dy_nj/db_j  = sum_n g_nj        b is in every row of y:  sum of g's rows""")
    print(side_by_side("    dx = g W^T =", v["dx"], "   dW = x^T g =", v["dW"], "   db =", v["db"]))
    print(f"For instance dx_11 = {products(g[0], W[0])}, and dW_11 = {products(x[:, 0], g[:, 0])}.")


def network_lesson(v: Arrays) -> None:
    section("3. Four layers and a loss: 2-3-3-2-2, relu, relu, tanh, cross-entropy; the label is class 0")
    print(side_by_side("    W1 =", v["W1"], "  W2 =", v["W2"], "  W3 =", v["W3"], "  W4 =", v["W4"]))
    print(side_by_side("    b1 =", v["b1"], "  b2 =", v["b2"], "  b3 =", v["b3"], "  b4 =", v["b4"], "   x =", v["x"]))

    print("\nForward. Each layer computes z = h W + b and h = activation(z):")
    for k, (below, activation) in enumerate([("x", "relu"), ("h1", "relu"), ("h2", "tanh")], start=1):
        z = side_by_side(f"    z{k} = {below} W{k} + b{k} =", v[f"z{k}"])
        print(f"{z:<46}{side_by_side(f'h{k} = {activation}(z{k}) =', v[f'h{k}'])}")
    z, p = side_by_side("    z4 = h3 W4 + b4 =", v["z4"]), np.exp(v["z4"]) / np.exp(v["z4"]).sum()
    print(f"{z:<46}{side_by_side('p = softmax(z4) =', p)}")
    print(f"    L = -log p_0 = {number(v['L'])}")

    print("""
Backward. With z for z4, L = log(exp z_0 + exp z_1) - z_0, so dL/dz_k = p_k, less 1 at the label.
Then, layer by layer, the three rules of example 2 and the derivative of the activation:
    tanh' = 1 - tanh^2 = 1 - h^2        relu' = [z > 0], that is, 1 where z > 0 and 0 elsewhere""")
    slopes = {4: "p - [1 0]", 3: "dh3 (1 - h3^2)", 2: "dh2 [z2 > 0]", 1: "dh1 [z1 > 0]"}
    for k, slope in slopes.items():
        below = f"h{k - 1}" if k > 1 else "x"
        dz = side_by_side(f"    dz{k} = {slope} =", v[f"dz{k}"])
        print(f"{dz:<54}db{k} = dz{k}")
        dW = side_by_side(f"    dW{k} = {below}^T dz{k} =", v[f"dW{k}"])
        dh = side_by_side(f"d{below} = dz{k} W{k}^T =", v[f"d{below}"])
        first, *others = dW.splitlines()
        print("\n".join([f"{first:<54}{dh}", *others]))
    print("""\
The third ReLU of layer 1 and the second of layer 2 are shut. Nothing flows back through them, so
their column of dW is 0; they sent 0 forward, so their row of the next dW is 0 too. From this
example, those weights learn nothing.""")


def hessian_lesson(x: np.ndarray, y: np.ndarray) -> float:
    """Print H v for the scalar graph; return how far the engine's is from the one by hand."""
    section("4. Second derivatives of the scalar: H v, without H")
    hessian, v = np.array([[-np.sin(x), 1.0], [1.0, 0.0]]), np.array([1.0, -1.0])
    found = hvp(lambda z: z[0] * z[1] + z[0].sin(), np.array([x, y]), v).data
    print("""\
The gradient of f = x*y + sin x is (y + cos x, x): functions again. Their derivatives by x and y
are the rows of the Hessian H, here times the direction v = (1, -1):""")
    print(
        side_by_side(
            "    H =", hessian, "  v =", v[:, None], "  H v =", (hessian @ v)[:, None], "  engine:", found[:, None]
        )
    )
    return float(np.abs(found - hessian @ v).max())


# ---- the comparison -------------------------------------------------------------------------------------------------


def compare(graph: WorkedGraph, show: bool = False) -> float:
    """Return the largest difference between hand, engine and PyTorch, over all values; print the main ones if asked."""
    hand, engine, pytorch = found = graph.by_hand, differentiate(graph, ENGINE), differentiate(graph, PYTORCH)
    pairs = list(combinations(found, 2))
    apart = {name: max(float(np.abs(a[name] - b[name]).max()) for a, b in pairs) for name in hand}
    if show:
        print(f"\n    {'':<10}{'by hand':<20}{'our engine':<20}{'PyTorch':<20}largest difference")
        for name in [graph.result, *(f"d{name}" for name in graph.inputs)]:
            first = ["", "[0]", "[0,0]"][np.ndim(hand[name])]
            values = "".join(f"{np.ravel(values[name])[0]:<20.15g}" for values in found)
            over = f"over {np.size(hand[name])} numbers" if first else ""
            print(f"    {name + first:<10}{values}{apart[name]:<7.1g}{over}".rstrip())
    return max(apart.values())


def sweep_order(graph: WorkedGraph) -> list[str]:
    """Return the names of the graph's values in the order in which our engine's sweep completes their gradients."""
    tensors, order = forward(graph, ENGINE), []
    for name, tensor in tensors.items():
        tensor.register_hook(lambda _, name=name: order.append(name))
    backward(graph, tensors, ENGINE)
    return order


def result_of(graph: WorkedGraph) -> Callable[..., Tensor]:
    """Return the graph as a function of its inputs, in our engine."""
    return lambda *inputs: graph.steps(dict(zip(graph.inputs, inputs, strict=True)), ENGINE)[graph.result]


# ---- printing -------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Four decimals at most, without trailing zeros."""
    return f"{value + 0.0:.4f}".rstrip("0").rstrip(".").replace("-0.0000", "0")


def products(a: np.ndarray, b: np.ndarray) -> str:
    terms = " + ".join(f"({number(p)})({number(q)})" for p, q in zip(a, b, strict=True))
    return f"{terms} = {number(a @ b)}"


def block(array: np.ndarray) -> list[str]:
    cells = [[number(value) for value in row] for row in np.atleast_2d(array)]
    width = max(len(cell) for row in cells for cell in row)
    return [f"[{' '.join(cell.rjust(width) for cell in row)}]" for row in cells]


def side_by_side(*parts: str | np.ndarray) -> str:
    """Set texts and matrices side by side, the texts in the first line."""
    blocks = [[part] if isinstance(part, str) else block(part) for part in parts]
    height = max(map(len, blocks))
    padded = [b + [""] * (height - len(b)) for b in blocks]
    widths = [max(map(len, b)) for b in blocks]
    lines = (" ".join(line[i].ljust(w) for line, w in zip(padded, widths, strict=True)) for i in range(height))
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    run(main)
