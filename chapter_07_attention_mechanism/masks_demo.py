"""Every mask, printed and drawn: what the same scores become when some places may not be looked at.
逐一打印并画出各种掩码：同样的分数，在不许看某些位置时会变成什么权重。

    python chapter_07_attention_mechanism/masks_demo.py    # 3 s
    python chapter_07_attention_mechanism/masks_demo.py --sentence "ein Hund rennt durch den Schnee" --padding 2
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from chapter_07_attention_mechanism.attention import causal_mask, local_mask, masked_softmax, padding_mask
from chapter_07_attention_mechanism.figures import structure
from utils.cli import add_output_flags, begin, natural, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.tables import aligned

PADDING = "<pad>"
EXPLAINED = {
    "no mask": "every query looks at every key",
    "padding": "nobody looks at what only fills up the batch",
    "causal": "no query looks at a key after it: a decoder must not see what it has yet to write",
    "causal and padding": "both must allow it: masks are joined with &",
    "window": "only keys nearby: the cost grows with the length, not with its square",
    "causal window": "only keys nearby, and none after the query",
    "distance penalty": "numbers added to the scores: far keys are not forbidden, only less welcome",
    "fully masked": "a query that may look at nothing gets weights of 0, not NaN",
}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--sentence", default="der Hund bellt laut", help="words, split at spaces; 12 at most")
    parser.add_argument("--padding", type=natural, default=1, help="places that fill up the batch")
    parser.add_argument("--window", type=positive, default=1, help="how far a window reaches")
    args = begin(parser, argv, dry_run={})
    words = args.sentence.split()
    if not words or len(words) + args.padding > 12:
        raise UserError("--sentence and --padding should make 1 to 12 places, of which at least one is a word")
    names = [*words, *[PADDING] * args.padding]
    masks = make_masks(len(words), len(names), args.window)
    scores = torch.randn(len(names), len(names))
    for name, mask in masks.items():
        print(f"{name}: {EXPLAINED[name]}")
        print(*table(names, mask, masked_softmax(scores, mask)), "", sep="\n")
    print(f"wrote {save_figure(structure.masks(scores, masks, names), args.out_dir / 'masks.png')}")


def make_masks(n_words: int, length: int, window: int) -> dict[str, Tensor | None]:
    """Return each kind of mask for a sequence of `length` places, of which the first `n_words` are words."""
    real = padding_mask(torch.tensor([n_words]), length)[0]  # (1, T)
    causal = causal_mask(length)  # (T, T)
    places = torch.arange(length, dtype=torch.float32)
    one_row = torch.arange(length)[:, None] != 1 % length  # (T, 1)
    return {
        "no mask": None,
        "padding": real,
        "causal": causal,
        "causal and padding": causal & real,
        "window": local_mask(length, window),
        "causal window": local_mask(length, window, causal=True),
        "distance penalty": -(places[:, None] - places).abs(),
        "fully masked": one_row,
    }


def table(names: list[str], mask: Tensor | None, weights: Tensor) -> list[str]:
    """Return lines with the weights (T, T): a row for each query, a dot where the mask forbids."""
    allowed = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask
    allowed = (allowed if allowed.dtype == torch.bool else allowed > -torch.inf).expand_as(weights)
    rows = [["", *names]]
    for name, row, may in zip(names, weights.tolist(), allowed.tolist(), strict=True):
        rows.append([name, *(f"{weight:.2f}" if ok else "·" for weight, ok in zip(row, may, strict=True))])
    return aligned(rows, "<>")


if __name__ == "__main__":
    run(main)
