"""Words, bags of words and the sentiment network.
单词、词袋与情感网络。
"""

import itertools
import math

import pytest
import torch

from chapter_02_nn_basics_mlp.linear_models import logistic_newton
from chapter_06_rnn_lstm_seq.baselines.naive_bayes import BagOfWords, log_count_ratio, ngrams
from chapter_06_rnn_lstm_seq.dataset import polarity
from chapter_06_rnn_lstm_seq.model import SentimentConfig, SentimentNet
from chapter_06_rnn_lstm_seq.sentiment import positive_probability, sentence_logits
from chapter_06_rnn_lstm_seq.tasks import sentiment as task_module
from chapter_06_rnn_lstm_seq.toy import toy_sentences
from chapter_06_rnn_lstm_seq.words import MAX_WORDS, Vocabulary, pieces, tokenize
from utils.data import default_data_root

CPU = torch.device("cpu")
OPTIONS = {"cell": "gru", "bidirectional": True, "hidden_size": 8, "n_layers": 1, "dropout": 0.0, "input_dropout": 0.0}
needs_polarity = pytest.mark.skipif(
    not (default_data_root() / "polarity" / "sentence_polarity.zip").exists(), reason="sentence polarity is not here"
)


def test_words_and_signs():
    assert tokenize("It’s a must-see , don't miss it!") == ["it's", "a", "must-see", ",", "don't", "miss", "it", "!"]
    assert tokenize("  ") == [] and len(tokenize("a " * 9999)) == MAX_WORDS
    assert pieces("go") == ["<go", "go>", "<go>"]
    assert set(pieces("a")) == {"<a>"} and pieces("x" * 10_000)[-1] == "xxxx>"


def test_numbers_of_words_and_pieces():
    vocabulary = Vocabulary.build([["good", "film"], ["good", "plot"], ["good", "film"]], min_count=2, n_buckets=11)
    assert vocabulary.words == ["good", "film"] and len(vocabulary) == 13
    assert vocabulary.parts("good")[0] == 0 and all(2 <= part < 13 for part in vocabulary.parts("good")[1:])
    assert all(part >= 2 for part in vocabulary.parts("plot"))
    parts, starts, lengths = vocabulary.encode([["good", "plot"], [], ["film"]])
    assert lengths.tolist() == [2, 1, 1] and starts[0] == 0 and starts[-1] == len(parts) and len(starts) == 5
    assert parts[: starts[1]].tolist() == vocabulary.parts("good")
    assert parts[starts[3] :].tolist() == vocabulary.parts("film")


def test_a_words_vector_is_the_mean_of_its_parts():
    torch.manual_seed(0)
    vocabulary = Vocabulary(["good"], 7)
    model = SentimentNet(SentimentConfig(1, 7, hidden_size=4)).eval()
    seen = []
    model.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(*vocabulary.encode([["good", "x"], ["x"]]))
    wanted = model.embedding.weight[vocabulary.parts("good")].mean(dim=0)
    torch.testing.assert_close(seen[0][0, 0], wanted)
    assert (seen[0][1, 1] == 0).all()


def test_an_answer_does_not_depend_on_the_others():
    torch.manual_seed(0)
    vocabulary = Vocabulary(["good"], 50)
    model = SentimentNet(SentimentConfig(1, 50, hidden_size=6))
    sentences = ["good", "a good long sentence about nothing much", "", "!"]
    together = positive_probability(model, vocabulary, sentences)
    alone = torch.cat([positive_probability(model, vocabulary, [sentence]) for sentence in sentences])
    torch.testing.assert_close(together, alone)
    assert positive_probability(model, vocabulary, []).shape == (0,)


# --- bags of words ----------------------------------------------------------------------------------------------------


def test_log_count_ratio_by_hand():
    r = log_count_ratio(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert r.tolist() == pytest.approx([math.log((4 / 5) / (2 / 4)), math.log((1 / 5) / (2 / 4))])


def test_runs_of_words():
    assert ngrams(["not", "so", "not"], 2) == {"not", "so", "not so", "so not"}


def test_a_plain_bag_is_chapter_2s_logistic_regression():
    sentences, labels, _ = toy_sentences(60)
    flipped = labels.clone()
    flipped[::7] = 1 - flipped[::7]  # so that no plane separates them
    words = [sentence.split() for sentence in sentences]
    bag = BagOfWords(longest=1, weighted=False, min_count=1, l2=0.05).fit(words, flipped)
    x = torch.tensor([[float(feature in sentence) for feature in bag.index] for sentence in words])
    w, _ = logistic_newton(x.double(), flipped.double(), l2=0.05)
    scores = x.double() @ w[:-1] + w[-1]
    torch.testing.assert_close(bag.scores(words).double(), scores, rtol=1e-2, atol=2e-3)


def test_weights_of_naive_bayes_make_up_for_few_sentences():
    bag = BagOfWords(longest=2, weighted=True, min_count=1).fit(
        [["good"], ["bad"], ["good", "so"]], torch.tensor([1, 0, 1])
    )
    scores = bag.scores([["good"], ["bad"], ["never", "seen"]])
    assert scores[0] > scores[2] > scores[1]


# --- the task ---------------------------------------------------------------------------------------------------------


def words_in_common(tasks):
    return {" ".join(s) for s in tasks.train[0]} & {" ".join(s) for s in tasks.measured[0]}


@pytest.mark.parametrize("split", ["test", "validation"])
@needs_polarity
def test_no_sentence_is_in_two_splits(split):
    sentences, labels, tenths = polarity(default_data_root())
    assert len(sentences) == 10662 and labels.sum() == 5331
    task = task_module.tasks("full", default_data_root(), split, OPTIONS, 8, CPU)[0]
    assert not words_in_common(task)
    assert len(task.measured[0]) == (1068 if split == "test" else 1066)
    assert len(task.train[0]) == 10662 - (1068 if split == "test" else 1068 + 1066)
    assert not set(task.vocabulary.words) - set(itertools.chain.from_iterable(task.train[0]))


def test_it_learns_the_toy_sentences():
    torch.manual_seed(0)
    task = task_module.tasks("toy", None, "test", OPTIONS, 16, CPU)[0]
    model = task.build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        inputs, labels = task.batch()
        loss = task.loss(model(*inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert task.evaluate(model)["accuracy"] == 1
    logits = sentence_logits(
        model, task.vocabulary, [tokenize("the plot is lifeless"), tokenize("her role is brilliant")]
    )
    assert logits.argmax(dim=1).tolist() == [0, 1]
