"""The weights that ship: they load, say again what they said, beat what needs no learning, and keep their figures.
随附的权重：能载入、复现记录的输出、远胜不需要学习的基线，并与结果文件一致。
"""

import json

import pytest
import torch

from chapter_07_attention_mechanism import inference, models
from chapter_07_attention_mechanism.answering import answer_numbers, answer_picture, answer_text
from chapter_07_attention_mechanism.dataset.dates import DAY, MONTH, YEAR
from chapter_07_attention_mechanism.dataset.multi30k import multi30k
from chapter_07_attention_mechanism.dataset.scenes import draw_scenes
from chapter_07_attention_mechanism.tasks.caption import Caption
from chapter_07_attention_mechanism.tasks.dates import Dates
from chapter_07_attention_mechanism.tasks.sort import TESTED, TRAINED, Sort
from chapter_07_attention_mechanism.tasks.translate import BUCKETS, SIGNATURE, WORDS, bleu, translate
from chapter_07_attention_mechanism.vocab import join
from tests.conftest import ROOT
from utils.data import default_data_root

CHAPTER = ROOT / "chapter_07_attention_mechanism"
CPU, DATA = torch.device("cpu"), default_data_root()


def shipped(task):
    model, vocabulary = models.load(task, CHAPTER / "checkpoints" / f"{task}.pth", CPU)
    results = json.loads((CHAPTER / "results" / f"{task}.json").read_text(encoding="utf-8"))
    return model, vocabulary, results


def config_of(model):
    return {name: value for name, value in vars(model.config).items() if name != "vocabulary"}


@pytest.mark.parametrize("task", ["dates", "translate"])
def test_the_readmes_quote_what_the_models_say(task):
    model, vocabulary = models.load(task, CHAPTER / "checkpoints" / f"{task}.pth", CPU)
    pages = [(CHAPTER / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")]
    for text in inference.EXAMPLES[task]:
        pieces = list(text) if task == "dates" else vocabulary.split(text.lower())
        said = answer_text(model, vocabulary, pieces, beam=5, longest=100).pieces
        quote = f"\n{text}\n  -> {''.join(said) if task == 'dates' else join(said)}\n"
        assert all(quote in page for page in pages), quote


# --- dates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,answer,largest",
    [
        ("the 1st of November, 2011, 8:30", "2011-11-01", 0.86327),
        ("二〇〇六年一月二十日", "2006-01-20", 0.94574),
    ],
)
def test_the_reader_of_dates_says_the_same_again(text, answer, largest):
    model, vocabulary, _ = shipped("dates")
    found = answer_text(model, vocabulary, list(text), beam=5, longest=30)
    assert "".join(found.pieces) == answer and not found.unknown
    assert found.weights.amax(dim=-1).mean().item() == pytest.approx(largest, abs=1e-3)


def test_the_accuracy_on_dates_is_what_is_said():
    model, _, results = shipped("dates")
    final, first = results["final"], results["per_seed"][0]
    assert final["n_seeds"] == 3 and final["exact_match"] > max(0.99, final["exact_match_baseline"] + 0.1)
    assert final["held_out_format"] > max(0.95, final["held_out_format_baseline"] + 0.1)
    task = Dates(config_of(model), 1, CPU)
    assert task.alignment_accuracy(model, task.test) == pytest.approx(first["alignment_accuracy"], abs=2e-3)
    assert task.exact_match(model, task.test) == pytest.approx(first["exact_match"], abs=2e-3)
    answers = task.answers(model, task.held_out)
    wrong = {e.source: answer for e, answer in zip(task.held_out, answers, strict=True) if answer != e.target}
    assert wrong == {"2001年10月6日，15:56": "2001-00-06", "2037年11月4日，11:56": "2037-01-04"}  # as the README says
    assert len(wrong) / len(answers) == pytest.approx(1 - first["held_out_format"])


def test_the_reader_of_dates_looks_elsewhere_for_two_kinds_of_digits_alone():
    """The year's first digit, which the second gives away, and zeros that nobody writes: what the README says."""
    model, _, _ = shipped("dates")
    task = Dates(config_of(model), 1, CPU, test_count=300)
    right = {"first": [], "zero": [], "other": []}
    for example, looked_at in zip(task.test, task.weights(model, task.test).argmax(dim=-1).tolist(), strict=True):
        for place in (*YEAR, *MONTH, *DAY):
            kind = "first" if place == 0 else "zero" if place in (5, 8) and example.target[place] == "0" else "other"
            right[kind].append(place in example.tells[looked_at[place]])
            assert kind != "first" or 1 in example.tells[looked_at[0]]
    assert not any(right["first"]) and sum(right["zero"]) < 0.6 * len(right["zero"])
    assert sum(right["other"]) > 0.99 * len(right["other"])


# --- sorting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation,answer,largest",
    [("sort", "3 3 8 14 19 27", 0.50054), ("reverse", "19 3 8 27 3 14", 0.72774)],
)
def test_the_sorter_says_the_same_again(operation, answer, largest):
    model, vocabulary, _ = shipped("sort")
    pieces, weights = answer_numbers(model, vocabulary, operation, [14, 3, 27, 8, 3, 19])
    assert " ".join(pieces[8:]) == answer
    assert weights.amax(dim=-1).mean().item() == pytest.approx(largest, abs=1e-3)


def test_the_sorters_accuracy_is_what_is_said():
    model, _, results = shipped("sort")
    final = results["final"]
    assert final["exact_match"] > max(0.99, final["exact_match_baseline"] + 0.9)
    assert final["trained_up_to"] == TRAINED[-1] and [row["length"] for row in final["by_length"]] == list(TESTED)
    task = Sort(config_of(model), 1, CPU)
    again = task.by_length(model, 181, range(2, 8), "test")  # the first lengths: each draws on where the last one ended
    assert again == final["by_length"][:6]
    long = task.by_length(model, 60, range(24, 25), "test")[0]
    assert long["reverse"] > 0.9 and long["unique"] > 0.9


def test_without_shifted_positions_longer_lists_fail():
    """Both trainings are alike but for the shift, and equally good at the lengths that they were shown."""
    shifted, unshifted = (
        json.loads((CHAPTER / "results" / name).read_text(encoding="utf-8"))
        for name in ("sort.json", "sort_unshifted.json")
    )
    different = {name for name, value in shifted["flags"].items() if unshifted["flags"][name] != value}
    assert different <= {"shift"} and unshifted["flags"]["shift"] == 0
    assert min(shifted["final"]["exact_match"], unshifted["final"]["exact_match"]) > 0.99
    for with_shift, without in zip(shifted["final"]["by_length"], unshifted["final"]["by_length"], strict=True):
        if with_shift["length"] > TRAINED[-1] + 1:
            assert with_shift["sort"] > 0.7 and without["sort"] < 0.01 and without["reverse"] < 0.01


def test_heads_are_what_the_readme_says():
    """Sorting, head 1 ends on BOS and finds the next greater number, head 3 what equals the last one written."""
    model, vocabulary, _ = shipped("sort")
    pieces, weights = answer_numbers(model, vocabulary, "sort", [14, 3, 27, 8, 3, 19])
    following, equal = weights[0].argmax(dim=-1), weights[2]
    assert [pieces[following[t]] for t in (10, 11, 13)] == ["14", "19", "<bos>"]
    assert pieces[following[8]] == "8"  # though another 3 is due
    assert set(equal[8].topk(3).indices.tolist()) == {2, 5, 8} and set(equal[10].topk(2).indices.tolist()) == {4, 10}
    pieces, weights = answer_numbers(model, vocabulary, "reverse", [14, 3, 27, 8, 3, 19])
    assert weights[3].argmax(dim=-1)[7:].tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert weights[[0, 2], 8:, 0].min() > 0.4


def test_the_sorter_loses_count_of_many_equal_numbers():
    """What the README says did not work."""
    model, vocabulary, _ = shipped("sort")
    assert answer_numbers(model, vocabulary, "sort", [7] * 5)[0][7:] == ["7"] * 5
    assert answer_numbers(model, vocabulary, "sort", [7] * 7)[0][9:] == ["7"] * 8
    assert answer_numbers(model, vocabulary, "unique", [7] * 3)[0][5:] == ["7"] * 2


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_the_captioner_says_the_same_again():
    model, vocabulary, _ = shipped("caption")
    images, scenes = draw_scenes(2, torch.Generator().manual_seed(0), unseen=True)
    for image, scene, largest in zip(images, scenes, (0.43210, 0.42940), strict=True):
        answer = answer_picture(model, vocabulary, image, beam=5, longest=30)
        assert " ".join(answer.pieces) == scene.sentence and answer.ended
        assert answer.weights.amax(dim=-1).mean().item() == pytest.approx(largest, abs=1e-3)


def test_the_captioners_accuracy_is_what_is_said():
    model, _, results = shipped("caption")
    final = results["final"]
    assert final["exact_match"] > max(0.95, final["exact_match_baseline"] + 0.9)
    again = Caption(config_of(model), 1, CPU, test_count=150).evaluate(model)
    for name in ("exact_match", "exact_match_seen", "pointing_accuracy"):
        assert again[name] == pytest.approx(final[name], abs=0.01)


# --- translation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentence,answer,largest",
    [
        ("Ein kleiner Junge springt über einen Zaun.", "a little boy jumping over a fence.", 0.77856),
        ("Im Park liest eine alte Frau ein Buch.", "an old woman is reading a book in the park.", 0.72898),
    ],
)
def test_the_translator_says_the_same_again(sentence, answer, largest):
    model, vocabulary, _ = shipped("translate")
    found = answer_text(model, vocabulary, vocabulary.split(sentence.lower()), beam=5, longest=30)
    assert join(found.pieces) == answer and not found.unknown
    assert found.weights.amax(dim=-1).mean().item() == pytest.approx(largest, abs=1e-3)


def test_what_the_translator_does_not_know_is_told():
    model, vocabulary, _ = shipped("translate")
    found = answer_text(model, vocabulary, vocabulary.split("ein 猫 rennt."), beam=5, longest=30)
    assert found.unknown == ["猫"] and "<unk>" not in found.pieces
    found = answer_text(model, vocabulary, vocabulary.split("ein mann namens zyzzy schläft."), beam=5, longest=30)
    assert join(found.pieces) == "a man name tyy is sleeping." and not found.unknown  # what the README says


@pytest.mark.skipif(not (DATA / "multi30k" / "test_2016_flickr.de").exists(), reason="multi30k is not here")
def test_the_translators_bleu_is_what_is_said():
    """On the longest of the test's sentences: all of them would take half a minute."""
    model, vocabulary, results = shipped("translate")
    pairs = [(a.lower(), b.lower()) for a, b in multi30k(DATA, "test_2016_flickr", ("de", "en"))]
    pairs = [(a, b) for a, b in pairs if len(WORDS.findall(a)) in BUCKETS[-1]]
    recorded = results["final"]["by_length"][-1]
    assert len(pairs) == recorded["count"]
    found = bleu(translate(model, vocabulary, [a for a, _ in pairs], CPU), pairs)
    assert found == pytest.approx(recorded["bleu"], abs=0.3)


def test_attention_is_worth_its_while():
    final = shipped("translate")[2]["final"]
    assert final["bleu"] > max(39, final["bleu_dictionary"] + 15, final["bleu_without_attention"] + 5)
    assert final["parameters_without_attention"] == pytest.approx(final["parameters"], rel=0.05)
    assert max(final["train_seconds"], final["train_seconds_without_attention"]) < 75 * 60
    assert (final["signature"], final["split"], final["test_count"]) == (SIGNATURE, "test_2016_flickr", 1000)
    assert (CHAPTER / "checkpoints" / "translate.pth").stat().st_size <= 6_000_000
