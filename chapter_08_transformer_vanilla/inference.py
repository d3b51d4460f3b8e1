"""Translate sentences or a file, and see which words of the source each piece was written from.
翻译句子或文件，并看到写每个片段时看了原文的哪些词。

    python chapter_08_transformer_vanilla/inference.py    # asks for sentences, one after another
    python chapter_08_transformer_vanilla/inference.py --text "Ein Hund rennt durch den Schnee."    # 5 s
    python chapter_08_transformer_vanilla/inference.py --pair zh-en --text "我喜欢学习"
    python chapter_08_transformer_vanilla/inference.py --file sentences.txt --alignment off    # a sentence a line
    python chapter_08_transformer_vanilla/inference.py --text "Zwei Kinder malen." --alignment picture
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from chapter_07_attention_mechanism.figures.attention import alignments
from chapter_08_transformer_vanilla.dataset import LANGUAGES, PAIRS
from chapter_08_transformer_vanilla.shipped import UNTRAINED, load_translator
from chapter_08_transformer_vanilla.translating import AT_ONCE, Translation, Translator
from utils.cli import add_output_flags, amount, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import aligned

EXAMPLES = {
    "de-en": "Ein Hund rennt durch den Schnee.",
    "en-de": "A dog runs through the snow.",
    "zh-en": "我喜欢学习。",
}
TINY = {"model_path": UNTRAINED, "text": ["Ein Hund.", "我喜欢", ""], "alignment": "picture"}
SHOWN = 3  # places of the source that are named for each piece, at most
LEAST = 0.1  # weight of a place that is named


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--pair", default="de-en", choices=PAIRS, help="from which language into which")
    parser.add_argument("--text", nargs="+", help="sentences to translate; None: those of --file, or typed ones")
    parser.add_argument("--file", type=Path, help="a file with a sentence a line")
    parser.add_argument("--beam", type=positive, default=5, help="beginnings that are kept; 1: greedy decoding")
    parser.add_argument(
        "--length_penalty",
        type=amount,
        default=1.0,
        help="0: the likeliest translation; 1: about the likeliest a token",
    )
    parser.add_argument(
        "--alignment",
        default="table",
        choices=["table", "picture", "off"],
        help="where the model looked: as a table, also as a PNG file for each sentence, or not at all",
    )
    parser.add_argument("--model_path", type=Path, help="None: the one that ships; untrained: a tiny random one")
    args = begin(parser, argv, dry_run=TINY)
    texts = [*(args.text or []), *(read_lines(args.file) if args.file else [])]
    translator = load_translator(args.pair, args.model_path, args.device)

    rows = []
    for some in batched(texts) if args.text or args.file else typed_lines(args.pair):
        for row, parts in translate(translator, some, args.pair, args.device, args.beam, args.length_penalty):
            rows.append(row)
            note = f"   [{row['note']}]" if row["note"] else ""
            print(f"{row['source']}\n  -> {row['translation'] or '(nothing)'}{note}")
            for i, part in enumerate(parts):
                if args.alignment != "off" and part.pieces:
                    print(*alignment_lines(part), sep="\n")
                if args.alignment == "picture" and part.pieces:
                    figure = alignments([(part.source, part.pieces, part.weights, None)])
                    save_figure(figure, args.out_dir / f"{args.pair}_{len(rows)}_{i + 1}.png")
    write_results(args.out_dir / f"{args.pair}.json", args, {"count": len(rows), "translations": rows})
    print(f"written to {args.out_dir}")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        UserError: there is none, or it is not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"--file {path}: no such file")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"--file {path} is no text in UTF-8: byte {error.start} cannot be read") from error


def batched(texts: list[str]) -> Iterator[list[str]]:
    """Yield so many texts at a time as are quick to decode together."""
    return (texts[i : i + AT_ONCE] for i in range(0, len(texts), AT_ONCE))


def typed_lines(pair: str) -> Iterator[list[str]]:
    """Ask for one sentence at a time, until there are no more (Ctrl-D, on Windows Ctrl-Z and Enter) or Ctrl-C."""
    source = LANGUAGES[pair[:2]]
    print(f"{source} sentences, for instance: {EXAMPLES[pair]}   (end: Ctrl-D)", file=sys.stderr)
    try:
        while True:
            yield [input(f"{source}> " if sys.stdin.isatty() else "")]
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)


def translate(
    translator: Translator, texts: list[str], pair: str, device: torch.device, beam: int, length_penalty: float
) -> Iterator[tuple[dict, list[Translation]]]:
    """Yield for each text a row of the results, with a note on what a reader should know, and the parts of the answer.

    A text of nothing has none, one that is too long has several.
    """
    plain = [" ".join(text.split()) for text in texts]
    parts = [translator.parts(text) if text else [] for text in plain]
    found = iter(translator([part.strip() for some in parts for part in some], device, beam, length_penalty))
    for text, line, some in zip(texts, plain, parts, strict=True):
        notes = [] if line else ["there is nothing to read"]
        if len(some) > 1:
            notes.append(f"cut into {len(some)} parts: it is longer than anything in training")
        if line and translator.looks_foreign(line):
            notes.append(f"this does not look like {LANGUAGES[pair[:2]]}, which this model reads")
        answers = list(islice(found, len(some)))
        translation = " ".join(answer.text for answer in answers if answer.text)
        yield {"source": text, "translation": translation, "note": "; ".join(notes)}, answers


def alignment_lines(part: Translation) -> list[str]:
    """Return a line for each piece written: the pieces of the source that it was written from, with their weights."""
    rows = [(f"  {piece}", *looked_at(part.source, row)) for piece, row in zip(part.pieces, part.weights, strict=True)]
    return aligned([(*row, *[""] * (SHOWN + 1 - len(row))) for row in rows], "<") if rows else []


def looked_at(source: Iterable[str], weights: Tensor) -> list[str]:
    """Return the largest of the weights (S,), with their places: ["▁Hund 0.71", "▁Ein 0.12"]."""
    pairs = sorted(zip(weights.tolist(), source, strict=True), key=lambda pair: -pair[0])[:SHOWN]
    return [f"{piece} {weight:.2f}" for weight, piece in pairs if weight >= LEAST]


if __name__ == "__main__":
    run(main)
