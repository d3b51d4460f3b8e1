"""How far each variant is from the reference that it should equal: outputs and gradients, in 64 and 32 bits.
每个变体与参考实现的偏差：输出与梯度，64 位与 32 位。

    python chapter_09_efficient_attention/exactness_report.py    # half a minute on a CPU core
"""

import sys
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from tqdm import tqdm

from chapter_09_efficient_attention.costs import fitted_exponent
from chapter_09_efficient_attention.exactness import (
    cache_pairs,
    deviation,
    linear_pairs,
    quantization_error,
    random_feature_errors,
    softmax_pairs,
    sparse_pairs,
)
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.results import write_results
from utils.tables import aligned, final_lines

FEATURES = [16, 64, 256]  # how many random features


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--length", type=positive, default=129, help="tokens, best a number that no tile divides")
    parser.add_argument("--draws", type=positive, default=4000, help="estimates of one number by random features")
    args = begin(parser, argv, dry_run={"length": 19, "draws": 200})

    if args.length < 2:
        raise UserError("--length 1: the weight of a single token is 1, whatever the scores")
    rows = compare_all(args.length, args.device)
    errors = random_feature_errors(FEATURES, args.draws, args.device)
    final = {
        "largest_float64": max(max(row["float64"], row["float64_gradient"]) for row in rows),
        "random_features_slope": fitted_exponent(FEATURES, list(errors.values())),
        "quantization_error_of_bound": quantization_error(torch.randn(1000, 64, device=args.device)),
        "random_features_error": {str(m): error for m, error in errors.items()},
        "variants": {row.pop("name"): row for row in rows},
    }
    write_results(args.out_dir / "exactness.json", args, final)
    table = [[name, *(f"{value:.1e}" for value in row.values())] for name, row in final["variants"].items()]
    print(*aligned([["", *rows[0]], *table], "<>"), sep="\n")
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}")


def compare_all(length: int, device: torch.device) -> list[dict[str, str | float]]:
    """Return for each variant its name and its deviations: of output and gradient, in float64 and float32."""
    rows: dict[str, dict] = {}
    for dtype in (torch.float64, torch.float32):

        def make(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.randn(shape, dtype=dtype, device=device, requires_grad=True)

        families = (softmax_pairs, sparse_pairs, linear_pairs, cache_pairs)
        precision = str(dtype).removeprefix("torch.")
        for name, *pair in tqdm(chain.from_iterable(f(make, length) for f in families), desc=precision, unit="pair"):
            output, gradient = deviation(*pair)
            rows.setdefault(name, {"name": name}).update({precision: output, f"{precision}_gradient": gradient})
    return list(rows.values())


if __name__ == "__main__":
    run(main)
