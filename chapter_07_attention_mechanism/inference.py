"""Translate sentences, normalise dates, describe pictures or sort numbers, and see where the model looked.
翻译句子、统一日期格式、描述图片或给数字排序，并画出模型看了哪里。

    python chapter_07_attention_mechanism/inference.py    # some dates: 5 s
    python chapter_07_attention_mechanism/inference.py --input "the 3rd of May, 1999" "二〇〇六年一月二十日"
    python chapter_07_attention_mechanism/inference.py --task translate --input "Ein Hund rennt durch den Schnee."
    python chapter_07_attention_mechanism/inference.py --task caption    # pictures that are drawn here
    python chapter_07_attention_mechanism/inference.py --task sort --operation unique --input "5 3 9 3"
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from chapter_07_attention_mechanism import models
from chapter_07_attention_mechanism.answering import (
    Answer,
    answer_numbers,
    answer_picture,
    answer_text,
    whole_words,
)
from chapter_07_attention_mechanism.dataset.scenes import SIDE, draw_scenes
from chapter_07_attention_mechanism.figures import attention as figures
from chapter_07_attention_mechanism.tasks.sort import ANSWERS, N_VALUES
from chapter_07_attention_mechanism.vocab import Vocabulary, join
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.pictures import read_picture
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import printable

from matplotlib.figure import Figure

Rows = Iterator[tuple[dict, Figure | None]]  # of the results, each with its picture
CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
EXAMPLES = {
    "dates": ["Friday, March 5, 2021", "the 1st of November, 2011, 8:30", "二〇〇六年一月二十日", "3.12.1999"],
    "translate": ["Ein Hund rennt durch den Schnee.", "Zwei junge Männer spielen am Strand Fußball."],
    "caption": [],
    "sort": ["5 3 9 3 1", "31 0 17"],
}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--task", default="dates", choices=models.BUILDERS, help="what the model was trained for")
    parser.add_argument(
        "--input", nargs="*", help="sentences, dates, picture files, or lists of numbers; None: some examples"
    )
    parser.add_argument("--operation", default="sort", choices=ANSWERS, help="what to do with numbers (sort)")
    parser.add_argument(
        "--beam", type=positive, default=5, help="beginnings kept; 1: greedy decoding, as sort always does"
    )
    parser.add_argument("--longest", type=positive, default=100, help="pieces that are written at most (but in sort)")
    parser.add_argument("--model_path", type=Path, help="None: the task's in checkpoints/; untrained: a random one")
    args = begin(parser, argv, dry_run={"model_path": Path("untrained"), "longest": 12})

    if args.model_path == Path("untrained"):
        model, vocabulary = models.untrained(args.task, args.device)
    else:
        path = args.model_path or CHECKPOINTS / f"{args.task}.pth"
        model, vocabulary = models.load(args.task, path, args.device)
    answer = {"dates": texts, "translate": texts, "caption": pictures, "sort": lists}[args.task]
    inputs = EXAMPLES[args.task] if args.input is None else args.input
    rows, written = [], []
    for i, (row, figure) in enumerate(answer(model, vocabulary, inputs, args)):
        print(f"{row['input']}\n  -> {row['answer'] or '(nothing)'}" + (f"   [{row['note']}]" if row["note"] else ""))
        rows.append(row)
        if figure is not None:
            written.append(save_figure(figure, args.out_dir / f"{args.task}_{i}.png"))
    write_results(args.out_dir / f"{args.task}.json", args, {"count": len(rows), "answers": rows})
    print("\n".join(f"wrote {path}" for path in [*written, args.out_dir / f"{args.task}.json"]))


def texts(model: nn.Module, vocabulary: Vocabulary, inputs: list[str], args: argparse.Namespace) -> Rows:
    """Yield for each text a row of the results, and the picture of its alignment."""
    for text in inputs:
        plain = " ".join(text.encode("utf-8", errors="replace").decode("utf-8").split())  # what is no text becomes ?
        pieces = list(plain) if args.task == "dates" else vocabulary.split(plain.lower())
        answer = answer_text(model, vocabulary, pieces, args.beam, args.longest)
        result = "".join(answer.pieces) if args.task == "dates" else join(answer.pieces)
        figure = None
        if answer.pieces and model.config.attention != "none":
            drawn = answer if args.task == "dates" else whole_words(answer)
            figure = figures.alignments([(drawn.source, drawn.pieces, drawn.weights, None)])
        yield {"input": text, "answer": result, "note": note(answer) if pieces else "there is nothing to read"}, figure


def note(answer: Answer) -> str:
    """Say what a reader of the answer should know."""
    notes = []
    if answer.unknown:
        notes.append("unknown: " + " ".join(answer.unknown[:20]))
    if not answer.ended:
        notes.append("cut: --longest allows more")
    return "; ".join(notes)


def pictures(model: nn.Module, vocabulary: Vocabulary, inputs: list[str], args: argparse.Namespace) -> Rows:
    """Yield for each picture a row of the results, and the picture as the model saw it, once a word."""
    named: list[tuple[str, Tensor]] = [(printable(path), read_picture(Path(path), SIDE)) for path in inputs]
    if not inputs:
        images, scenes = draw_scenes(3, torch.Generator().manual_seed(args.seed))
        named = [(f"(drawn) {scene.sentence}", image) for scene, image in zip(scenes, images, strict=True)]
    for name, picture in named:
        answer = answer_picture(model, vocabulary, picture, args.beam, args.longest)
        figure = figures.caption_sheet(picture, answer.pieces, answer.weights) if answer.pieces else None
        yield {"input": name, "answer": " ".join(answer.pieces), "note": note(answer)}, figure


def lists(model: nn.Module, vocabulary: Vocabulary, inputs: list[str], args: argparse.Namespace) -> Rows:
    """Yield for each list of numbers a row of the results, and each head's weights."""
    for text, numbers in [(text, read_numbers(text)) for text in inputs]:  # all are read before any is answered
        if not numbers:
            yield {"input": text, "answer": "", "note": "there is nothing to read"}, None
            continue
        pieces, weights = answer_numbers(model, vocabulary, args.operation, numbers)
        sign = len(numbers) + 1
        figure = figures.head_maps(pieces, weights, sign) if len(pieces) <= figures.LONGEST else None
        right = list(map(str, ANSWERS[args.operation](numbers))) == pieces[sign + 1 :]
        yield {"input": text, "answer": " ".join(pieces[sign + 1 :]), "note": "" if right else "wrong"}, figure


def read_numbers(text: str) -> list[int]:
    """Return the numbers of "5 3, 9".

    Raises:
        UserError: something is no whole number that the model knows.
    """
    words = re.split(r"[\s,]+", text.strip(" \t\n,"))
    for word in filter(None, words):
        if not (word.isascii() and word.isdigit() and len(word) < 9 and int(word) < N_VALUES):
            raise UserError(f"{word!r} is no whole number from 0 to {N_VALUES - 1}, which is all that this model knows")
    return [int(word) for word in words if word]


if __name__ == "__main__":
    run(main)
