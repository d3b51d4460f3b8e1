"""Loads the chapter's trained networks; in place of a folder, `UNTRAINED` gives small ones that have learnt nothing.
载入本章训练好的网络；若用 `UNTRAINED` 代替文件夹，则给出尚未训练的小网络。
"""

from pathlib import Path

import torch

from chapter_06_rnn_lstm_seq.baselines.autoregression import LinearAutoregression
from chapter_06_rnn_lstm_seq.baselines.echo import ONE_SETTING, Setting
from chapter_06_rnn_lstm_seq.hearing import N_BANDS, STACK
from chapter_06_rnn_lstm_seq.model import (
    Classifier,
    ClassifierConfig,
    Forecaster,
    ForecasterConfig,
    LanguageModel,
    LanguageModelConfig,
    SentimentConfig,
    SentimentNet,
    build_classifier,
    build_forecaster,
    build_language_model,
)
from chapter_06_rnn_lstm_seq.sentiment import load_sentiment
from chapter_06_rnn_lstm_seq.words import Vocabulary
from utils.checkpoint import load_model

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
UNTRAINED = Path("untrained")
LETTERS = "\n !',.:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
SMALL = 8  # hidden units of an untrained network


def language_model(folder: Path, device: torch.device) -> tuple[LanguageModel, str]:
    """Return the character model and its characters."""
    if folder == UNTRAINED:
        config = LanguageModelConfig(len(LETTERS), d_embedding=SMALL, hidden_size=SMALL)
        return LanguageModel(config).to(device).eval(), LETTERS
    model, about = load_model(folder / "char_lm_lstm.pth", build_language_model, device)
    return model, about["characters"]


def digit_model(folder: Path, device: torch.device) -> Classifier:
    if folder == UNTRAINED:
        return Classifier(ClassifierConfig(STACK * N_BANDS, 10, hidden_size=SMALL)).to(device).eval()
    return load_model(folder / "digits.pth", build_classifier, device)[0]


def sentiment_model(folder: Path, device: torch.device) -> tuple[SentimentNet, Vocabulary, list[str]]:
    """Return the sentiment network, its vocabulary and its classes."""
    if folder == UNTRAINED:
        config = SentimentConfig(n_words=2, n_buckets=16, d_word=SMALL, hidden_size=SMALL)
        return SentimentNet(config).to(device).eval(), Vocabulary(["a", "joy"], 16), ["negative", "positive"]
    return load_sentiment(folder / "sentiment.pth", device)


def series_model(folder: Path, device: torch.device) -> tuple[Forecaster, float, float]:
    """Return the forecaster, and the mean and the deviation of the series that it knows."""
    if folder == UNTRAINED:
        return Forecaster(ForecasterConfig(hidden_size=SMALL)).to(device).eval(), 0.93, 0.23
    model, about = load_model(folder / "series.pth", build_forecaster, device)
    return model, about["mean"], about["std"]


def series_baselines(folder: Path) -> tuple[LinearAutoregression, Setting]:
    """Return the forecaster's rivals with the options that were best on the validation part: a linear model, not yet
    fitted, and a reservoir's options.
    """
    if folder == UNTRAINED:
        return LinearAutoregression(SMALL, 1e-4), ONE_SETTING[0]
    _, about = load_model(folder / "series.pth", build_forecaster, torch.device("cpu"))
    reservoir = tuple(about[f"reservoir_{name}"] for name in ("spectral_radius", "leak", "input_scaling", "ridge"))
    return LinearAutoregression(about["linear_order"], about["linear_penalty"]), reservoir
