"""Use what was trained: translate and see where the model looked, write, fill gaps, judge sentences, name pictures.
使用训练好的模型：翻译并查看模型看了哪里、续写文本、填空、判断句子褒贬、识别图片。

    python chapter_08_transformer_vanilla/inference.py    # asks for sentences, one after another
    python chapter_08_transformer_vanilla/inference.py --text "Ein Hund rennt durch den Schnee."    # 5 s
    python chapter_08_transformer_vanilla/inference.py --pair zh-en --text "我喜欢学习"
    python chapter_08_transformer_vanilla/inference.py --file sentences.txt --alignment off    # a sentence a line
    python chapter_08_transformer_vanilla/inference.py --text "Zwei Kinder malen." --alignment picture
    python chapter_08_transformer_vanilla/inference.py --task lm --prompt "ROMEO:" --temperature 0.7
    python chapter_08_transformer_vanilla/inference.py --task sentiment --text "a joy from start to finish"
    python chapter_08_transformer_vanilla/inference.py --task unmask --text "once upon a [mask] there was a king"
    python chapter_08_transformer_vanilla/inference.py --task vit --images my_photo.jpg    # without: ten drawings
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from chapter_03_optimization_regularization.training import probabilities
from chapter_04_cnn_classic.answers import describe, print_answers
from chapter_04_cnn_classic.dataset import to_input
from chapter_04_cnn_classic.pictures import read_folder
from chapter_06_rnn_lstm_seq.dataset import encode
from chapter_06_rnn_lstm_seq.generation import known_part
from chapter_07_attention_mechanism.figures.attention import alignments
from chapter_08_transformer_vanilla.books import plain_text
from chapter_08_transformer_vanilla.classifier import sentence_logits
from chapter_08_transformer_vanilla.dataset import LANGUAGES
from chapter_08_transformer_vanilla.masking import MASK_ID, fill_gaps, hide_gaps, unmask
from chapter_08_transformer_vanilla.shipped import (
    SHIPPED_PAIRS,
    UNTRAINED,
    load_language_model,
    load_masked_model,
    load_sentence_classifier,
    load_translator,
    load_vit,
)
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.translating import AT_ONCE, Translation, Translator
from chapter_08_transformer_vanilla.writing import generate
from utils.cli import add_output_flags, amount, begin, natural, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import aligned

EXAMPLES = {
    "de-en": "Ein Hund rennt durch den Schnee.",
    "en-de": "A dog runs through the snow.",
    "zh-en": "我喜欢学习。",
}
TINY = {"model_path": UNTRAINED, "text": ["Ein Hund.", "我喜欢", "", "a [mask] film"], "length": 20}
TINY |= {"alignment": "picture", "gaps": 3}
DRAWINGS = Path(__file__).resolve().parents[1] / "chapter_04_cnn_classic" / "data" / "custom_imgs"
GAP = "[mask]"  # what stands in a text for a piece to be filled in
SHOWN = 3  # pieces of the source that are named for each piece, or pieces for a gap, at most
LEAST = 0.1  # weight of a piece that is named


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--task", default="translate", choices=TASKS, help="translate, write, fill, judge, or see")
    parser.add_argument(
        "--pair",
        default="de-en",
        choices=SHIPPED_PAIRS,
        help="from which language into which (translate); a model of --model_path brings its own",
    )
    parser.add_argument("--text", nargs="+", help="sentences to read; None: those of --file, or typed ones")
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
    parser.add_argument("--prompt", default="", help="text to go on from (lm); empty: begin a scene")
    parser.add_argument("--length", type=positive, default=600, help="characters to write (lm)")
    parser.add_argument("--gaps", type=positive, default=12, help="pieces to write behind a text without gaps (unmask)")
    parser.add_argument("--per_step", type=positive, default=1, help="gaps that are filled at a time (unmask)")
    parser.add_argument("--temperature", type=amount, default=0.8, help="below 1 safer, above 1 bolder (lm, unmask)")
    parser.add_argument("--top_k", type=natural, default=0, help="draw from so many likeliest; 0: all (lm, unmask)")
    parser.add_argument("--top_p", type=amount, default=1.0, help="or from those that make up so much (lm, unmask)")
    parser.add_argument("--images", type=Path, default=DRAWINGS, help="a folder of pictures, or one picture (vit)")
    parser.add_argument("--model_path", type=Path, help="None: the one that ships; untrained: a tiny random one")
    args = begin(parser, argv, dry_run=TINY)
    if not 0 < args.top_p <= 1:
        raise UserError(f"--top_p {args.top_p}: a share above 0 and at most 1")
    write_results(args.out_dir / f"{args.task}.json", args, TASKS[args.task](args))
    print(f"written to {args.out_dir}")


def given_texts(args: argparse.Namespace, language: str, example: str) -> Iterator[list[str]]:
    """Yield texts, some at a time: those of --text and --file, or, where there is neither, what is typed."""
    texts = [*(args.text or []), *(read_lines(args.file) if args.file else [])]
    return batched(texts) if args.text or args.file else typed_lines(language, example)


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


def typed_lines(language: str, example: str) -> Iterator[list[str]]:
    """Ask for one sentence at a time, until there are no more (Ctrl-D, on Windows Ctrl-Z and Enter) or Ctrl-C."""
    print(f"{language} sentences, for instance: {example}   (end: Ctrl-D)", file=sys.stderr)
    try:
        while True:
            yield [input(f"{language}> " if sys.stdin.isatty() else "")]
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)


def translate_texts(args: argparse.Namespace) -> dict:
    """Print each text's translation and, if wanted, its alignment."""
    translator, rows = load_translator(args.pair, args.model_path, args.device), []
    pair = translator.pair
    for some in given_texts(args, LANGUAGES[pair[:2]], EXAMPLES[pair]):
        for row, parts in translate(translator, some, args.device, args.beam, args.length_penalty):
            rows.append(row)
            note = f"   [{row['note']}]" if row["note"] else ""
            print(f"{row['source']}\n  -> {row['translation'] or '(nothing)'}{note}")
            for i, part in enumerate(parts):
                if args.alignment != "off" and part.pieces:
                    print(*alignment_lines(part), sep="\n")
                if args.alignment == "picture" and part.pieces:
                    figure = alignments([(part.source, part.pieces, part.weights, None)])
                    save_figure(figure, args.out_dir / f"{pair}_{len(rows)}_{i + 1}.png")
    return {"pair": pair, "count": len(rows), "translations": rows}


def translate(
    translator: Translator, texts: list[str], device: torch.device, beam: int, length_penalty: float
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
            notes.append(f"this does not look like {LANGUAGES[translator.pair[:2]]}, which this model reads")
        answers = list(islice(found, len(some)))
        translation = " ".join(answer.text for answer in answers if answer.text)
        yield {"source": text, "translation": translation, "note": "; ".join(notes)}, answers


def alignment_lines(part: Translation) -> list[str]:
    """Return a line for each piece written: the pieces of the source that it was written from, with their weights."""
    rows = [(f"  {piece}", *looked_at(part.source, row)) for piece, row in zip(part.pieces, part.weights, strict=True)]
    return aligned([(*row, *[""] * (SHOWN + 1 - len(row))) for row in rows], "<") if rows else []


def looked_at(source: Iterable[str], weights: Tensor) -> list[str]:
    """Return the largest of the weights (S,), with the pieces: ["▁Hund 0.71", "▁Ein 0.12"]."""
    pairs = sorted(zip(weights.tolist(), source, strict=True), key=lambda pair: -pair[0])[:SHOWN]
    return [f"{piece} {weight:.2f}" for weight, piece in pairs if weight >= LEAST]


def continue_text(args: argparse.Namespace) -> dict:
    """Stream a text to the screen, a character at a time."""
    model, characters = load_language_model(args.model_path, args.device)
    prompt, unknown = known_part(args.prompt, characters)
    if unknown:
        print(f"left out, since the plays do not have them: {' '.join(map(repr, unknown[:10]))}", file=sys.stderr)
    print(prompt, end="", flush=True)
    written = ""
    for token in generate(model, encode(prompt or "\n", characters).tolist(), args.length, *how_to_draw(args)):
        written += characters[token]
        print(characters[token], end="", flush=True)
    print()
    return {"prompt": prompt, "text": written}


def how_to_draw(args: argparse.Namespace) -> tuple[float, int | None, float, torch.Generator]:
    """Return what chapter 6's `sample` wants to know besides the logits."""
    return args.temperature, args.top_k or None, args.top_p, torch.Generator().manual_seed(args.seed)


def unmask_texts(args: argparse.Namespace) -> dict:
    """Print what may stand in a text's gaps, then fill them a few at a time; without gaps it gets some at its end."""
    texts, rows, draw = given_texts(args, "English", f"once upon a {GAP} there was a king"), [], how_to_draw(args)
    model, tokenizer = load_masked_model(args.model_path, args.device)
    for text in (text for some in texts for text in some):
        tokens = hide_gaps(tokenizer, [plain_text(part) for part in text.split(GAP)])
        tokens = tokens if GAP in text else [*tokens, *[MASK_ID] * args.gaps]
        if len(tokens) > model.config.max_length:
            print(f"left out: {len(tokens)} pieces, of which {model.config.max_length} can be read", file=sys.stderr)
            continue
        guesses = fill_gaps(model, tokenizer, tokens, SHOWN) if GAP in text else []
        steps = [with_gaps(tokenizer, shown) for shown in unmask(model, tokens, args.per_step, *draw)]
        rows.append({"text": text, "guesses": guesses, "steps": steps})
        lines = ["  ".join(f"{piece} {p:.1%}" for piece, p in gap.items()) for gap in guesses]
        print(with_gaps(tokenizer, tokens), *(f"  {GAP}  {line}" for line in lines), *steps, sep="\n")
    return {"count": len(rows), "texts": rows}


def with_gaps(tokenizer: Tokenizer, tokens: list[int]) -> str:
    """Return the text of tokens, GAP where one is hidden."""
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token == MASK_ID:
            parts.append([])
        else:
            parts[-1].append(token)
    return " ".join(f" {GAP} ".join(map(tokenizer.decode, parts)).split())


def judge_texts(args: argparse.Namespace) -> dict:
    """Print how likely each sentence is praise."""
    texts, rows = given_texts(args, "English", "a joy from start to finish"), []
    model, tokenizer, classes = load_sentence_classifier(args.model_path, args.device)
    longest = model.config.max_length
    for text in (text for some in texts for text in some):
        tokens = tokenizer.encode(plain_text(text))
        if not tokens:
            print("there is nothing to read", file=sys.stderr)
            continue
        notes = [f"only the first {longest} of {len(tokens)} pieces were read"] if len(tokens) > longest else []
        notes += ["this does not look like English"] if 2 * tokenizer.count_bytes(tokens) > len(tokens) else []
        p = sentence_logits(model, [tokens[:longest]], args.device)[0].softmax(dim=0)  # (K,)
        rows.append({"text": text, "class": classes[int(p.argmax())], "p": p.max().item(), "note": "; ".join(notes)})
        print(f"{rows[-1]['class']}  {p.max():.1%}  {text}", *(f"[{note}]" for note in notes))
    return {"count": len(rows), "sentences": rows}


def classify_pictures(args: argparse.Namespace) -> dict:
    """Print the classes that each picture most probably belongs to."""
    model, classes = load_vit(args.model_path, args.device)
    paths, images, unreadable = read_folder(args.images)
    p = probabilities(model, images.to(args.device), to_input=to_input).cpu()  # (N, K)
    answers = [describe(path, row, classes) for path, row in zip(paths, p, strict=True)]
    print_answers(answers)
    return {"count": len(answers), "unreadable": unreadable, "answers": answers}


TASKS = {
    "translate": translate_texts,
    "lm": continue_text,
    "unmask": unmask_texts,
    "sentiment": judge_texts,
    "vit": classify_pictures,
}


if __name__ == "__main__":
    run(main)
