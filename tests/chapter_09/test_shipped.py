"""The language models that ship: they load, say again what they said, and keep their figures and bytes.
随附的语言模型：能载入、复现记录的输出，并与结果文件和字节数一致。
"""

import json

import pytest
import torch

from chapter_06_rnn_lstm_seq.dataset import shakespeare
from chapter_09_efficient_attention.costs import kept_bytes
from chapter_09_efficient_attention.language import CharacterTask
from chapter_09_efficient_attention.model import build_decoder
from chapter_09_efficient_attention.shipped import CHECKPOINTS
from utils.checkpoint import load_model
from utils.data import default_data_root

CPU, DATA = torch.device("cpu"), default_data_root()
FILES = sorted(CHECKPOINTS.glob("*.pth"))
EXPECTED = CHECKPOINTS.parent / "results" / "quality.json"


@pytest.fixture(scope="module")
def results():
    if not EXPECTED.exists() or not FILES:
        pytest.skip("quality.json or the weights are not here")
    return json.loads(EXPECTED.read_text(encoding="utf-8"))


def row_of(model, results):
    return next(row for row in results["per_seed"] if row["attention"] == model.config.attention)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@torch.no_grad()
def test_a_model_says_the_same_again(path, results):
    model, about = load_model(path, build_decoder, CPU)
    ids = torch.tensor(about["probe_text"])
    torch.testing.assert_close(model(ids[None])[0][0, -1], torch.tensor(about["probe"]), rtol=1e-3, atol=1e-3)
    caches = model.new_caches(len(ids))
    steps = [model(part, caches)[0][0, -1] for part in ids[None].split(1, dim=1)]
    torch.testing.assert_close(steps[-1], torch.tensor(about["probe"]), rtol=1e-3, atol=1e-3)
    row, n = row_of(model, results), results["final"]["cache_tokens"]
    assert about["val_loss"] == row["val_loss"] < 1.75
    assert kept_bytes(model, torch.zeros(n, dtype=torch.long)) == results["final"][f"{path.stem}_cache_bytes"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_loss_is_what_is_said(path, results):
    if not (DATA / "tinyshakespeare").exists():
        pytest.skip("tinyshakespeare is not here")
    model, about = load_model(path, build_decoder, CPU)
    task = CharacterTask(shakespeare(DATA), 1, results["flags"]["length"], CPU)
    assert task.characters == about["characters"]
    measured = row_of(model, results)["history"][-1]["val_loss"]  # on these windows, before the weights were rounded
    assert task.loss(model, 64)[0] == pytest.approx(measured, abs=0.005)


def test_what_ships_is_small(results):
    assert len(FILES) >= 4 and sum(path.stat().st_size for path in FILES) <= 6_000_000
    assert results["final"]["mha_val_loss"] <= 1.60 and results["final"]["n_seeds"] >= 2
    assert sum(name.endswith("_val_loss") for name in results["final"]) >= 9
