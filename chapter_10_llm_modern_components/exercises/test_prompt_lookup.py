"""Fails until prompt_lookup.py is solved.
在 prompt_lookup.py 完成之前，这里的测试不会通过。
"""

from chapter_10_llm_modern_components.exercises.prompt_lookup import accept_greedily, propose


def best(ids):
    """Stands for the large model: its favourite next token, from the last two."""
    return (ids[-1] + ids[-2]) % 5


def test_the_latest_place_counts():
    assert propose([4, 5, 6, 4, 5, 7, 8, 4, 5], n=2, k=3) == [7, 8, 4]
    assert propose([4, 5, 6, 4, 5], n=2, k=9) == [6, 4, 5]
    assert propose([1, 1, 1], n=2, k=4) == [1]
    assert propose([1, 2, 3], n=2, k=4) == propose([7], n=2, k=4) == []


def test_the_draft_is_believed_up_to_its_first_mistake():
    assert accept_greedily([5, 6, 7], [5, 6, 7, 8]) == [5, 6, 7, 8]
    assert accept_greedily([5, 6, 7], [5, 9, 7, 8]) == [5, 9]
    assert accept_greedily([5], [4, 6]) == [4]
    assert accept_greedily([], [3]) == [3]


def test_the_text_is_that_of_the_large_model():
    """One token says too little about the next, and most drafts are wrong; two say all."""
    wanted = [2, 3]
    while len(wanted) < 80:
        wanted.append(best(wanted))
    for n, most in ((1, 78), (2, 32)):
        ids, n_steps = [2, 3], 0
        while len(ids) < 80:
            draft = propose(ids, n, k=4)
            ids += accept_greedily(draft, [best(ids + draft[:i]) for i in range(len(draft) + 1)])
            n_steps += 1
        assert ids[:80] == wanted and n_steps <= most
