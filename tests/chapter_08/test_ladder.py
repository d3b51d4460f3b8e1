"""The four rungs are one model: logits, gradients, steps; and what they learn from.
四级实现是同一个模型：logits、梯度、每一步更新都相同；以及它们所学的数据。
"""

import json
import math
import subprocess
import sys
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from chapter_06_rnn_lstm_seq.baselines.ngram import KneserNey
from chapter_08_transformer_vanilla.engine_gpt import EngineGPT
from chapter_08_transformer_vanilla.names import FILES, LONGEST, TOY, decode, encode, load_names, padded
from chapter_08_transformer_vanilla.scalar_gpt import Value, flat
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from tests.chapter_08.test_layers import shake_
from tests.conftest import ROOT, load_script
from utils.errors import UserError

LADDER = load_script(ROOT / "chapter_08_transformer_vanilla" / "ladder.py")
RESULTS = ROOT / "chapter_08_transformer_vanilla" / "results" / "ladder.json"
BATCHES = [["anna", "bo", "christopher"], ["zoe"], ["adam", "eve"]]


def small_model(n_layers: int, n_heads: int) -> Transformer:
    shape = LADDER.SHAPE | {"d_model": 4, "d_ff": 6, "n_decoder_layers": n_layers, "n_heads": n_heads}
    model = Transformer(TransformerConfig(**shape))
    shake_(model)
    return model.double()


def encoded(names):
    return [encode(name) for name in names]


@pytest.mark.parametrize(("n_layers", "n_heads"), [(1, 1), (1, 4), (3, 2)])
@pytest.mark.parametrize("names", [*BATCHES, ["a"]], ids="-".join)
def test_the_engines_logits_and_gradients_are_pytorchs(names, n_layers, n_heads):
    model = small_model(n_layers, n_heads)
    engine = EngineGPT(LADDER.arrays(model), n_heads)
    inputs, targets = padded(encoded(names))

    logits = model(torch.from_numpy(inputs))
    np.testing.assert_allclose(engine.forward(inputs).data, logits.detach().numpy(), rtol=0, atol=1e-10)
    loss = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())
    loss.backward()
    ours = engine.loss(encoded(names))
    ours.backward()
    assert ours.item() == pytest.approx(loss.item(), abs=1e-10)
    theirs = dict(model.named_parameters())
    assert theirs.keys() == engine.weights.keys()
    for name, p in theirs.items():
        np.testing.assert_allclose(engine.weights[name].grad.data, p.grad.numpy(), rtol=0, atol=1e-10, err_msg=name)


def test_three_rungs_take_the_same_steps():
    rungs = LADDER.make_rungs(small_model(2, 2))
    batches = [encoded(names) for names in BATCHES]
    losses = {name: LADDER.climb(name, rungs[name], batches)[0] for name in ("scalar", "engine", "torch")}
    assert losses["engine"] == pytest.approx(losses["scalar"], abs=1e-10)
    assert losses["torch"] == pytest.approx(losses["scalar"], abs=1e-10)
    for name, array in LADDER.arrays(rungs["torch"].model).items():
        scalars = [value.data for value in flat(rungs["scalar"].weights[name])]
        np.testing.assert_allclose(scalars, array.ravel(), rtol=0, atol=1e-10, err_msg=name)
        np.testing.assert_allclose(rungs["engine"].weights[name].data, array, rtol=0, atol=1e-10, err_msg=name)


def test_bfloat16_stays_beside_them():
    """It has 8 binary digits, so a logit of size 4 is off by up to 0.02, and a loss by no more than that."""
    torch.manual_seed(0)
    rungs = LADDER.make_rungs(Transformer(LADDER.TINY).double())
    batches = [encoded(names) for names in BATCHES]
    losses = {name: np.array(LADDER.climb(name, rungs[name], batches)[0]) for name in ("torch", "bf16")}
    assert 0 < np.abs(losses["bf16"] - losses["torch"]).max() < 0.02


def test_a_scalar_knows_its_derivatives():
    x, y = Value(3.0), Value(-2.0)
    (x * x).backward()
    assert x.grad == 6.0

    def function(x, y):
        return (((x * y + 10.0) ** -0.5).exp() + x.log() * y.relu() + (x * 0.5).relu()) * x

    inputs = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (3.0, -2.0)]
    wanted = function(*inputs)
    wanted.backward()
    x, y = Value(3.0), Value(-2.0)
    result = function(x, y)
    result.backward()
    assert result.data == pytest.approx(wanted.item(), abs=1e-12)
    assert [x.grad, y.grad] == pytest.approx([value.grad.item() for value in inputs], abs=1e-12)


def test_anna_makes_as_many_numbers_as_said(monkeypatch):
    scalar, made, init = LADDER.make_rungs(Transformer(LADDER.TINY).double())["scalar"], [], Value.__init__
    monkeypatch.setattr(Value, "__init__", lambda self, *args: made.append(None) or init(self, *args))
    scalar.loss(encoded(["anna"]))
    for readme in ("README.md", "README.zh-CN.md"):
        assert f"{len(made):,}" in (RESULTS.parents[1] / readme).read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["scalar_gpt", "engine_gpt"])
def test_the_lower_rungs_need_no_pytorch(module):
    code = f"import sys, chapter_08_transformer_vanilla.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_engine_learns_and_writes_names():
    torch.manual_seed(0)
    train, held_out = load_names("toy", ROOT)
    engine = EngineGPT(LADDER.arrays(Transformer(LADDER.TINY)), LADDER.TINY.n_heads)
    rng = np.random.default_rng(0)
    LADDER.climb("engine", engine, LADDER.draw_batches(train, 150, 16, rng))
    assert LADDER.held_out_loss(engine, held_out) < math.log(27) - 0.7
    names = LADDER.invent(engine, 5, seed=0)
    assert names == LADDER.invent(engine, 5, seed=0) and len(set(names)) > 1
    assert all(len(name) <= LONGEST + 1 for name in names)


def test_no_name_is_learned_and_held_out(tmp_path):
    many = [f"{a}{b}{c}{d}" for a in "ABCDEFGHIJ" for b in "aeiouy" for c in "bcdfghjklm" for d in "aeiouy"]
    lists = ["\n".join([*many, *more]) for more in (["Ann-Marie", "Zoë", "Dee Dee", "A" * 16], ["Zed", *many])]
    (tmp_path / "names").mkdir()
    with ZipFile(tmp_path / "names" / "names.zip", "w") as archive:
        for name, text in zip(FILES, lists, strict=True):
            archive.writestr(f"names/{name}", text)
    for dataset, count in (("full", len(many) + 1), ("toy", len(set(TOY.split())))):
        train, held_out = load_names(dataset, tmp_path)
        assert len({*train, *held_out}) == len(train) + len(held_out) == count
        assert len(held_out) == math.ceil(count / 10)
        assert all(decode(encode(name)) == name for name in train + held_out)
    for name in FILES:
        (tmp_path / "names" / name).write_text("Anna\n", encoding="utf-8")
    with pytest.raises(UserError, match="2 names"):
        load_names("full", tmp_path)


def test_an_n_gram_model_takes_each_name_by_itself():
    train, held_out = load_names("toy", ROOT)
    learned, new = (
        torch.tensor([token for name in names for token in encode(name)[1:]]) for names in (train, held_out)
    )
    start = torch.zeros(1, dtype=torch.int64)
    bigram = KneserNey(torch.cat([start, learned]), 27, 2).loss(new, start)
    assert LADDER.ngram_loss(2, train, held_out) == pytest.approx(bigram, abs=1e-12)
    alone = [LADDER.ngram_loss(3, train, [name]) for name in held_out]
    together = np.average(alone, weights=[len(name) + 1 for name in held_out])
    assert LADDER.ngram_loss(3, train, held_out) == pytest.approx(together, abs=1e-12)


@pytest.mark.skipif(not RESULTS.exists(), reason="the ladder has not been climbed")
def test_the_published_ladder_is_one_curve():
    final = json.loads(RESULTS.read_text(encoding="utf-8"))["final"]
    assert max(final["logits_difference"], final["gradients_difference"]) < 1e-10
    assert max(final["engine_difference"], final["torch_difference"]) < 1e-10
    assert final["bf16_mean_difference"] < 0.1 and abs(final["bf16_held_out_loss"] - final["held_out_loss"]) < 0.02
    assert final["more_held_out_loss"] < final["held_out_loss"] < final["uniform_held_out_loss"]
    assert final["engine_speedup"] > 10
    for name, patterns in LADDER.FILES.items():  # a few lines more or less since then are no untruth
        assert final[f"{name}_lines"] == pytest.approx(LADDER.count_lines(patterns), rel=0.05), name
    for readme in ("README.md", "README.zh-CN.md"):
        text = (RESULTS.parents[1] / readme).read_text(encoding="utf-8")
        assert " ".join(final["more_names"]) in " ".join(text.split()), f"{readme} shows other names"
