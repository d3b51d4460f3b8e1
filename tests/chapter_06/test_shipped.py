"""The weights that ship: they load, say again what they said, beat their baselines, and keep their figures.
随附的权重：能载入、复现记录的输出、胜过基线，并与结果文件一致。
"""

import json

import pytest
import torch

from chapter_06_rnn_lstm_seq.baselines.ngram import KneserNey
from chapter_06_rnn_lstm_seq.dataset import encode, polarity, shakespeare, split_text, spoken_digits
from chapter_06_rnn_lstm_seq.forecasting import free_run
from chapter_06_rnn_lstm_seq.hearing import digit_features
from chapter_06_rnn_lstm_seq.model import (
    build_classifier,
    build_forecaster,
    build_language_model,
    build_sentiment,
)
from chapter_06_rnn_lstm_seq.sentiment import load_sentiment, positive_probability, sentence_logits
from chapter_06_rnn_lstm_seq.series import mackey_glass
from chapter_06_rnn_lstm_seq.tasks.char_lm import text_loss
from chapter_06_rnn_lstm_seq.tasks.digits import digit_logits
from chapter_06_rnn_lstm_seq.tasks.series import HORIZON, LONGEST, TEST, nrmse, windows
from chapter_06_rnn_lstm_seq.words import tokenize
from tests.conftest import ROOT
from utils.checkpoint import load_model
from utils.data import default_data_root

CHAPTER = ROOT / "chapter_06_rnn_lstm_seq"
CPU, DATA = torch.device("cpu"), default_data_root()


def shipped(name, build):
    path = CHAPTER / "checkpoints" / f"{name}.pth"
    results = json.loads((CHAPTER / "results" / f"{name}.json").read_text(encoding="utf-8"))
    model, about = load_model(path, build, CPU)
    return model, about, results


def needs(*parts):
    path = DATA.joinpath(*parts)
    return pytest.mark.skipif(not path.exists(), reason=f"{parts[0]} is not here")


def close(found, recorded):
    torch.testing.assert_close(found, torch.as_tensor(recorded).to(found.dtype), rtol=1e-3, atol=1e-3)


# --- the plays --------------------------------------------------------------------------------------------------------


def test_the_character_model_says_the_same_again():
    model, about, results = shipped("char_lm_lstm", build_language_model)
    with torch.no_grad():
        logits, _ = model(torch.tensor([about["probe_text"]]))
    close(logits[0, -1], about["probe"])
    assert results["final"]["val_loss"] == about["val_loss"] < min(1.5, results["final"]["ngram_loss"] - 0.1)


@needs("tinyshakespeare", "input.txt")
def test_the_character_models_loss_is_what_is_said():
    model, about, results = shipped("char_lm_lstm", build_language_model)
    train, valid = split_text(shakespeare(DATA))
    ids = encode(valid, about["characters"])
    found = text_loss(model, ids, n_streams=64)  # side by side it is quicker; 64 times the state begins anew
    assert found == pytest.approx(results["final"]["val_loss"], abs=0.01)
    order = results["final"]["ngram_order"]
    before = encode(train, about["characters"])
    ngram = KneserNey(before, len(about["characters"]), order).loss(ids[1:], torch.cat([before, ids[:1]]))
    assert ngram == pytest.approx(results["final"]["ngram_loss"], abs=1e-6)


# --- sentences --------------------------------------------------------------------------------------------------------


def test_the_sentiment_model_says_the_same_again():
    model, vocabulary, _ = load_sentiment(CHAPTER / "checkpoints" / "sentiment.pth", CPU)
    _, about, results = shipped("sentiment", build_sentiment)
    close(sentence_logits(model, vocabulary, [tokenize(s) for s in about["probe_text"]]), about["probe"])
    assert results["final"]["test_accuracy"] > 0.76


def test_the_sentiment_model_understands():
    model, vocabulary, classes = load_sentiment(CHAPTER / "checkpoints" / "sentiment.pth", CPU)
    good = ["A moving, beautifully acted film.", "an absolute joy !", "one of the best films of the year"]
    bad = ["A dull and pointless mess.", "tedious from start to finish", "the worst film of the year ."]
    assert (positive_probability(model, vocabulary, good) > 0.5).all()
    assert (positive_probability(model, vocabulary, bad) < 0.5).all()
    assert classes == ["negative", "positive"]


@needs("polarity", "sentence_polarity.zip")
def test_the_sentiment_models_accuracy_is_what_is_said():
    model, vocabulary, _ = load_sentiment(CHAPTER / "checkpoints" / "sentiment.pth", CPU)
    _, about, results = shipped("sentiment", build_sentiment)
    sentences, labels, tenths = polarity(DATA)
    tests = (tenths == 0).nonzero()[:, 0]
    p = positive_probability(model, vocabulary, [sentences[i] for i in tests])
    accuracy = ((p > 0.5) == labels[tests]).float().mean().item()
    assert accuracy == pytest.approx(about["accuracy"], abs=1e-3)
    assert about["accuracy"] == results["per_seed"][0]["accuracy"]


# --- digits -----------------------------------------------------------------------------------------------------------


def test_the_digit_model_beats_its_baseline():
    _, about, results = shipped("digits", build_classifier)
    final = results["final"]
    assert final["test_accuracy"] == about["accuracy"] > max(0.98, final["test_accuracy_bag_of_frames"] + 0.1)
    assert final["speaker_out_accuracy_fresh"] > max(0.8, final["speaker_out_bag_of_frames"] + 0.2)


@needs("fsdd", "recordings")
def test_the_digit_model_hears_what_is_said():
    model, about, results = shipped("digits", build_classifier)
    recordings, features = spoken_digits(DATA), digit_features()
    close(digit_logits(model, features, recordings, about["probe_index"]), about["probe"])
    tests = (recordings.takes < 5).nonzero()[:, 0]
    right = digit_logits(model, features, recordings, tests).argmax(dim=1) == recordings.digits[tests]
    assert len(tests) == 300
    assert right.float().mean().item() == pytest.approx(results["final"]["test_accuracy"], abs=1e-3)


# --- series -----------------------------------------------------------------------------------------------------------


def test_the_forecaster_foretells_what_is_said():
    model, about, results = shipped("series", build_forecaster)
    close(free_run(model, torch.as_tensor(about["probe_context"]), HORIZON), about["probe"])
    scaled = (mackey_glass(TEST.stop) - about["mean"]) / about["std"]
    context, truth = windows(scaled[TEST], LONGEST, 40)
    found = nrmse(free_run(model, context, HORIZON), truth[:, :HORIZON])
    assert found == pytest.approx(results["per_seed"][0]["nrmse_84"], rel=0.02)
    assert results["final"]["below_best_baseline"] > 0.3


# --- figures without weights ------------------------------------------------------------------------------------------


def test_the_cells_that_had_equal_time_differ_in_nothing_else():
    own = {"cell", "lr", "max_steps"}
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in (CHAPTER / "results").glob("equal_time_*.json")]
    settings = [{name: value for name, value in run["flags"].items() if name not in own} for run in runs]
    assert {run["flags"]["cell"] for run in runs} == {"rnn", "lstm", "gru", "mingru"}
    assert all(setting == settings[0] for setting in settings)
    seconds = [run["final"]["train_seconds"] for run in runs]
    assert max(seconds) < 1.1 * min(seconds) and max(seconds) < 26 * 60
    assert len({run["machine"] for run in runs}) == 1


def test_our_layers_are_as_fast_as_torchs():
    final = json.loads((CHAPTER / "results" / "benchmark.json").read_text(encoding="utf-8"))["final"]
    assert max(final[f"{cell}_ratio"] for cell in ("lstm", "gru", "rnn")) < 1.1


def test_lstm_and_gru_solve_sums_that_the_rnn_does_not():
    rows = json.loads((CHAPTER / "results" / "memory_tasks.json").read_text(encoding="utf-8"))["per_seed"]
    solved = {(row["cell"], row["distance"]) for row in rows if row["task"] == "adding" and row["solved"]}
    for length in (50, 100, 200, 400):
        assert {("lstm", length), ("gru", length)} <= solved and ("rnn", length) not in solved
