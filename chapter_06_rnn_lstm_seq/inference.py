"""Use what was trained: continue a prompt, recognise a digit, classify a sentence, or forecast a column.
使用训练好的模型：续写文本、识别语音数字、判断句子褒贬，或预测一列数字。

    python chapter_06_rnn_lstm_seq/inference.py    # a scene in the manner of Shakespeare: 5 s
    python chapter_06_rnn_lstm_seq/inference.py --prompt "ROMEO:" --temperature 0.7 --length 1000
    python chapter_06_rnn_lstm_seq/inference.py --wav my_seven.wav
    python chapter_06_rnn_lstm_seq/inference.py --sentence "a joy from start to finish"
    python chapter_06_rnn_lstm_seq/inference.py --csv my_sales.csv --column units --steps 12
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_06_rnn_lstm_seq.audio import read_wav
from chapter_06_rnn_lstm_seq.columns import read_column
from chapter_06_rnn_lstm_seq.dataset import encode
from chapter_06_rnn_lstm_seq.forecasting import forecast
from chapter_06_rnn_lstm_seq.generation import generate, known_part
from chapter_06_rnn_lstm_seq.hearing import digit_features, recognize_digit
from chapter_06_rnn_lstm_seq.sentiment import positive_probability
from chapter_06_rnn_lstm_seq.shipped import (
    CHECKPOINTS,
    UNTRAINED,
    digit_model,
    language_model,
    sentiment_model,
    series_model,
)
from utils.cli import amount, begin, natural, positive, run, script_parser, seed
from utils.errors import UserError
from utils.tables import aligned

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    parser.add_argument("--seed", type=seed, default=0, help="seed of the drawing of characters")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="folder of the trained networks")
    parser.add_argument("--prompt", default="", help="text to go on from; empty: begin a scene")
    parser.add_argument("--length", type=positive, default=600, help="characters to write")
    parser.add_argument(
        "--temperature", type=amount, default=0.8, help="below 1 safer, above 1 bolder, 0: the likeliest"
    )
    parser.add_argument("--top_k", type=natural, default=0, help="draw from so many likeliest characters; 0: from all")
    parser.add_argument("--top_p", type=amount, default=1.0, help="draw from the likeliest that make up so much")
    parser.add_argument("--wav", type=Path, nargs="+", help="recordings of one spoken English digit each")
    parser.add_argument("--sentence", nargs="+", help="sentences in English about a film")
    parser.add_argument("--csv", type=Path, help="table whose column is to be continued")
    parser.add_argument("--column", help="name of the column, or its number where there are no names")
    parser.add_argument("--steps", type=positive, default=20, help="values to forecast")
    tiny = {
        "checkpoints": UNTRAINED,
        "length": 20,
        "wav": [HERE / "data" / "chirp.wav"],
        "sentence": ["a joy from start to finish", ""],
        "csv": HERE / "data" / "mackey_glass.csv",
    }
    args = begin(parser, argv, dry_run=tiny)
    if args.wav:
        recognize_files(args.wav, args.checkpoints, args.device)
    if args.sentence:
        classify_sentences(args.sentence, args.checkpoints, args.device)
    if args.csv:
        forecast_column(args.csv, args.column, args.steps, args.checkpoints, args.device)
    if args.prompt or not (args.wav or args.sentence or args.csv) or args.dry_run:
        continue_text(args)


def continue_text(args: argparse.Namespace) -> None:
    """Stream the text to the screen, a character at a time."""
    if args.top_p > 1 or args.top_p == 0:
        raise UserError(f"--top_p {args.top_p}: a share above 0 and at most 1")
    model, characters = language_model(args.checkpoints, args.device)
    prompt, unknown = known_part(args.prompt, characters)
    if unknown:
        print(f"left out, since the plays do not have them: {' '.join(map(repr, unknown[:10]))}", file=sys.stderr)
    print(prompt, end="", flush=True)
    tokens = generate(
        model,
        encode(prompt or "\n", characters),
        args.length,
        args.temperature,
        args.top_k or None,
        args.top_p,
        torch.Generator().manual_seed(args.seed),
    )
    for token in tokens:
        print(characters[token], end="", flush=True)
    print()


def recognize_files(paths: list[Path], checkpoints: Path, device: torch.device) -> None:
    """Print each recording's digit and the next likeliest."""
    sounds = [(path, *read_wav(path)) for path in paths]
    model = digit_model(checkpoints, device)
    features, rows = digit_features().to(device), []
    for path, samples, rate in sounds:
        p = recognize_digit(model, features, samples, rate)
        (first, second), (best, other) = p.topk(2)
        rows.append([path.name, int(best), f"{first:.1%}", f"or {int(other)}", f"{second:.1%}"])
    print(*aligned(rows, "<><<>"), sep="\n")


def classify_sentences(sentences: list[str], checkpoints: Path, device: torch.device) -> None:
    """Print how likely each sentence is praise."""
    model, vocabulary, classes = sentiment_model(checkpoints, device)
    p = positive_probability(model, vocabulary, sentences)
    rows = [[classes[int(x > 0.5)], f"{x:.1%} positive", sentence] for x, sentence in zip(p, sentences, strict=True)]
    print(*aligned(rows, "<><"), sep="\n")


def forecast_column(path: Path, column: str | None, steps: int, checkpoints: Path, device: torch.device) -> None:
    """Print the forecast with its band, and how well each method did on the series' own past."""
    series, name = read_column(path, column)
    network, _, _ = series_model(checkpoints, device)
    try:
        found = forecast(series, steps, network)
    except ValueError as error:
        raise UserError(f"{path}, column {name!r}: {error}") from error
    print(f"{name}: {len(series)} values; errors of forecasts from within the last third (root mean square):")
    print(*aligned([[method, f"{error:.4g}"] for method, error in found.errors.items()], "<>"), sep="\n")
    print(f"by {found.method}; in nine of ten past forecasts the truth lay between low and high:")
    rows = [["step", "forecast", "low", "high"]]
    for step, (value, band) in enumerate(zip(found.values.tolist(), found.band.tolist(), strict=True), start=1):
        rows.append([step, f"{value:.5g}", f"{value - band:.5g}", f"{value + band:.5g}"])
    print(*aligned(rows, ">"), sep="\n")


if __name__ == "__main__":
    run(main)
