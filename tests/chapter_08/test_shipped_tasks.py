"""The models of the halves that ship: they load, say again what they said, and keep their figures.
随附的单边模型（只有编码器或解码器）：能载入、复现记录的输出，并与结果文件一致。
"""

import json

import pytest
import torch

from chapter_03_optimization_regularization.training import probabilities, score
from chapter_04_cnn_classic.dataset import cifar10, to_input
from chapter_06_rnn_lstm_seq.dataset import encode, shakespeare, split_text
from chapter_08_transformer_vanilla.classifier import sentence_logits
from chapter_08_transformer_vanilla.sentences import load_sentences
from chapter_08_transformer_vanilla.shipped import (
    CHECKPOINTS,
    build,
    build_classifier,
    build_vit,
    load_language_model,
    load_sentence_classifier,
    load_vit,
)
from chapter_08_transformer_vanilla.tasks.lm import text_loss
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from utils.checkpoint import load_model, probe_input
from utils.data import default_data_root

CPU, DATA = torch.device("cpu"), default_data_root()


def shipped(name, *data):
    """Skip a test while the model is not there, or where the data are not."""
    missing = [
        path.name for path in (CHECKPOINTS / f"{name}.pth", *(DATA / part for part in data)) if not path.exists()
    ]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)}: not here")


def results(name):
    return json.loads((CHECKPOINTS.parent / "results" / f"{name}.json").read_text(encoding="utf-8"))


def assert_same(logits, about):
    torch.testing.assert_close(logits, torch.tensor(about["probe"]), rtol=1e-3, atol=1e-3)


@shipped("sentiment")
def test_whatever_inference_offers_ships(parser_of):
    """In all at most 30 MB."""
    choices = {action.dest: action.choices for action in parser_of(CHECKPOINTS.parent / "inference.py")._actions}
    files = {"lm": "lm_shakespeare", "unmask": "masked_lm", "sentiment": "sentiment", "vit": "vit"}
    names = [f"translate_{pair.replace('-', '_')}" for pair in choices["pair"]]
    names += [files[task] for task in choices["task"] if task != "translate"]
    paths = [CHECKPOINTS / f"{name}.pth" for name in names]
    assert not [path.name for path in paths if not path.exists()]
    assert sum(path.stat().st_size for path in CHECKPOINTS.iterdir()) <= 30_000_000


@shipped("lm_shakespeare")
@torch.no_grad()
def test_the_language_model_says_the_same_again():
    model, about = load_model(CHECKPOINTS / "lm_shakespeare.pth", build, CPU)
    assert_same(model(torch.tensor([about["probe_text"]]))[0, -1], about)
    final = results("lm_shakespeare")["final"]
    assert about["val_loss"] == final["val_loss"] < final["ngram_loss"] and final["val_loss_overlapping"] < 1.47
    assert (CHECKPOINTS / "lm_shakespeare.pth").stat().st_size <= 5_000_000


@shipped("lm_shakespeare", "tinyshakespeare")
def test_its_loss_is_what_is_said():
    """On what its history was measured on: the first 64 windows."""
    model, characters = load_language_model(None, CPU)
    length, last = model.config.max_length, results("lm_shakespeare")["history"][-1]
    ids = encode(split_text(shakespeare(DATA))[1], characters)[: 64 * length + 1]
    assert text_loss(model, ids, length, length) == pytest.approx(last["val_loss"], abs=0.005)


@shipped("masked_lm")
@torch.no_grad()
def test_the_masked_model_says_the_same_again():
    model, about = load_model(CHECKPOINTS / "masked_lm.pth", build, CPU)
    probe = torch.tensor(about["probe"])
    assert_same(model(torch.tensor([about["probe_tokens"]]))[0, -1, : len(probe)], about)
    final = results("masked_lm")["final"]
    assert about["validation_loss"] == final["validation_loss"] < final["unigram_loss"] - 1
    assert final["validation_accuracy"] > final["unigram_accuracy"] + 0.2


@shipped("sentiment")
def test_the_classifier_says_the_same_again():
    model, about = load_model(CHECKPOINTS / "sentiment.pth", build_classifier, CPU)
    tokens = Tokenizer(**about["tokenizer"]).encode(about["probe_text"])
    assert_same(sentence_logits(model, [tokens], CPU)[0], about)
    final = results("mlm")["final"]
    assert min(final["finetuned_accuracy"], final["scratch_accuracy"]) > 0.7 and final["n_seeds"] == 5  # half praise
    assert final["gain"] == pytest.approx(final["finetuned_accuracy"] - final["scratch_accuracy"])


@shipped("sentiment", "polarity/sentence_polarity.zip")
def test_its_accuracy_is_what_is_said():
    model, tokenizer, _ = load_sentence_classifier(None, CPU)
    texts, labels = load_sentences("full", DATA)["test"]
    guesses = sentence_logits(model, [tokenizer.encode(text) for text in texts], CPU).argmax(dim=1)
    row = next(row for row in results("mlm")["per_seed"] if row["start"] == "finetuned")
    assert (guesses == labels).double().mean().item() == pytest.approx(row["accuracy"], abs=0.002)


@shipped("vit")
@torch.no_grad()
def test_the_vision_transformer_says_the_same_again():
    model, about = load_model(CHECKPOINTS / "vit.pth", build_vit, CPU)
    assert_same(model(probe_input(1, 3, 32, 32))[0], about)
    final = results("vit")["final"]
    assert about["test_accuracy"] == final["test_accuracy"] > 0.8 and final["test_count"] == 10_000


@shipped("vit", "cifar10/test.npz")
def test_its_accuracy_on_photographs_is_what_is_said():
    images, labels = (part[:1000] for part in cifar10(DATA, train=False))
    accuracy, _ = score(probabilities(load_vit(None, CPU)[0], images, to_input=to_input), labels)
    assert accuracy == pytest.approx(results("vit")["final"]["test_accuracy"], abs=0.04)
