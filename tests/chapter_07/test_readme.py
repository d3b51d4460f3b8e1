"""The README's plain code runs, gives the numbers that stand beside it, and equals the fast versions.
README 里的代码能运行，结果与旁边写的数字一致，并与快速实现相等。
"""

import ast
import re

import pytest
import torch

from chapter_07_attention_mechanism import visualize
from chapter_07_attention_mechanism.attention import (
    MultiHeadAttention,
    local_mask,
    masked_softmax,
    scaled_dot_product_attention,
)
from chapter_07_attention_mechanism.bleu import corpus_bleu
from chapter_07_attention_mechanism.decoder import mix_copies
from chapter_07_attention_mechanism.decoding import beam_search
from chapter_07_attention_mechanism.figures import lookup as lookup_figures
from chapter_07_attention_mechanism.figures import structure, writing
from chapter_07_attention_mechanism.tasks.shared import attention_entropy
from chapter_07_attention_mechanism.tasks.sort import ANSWERS, N_VALUES
from tests.conftest import ROOT

README = ROOT / "chapter_07_attention_mechanism" / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_blocks():
    """Run all blocks one after another, as a reader would; return what they define, and (code, value, stated value)."""
    names, stated = {}, []
    for block in BLOCKS:
        lines = block.splitlines()
        for node in ast.parse(block).body:
            code = ast.unparse(node)
            if not isinstance(node, ast.Expr):
                exec(code, names)
                continue
            comment = lines[node.end_lineno - 1].rpartition("  # ")[2]
            stated.append((code, eval(code, names), ast.literal_eval(comment)))
    return names, stated


NAMES, STATED = run_blocks()


def flat(value):
    return [x for part in value for x in flat(part)] if isinstance(value, (list, tuple)) else [value]


@pytest.mark.parametrize("code,value,expected", STATED, ids=[code for code, _, _ in STATED])
def test_results_are_those_beside_the_code(code, value, expected):
    assert len(flat(value)) == len(flat(expected))
    for found, wanted in zip(flat(value), flat(expected), strict=True):
        assert found == (wanted if isinstance(wanted, str) else pytest.approx(wanted, abs=5.1e-4, rel=1e-4))


def random_lists(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()


def close(plain, fast):
    torch.testing.assert_close(torch.tensor(plain, dtype=torch.float64), fast.double(), rtol=0, atol=1e-9)


def test_attention_is_the_fast_one():
    q, keys, values = random_lists(3), random_lists(5, 3), random_lists(5, 2)
    tensors = [torch.tensor(x, dtype=torch.float64) for x in ([q], keys, values)]
    for name, scale in (("lookup", 1.0), ("attention", None)):
        context, weights = scaled_dot_product_attention(*tensors, scale=scale)
        close(NAMES[name](q, keys, values)[0], context[0])
        close(NAMES[name](q, keys, values)[1], weights[0])


def test_additive_score_masks_and_entropy_are_the_fast_ones():
    q, keys = random_lists(2), random_lists(5, 2)
    score = lookup_figures.additive_example().double()
    fast = score(torch.tensor([[q]], dtype=torch.float64), score.prepare(torch.tensor([keys], dtype=torch.float64)))
    close([NAMES["additive"](q, key) for key in keys], fast[0, 0].detach())
    scores, allowed = random_lists(5), [True, False, True, False, True]
    for mask in (allowed, [False] * 5):
        fast = masked_softmax(torch.tensor(scores, dtype=torch.float64), torch.tensor(mask))
        close(NAMES["masked_weights"](scores, mask), fast)
    weights = torch.tensor([[NAMES["softmax"](scores)]])
    fast = attention_entropy(weights, torch.ones(1, 1, dtype=torch.bool))
    assert NAMES["entropy"](weights[0, 0].tolist()) == pytest.approx(fast, abs=1e-6)


def test_heads_are_the_fast_ones():
    x = random_lists(4, 6)
    fast = MultiHeadAttention(6, 3, bias=False).double()
    with torch.no_grad():
        fast.in_proj_weight.copy_(torch.eye(6).repeat(3, 1))
        fast.out_proj.weight.copy_(torch.eye(6))
        close(NAMES["multi_head"](x, 3), fast(torch.tensor([x], dtype=torch.float64))[0][0])


def test_two_lookups_sort_what_the_data_sort():
    generator = torch.Generator().manual_seed(0)
    for length in (1, 2, 12, 24):
        for _ in range(20):
            numbers = torch.randint(N_VALUES, (length,), generator=generator).tolist()
            assert NAMES["sort_by_lookups"](numbers) == ANSWERS["sort"](numbers)
    assert NAMES["sort_by_lookups"]([7] * 50) == [7] * 50 and NAMES["sort_by_lookups"]([]) == []
    assert NAMES["sort_by_lookups"]([7] * 51) == [7] * 50  # the limit that the README names


def test_counts_are_those_of_the_mask():
    assert all(NAMES["scores_counted"](9, w) == local_mask(9, w).sum() for w in (0, 2, 20))


def test_beam_is_the_fast_one():
    words = ["a", "the", "some", "cat", "dog", "pet"]
    tree = NAMES["tree"]
    assert {path: tree[path] for path in writing.TREE} == writing.TREE

    def step(tokens, state):
        log_p = torch.full((len(tokens), len(words) + 1), -torch.inf)
        pasts = [[t for t in row if t >= 0] for row in torch.cat([state, tokens[:, None]], dim=1).tolist()]
        for row, past in zip(log_p, pasts, strict=True):
            for word, p in tree[tuple(words[i] for i in past)].items():
                row[words.index(word)] = torch.tensor(p).log()
        return log_p, torch.cat([state, tokens[:, None]], dim=1)

    for size in (1, 2, 3):
        start, state = torch.tensor([-1]), torch.empty(1, 0, dtype=torch.long)
        [found], [score] = beam_search(step, state, start, len(words), 2, size, length_penalty=0.0)
        path, p = NAMES["beam"](tree, size, 2)
        assert tuple(words[i] for i in found) == path and score.exp().item() == pytest.approx(p)


def test_bleu_is_the_fast_one():
    pairs = [("a b c d e f", "a b c d x f g"), ("the cat sat on the mat", "the cat sat on the mat")]
    for translation, reference in pairs:
        fast = corpus_bleu([translation], [[reference]]).score
        assert NAMES["bleu"](translation, reference) == pytest.approx(fast, abs=1e-9)
    the, reference = "the the the the", "the cat sat on the mat"  # nothing but words matches: the README's check
    assert NAMES["bleu"](the, reference) == 0 and corpus_bleu([the], [[reference]]).score == pytest.approx(
        11.5, abs=0.05
    )


def test_copying_is_the_fast_one():
    """Words are numbered 0 to 5; the model's own have a row of probabilities, the source's two places share a word."""
    own, source, weights, gate = torch.tensor([0.6, 0.3, 0.1, 0, 0, 0]), [3, 4, 4], [0.1, 0.5, 0.4], 0.3
    fast = mix_copies(
        own.clamp(min=1e-30).log()[None, None],
        torch.logit(torch.tensor([[[gate]]])),
        torch.tensor([[weights]]),
        torch.tensor([source]),
    )
    plain = NAMES["mixed"](dict(enumerate(own.tolist())), source, weights, gate)
    torch.testing.assert_close(fast.exp()[0, 0], torch.tensor([plain[i] for i in range(6)]), rtol=0, atol=1e-6)


def test_pictures_hold_the_numbers_of_the_text():
    assert (lookup_figures.Q.tolist(), lookup_figures.K.tolist()) == (NAMES["q"], NAMES["keys"])
    assert lookup_figures.V.tolist() == NAMES["values"] and list(structure.THINGS.values()) == NAMES["things"]
    source = list(visualize.POINTED)
    mixture = NAMES["mixed"](visualize.OWN, source, visualize.POINTED.values(), visualize.GATE)
    assert mixture == pytest.approx(NAMES["p"])
    assert [lookup_figures.state_at([8, 4, 6], t) for t in range(3)] == NAMES["read"]([8, 4, 6])
    drawn = [text.get_text() for text in structure.sorting([3, 1, 3]).axes[0].texts]
    assert [text for text in drawn if text in ("-1.00", "0.33")] == [*["0.33"] * 3, "-1.00", "0.33"]  # weights, means
    context = NAMES["lookup"](NAMES["q"], NAMES["keys"], NAMES["values"])[0][0]
    w = NAMES["softmax"]([2, 1, 0])[2]
    nudged = NAMES["lookup"]([2, 1], [[1, 0], [0, 1], [1.005, -2]], NAMES["values"])[0][0]  # the score rises by 0.01
    assert nudged - context == pytest.approx(0.01 * w * (5 - context), rel=0.02)
