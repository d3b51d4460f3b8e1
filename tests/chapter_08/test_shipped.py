"""The translators that ship: they load, say again what they said, beat their baseline, and keep their figures.
随附的翻译模型：能载入、复现记录的输出、胜过基线，并与结果文件一致。
"""

import json
import shlex

import pytest
import torch

from chapter_07_attention_mechanism.tasks.translate import bleu
from chapter_08_transformer_vanilla import inference
from chapter_08_transformer_vanilla.dataset import load_pairs
from chapter_08_transformer_vanilla.shipped import CHECKPOINTS, build, load_translator
from chapter_08_transformer_vanilla.translating import translate
from utils.checkpoint import load_model
from utils.data import default_data_root

CPU, DATA = torch.device("cpu"), default_data_root()
SETS = {"de-en": "multi30k", "zh-en": "cmn_eng"}
MARGINS = {"de-en": 15.0, "zh-en": 3.0}  # of BLEU, beyond the translation of the most similar sentence
SENTENCES = {
    "de-en": [
        ("Ein Hund rennt durch den Schnee.", {"dog", "snow"}),
        ("Zwei Kinder spielen Fußball.", {"children", "soccer"}),
    ],
    "zh-en": [("我喜欢学习。", {"i", "like"}), ("他是我的朋友。", {"he", "friend"})],
}


def path_of(pair):
    return CHECKPOINTS / f"translate_{pair.replace('-', '_')}.pth"


SHIPPED = [
    pytest.param(pair, marks=pytest.mark.skipif(not path_of(pair).exists(), reason=f"{pair} is not here yet"))
    for pair in SETS
]


def final_of(pair):
    path = CHECKPOINTS.parent / "results" / f"{path_of(pair).stem}.json"
    return json.loads(path.read_text(encoding="utf-8"))["final"]


@pytest.mark.parametrize("pair", SHIPPED)
def test_a_model_says_the_same_again(pair):
    model, about = load_model(path_of(pair), build, CPU)
    source, target = torch.tensor([about["probe_source"]]), torch.tensor([about["probe_target"]])
    with torch.no_grad():
        logits = model(source, torch.tensor([source.shape[1]]), target)[0, -1]
    torch.testing.assert_close(logits[: len(about["probe"])], torch.tensor(about["probe"]), rtol=1e-3, atol=1e-3)
    final = final_of(pair)
    assert about["bleu"] == final["bleu"] > final["bleu_nearest"] + MARGINS[pair]
    assert final["n_parameters"] == sum(p.numel() for p in model.parameters()) <= 4_200_000
    assert path_of(pair).stat().st_size <= 9_000_000


@pytest.mark.parametrize("pair", SHIPPED)
def test_a_model_translates(pair):
    translator = load_translator(pair, None, CPU)
    sources = [source for source, _ in SENTENCES[pair]]
    answers = translate(translator.model, translator.tokenizer, sources, CPU, beam=5)
    for answer, (_, words) in zip(answers, SENTENCES[pair], strict=True):
        assert words <= set(answer.lower().strip(".").split())
    assert not any(translator.looks_foreign(source) for source in sources)
    assert translator.looks_foreign("There are two people sitting at the table and talking.")


@pytest.mark.parametrize("pair", SHIPPED)
def test_its_score_is_what_is_said(pair):
    if not (DATA / SETS[pair]).exists():
        pytest.skip(f"{SETS[pair]} is not here")
    translator, final = load_translator(pair, None, CPU), final_of(pair)
    pairs = load_pairs(pair, "full", DATA)[2]
    assert len(pairs) == final["test_count"]
    sources = [source for source, _ in pairs]
    answers = translate(translator.model, translator.tokenizer, sources, CPU, beam=1)  # quicker than with a beam
    assert bleu(answers, pairs) == pytest.approx(final["bleu_greedy"], abs=0.1)


@pytest.mark.skipif(not path_of("de-en").exists(), reason="de-en is not here yet")
def test_the_quick_start_prints_what_the_page_shows(tmp_path, capsys):
    page = (CHECKPOINTS.parent / "README.md").read_text(encoding="utf-8").split("## Quick start")[1]
    command, shown = page.split("```")[1:4:2]
    inference.main([*shlex.split(command)[3:], "--out_dir", str(tmp_path)])
    assert shown.strip("\n") in capsys.readouterr().out
