"""Fails until summarize.py is solved.
在 summarize.py 完成之前，这里的测试不会通过。
"""

import torch

from chapter_07_attention_mechanism.exercises.summarize import copy_distribution, extend

VOCABULARY = {"the": 0, "dog": 1, "barked": 2}
TEXT = "Zyzzy the dog barked at Kowalczyk Zyzzy barked".split()


def test_unknown_words_get_numbers_of_their_own():
    numbers, unknown = extend(TEXT, VOCABULARY)
    assert unknown == ["Zyzzy", "at", "Kowalczyk"] and numbers == [3, 0, 1, 2, 4, 5, 3, 2]
    assert extend(["dog"], VOCABULARY) == ([1], []) and extend([], VOCABULARY) == ([], [])
    assert VOCABULARY == {"the": 0, "dog": 1, "barked": 2}, "the vocabulary is everybody's: do not change it"


def test_a_name_gets_the_weights_of_all_its_places():
    numbers, unknown = extend(TEXT, VOCABULARY)
    weights = torch.tensor([[0.4, 0.0, 0.1, 0.1, 0.0, 0.0, 0.3, 0.1]])
    own = torch.tensor([[0.5, 0.3, 0.2]])
    p = copy_distribution(own, weights, torch.tensor([[0.3]]), torch.tensor(numbers), len(unknown))
    expected = [0.3 * 0.5, 0.3 * 0.3 + 0.7 * 0.1, 0.3 * 0.2 + 0.7 * 0.2, 0.7 * 0.7, 0.0, 0.0]
    torch.testing.assert_close(p, torch.tensor([expected]))


def test_rows_add_up_to_one_and_gradients_reach_everything():
    torch.manual_seed(0)
    own = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    gate = torch.rand(4, 1, dtype=torch.float64, requires_grad=True)
    numbers, unknown = extend(TEXT, VOCABULARY)
    p = copy_distribution(own.softmax(1), scores.softmax(1), gate, torch.tensor(numbers), len(unknown))
    torch.testing.assert_close(p.sum(1), torch.ones(4, dtype=torch.float64))
    for gradient in torch.autograd.grad(p[:, 3].log().sum(), (own, scores, gate), allow_unused=True):
        assert gradient is not None and gradient.isfinite().all()


def test_an_open_gate_leaves_the_models_own_words():
    own, weights = torch.tensor([[0.5, 0.3, 0.2]]), torch.full((1, 2), 0.5)
    p = copy_distribution(own, weights, torch.ones(1, 1), torch.tensor([3, 0]), 1)
    torch.testing.assert_close(p, torch.tensor([[0.5, 0.3, 0.2, 0.0]]))
