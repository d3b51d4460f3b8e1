"""Draw the theory's pictures, and what trained models look at: sentences, dates, pictures word by word, and heads.
画出理论部分的插图，以及训练好的模型看哪里：句子、日期、逐词看图，以及各个头。

    python chapter_07_attention_mechanism/visualize.py --parts theory    # no model needed: 15 s
    python chapter_07_attention_mechanism/visualize.py    # all parts, from checkpoints/ and results/: 1 min
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn

from chapter_07_attention_mechanism import models
from chapter_07_attention_mechanism.answering import Answer, answer_numbers, answer_picture, answer_text, whole_words
from chapter_07_attention_mechanism.dataset.dates import HELD_OUT, SEEN, Example, all_dates, write
from chapter_07_attention_mechanism.dataset.scenes import draw_scenes
from chapter_07_attention_mechanism.figures import attention as figures
from chapter_07_attention_mechanism.figures import lookup, structure, writing
from chapter_07_attention_mechanism.figures.ribbons import ribbons
from chapter_07_attention_mechanism.tasks.dates import Dates
from chapter_07_attention_mechanism.tasks.sort import Sort
from chapter_07_attention_mechanism.tasks.translate import Translate
from chapter_07_attention_mechanism.vocab import Vocabulary
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure

CHAPTER = Path(__file__).resolve().parent
NONE = Path("untrained")  # a folder of this name stands for models and results that are made on the spot
SENTENCES = ["Ein kleiner Junge springt über einen Zaun.", "Im Park liest eine alte Frau ein Buch."]
DATES = {"en ordinal": 40, "zh numerals": 700, "zh weekday first": 1500}  # a format, and which of the test's dates
SCORES = torch.tensor([2.0, 1.0, 0.0])
OWN, POINTED, GATE = {"a": 0.6, "dog": 0.3, "barks": 0.1}, {"ein": 0.1, "Zyzzy": 0.8, "bellt": 0.1}, 0.3


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to draw")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=CHAPTER / "checkpoints",
        help="folder of trained models; untrained: random ones",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=CHAPTER / "results",
        help="folder of the trainings' results; untrained: made here",
    )
    parser.add_argument("--scenes", type=positive, default=3, help="pictures in the animation")
    parser.add_argument("--longest", type=positive, default=80, help="pieces that are written at most")
    args = begin(parser, argv, dry_run={"checkpoints": NONE, "results": NONE, "longest": 8})
    for part in dict.fromkeys(args.parts):
        for path in PARTS[part](args):
            print(f"wrote {path}")


def theory(args: argparse.Namespace) -> list[Path]:
    """The pictures of the README's theory; nothing in them was trained."""
    generator = torch.Generator().manual_seed(args.seed)
    images, scenes = draw_scenes(8, generator)
    three = next(i for i, scene in enumerate(scenes) if len(scene.figures) == 3)
    drawn = {
        "bottleneck": lookup.bottleneck(),
        "lookup": lookup.lookup(),
        "scores": lookup.scores(),
        "scaling": lookup.scaling([4, 16, 64, 256, 1024])[0],
        "temperature": lookup.temperature(SCORES, [0.25, 1, 4]),
        "heads": structure.heads(),
        "self_and_cross": structure.self_and_cross(),
        "sorting": structure.sorting([3, 1, 3]),
        "cost": structure.cost([16, 32, 64, 128, 256, 512, 1024]),
        "explanation": structure.explanation(),
        "beam": writing.beam_tree(),
        "copying": writing.copying(OWN, POINTED, GATE),
        "known_alignment": writing.known_alignment(date_examples()),
        "scene": writing.scene_in_cells(images[three], scenes[three]),
    }
    return [save_figure(figure, args.out_dir / f"{name}.png") for name, figure in drawn.items()]


def cover(args: argparse.Namespace) -> list[Path]:
    """Two dates and a sentence, with ribbons from what is written to what was read."""
    answers = [answer for _, answer in date_answers(args)[:2]] + sentence_answers(args)[1:]
    panels = [(answer.source, answer.pieces, answer.weights) for answer in answers]
    return [save_figure(ribbons(panels), args.out_dir / "cover.png")]


def dates(args: argparse.Namespace) -> list[Path]:
    """Where the model looks for each digit of a date, and, outlined, the places where it can be read."""
    panels = []
    for example, answer in date_answers(args):
        known = writing.places_that_tell(example) if "".join(answer.pieces) == example.target else None
        panels.append((answer.source, answer.pieces, answer.weights, known))
    return [save_figure(figures.alignments(panels), args.out_dir / "dates.png")]


def translate(args: argparse.Namespace) -> list[Path]:
    """Alignments of two sentences, and BLEU by sentence length with and without attention."""
    panels = [(answer.source, answer.pieces, answer.weights, None) for answer in sentence_answers(args)]
    final = results("translate", args)["final"]
    lengths = figures.bleu_by_length(final["by_length"], final.get("by_length_without_attention", []))
    drawn = {"translate": figures.alignments(panels), "bleu_by_length": lengths}
    return [save_figure(figure, args.out_dir / f"{name}.png") for name, figure in drawn.items()]


def caption(args: argparse.Namespace) -> list[Path]:
    """An animation of attention on pictures while they are described, of combinations that training never showed."""
    model, vocabulary = load("caption", args)
    images, _ = draw_scenes(args.scenes, torch.Generator().manual_seed(args.seed), unseen=True)
    scenes = []
    for image in images:
        answer = answer_picture(model, vocabulary, image, beam=1, longest=args.longest)
        nothing = (image, ["(nothing)"], torch.zeros(1, answer.weights.shape[1]))
        scenes.append((image, answer.pieces, answer.weights) if answer.pieces else nothing)
    sheet = save_figure(figures.caption_sheet(*scenes[0]), args.out_dir / "caption.png")
    return [sheet, figures.save_gif(scenes, args.out_dir / "caption.gif")]


def sort(args: argparse.Namespace) -> list[Path]:
    """Each head of the sorter while it sorts and reverses, and the accuracy by the length of the list."""
    model, vocabulary = load("sort", args)
    written = []
    for operation in ("sort", "reverse"):
        numbers = [14, 3, 27, 8, 3, 19]
        pieces, weights = answer_numbers(model, vocabulary, operation, numbers)
        figure = figures.head_maps(pieces, weights, sign=len(numbers) + 1)
        written.append(save_figure(figure, args.out_dir / f"heads_{operation}.png"))
    final = results("sort", args)["final"]
    unshifted = []
    if args.results == NONE or (args.results / "sort_unshifted.json").exists():
        unshifted = results("sort_unshifted", args)["final"]["by_length"]
    figure = figures.accuracy_by_length(final["by_length"], final["trained_up_to"], unshifted)
    return [*written, save_figure(figure, args.out_dir / "sort_by_length.png")]


def training(args: argparse.Namespace) -> list[Path]:
    """How spread out attention is, over training."""
    histories = {}
    for task in ("dates", "translate", "caption"):
        rows = [row for row in results(task, args)["history"] if "attention_entropy" in row]
        histories[task] = [
            row for row in rows if (row["attention"], row["seed"]) == (rows[0]["attention"], rows[0]["seed"])
        ]
    return [save_figure(figures.entropy_over_training(histories), args.out_dir / "entropy.png")]


PARTS = {
    "theory": theory,
    "cover": cover,
    "dates": dates,
    "translate": translate,
    "caption": caption,
    "sort": sort,
    "training": training,
}


def date_examples() -> list[Example]:
    """Return DATES as they are written in their formats."""
    return [write(all_dates("test")[i], (SEEN | HELD_OUT)[name]) for name, i in DATES.items()]


def date_answers(args: argparse.Namespace) -> list[tuple[Example, Answer]]:
    """Return each of these dates, and what the model makes of it."""
    model, vocabulary = load("dates", args)
    return [(e, answer_text(model, vocabulary, list(e.source), beam=1, longest=args.longest)) for e in date_examples()]


def sentence_answers(args: argparse.Namespace) -> list[Answer]:
    """Return translations of SENTENCES, word by word."""
    model, vocabulary = load("translate", args)
    pieces = [vocabulary.split(sentence.lower()) for sentence in SENTENCES]
    return [whole_words(answer_text(model, vocabulary, part, beam=5, longest=args.longest)) for part in pieces]


def load(task: str, args: argparse.Namespace) -> tuple[nn.Module, Vocabulary]:
    if args.checkpoints == NONE:
        return models.untrained(task, args.device)
    return models.load(task, args.checkpoints / f"{task}.pth", args.device)


def results(task: str, args: argparse.Namespace) -> dict:
    """Return what a training of the task has written, or a figure or two of an untrained model."""
    if args.results == NONE:
        return measure_untrained(task, args.device)
    path = args.results / f"{task}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        advice = f"chapter_07_attention_mechanism/train.py --task {task} writes it"
        raise UserError(f"{path} cannot be read; {advice}") from error


def measure_untrained(task: str, device: torch.device) -> dict:
    """Return a results file's `history` and `final` for a tiny model with random weights."""
    config = {"embedding": 8, "hidden": 8, "attention": "additive"}
    if task.startswith("sort"):
        measured = Sort({"width": 8, "hidden": 8}, 4, device, test_count=5)
    elif task == "translate":
        measured = Translate("toy", None, "subwords", 60, config, 100, device)
    else:
        measured = Dates(config, 4, device, test_count=5)
    model = measured.build().to(device)
    row = {"step": 0, "attention": "additive", "seed": 0} | measured.validate(model)
    return {"history": [row], "final": measured.evaluate(model)}


if __name__ == "__main__":
    run(main)
