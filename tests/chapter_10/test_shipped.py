"""The pre-trained models that ship: small, with the figures of their results, and still the writers of their samples.
随附的预训练模型：足够小，与结果文件一致，仍写得出那些样本。
"""

import json
import re

import pytest
import torch

from chapter_10_llm_modern_components.model import build_model
from chapter_10_llm_modern_components.pretraining import END_OF_TEXT, bits_per_byte, mean_loss
from chapter_10_llm_modern_components.pretraining.corpora import stories
from chapter_10_llm_modern_components.shipped import CHECKPOINTS, load_learner
from utils.checkpoint import read_model
from utils.data import default_data_root

CPU, RESULTS, DATA = torch.device("cpu"), CHECKPOINTS.parent / "results", default_data_root()
LARGEST = {"stories": 11_000_000, "code": 8_000_000}  # bytes
FILES = [CHECKPOINTS / f"{corpus}.pth" for corpus in LARGEST if (CHECKPOINTS / f"{corpus}.pth").exists()]


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_it_is_small_and_keeps_its_figures(path):
    model, about = read_model(path, build_model)
    final = json.loads((RESULTS / f"pretrain_{path.stem}.json").read_text(encoding="utf-8"))["final"]
    assert path.stat().st_size <= LARGEST[path.stem]
    assert sum(p.numel() for p in model.parameters()) == final["n_parameters"] <= 5_000_000
    others = [final[f"bits_per_byte_{name}"] for name in ("ngram", "xz_primed", "xz")]
    assert final["bits_per_byte"] == about["bits_per_byte"] < min(others)


def test_its_samples_are_its_own(path):
    """What a model has drawn at temperature 0.8 it finds likely; what another one has, it does not."""
    writer, text = load_learner(path, CPU), (RESULTS / f"samples_{path.stem}.txt").read_text(encoding="utf-8")
    samples = [part.strip() for part in re.split(r"^--- \d+ ---\n", text, flags=re.MULTILINE)[1:]]
    ids = [torch.tensor([writer.tokenizer.special[END_OF_TEXT], *writer.tokenizer.encode(part)]) for part in samples]
    assert len(samples) == 10
    assert mean_loss(writer.model, ids, 512) < 3.5  # nats a token; equal chances would be 8.3
    assert mean_loss(writer.model, [i.flip(0) for i in ids], 512) > 5


def test_it_foresees_the_books_that_were_held_out():
    if CHECKPOINTS / "stories.pth" not in FILES or not (DATA / "childrens_books").exists():
        pytest.skip("the weights or the books are not here")
    writer = load_learner(None, CPU)
    expected = json.loads((RESULTS / "pretrain_stories.json").read_text(encoding="utf-8"))["final"]["bits_per_byte"]
    middle = [book[len(book) // 2 :][:30_000] for book in stories(DATA).held_out]
    assert bits_per_byte(writer.model, writer.tokenizer, middle, 512) == pytest.approx(expected, abs=0.08)
