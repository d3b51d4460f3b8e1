"""Let models with different kinds of attention go on with a text; see how fast each writes and what it must keep.
让使用不同注意力的模型续写文本，并看看各自写得多快、需要保留多少内容。

    python chapter_09_efficient_attention/inference.py    # every model that ships, one after another
    python chapter_09_efficient_attention/inference.py --attention mha --prompt "ROMEO:" --length 600
    python chapter_09_efficient_attention/inference.py --compare    # their texts side by side
    python chapter_09_efficient_attention/inference.py --model_dir untrained    # random weights: no file is needed
"""

import argparse
import shutil
import sys
import textwrap
from itertools import zip_longest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_06_rnn_lstm_seq.dataset import encode
from chapter_06_rnn_lstm_seq.generation import generate, known_part
from chapter_09_efficient_attention.model import Decoder, cache_bytes
from chapter_09_efficient_attention.shipped import CHECKPOINTS, UNTRAINED, load_language_models
from utils.cli import add_output_flags, amount, begin, natural, positive, run, script_parser
from utils.results import write_results
from utils.tables import aligned
from utils.timer import Timer

NARROWEST = 24  # characters of a column, with --compare


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument(
        "--attention", nargs="+", default=["all"], help="names of models: mha, gqa, ...; all: every one in the folder"
    )
    parser.add_argument("--prompt", default="ROMEO:\n", help="text to go on from; empty: begin a line")
    parser.add_argument("--length", type=positive, default=400, help="characters to write")
    parser.add_argument("--temperature", type=amount, default=0.8, help="below 1 safer, above 1 bolder, 0: likeliest")
    parser.add_argument("--top_k", type=natural, default=0, help="draw from so many likeliest; 0: from all")
    parser.add_argument("--compare", action="store_true", help="show the texts side by side, when all are written")
    parser.add_argument("--model_dir", type=Path, default=CHECKPOINTS, help="folder of the weights; or: untrained")
    args = begin(parser, argv, dry_run={"model_dir": UNTRAINED, "prompt": "the cat", "length": 20})

    models = load_language_models(args.model_dir, args.attention, args.device)
    rows = [write(name, *loaded, args) for name, loaded in models.items()]
    if args.compare:
        print(*side_by_side({row["attention"]: row["text"] for row in rows}), sep="\n")
    table = [
        (row["attention"], f"{row['tokens_a_second']:.0f}", f"{row['cache_bytes']:,}", row["cache_tokens"])
        for row in rows
    ]
    print(*aligned([("attention", "tokens a second", "cache bytes", "tokens in it"), *table], "<>"), sep="\n")
    write_results(args.out_dir / "inference.json", args, {"count": len(rows), "texts": rows})
    print(f"written to {args.out_dir}")


def write(name: str, model: Decoder, characters: str, args: argparse.Namespace) -> dict:
    """Go on with the prompt, on the screen unless texts are to be compared; return the text and what it cost."""
    prompt, unknown = known_part(args.prompt, characters)
    if unknown:
        print(f"{name} does not know, and leaves out: {' '.join(map(repr, unknown[:10]))}", file=sys.stderr)
    ids = encode(prompt or "\n", characters)
    caches = model.new_caches(len(ids) + args.length)
    drawing = args.temperature, args.top_k or None, None, torch.Generator().manual_seed(args.seed)
    if not args.compare:
        print(f"--- {name}", prompt, sep="\n", end="", flush=True)
    text, timer = "", Timer()
    for token in generate(model, ids, args.length, *drawing, states=caches):
        timer = timer if text else Timer()  # the prompt has been read
        text += characters[token]
        if not args.compare:
            print(characters[token], end="", flush=True)
    speed = args.length / timer.seconds
    if not args.compare:
        print("\n")
    row = {"attention": name, "prompt": prompt, "text": text, "tokens_a_second": speed}
    return row | {"cache_bytes": cache_bytes(caches), "cache_tokens": len(ids) + args.length}


def side_by_side(texts: dict[str, str]) -> list[str]:
    """Return the lines of a table with a column for each text, as many abreast as the screen has room for."""
    room = shutil.get_terminal_size().columns
    at_once = max(1, min(len(texts), room // (NARROWEST + 2)))
    width = max(NARROWEST, room // at_once - 2)
    lines, names = [], list(texts)
    for start in range(0, len(names), at_once):
        some = names[start : start + at_once]
        columns = [
            [piece for line in texts[name].split("\n") for piece in textwrap.wrap(line, width) or [""]] for name in some
        ]
        rows = zip_longest(*columns, fillvalue="")
        lines += aligned([[f"--- {name}".ljust(width) for name in some], *rows], "<")
        lines.append("")
    return lines


if __name__ == "__main__":
    run(main)
