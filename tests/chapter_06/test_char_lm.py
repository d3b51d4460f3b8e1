"""The language model and what it is compared with: windows, carried states, resuming, n-grams.
语言模型及其对照：数据窗口、状态传递、断点续训与 n 元模型。
"""

import json
import math
from collections import Counter

import pytest
import torch

from chapter_06_rnn_lstm_seq import train
from chapter_06_rnn_lstm_seq.baselines.ngram import KneserNey
from chapter_06_rnn_lstm_seq.dataset import decode, encode, split_text
from chapter_06_rnn_lstm_seq.model import LanguageModel, LanguageModelConfig
from chapter_06_rnn_lstm_seq.tasks.char_lm import CharLM, Streams, text_loss
from chapter_06_rnn_lstm_seq.toy import toy_text
from utils.errors import UserError

CPU = torch.device("cpu")


def test_characters_come_back():
    text = "wherefore art thou?\n"
    characters = "".join(sorted(set(text)))
    assert decode(encode(text, characters), characters) == text
    with pytest.raises(UserError, match="'Z'"):
        encode("Zounds", characters)


def test_the_split_leaks_nothing():
    text = toy_text()
    train_text, valid_text = split_text(text)
    assert train_text + valid_text == text and len(train_text) == int(0.9 * len(text))


def test_streams_walk_through_the_text():
    ids = torch.arange(100)
    streams = Streams(ids, batch_size=3, length=5)
    windows = [streams.next() for _ in range(7)]
    for x, y, _ in windows:
        assert x.shape == y.shape == (3, 5)
        assert torch.equal(y, (x + 1) % 100)
    begins = [begin for *_, begin in windows]
    assert begins == [True] + [False] * 5 + [True]  # 33 tokens a stream hold 6 windows
    for (before, *_), (after, *_) in zip(windows[:5], windows[1:6], strict=True):
        assert torch.equal(after[:, 0], (before[:, -1] + 1) % 100)
    with pytest.raises(ValueError, match="streams"):
        Streams(ids, batch_size=20, length=5)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mingru"])
def test_a_carried_state_is_as_good_as_one_long_pass(cell):
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(7, cell, 5, 6, n_layers=2)).double()
    ids = torch.randint(7, (41,))
    whole = text_loss(model, ids, chunk=40)
    assert math.isclose(text_loss(model, ids, chunk=3), whole, rel_tol=1e-12)
    logits, _ = model.eval()(ids[None, :-1])
    assert math.isclose(torch.nn.functional.cross_entropy(logits[0], ids[1:]).item(), whole, rel_tol=1e-12)


def test_the_model_sees_nothing_of_the_future():
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(7, "lstm", 5, 6)).eval()
    a = torch.randint(7, (1, 10))
    b = a.clone()
    b[0, 6:] = (b[0, 6:] + 1) % 7
    assert torch.equal(model(a)[0][:, :6], model(b)[0][:, :6])
    assert not torch.equal(model(a)[0][:, 6:], model(b)[0][:, 6:])


def test_a_mask_holds_for_a_whole_window():
    model = LanguageModel(LanguageModelConfig(7, "gru", 64, 6, input_dropout=0.5)).train()
    x = model.input_dropout(torch.ones(2, 9, 64))
    assert set(x.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(x, x[:, :1].expand_as(x)) and not torch.equal(x[0], x[1])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_it_learns_the_toy_text(cell):
    torch.manual_seed(0)
    config = {"cell": cell, "hidden_size": 32, "n_layers": 1, "dropout": 0.0, "input_dropout": 0.0}
    task = CharLM(toy_text(), config, batch_size=16, length=32, device=CPU)
    model = task.build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(120):
        inputs, targets = task.batch()
        loss = task.loss(model(*inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # a line is drawn from 5 * 5 * 5 * 3 and has about 29 characters: 0.2 nats each at best
    assert task.evaluate(model)["val_loss"] < 0.35
    assert task.baselines()["ngram_loss"] > 0.2


# --- n-grams ----------------------------------------------------------------------------------------------------------


def kneser_ney_by_hand(ids, n_tokens, order):
    """The definition with dictionaries, one n-gram at a time."""
    grams = {order: Counter(tuple(ids[i : i + order]) for i in range(len(ids) - order + 1))}
    for n in range(order - 1, 0, -1):
        grams[n] = Counter(gram[1:] for gram in grams[n + 1])

    def p(context, token, n=order):
        if n == 0:
            return 1 / n_tokens
        counts, times = grams[n], Counter(grams[n].values())
        context = context[len(context) - n + 1 :]
        following = {gram: count for gram, count in counts.items() if gram[:-1] == context}
        lower = p(context[1:], token, n - 1)
        if not following:
            return lower
        discount = times[1] / (times[1] + 2 * times[2]) if times[1] else 0
        own = max(counts[(*context, token)] - discount, 0)
        return (own + discount * len(following) * lower) / sum(following.values())

    return p


@pytest.mark.parametrize("order", [1, 2, 4])
def test_kneser_ney_equals_its_definition(order):
    ids = torch.randint(5, (60,), generator=torch.Generator().manual_seed(order)).square() % 7
    model, p = KneserNey(ids, 7, order), kneser_ney_by_hand(ids.tolist(), 7, order)
    for start in range(20):
        context = torch.randint(7, (order,), generator=torch.Generator().manual_seed(start))
        found = model.next_token(context)
        wanted = [p(tuple(context.tolist()), token) for token in range(7)]
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0)
        assert math.isclose(found.sum().item(), 1, rel_tol=1e-12)


def test_kneser_ney_of_the_example_in_the_theory():
    ids = encode("abababca", "abc")
    p = KneserNey(ids, 3, order=2).next_token(encode("b", "abc"))
    assert [round(v, 3) for v in p.tolist()] == [0.667, 0.083, 0.25]


def test_kneser_ney_knows_what_no_order_saw():
    model = KneserNey(torch.tensor([0, 1, 0, 1, 0, 1, 0, 2]), 4, 3)
    assert model.next_token(torch.tensor([0, 3])).sum() == pytest.approx(1)  # 3 was never seen
    with pytest.raises(ValueError, match="64 bits|fit"):
        KneserNey(torch.zeros(50, dtype=torch.long), 65, 11)


def test_an_n_gram_loses_nothing_at_the_seam():
    ids = encode(toy_text(), "".join(sorted(set(toy_text()))))
    model = KneserNey(ids[:5000], 30, 3)
    both = -model.probability(ids[4998:5101].unfold(0, 3, 1)).log()
    assert math.isclose(model.loss(ids[5000:5101], ids[:5000]), both.mean().item(), rel_tol=1e-12)


# --- the script -------------------------------------------------------------------------------------------------------


def test_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    flags = ["--dry_run", "--device", "cpu", "--max_steps", "6", "--out_dir"]
    train.main([*flags, str(tmp_path / "whole")])

    save, saved = train.save_state, []

    def save_and_die(*args):
        save(*args)
        saved.append(args)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "save_state", save_and_die)
        train.main([*flags, str(tmp_path / "broken")])
    train.main([*flags, str(tmp_path / "broken"), "--resume"])

    whole, resumed = (torch.load(tmp_path / name / "char_lm_lstm.pth") for name in ("whole", "broken"))
    assert all(torch.equal(whole["weights"][name], tensor) for name, tensor in resumed["weights"].items())
    results = [json.loads((tmp_path / name / "char_lm_lstm.json").read_text()) for name in ("whole", "broken")]
    losses = [[row["train_loss"] for row in result["history"]] for result in results]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    with pytest.raises(UserError, match="made with --max_steps 6"):
        train.main(
            ["--dry_run", "--device", "cpu", "--max_steps", "8", "--out_dir", str(tmp_path / "broken"), "--resume"]
        )
