"""Translation: batches, scores, alignments, texts that are too long, and a toy language that is learned.
翻译：批次、评分、对齐、过长的文本，以及一种学得会的小语言。
"""

import pytest
import torch

from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID
from chapter_08_transformer_vanilla.baselines import nearest
from chapter_08_transformer_vanilla.shipped import untrained
from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_08_transformer_vanilla.tasks.translate import Translate
from chapter_08_transformer_vanilla.translating import alignment, language_odds, split_text, translate, write

CPU = torch.device("cpu")
CONFIG = {"d_model": 8, "n_heads": 2, "d_ff": 8, "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.0}


@pytest.fixture(scope="module")
def task():
    return Translate("de-en", "toy", None, 350, CONFIG, 300, beam=2, length_penalty=1.0, device=CPU)


@pytest.fixture(scope="module")
def model(task):
    torch.manual_seed(0)
    return task.build().eval()


def test_batches_say_what_their_pairs_say(task):
    torch.manual_seed(0)
    (source, lengths, target), following = task.batch()
    assert source.numel() <= 300 and target.numel() <= 300 and lengths.max() == source.shape[1]
    for row, length, given, wanted in zip(
        source.tolist(), lengths.tolist(), target.tolist(), following.tolist(), strict=True
    ):
        n = wanted.index(EOS_ID)
        german, english = task.tokenizer.decode(row[:length]), task.tokenizer.decode(wanted[:n])
        assert (german, english) in task.train and row[length - 1] == EOS_ID
        assert given[0] == BOS_ID and given[1 : n + 1] == wanted[:n] and set(wanted[n + 1 :]) <= {IGNORED}


def test_the_same_seed_draws_the_same_batch(task):
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(task.batch()[0][0])
    assert torch.equal(*drawn)


def test_epochs_count_how_often_a_pair_comes(task):
    steps = 200
    torch.manual_seed(0)
    seen = sum(len(task.batch()[1]) for _ in range(steps))
    assert seen / len(task.train) == pytest.approx(task.n_epochs(steps), rel=0.1)


def test_the_loss_is_a_mean_over_tokens(task, model):
    pairs = task.validation[:7]
    one_by_one = [(task.loss(model, [pair]), len(task.tokenizer.encode(pair[1])) + 1) for pair in pairs]
    mean = sum(loss * n for loss, n in one_by_one) / sum(n for _, n in one_by_one)
    assert task.loss(model, pairs) == pytest.approx(mean, rel=1e-5)


def test_a_beam_of_one_is_greedy_decoding_and_batches_change_nothing(task, model):
    sources = task.encode(task.test[:20])[0]
    together = write(model, sources, CPU, beam=1)
    for source, answer in zip(sources[:5], together, strict=False):
        [alone] = write(model, [source], CPU, beam=1)  # one that does not end is cut by its own length
        assert answer[: len(alone)] == alone
        target = torch.tensor([[BOS_ID, *answer]])
        logits = model(torch.tensor([source]), torch.tensor([len(source)]), target)[0]
        assert logits[: len(answer)].argmax(dim=-1).tolist() == answer


def test_nothing_translates_to_nothing(task, model):
    answers = translate(model, task.tokenizer, ["", task.test[0][0], " \n"], CPU, beam=2)
    assert answers[0] == answers[2] == "" and isinstance(answers[1], str)


def test_the_copied_reference_scores_100(task, model, monkeypatch):
    """Cased where the case is right, lower-cased in any case."""
    references = dict(task.test)
    monkeypatch.setattr(task, "answers", lambda model, pairs, beam: [dict(pairs)[s].upper() for s, _ in pairs])
    final = task.evaluate(model)
    assert final["bleu"] == final["bleu_greedy"] == pytest.approx(100) and final["bleu_cased"] < 50
    assert final["test_count"] == len(references) == sum(row["count"] for row in final["by_length"])
    assert final["signature"].split("|")[1] == "case:lc" and final["signature_cased"].split("|")[1] == "case:mixed"


def test_the_nearest_sentence_is_found():
    known = [[5, 6], [5, 6, 7, 8], [9], [6, 6, 6]]
    assert nearest([[6, 5], [8, 7, 6], [9, 9], [6]], known, 10) == [0, 1, 2, 3]


def test_the_baseline_knows_the_training_pairs(task, monkeypatch):
    monkeypatch.setattr(task, "test", task.train[:30])
    assert task.baselines()["bleu_nearest"] == pytest.approx(100)


def test_each_piece_is_written_from_somewhere(task, model):
    [source], [answer] = task.encode(task.test[:1])
    weights = alignment(model, source, answer, CPU)
    assert weights.shape == (len(answer), len(source))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(answer)))


@pytest.mark.parametrize("limit", [3, 10, 25])
def test_long_texts_are_cut_where_it_hurts_least(limit):
    texts = ["One two. Three, four five six! Seven?", "一二三。四五六，七八九十。", "x" * 40, "a b " * 20, "", "?"]
    for text in texts:
        parts = split_text(text, lambda part: len(part) <= limit)
        assert "".join(parts) == text and all(len(part) <= limit for part in parts)
    assert split_text("One two. Three, four five six! Seven?", lambda part: len(part) <= 20) == [
        "One two. ",
        "Three, ",
        "four five six! ",
        "Seven?",
    ]
    assert split_text("一二三。四五六，七八九十。", lambda part: len(part) <= 6) == [
        "一二三。",
        "四五六，",
        "七八九十。",
    ]


def test_languages_are_told_apart(task):
    translator = untrained("de-en", task.train[:300], CPU)
    assert not translator.looks_foreign("Heute sieht ein Mann eine Katze.")
    assert translator.looks_foreign("A man sees a cat today.") and translator.looks_foreign("今天")
    odds = language_odds([[3, 3, 4]], [[4, 5]], 6)
    assert odds[3] > 0 > odds[5] and odds[3] == pytest.approx(torch.tensor((3 / 9) / (1 / 8)).log().item(), abs=0.01)


def test_a_toy_language_is_learned():
    """Of 10,800 sentences 2,000 are shown; the test is on others."""
    torch.manual_seed(0)
    config = {"d_model": 32, "n_heads": 2, "d_ff": 32, "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.0}
    task = Translate("de-en", "toy", None, 420, config, 1000, beam=2, length_penalty=1.0, device=CPU)
    model = task.build()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(160):
        inputs, following = task.batch()
        loss = torch.nn.functional.cross_entropy(model(*inputs).flatten(0, 1), following.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    final = task.evaluate(model) | task.baselines()
    assert final["bleu"] > 80 > final["bleu_nearest"] + 20  # measured: 91 and 49
