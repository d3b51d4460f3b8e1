"""BLEU against sacreBLEU and against sums that fit on a page.
与 sacreBLEU 以及手算结果对照。
"""

import math
import random

import pytest

from chapter_07_attention_mechanism.bleu import corpus_bleu, tokenize_13a
from chapter_07_attention_mechanism.tasks.translate import SIGNATURE

WORDS = """the a cat dog's 3.5 1,000 e-mail state-of-the-art U.S. "quoted" (brackets) & &amp; &lt;b&gt; 5% $10 #1 naïve
Straße größer 猫坐在 垫子上。 ？ ¿qué? — … ‘a’ don't end. end, 12-34 3-d a/b x_y [z] {w} ~ ` ^ |
\\ = + * @home .5 5. , .
😀 é <skipped> "" ''""".split()


def pairs(count, seed):
    draw = random.Random(seed)
    for _ in range(count):
        reference = draw.choices(WORDS, k=draw.choice([0, 1, 3, 4, 8, 20]))
        hypothesis = [draw.choice(WORDS) if draw.random() < 0.3 else word for word in reference]
        if draw.random() < 0.3:
            draw.shuffle(hypothesis)
        if draw.random() < 0.2:
            hypothesis = hypothesis * 2
        if draw.random() < 0.1:
            hypothesis = []
        yield draw.choice([" ", "  "]).join(hypothesis) + draw.choice(["", "\n", " "]), " ".join(reference)


@pytest.mark.parametrize("lowercase", [False, True])
def test_bleu_equals_sacrebleus_on_awkward_pairs(lowercase):
    sacrebleu = pytest.importorskip("sacrebleu", reason="compares with sacreBLEU (requirements-dev.txt)")
    metric = sacrebleu.BLEU(lowercase=lowercase)
    sentences = list(pairs(1000, seed=0))
    hypotheses, references = zip(*sentences, strict=True)
    ours = corpus_bleu(hypotheses, [[reference] for reference in references], lowercase)
    theirs = metric.corpus_score(list(hypotheses), [list(references)])
    assert ours.score == pytest.approx(theirs.score, abs=1e-9) and 5 < ours.score < 95
    assert ours.precisions == pytest.approx(theirs.precisions, abs=1e-9)
    assert (ours.length, ours.reference_length) == (theirs.sys_len, theirs.ref_len)
    for hypothesis, reference in sentences:  # alone, where smoothing and empty sides matter most
        expected = metric.corpus_score([hypothesis], [[reference]]).score
        assert corpus_bleu([hypothesis], [[reference]], lowercase).score == pytest.approx(expected, abs=1e-9)


def test_the_signature_is_sacrebleus():
    sacrebleu = pytest.importorskip("sacrebleu", reason="compares with sacreBLEU (requirements-dev.txt)")
    metric = sacrebleu.BLEU(lowercase=True)
    metric.corpus_score(["a"], [["a"]])
    assert str(metric.get_signature()).startswith(f"{SIGNATURE}|version:")


def test_bleu_with_several_references_equals_sacrebleus():
    sacrebleu = pytest.importorskip("sacrebleu", reason="compares with sacreBLEU (requirements-dev.txt)")
    hypotheses, first = zip(*pairs(200, seed=1), strict=True)
    _, second = zip(*pairs(200, seed=2), strict=True)
    expected = sacrebleu.corpus_bleu(list(hypotheses), [list(first), list(second)]).score
    ours = corpus_bleu(hypotheses, list(zip(first, second, strict=True))).score
    assert ours == pytest.approx(expected, abs=1e-9)


def test_the_tokenizer_equals_sacrebleus():
    pytest.importorskip("sacrebleu", reason="compares with sacreBLEU (requirements-dev.txt)")
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    theirs = Tokenizer13a()
    for hypothesis, reference in pairs(500, seed=3):
        for text in (hypothesis, reference, "line-\nbreak\nhere", "".join(map(chr, range(32, 300)))):
            assert tokenize_13a(text) == theirs(text.rstrip()).split()


def test_bleu_can_be_computed_on_paper():
    """4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; 5 tokens against 6."""
    result = corpus_bleu(["the cat sat on mats"], [["the cat sat on the mat"]])
    assert result.precisions == pytest.approx([80, 75, 200 / 3, 50])
    assert result.score == pytest.approx(100 * math.exp(1 - 6 / 5) * (0.8 * 0.75 * 2 / 3 * 0.5) ** 0.25)
    repeated = corpus_bleu(["the the the the the the the"], [["the cat is on the mat"]])
    assert repeated.precisions[0] == pytest.approx(200 / 7)  # Papineni's example: "the" stands there but twice


def test_bleu_knows_the_ends_of_its_scale():
    assert corpus_bleu(["a b c d e"], [["a b c d e"]]).score == pytest.approx(100)
    assert corpus_bleu(["x"], [["a b c d e"]]).score == 0 == corpus_bleu([""], [["a"]]).score


def test_bleu_refuses_what_cannot_be_compared():
    with pytest.raises(ValueError, match="there are 1 translations, but 2 sets"):
        corpus_bleu(["a"], [["a"], ["b"]])
    for references in ([[]], ["a string is no list of references"]):
        with pytest.raises(ValueError, match="at least one reference"):
            corpus_bleu(["a"], references)
