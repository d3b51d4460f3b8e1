"""Draw the theory's pictures, and what the trained networks do: gates over text, spectrograms, forecasts.
绘制理论插图，以及训练好的网络的行为：文本上的门、语音频谱、数列预测。

    python chapter_06_rnn_lstm_seq/visualize.py      # 60 s; needs the plays and the spoken digits
    python chapter_06_rnn_lstm_seq/visualize.py --parts theory    # 10 s, no data
    python chapter_06_rnn_lstm_seq/visualize.py --dataset toy    # no download
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_06_rnn_lstm_seq.audio import LogMel
from chapter_06_rnn_lstm_seq.baselines.echo import best_reservoir, echo_forecast
from chapter_06_rnn_lstm_seq.dataset import Recordings, encode, shakespeare, split_text, spoken_digits
from chapter_06_rnn_lstm_seq.figures.signals import draw_forecasts, draw_spectrograms
from chapter_06_rnn_lstm_seq.figures.text import draw_distances, draw_gates, draw_tracking
from chapter_06_rnn_lstm_seq.figures.theory import THEORY_PICTURES
from chapter_06_rnn_lstm_seq.forecasting import free_run
from chapter_06_rnn_lstm_seq.generation import known_part
from chapter_06_rnn_lstm_seq.hearing import N_BANDS, digit_features
from chapter_06_rnn_lstm_seq.inspection import correlations, gradient_by_distance, text_signals, trace_model
from chapter_06_rnn_lstm_seq.model import LanguageModel, LanguageModelConfig
from chapter_06_rnn_lstm_seq.series import mackey_glass
from chapter_06_rnn_lstm_seq.shipped import (
    CHECKPOINTS,
    UNTRAINED,
    digit_model,
    language_model,
    series_baselines,
    series_model,
)
from chapter_06_rnn_lstm_seq.tasks.digits import TEST_TAKES, digit_logits
from chapter_06_rnn_lstm_seq.tasks.series import CONTEXT, TEST, TRAIN, VALIDATION, windows
from chapter_06_rnn_lstm_seq.toy import toy_digits, toy_text
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser
from utils.plotting import save_figure

from matplotlib.figure import Figure

PARTS = ["theory", "text", "digits", "series"]
SHOWN = 320  # characters that are coloured; the gates are shown over fewer
GATES_SHOWN = 90
N_TEXTS = 32  # over which gradients are averaged
N_SOUNDS = 4  # beside the one that is recognised worst


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="which figures to draw")
    parser.add_argument(
        "--dataset", default="full", choices=["full", "toy"], help="full: the real data; toy: made up here, tiny"
    )
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="folder of the trained networks")
    parser.add_argument("--n_read", type=positive, default=4000, help="characters over which cells are compared")
    parser.add_argument("--n_ahead", type=positive, default=1000, help="steps of the forecasts")
    tiny = {"dataset": "toy", "checkpoints": UNTRAINED, "n_read": 400, "n_ahead": 90}
    args = begin(parser, argv, dry_run=tiny)
    figures = {}
    if "theory" in args.parts:
        figures |= {f"theory_{name}": draw() for name, draw in THEORY_PICTURES.items()}
    if "text" in args.parts:
        text = split_text(shakespeare(args.data_root) if args.dataset == "full" else toy_text())[1]
        figures |= text_figures(text[: args.n_read], args.checkpoints)
    if "digits" in args.parts:
        recordings = spoken_digits(args.data_root) if args.dataset == "full" else toy_digits()
        figures["spectrograms"] = digit_figure(recordings, args.checkpoints)
    if "series" in args.parts:
        figures["forecasts"] = series_figure(args.checkpoints, args.n_ahead, args.seed)
    for name, figure in figures.items():
        print(f"wrote {save_figure(figure, args.out_dir / f'{name}.png')}")


def text_figures(text: str, checkpoints: Path) -> dict:
    """Return the figures of gates, of cells that follow something, and of gradients by distance."""
    model, characters = language_model(checkpoints, torch.device("cpu"))
    text, _ = known_part(text, characters)
    ids = encode(text, characters)
    traces = trace_model(model, ids)
    first = text.index("\n", len(text) // 3) + 1  # begin with a whole line
    part = slice(first, first + SHOWN)

    rows, gates = [], []
    for name, signal in text_signals(text).items():
        scores = torch.stack([correlations(trace["c"], signal) for trace in traces])  # (layers, H)
        layer, unit = divmod(int(scores.abs().argmax()), scores.shape[1])
        rows.append((name, layer, unit, scores[layer, unit].item(), traces[layer]["c"][part, unit]))
        shown = slice(first, first + GATES_SHOWN)
        gates.append((name, {key: values[shown, unit] for key, values in traces[layer].items()}))

    texts = ids[: len(ids) // N_TEXTS * N_TEXTS].view(N_TEXTS, -1)[:, :101]
    curves = {"trained": ("lstm", gradient_by_distance(model, texts))}
    for cell in ("rnn", "lstm", "gru"):
        torch.manual_seed(0)
        fresh = LanguageModel(LanguageModelConfig(**(vars(model.config) | {"cell": cell}))).eval()
        curves[f"fresh {cell}"] = (cell, gradient_by_distance(fresh, texts))
    return {
        "gates": draw_gates(text[first : first + GATES_SHOWN], gates),
        "tracking_cells": draw_tracking(text[part], rows),
        "gradient_by_distance": draw_distances(curves),
    }


def digit_figure(recordings: Recordings, checkpoints: Path) -> Figure:
    """Return the figure of test recordings: even digits by one speaker each, and the one that is recognised worst."""
    model = digit_model(checkpoints, torch.device("cpu"))
    tests = torch.isin(recordings.takes, torch.tensor(TEST_TAKES)).nonzero()[:, 0]
    digits, speakers = recordings.digits[tests], recordings.speakers[tests]
    p = digit_logits(model, digit_features(), recordings, tests).softmax(dim=1)
    n_names = len(recordings.names)
    shown = [((digits == 2 * i) & (speakers == i % n_names)).nonzero()[0, 0] for i in range(N_SOUNDS)]
    shown.append(p.gather(1, digits[:, None])[:, 0].argmin())
    rows, plain = [], LogMel(N_BANDS)
    for i in shown:
        x, n = plain(*recordings.batch(tests[i, None]))
        rows.append((f'"{int(digits[i])}" by {recordings.names[speakers[i]]}', x[0, : n[0]], p[i]))
    return draw_spectrograms(rows)


def series_figure(checkpoints: Path, n_ahead: int, seed: int) -> Figure:
    """Return the figure of three methods' forecasts from the first test window."""
    model, mean, std = series_model(checkpoints, torch.device("cpu"))
    scaled = (mackey_glass(TEST.start + CONTEXT + n_ahead) - mean) / std
    validation = windows(scaled[VALIDATION], n_ahead, 25)
    linear, setting = series_baselines(checkpoints)
    linear.fit(scaled[TRAIN])
    reservoir = best_reservoir(scaled[TRAIN], validation, seed, [setting])
    context, truth = windows(scaled[TEST.start :], n_ahead, 1)
    methods = {
        "linear autoregression": lambda past: linear.forecast(past, n_ahead),
        "LSTM": lambda past: free_run(model, past, n_ahead),
        "echo state network": lambda past: echo_forecast(reservoir, past, n_ahead),
    }
    forecasts = {}
    for name, method in methods.items():
        band = (method(validation[0]) - validation[1]).abs().quantile(0.9, dim=0)
        forecasts[name] = (mean + std * method(context[:1])[0], std * band)
    return draw_forecasts(mean + std * context[0], mean + std * truth[0], forecasts)


if __name__ == "__main__":
    run(main)
