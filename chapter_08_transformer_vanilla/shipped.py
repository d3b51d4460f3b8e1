"""Loads a trained model of each kind; in place of a file, `UNTRAINED` gives a small one that has learnt nothing.
载入各类训练好的模型；若用 `UNTRAINED` 代替文件，则给出尚未训练的小模型。
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from chapter_04_cnn_classic.dataset import CIFAR10_CLASSES
from chapter_07_attention_mechanism.tasks.translate import Pairs
from chapter_08_transformer_vanilla.classifier import ClassifierConfig, SentenceClassifier
from chapter_08_transformer_vanilla.dataset import load_pairs
from chapter_08_transformer_vanilla.sentences import CLASSES, load_sentences
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from chapter_08_transformer_vanilla.translating import Translator, encode_source, language_odds
from chapter_08_transformer_vanilla.vit import VisionTransformer, ViTConfig
from utils.checkpoint import load_model
from utils.errors import UserError

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
UNTRAINED = Path("untrained")
SHIPPED_PAIRS = ["de-en", "zh-en"]  # of the languages that a translator ships for
LETTERS = "\n !',.:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
SMALL = {"d_model": 8, "n_heads": 2, "d_ff": 8}  # an untrained model's widths


def build(config: dict) -> Transformer:
    return Transformer(TransformerConfig(**config))


def build_classifier(config: dict) -> SentenceClassifier:
    return SentenceClassifier(ClassifierConfig(**config))


def build_vit(config: dict) -> VisionTransformer:
    return VisionTransformer(ViTConfig(**config))


def load_translator(pair: str, path: Path | None, device: torch.device) -> Translator:
    """Return the translator from `path`, whatever its pair is; None: the one that ships for `pair`, such as "de-en".

    Raises, like all functions below, UserError: the file is missing, damaged, or another model's.
    """
    if path == UNTRAINED:
        return untrained(pair, load_pairs(pair, "toy", Path())[0][:200], device)
    model, about = _load(path, f"translate_{pair.replace('-', '_')}", f"--pair {pair}", build, device)
    pair = _fact(about, "pair", path)
    return Translator(pair, model, Tokenizer(**about["tokenizer"]), about["odds"], about["longest"])


def untrained(pair: str, pairs: Pairs, device: torch.device) -> Translator:
    """Return a tiny model with random weights that knows the pieces of the pairs."""
    tokenizer = Tokenizer.train((text for pair in pairs for text in pair), 400)
    config = TransformerConfig(len(tokenizer), n_encoder_layers=1, n_decoder_layers=1, **SMALL)
    sources, targets = [encode_source(tokenizer, a) for a, _ in pairs], [tokenizer.encode(b) for _, b in pairs]
    odds, longest = language_odds(sources, targets, len(tokenizer)), max(map(len, sources))
    return Translator(pair, Transformer(config).to(device).eval(), tokenizer, odds, longest)


def load_language_model(path: Path | None, device: torch.device) -> tuple[Transformer, str]:
    """Return a model that writes character by character, from `path` or as it ships, and its characters."""
    if path == UNTRAINED:
        config = TransformerConfig(len(LETTERS), n_encoder_layers=0, n_decoder_layers=1, max_length=16, **SMALL)
        return Transformer(config).to(device).eval(), LETTERS
    model, about = _load(path, "lm_shakespeare", "--task lm", build, device)
    return model, _fact(about, "characters", path)


def load_masked_model(path: Path | None, device: torch.device) -> tuple[Transformer, Tokenizer]:
    """Return a model that fills gaps, from `path` or as it ships, and its tokenizer."""
    if path == UNTRAINED:
        tokenizer = _toy_tokenizer()
        config = TransformerConfig(len(tokenizer), n_encoder_layers=1, n_decoder_layers=0, **SMALL)
        return Transformer(config).to(device).eval(), tokenizer
    model, about = _load(path, "masked_lm", "--task mlm", build, device)
    if model.decoder is not None:
        raise UserError(f"{path} holds another task's model: it has a decoder")
    return model, Tokenizer(**_fact(about, "tokenizer", path))


def load_sentence_classifier(
    path: Path | None, device: torch.device
) -> tuple[SentenceClassifier, Tokenizer, list[str]]:
    """Return a classifier of sentences, from `path` or as it ships, its tokenizer, and its classes' names."""
    if path == UNTRAINED:
        tokenizer = _toy_tokenizer()
        config = ClassifierConfig(len(tokenizer), n_encoder_layers=1, n_decoder_layers=0, **SMALL)
        return SentenceClassifier(config).to(device).eval(), tokenizer, CLASSES
    model, about = _load(path, "sentiment", "--task finetune", build_classifier, device)
    return model, Tokenizer(**_fact(about, "tokenizer", path)), _fact(about, "classes", path)


def load_vit(path: Path | None, device: torch.device) -> tuple[VisionTransformer, list[str]]:
    """Return a classifier of pictures, from `path` or as it ships, and its classes' names."""
    if path == UNTRAINED:
        return VisionTransformer(ViTConfig(n_layers=1, **SMALL)).to(device).eval(), CIFAR10_CLASSES
    model, about = _load(path, "vit", "--task vit", build_vit, device)
    return model, _fact(about, "classes", path)


def _load(
    path: Path | None, name: str, flags: str, build: Callable[[dict], nn.Module], device: torch.device
) -> tuple[nn.Module, dict]:
    path = path or CHECKPOINTS / f"{name}.pth"
    if not path.is_file():
        raise UserError(f"{path}: no such file; chapter_08_transformer_vanilla/train.py {flags} makes one")
    return load_model(path, build, device)


def _fact(about: dict, name: str, path: Path | None) -> object:
    if name not in about:
        raise UserError(f"{path} holds another task's model: it has no {name}")
    return about[name]


def _toy_tokenizer() -> Tokenizer:
    return Tokenizer.train(load_sentences("toy", Path())["train"][0], 320)
