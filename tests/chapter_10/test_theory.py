"""The README's plain code runs, gives the numbers that stand beside it, and equals the fast versions.
README 里的代码能运行，结果与旁边写的数字一致，并与快速实现相等。
"""

import ast
import json
import math
import re

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from chapter_06_rnn_lstm_seq.sampling import keep_top_p
from chapter_09_efficient_attention.rope import llama3_scaling, turn
from chapter_10_llm_modern_components.alignment import (
    bradley_terry_loss,
    clipped_losses,
    dpo_loss,
    gae,
    group_advantages,
    mean_of_tokens,
)
from chapter_10_llm_modern_components.blocks import Attention, MixtureOfExperts, RMSNorm, SwiGLU, balance_loss
from chapter_10_llm_modern_components.bpe import ByteTokenizer, learn_merges_naive
from chapter_10_llm_modern_components.figures import choosing, counting, growth, parts, places
from chapter_10_llm_modern_components.generation import StopStrings, accept, keep_min_p, penalize_repetition
from chapter_10_llm_modern_components.model import Block, LanguageModel, ModelConfig
from chapter_10_llm_modern_components.model_compression import LoRALinear, nf4_levels, quantize_groups, token_kl
from chapter_10_llm_modern_components.pretrain import RECIPES, build_parser, set_sizes
from chapter_10_llm_modern_components.scaling import Law, effective_tokens, muon_operations, training_operations
from chapter_10_llm_modern_components.scaling.memory import kept_bytes, kept_numbers, state_bytes
from tests.conftest import ROOT

CHAPTER = ROOT / "chapter_10_llm_modern_components"
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
    if isinstance(value, dict):
        return flat(list(value.items()))
    return [x for part in value for x in flat(part)] if isinstance(value, (list, tuple)) else [value]


@pytest.mark.parametrize("code,value,expected", STATED, ids=[code for code, _, _ in STATED])
def test_results_are_those_beside_the_code(code, value, expected):
    assert len(flat(value)) == len(flat(expected))
    for found, wanted in zip(flat(value), flat(expected), strict=True):
        exact = isinstance(wanted, (str, bytes))
        assert found == (wanted if exact else pytest.approx(wanted, abs=5.1e-4))


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def close(plain, fast, atol=1e-9):
    torch.testing.assert_close(torch.tensor(plain, dtype=torch.float64), fast.double(), rtol=0, atol=atol)


def test_a_block_is_the_modules():
    torch.manual_seed(0)
    fast = Block(ModelConfig(9, d_model=8, n_heads=2, d_ff=12), d_head=4).double().requires_grad_(False)

    def on_lists(module):
        return lambda x: module(torch.tensor(x, dtype=torch.float64)[None])[0].tolist()

    modules = [fast.norm1, fast.attention, fast.norm2, fast.feed_forward]
    x = normal(5, 8)
    close(NAMES["block"](x.tolist(), *map(on_lists, modules)), fast(x[None], None, None, None)[0])


def test_merges_are_the_modules():
    chunks = [b"the cat", b" and", b" the", b" hat", b" on", b" that", b" cat", b"aaaaa", "猫猫".encode()]
    merges = NAMES["learn_merges"](chunks, 8)
    assert merges == learn_merges_naive(chunks, 8)
    tokenizer = ByteTokenizer(merges)
    for chunk in [*chunks, b"aaaa", b"anan", b"x"]:
        assert NAMES["encode"](chunk, merges) == tokenizer.encode(chunk)
    for new, pair in enumerate(merges, 256):  # as the appendix has it, bytes alone tell the pair
        assert tuple(NAMES["encode"](tokenizer.tokens[new], merges[: new - 256])) == pair
    assert ByteTokenizer(NAMES["merges"]).encode("anan") == [256, 256] and "`[256, 256]`" in README


def test_norms_forwards_and_backwards_are_the_modules():
    norm = RMSNorm(6, eps=0.1).double()
    x, g = normal(2, 6).unbind()
    x.requires_grad_()
    y = norm(x)
    close(NAMES["rms_norm"](x.tolist(), 0.1), y.detach())
    [gradient] = torch.autograd.grad(y, x, g)
    close(NAMES["rms_norm_backward"](x.tolist(), g.tolist(), 0.1), gradient)


def test_gates_are_the_modules():
    torch.manual_seed(0)
    layer, x = SwiGLU(3, 5).double().requires_grad_(False), normal(3)
    gate, up = layer.gate_up_proj.weight.chunk(2)
    close(NAMES["swiglu"](x.tolist(), gate.tolist(), up.tolist(), layer.down_proj.weight.tolist()), layer(x))


@pytest.mark.parametrize(("factor", "low", "high", "n"), [(4, 1, 4, 1024), (8, 1, 4, 8192), (2.5, 0.5, 32, 100)])
def test_slower_hands_are_the_modules(factor, low, high, n):
    speeds = 10000 ** -torch.linspace(0, 1, 40, dtype=torch.float64)
    fast = llama3_scaling(speeds, factor, low, high, n)
    close([NAMES["scaled"](speed, factor, n, low, high) for speed in speeds.tolist()], fast, 1e-12)


def test_normed_scores_are_the_modules_and_bounded():
    """Also when they have been turned, and however large the matrices are."""
    attention = Attention(8, n_heads=1, n_kv_heads=1, d_head=4, qk_norm=True, eps=1e-5).double().requires_grad_(False)
    attention.qkv_proj.weight.copy_(1000 * normal(12, 8))
    x = normal(1, 7, 8)
    q, k, _ = attention.project(x, None)
    raw_q, raw_k, _ = attention.qkv_proj(x)[0].split(4, dim=1)
    plain = [[NAMES["score"](a, b) for b in raw_k.tolist()] for a in raw_q.tolist()]
    close(plain, (q @ k.mT)[0, 0] / 2)
    angles = torch.arange(7.0).double()[:, None].repeat(1, 4)
    turned = turn(q, angles.cos(), angles.sin()) @ turn(k, angles.cos(), angles.sin()).mT / 2
    assert turned.abs().max() <= 2 + 1e-9 and (raw_q @ raw_k.T).abs().max() > 1e4


def test_routes_and_balance_are_the_modules():
    torch.manual_seed(0)
    layer, tokens = MixtureOfExperts(6, 4, n_experts=5, n_active=2).double().requires_grad_(False), normal(40, 6)
    p = layer.router(tokens).softmax(dim=-1)
    weights, chosen = layer.route(tokens)
    for row, w, e in zip(p.tolist(), weights.tolist(), chosen.tolist(), strict=True):
        assert NAMES["route"](row, 2) == pytest.approx(dict(zip(e, w, strict=True)))
    close(NAMES["balance"](p.tolist(), 2), layer.balance)
    rows = [[0.51, 0.49]] * 3 + [[0.01, 0.99]]  # the check: an uneven load below 1
    assert NAMES["balance"](rows, 1) == pytest.approx(0.885) and "= 0.885$" in README


def test_the_fuller_an_expert_the_harder_its_probability_is_pushed():
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], requires_grad=True)
    [gradient] = torch.autograd.grad(balance_loss(p, p.argmax(dim=1, keepdim=True)), p)
    torch.testing.assert_close(gradient.sum(dim=0), 2 * torch.tensor([0.75, 0.25]))


def pretrained():
    """Return the model that pretrain.py trains if no flag says otherwise, untrained, and the tokens of a step."""
    parser = build_parser()
    parser.set_defaults(**RECIPES["stories"])
    args = parser.parse_args([])
    sizes = set_sizes(args)
    batch_size = sizes.pop("batch_size")
    del sizes["lr"]
    return LanguageModel(ModelConfig(args.vocab_size, max_length=args.length, **sizes)), batch_size * args.length


def test_counts_are_the_models():
    model, _ = pretrained()
    found = NAMES["parameters"](4096, 256, 5, 4, 2, 688)
    final = json.loads((CHAPTER / "results" / "theory.json").read_text(encoding="utf-8"))["final"]
    assert counting.counts(model, final["looks_back"]).items() <= final.items()
    assert [*found.values()] == [final[name] for name in ("tokens", "attention", "feed_forward")]
    assert sum(p.numel() for p in model.parameters()) == final["parameters"] == sum(found.values()) + final["norms"]
    assert NAMES["operations"](final["parameters"], 256, 5, 256) == final["operations_to_read"]
    caches = model.new_caches(10)
    with torch.no_grad():
        model(torch.zeros(1, 10, dtype=torch.long), caches)
    assert sum(cache.n_bytes for cache in caches) == 10 * 2 * final["cache_bytes"]  # in float32


def test_operations_are_those_that_torch_counts():
    """Of all matrix products, each token looking back at all n, for masked scores are computed as well."""
    n, sizes = 7, {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 24}
    model = LanguageModel(ModelConfig(32, **sizes))
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        model(torch.zeros(1, n, dtype=torch.long))
    weights = sum(NAMES["parameters"](32, 16, 2, 4, 2, 24).values())
    assert weights == sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert counter.get_total_flops() == n * NAMES["operations"](weights, 16, 2, n)


def test_filters_are_the_modules():
    logits = 2 * normal(30)
    p = logits.softmax(dim=0).tolist()
    close(NAMES["top_p"](p, 0.7), keep_top_p(logits, 0.7).softmax(dim=0))
    close(NAMES["min_p"](p, 0.1), keep_min_p(logits, 0.1).softmax(dim=0))
    close(NAMES["penalised"](logits.tolist(), {3, 4, 9}, 1.3), penalize_repetition(logits, {3, 4, 9}, 1.3))


def test_what_may_be_shown_is_the_modules():
    for text in ("abc", "abab", "xaba", "ababx", "b"):
        assert NAMES["may_show"](text, "ababc") == StopStrings(["ababc"]).feed(text)


def test_accepted_or_drawn_again_is_as_derived():
    """The rule itself: which share of luck accepts a guess, and what is drawn behind it, put together exactly."""
    p, q = (normal(2, 6)[i].softmax(dim=0) for i in range(2))
    nothing_in_common = torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    for target, draft in ((p, q), (p, p), nothing_in_common):
        close(NAMES["comes_out"](target.tolist(), draft.tolist()), target)
    generator, n = torch.Generator().manual_seed(0), 4000
    guesses = torch.multinomial(q, n, replacement=True, generator=generator).tolist()
    drawn = []
    for guess in guesses:
        n_stand, token = accept(torch.stack([p, p]), q[None], [guess], generator)
        drawn.append(guess if n_stand else token)
    shares = torch.tensor(drawn).bincount(minlength=6) / n
    assert (shares - p).abs().max() < 4 * 0.5 / n**0.5  # four standard deviations at the very most
    assert (shares - q).abs().max() > 0.1


def test_tokens_a_step_is_the_mean_of_a_race():
    for a, k in ((0.7, 4), (0.0, 3), (0.5, 1), (1.0, 2)):
        ends = [(1 - a) * a**i * (i + 1) for i in range(k)] + [a**k * (k + 1)]
        assert NAMES["tokens_a_step"](a, k) == pytest.approx(sum(ends))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_training_keeps_is_the_modules(checkpointing):
    model, tokens = pretrained()
    c, n = model.config, sum(p.numel() for p in model.parameters())
    counts = kept_numbers(c)
    numbers = NAMES["kept_numbers"](c.d_model, c.n_heads, c.n_kv_heads, c.d_model // c.n_heads, c.d_ff, c.n_tokens)
    assert numbers == (sum(counts.values()) - counts["end"], counts["end"])
    final = json.loads((CHAPTER / "results" / "theory.json").read_text(encoding="utf-8"))["final"]
    found = kept_bytes(c, tokens)
    states, activations = NAMES["training_bytes"](n, tokens, c.n_layers, c.d_model, *numbers, checkpointing)
    assert tokens == final["batch_tokens"] and states == sum(state_bytes(model).values()) == final["state_bytes"]
    assert activations == found["checkpointed_bytes" if checkpointing else "activation_bytes"]
    assert found.items() <= final.items() and {f"{k}_numbers": v for k, v in counts.items()}.items() <= final.items()


def test_laws_are_the_modules():
    law = Law(E=1.3, A=31.0, B=150.0, alpha=0.34, beta=0.41)
    assert NAMES["predicted_loss"](2e5, 3e6, *law) == pytest.approx(law(2e5, 3e6))
    assert NAMES["best_size"](1e12, *law[1:]) == pytest.approx(law.compute_optimal(1e12)[0])
    for passes in (1, 2.5, 40):
        assert NAMES["worth"](70, passes, 9) == pytest.approx(effective_tokens(70, 70 * passes, 9))
    example = growth.EXAMPLE
    assert [example(n, 100 / n) for n in (5, 20)] == pytest.approx(
        [NAMES["predicted_loss"](n, 100 / n) for n in (5, 20)]
    )
    assert NAMES["worth"](growth.UNIQUE, 64, growth.R_STAR) == pytest.approx(1577.507, abs=1e-3)


def test_what_muon_adds_is_the_modules():
    model = LanguageModel(ModelConfig(64, d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=48, max_length=8))
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    added = sum(6 * p.numel() * 100 * NAMES["muon_extra"](*p.shape, 100) for p in matrices)
    assert added == pytest.approx(muon_operations(model))
    assert training_operations(model, 8) == 6 * sum(p.numel() for p in [*matrices, model.head.weight]) + 12 * 32 * 4


def test_a_step_of_adam_and_the_z_loss_are_pytorchs():
    for n in (4, 16):
        unit = torch.nn.Linear(n, 1, bias=False).double()
        before = unit(torch.ones(n).double())
        (3 * before).backward()
        torch.optim.Adam(unit.parameters(), lr=0.01).step()
        assert abs(unit(torch.ones(n).double()) - before).item() == pytest.approx(NAMES["output_change"](n, 0.01))
    logits = normal(5).requires_grad_()
    (F.cross_entropy(logits, torch.tensor(3)) + 0.02 * logits.logsumexp(0) ** 2).backward()
    close(NAMES["z_loss_gradient"](logits.tolist(), 3, 0.02), logits.grad)
    assert torch.tensor([100.0, 100.2]).bfloat16().tolist() == [100, 100]


def test_numbers_in_the_prose_are_right():
    said = {
        "163, 16, 1.6 and 0.16 turns": 1024 / (2 * math.pi),
        "last hand is at 4.1": 4.096,
        "up to 59 degrees": math.degrees(1.024),
        "8.9 million": math.exp(2 * math.sqrt(64)) / 1e6,
        "1,827 tokens looked back at": 4676352 / (2 * 5 * 256),
        "texts of 3,653": 4676352 / (5 * 256),
        "1.98$ times": NAMES["tokens_a_step"](0.7, 4) / 1.4,
        "682.67": 8 * 256 / 3,
        "4,934 in each": NAMES["in_block"],
        "1,034 MB have to be kept": (74821632 + 959479808) / 1e6,
        "of their size, 403 MB": 3 * 4 * 8192 * 4096 / 1e6,
        "keep 19 MB": 16 * 4676352 / 4 / 1e6,
        "here 913": 4676352 / (4 * 5 * 256),
        "has 9.4 MB": 2 * 4676352 / 1e6,
        "0.53 \\thinspace U": 15 * math.exp(-9 / 15) * (1 - math.exp(-1 / 15)),
        "0.497 \\thinspace U": 15 * math.exp(-10 / 15) * (1 - math.exp(-1 / 15)),
    }
    for text, value in said.items():
        shown = re.search(r"\d[\d,]*(\.\d+)?", text)[0].replace(",", "")
        assert text in README and round(value, len(shown.partition(".")[2])) == float(shown), text
    once, wider = (
        NAMES["operations"](sum(NAMES["parameters"](4096, D, 5, heads, heads // 2, F).values()), D, 5, 256)
        for D, heads, F in ((256, 4, 688), (512, 8, 1376))
    )
    assert f"{wider / once:.1f} times" in README and "3.4 times" in README
    x = torch.tensor([[3.0, 4.0], [13.0, 14.0]])
    assert F.layer_norm(x, (2,)).tolist() == [pytest.approx([-1, 1], abs=1e-3)] * 2
    assert NAMES["rms_norm"]([13, 14]) == pytest.approx([0.96, 1.04], abs=5e-3) and "(0.96, 1.04)" in README
    for weight, score in ((0.670, 1 / 2**0.5), (0.998, 9 / 2**0.5), (0.804, NAMES["score"]([3, 0], [3, 0]))):
        assert 1 / (1 + math.exp(-score)) == pytest.approx(weight, abs=5e-4) and f"{weight:.3f}" in README
    assert NAMES["silu"](3) - NAMES["silu"](-3) == pytest.approx(3)


def test_what_is_reckoned_from_the_benchmark_is_right():
    """One chance of acceptance fits all that was drawn; a pass takes longer than the theory's example has it."""
    path = CHAPTER / "results" / "benchmark.json"
    final = json.loads(path.read_text(encoding="utf-8"))["final"]
    expected = [NAMES["tokens_a_step"](0.6, k) for k in (2, 4, 8)]
    measured = [final[f"sampled_{k}_guesses_tokens_per_pass"] for k in (2, 4, 8)]
    assert measured == pytest.approx(expected, rel=0.02)
    assert "{:.2f}, {:.2f} and {:.2f} bytes a pass".format(*expected) in README
    step = 1000 * final["greedy_plain_seconds"] / 128
    one_pass = 1000 * final["greedy_4_guesses_seconds"] * final["greedy_4_guesses_tokens_per_pass"] / 128
    assert f"222 / 128 = {step:.1f} ms" in README and f"186 · 3.89 / 128 = {one_pass:.1f} ms" in README
    assert 3 < one_pass / step < 4


def test_llama_3_is_counted_right():
    found = NAMES["parameters"](128256, 4096, 32, 32, 8, 14336)
    numbers = [2 * found["tokens"], found["attention"], found["feed-forward"], 65 * 4096]
    for number in [*numbers, sum(numbers)]:
        assert f"{number:,}".replace(",", "{,}") in README


def test_pictures_hold_the_numbers_of_the_text():
    assert parts.POINTS[0].tolist() == [3, 4] and parts.INPUTS == (3.0, 2.0)
    assert NAMES["balance"](parts.ROUTES.tolist(), 1) == pytest.approx(1.2)
    assert (1000 * places.SPEEDS).tolist() == pytest.approx([1000, 100, 10, 1])
    out = NAMES["comes_out"](choosing.TARGET.tolist(), choosing.PROPOSED.tolist())
    assert out == pytest.approx([0.2, 0.4, 0.3, 0.1])
    left = [
        (sum(a > 0 for a in NAMES[name](p.tolist(), share)))
        for name, share in (("top_p", 0.75), ("min_p", 0.2))
        for p in (choosing.SURE, choosing.UNSURE)
    ]
    assert left == [1, 4, 1, 6] and "top-p 0.75 leaves one and four; min-p 0.2 leaves one and six" in README


def test_learned_tokens_alone_count():
    losses, mask = normal(1, 7), torch.tensor([[0, 1, 1, 0, 0, 1, 0]]).bool()
    close(NAMES["masked_mean"](losses[0].tolist(), mask[0].int().tolist()), mean_of_tokens(losses, mask))


def test_the_thin_matrices_are_the_layers():
    layer, x = LoRALinear(torch.nn.Linear(5, 4, bias=False), rank=2, alpha=3.0).double(), normal(5)
    torch.nn.init.normal_(layer.b)
    matrices = [w.detach().tolist() for w in (layer.base.weight, layer.a, layer.b)]
    close(NAMES["lora"](x.tolist(), *matrices, scale=1.5), layer(x).detach())


def test_levels_and_codes():
    close(NAMES["nf4_levels"](), nf4_levels(), atol=1e-7)
    group = normal(64)
    group = group / group.abs().max()  # so that the scale is 1, exactly in 16 bits too
    codes, _ = quantize_groups(group[None], nf4_levels(), 64)
    assert NAMES["to_codes"](group.tolist(), nf4_levels().tolist()) == codes[0].tolist()


def test_losses_of_preferences():
    a, b, c, d = normal(4)[:, None]
    close(NAMES["bradley_terry"](a.item(), b.item()), bradley_terry_loss(a, b))
    close(NAMES["dpo"](*(x.item() for x in (a, b, c, d)), beta=0.3), dpo_loss(a, b, c, d, beta=0.3))


def test_advantages_and_clipping():
    rewards, values = normal(2, 1, 6)
    everything = torch.ones(1, 6).bool()
    close(
        NAMES["gae"](rewards[0].tolist(), values[0].tolist(), 0.9, 0.7), gae(rewards, values, everything, 0.9, 0.7)[0]
    )
    close(NAMES["group_advantages"](rewards[0].tolist()), group_advantages(rewards)[0])
    for ratio, advantage in ((0.5, 1.0), (0.5, -1.0), (1.1, 2.0), (1.5, 1.0), (1.5, -1.0)):
        fast = clipped_losses(
            torch.tensor([[ratio]], dtype=torch.float64).log(), torch.zeros(1, 1), torch.tensor([[advantage]])
        )
        close(NAMES["clipped_loss"](ratio, advantage), fast[0, 0])


def test_doubts():
    p, q = normal(2, 5)
    plain = NAMES["kl"](*(NAMES["softmax"](x.tolist(), tau=2.0) for x in (p, q)))
    close(plain, token_kl(p, q, temperature=2.0))
