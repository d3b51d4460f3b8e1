"""The README's plain code runs, gives the numbers that stand beside it, and equals the fast versions.
README 里的代码能运行，结果与旁边写的数字一致，并与快速实现相等。
"""

import ast
import math
import re

import pytest
import torch
from torch import nn

from chapter_03_optimization_regularization.optimizers.schedules import inverse_sqrt, warmup
from chapter_07_attention_mechanism.attention import MultiHeadAttention, local_mask
from chapter_07_attention_mechanism.decoding import beam_search
from chapter_07_attention_mechanism.vocab import learn_merges
from chapter_08_transformer_vanilla.figures import learning, structure
from chapter_08_transformer_vanilla.layers import EncoderLayer, ResidualLayer
from chapter_08_transformer_vanilla.positional_encoding import angular_frequencies, shift_matrix, sinusoidal_encoding
from chapter_08_transformer_vanilla.tokenizer import Tokenizer, learn_merges_by_definition
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from tests.conftest import ROOT

CHAPTER = ROOT / "chapter_08_transformer_vanilla"
README, APPENDIX = ((CHAPTER / name).read_text(encoding="utf-8") for name in ("README.md", "appendix.md"))
BLOCKS = re.findall(r"^```python\n(.*?)^```", README + APPENDIX, re.MULTILINE | re.DOTALL)


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
        assert found == (wanted if isinstance(wanted, str) else pytest.approx(wanted, abs=5.1e-4))


def close(plain, fast, atol=1e-9):
    torch.testing.assert_close(torch.tensor(plain, dtype=torch.float64), fast.double(), rtol=0, atol=atol)


@pytest.mark.parametrize(("n", "width"), [(6, 2), (7, 1), (6, 5), (30, 2)])
def test_a_gradient_arrives_after_so_many_layers(n, width):
    """The README's rounds, and its formula, against layers that see `width` neighbours on each side."""
    expected = NAMES["rounds"]([range(max(t - width, 0), min(t + width + 1, n)) for t in range(n)])
    assert expected == -(-(n - 1) // width)
    torch.manual_seed(0)
    x = start = torch.randn(1, n, 4, dtype=torch.float64, requires_grad=True)
    for depth in range(1, expected + 1):
        x = EncoderLayer(4, 2, 4, dropout=0.0).double()(x, local_mask(n, width))[0]
        [gradient] = torch.autograd.grad(x[0, -1].sum(), start, retain_graph=True)
        assert gradient[0, 0].ne(0).any().item() is (depth == expected)


def test_talking_and_thinking_are_the_layers():
    """Queries of 0 give equal weights; values and what joins them are the identity; one hidden number; no norms."""
    layer = EncoderLayer(2, 1, 1, dropout=0.0).double().eval()
    layer.norm1, layer.norm2 = nn.Identity(), nn.Identity()
    with torch.no_grad():
        layer.self_attention.in_proj_weight.copy_(torch.cat([torch.zeros(4, 2), torch.eye(2)]))
        layer.self_attention.out_proj.weight.copy_(torch.eye(2))
        layer.feed_forward.linear1.weight.copy_(torch.tensor([[1.0, -1.0]]))
        layer.feed_forward.linear2.weight.copy_(torch.tensor([[0.0], [1.0]]))
        found = layer(torch.tensor([structure.TOKENS], dtype=torch.float64))[0][0]
    close(NAMES["x"], found, 1e-12)


def test_positions_are_the_fast_ones():
    for position, distance in ((0, 1), (7, -3), (31, 12)):
        plain = NAMES["code"](position, 10)
        close(plain, sinusoidal_encoding(1, 10, position)[0], 1e-12)
        close(NAMES["shifted"](plain, distance), shift_matrix(distance, 10) @ torch.tensor(plain).double(), 1e-6)
        close(NAMES["shifted"](plain, distance), sinusoidal_encoding(1, 10, position + distance)[0], 1e-11)
    slowest = 2 * math.pi / angular_frequencies(512)[-1].item()
    assert round(slowest, -4) == 60_000 and round(2 * math.pi, 1) == 6.3


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_straight_path_is_divided_as_derived(norm):
    """Branches that say something independent of variance 1, added by the layers' own `add`."""
    torch.manual_seed(0)
    layer, last = ResidualLayer(0.0, norm), nn.LayerNorm(20_000)
    x = start = last(torch.randn(20, 20_000))
    for _ in range(6):
        x = layer.add(x, torch.randn_like(x), last)
    divisor, variance = NAMES["straight_path"](6, norm)
    assert x.var().item() == pytest.approx(variance, rel=0.02)
    assert (x * start).mean().item() == pytest.approx(1 / divisor, abs=0.01)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_derivative_through_branches_is_autograds(norm):
    """Of one number, each branch answering with j times what it reads; without that only the straight path is left."""
    x = start = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    j, v, n_branches = -0.3, 0.4, 5
    for n in range(n_branches):
        x = (x + j * x) / math.sqrt(1 + v) if norm == "post" else x + j * x / math.sqrt(1 + n * v)
    [gradient] = torch.autograd.grad(x, start)
    assert NAMES["derivative"](j, n_branches, norm, v) == pytest.approx(gradient.item(), rel=1e-12)
    assert NAMES["derivative"](0, 24, norm) == pytest.approx(1 / NAMES["straight_path"](24, norm)[0], rel=1e-12)


def test_scores_are_those_of_a_tied_head():
    config = TransformerConfig(4, d_model=2, n_heads=1, d_ff=2, n_encoder_layers=0, n_decoder_layers=1)
    model = Transformer(config)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.tensor(list(NAMES["table"].values())))
    close(NAMES["scores"]([0.5, -2.0]), model.head(torch.tensor([0.5, -2.0])).detach())
    assert {word: list(row) for word, row in learning.EMBEDDINGS.items()} == NAMES["table"]


def test_parameters_are_counted_right():
    shape = {"d_model": 12, "n_heads": 3, "d_ff": 20, "n_encoder_layers": 2, "n_decoder_layers": 3}
    model = Transformer(TransformerConfig(50, **shape))
    assert NAMES["n_parameters"](50, 12, 20, 2, 3) == sum(p.numel() for p in model.parameters())


def test_the_table_counts_the_parts_of_the_model():
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([\d,]+) \|$", README, re.MULTILINE)
    table = {name.split(",")[0]: int(number.replace(",", "")) for name, number in rows}
    model = Transformer(TransformerConfig(4000, 256, 4, 256, 3, 3))
    encoder, decoder = model.encoder.layers[0], model.decoder.layers[0]
    parts = {
        "embedding": model.embedding,
        "one attention": encoder.self_attention,
        "one feed-forward": encoder.feed_forward,
        "one norm": encoder.norm1,
        "encoder layer": encoder,
        "decoder layer": decoder,
        "all": model,
    }
    assert table == {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def test_the_exercises_model_is_counted_right():
    config = TransformerConfig(1000, 128, 4, 512, n_encoder_layers=0, n_decoder_layers=6)
    assert f"{sum(p.numel() for p in Transformer(config).parameters()):,}" in README


def test_both_sentences_score_the_same_at_the_exercises_alpha():
    alpha = float(re.search(r"0\.0287 / 0\.2513 = ([\d.]+)\$", README)[1])
    exact = math.log(4 * math.log(0.7) / (2 * math.log(0.5))) / math.log(9 / 7)
    assert NAMES["score"](0.5, 2, exact) == pytest.approx(NAMES["score"](0.7, 4, exact), rel=1e-12)
    assert round(exact, 3) == alpha


def test_one_pair_of_positions_looks_alike_to_the_fastest_hand():
    """Of 0 to 6, as the README's check asks for; 7 would make it two."""
    codes = [torch.tensor(NAMES["code"](position, 2)) for position in range(7)]
    alike = [(a, b) for b in range(7) for a in range(b) if codes[a] @ codes[b] > 0.9]
    assert alike == [(0, 6)]


def test_answers_to_the_checks_are_what_the_code_says():
    """Those that have numbers of their own and are tested nowhere else."""
    assert NAMES["rounds"]([range(max(t - 2, 0), min(t + 3, 30)) for t in range(30)]) == 15
    assert NAMES["straight_path"](24, "post")[0] == pytest.approx(2**12)
    assert [round(NAMES["share_right"](400, r), 3) for r in (0.95, 0.7, 0)] == [0.95, 0.933, 0]
    leads = [10.3, 10.491, 10.7]  # of one among 4,000
    losses = [NAMES["smoothed_loss"]([lead] + [0.0] * 3_999, 0, 0.1) for lead in leads]
    assert losses[1] < min(losses[0], losses[2])
    assert NAMES["unmask"](NAMES["corpus"], 1) == "the dog barks at the moon all night"
    assert NAMES["lens"]([0, 1, 4.5, 0], NAMES["rows"]) == ["d", pytest.approx(0.95, abs=5e-4)]
    assert NAMES["derivative"](math.sqrt(2) - 1, 24, "post") == pytest.approx(1)


def test_slips_are_those_of_a_simulation():
    generator, n = torch.Generator().manual_seed(0), 200_000
    right = torch.ones(n, dtype=torch.bool)
    for _ in range(20):
        right = torch.rand(n, generator=generator) < torch.where(right, 0.95, 0.7)
    assert NAMES["share_right"](20, 0.7) == pytest.approx(right.float().mean().item(), abs=0.003)


def test_smoothing_is_pytorchs_and_lowest_where_derived():
    logits = [0.3, -1.0, 2.0, 0.5, 0.0]
    fast = nn.functional.cross_entropy(torch.tensor([logits]).double(), torch.tensor([2]), label_smoothing=0.2)
    assert NAMES["smoothed_loss"](logits, 2, 0.2) == pytest.approx(fast.item(), abs=1e-6)
    for n_tokens, share in ((4, 0.1), (30, 0.3)):
        best = math.log(1 + (1 - share) * n_tokens / share)
        losses = [NAMES["smoothed_loss"]([best + d] + [0.0] * (n_tokens - 1), 0, share) for d in (-0.01, 0, 0.01)]
        wanted = [1 - share + share / n_tokens] + [share / n_tokens] * (n_tokens - 1)
        assert losses[1] < min(losses[0], losses[2])
        assert losses[1] == pytest.approx(-sum(q * math.log(q) for q in wanted))


def test_noam_is_chapter_3s_schedule():
    factor, peak = warmup(inverse_sqrt(40), 39), NAMES["noam"](40, 8, 40)
    for t in (1, 7, 39, 40, 41, 400):
        assert NAMES["noam"](t, 8, 40) / peak == pytest.approx(factor(t - 1), rel=1e-12)


def test_merges_are_the_modules():
    corpus = {"hundehund": 3, "aaab": 4, "undund": 2, "aab": 7}
    assert NAMES["learn"](corpus, 6) == learn_merges_by_definition(corpus, 6) == learn_merges(corpus, 6)
    assert NAMES["learn"](learning.CORPUS, 4) == learn_merges_by_definition(learning.CORPUS, 4)


def test_what_is_unknown_is_written_in_bytes():
    tokenizer = Tokenizer("".join(sorted(set("hundebt"))), NAMES["learn"](learning.CORPUS, 4))
    pieces = tokenizer.show(tokenizer.encode("hunderbunt"))
    assert [piece for piece in pieces if piece != "<0x20>"] == ["hunde", "<0x72>", "b", "un", "t"]
    for text in ("猫", "🙂 hunde", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_writing_is_causal_attention():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, 5, 3, dtype=torch.float64) for _ in range(3))
    attention = MultiHeadAttention(3, 1).double()
    with torch.no_grad():
        attention.out_proj.weight.copy_(torch.eye(3))
        whole, _ = attention.attend(q, k, v, causal=True)
    close(NAMES["write"](*(x[0, 0].tolist() for x in (q, k, v))), whole[0])


def test_the_long_or_the_short_one_wins_the_search():
    """Words: 0 ends; 1 begins the short sentence, 2 the long one; each word has the README's probability."""

    def step(tokens, state):
        log_p = torch.full((len(tokens), 3), -torch.inf)
        for row, first, past in zip(log_p, torch.where(state == 0, tokens, state), tokens, strict=True):
            if past == -1:
                row[1:] = torch.tensor([0.5, 0.7]).log()  # not normalised: only their order matters
            elif first == 1:
                row[0] = math.log(0.5)
            else:
                row[0 if count[0] == 3 else 2] = math.log(0.7)
        count[0] += 1
        return log_p, torch.where((state == 0) & (tokens > 0), tokens, state)

    for alpha, winner in ((0.0, [1]), (1.0, [2, 2, 2])):
        count = [0]
        start, state = torch.tensor([-1]), torch.zeros(1, dtype=torch.long)
        [found], [score] = beam_search(step, state, start, 0, 5, beam=2, length_penalty=alpha)
        n_words = len(found) + 1
        assert found == winner
        assert score.item() == pytest.approx(NAMES["score"]({2: 0.5, 4: 0.7}[n_words], n_words, alpha), abs=1e-6)
    assert list(learning.HYPOTHESES.values()) == [0.5, 0.7]
