"""The README's plain code runs, gives the numbers that stand beside it, and equals the fast versions.
README 里的代码能运行，结果与旁边写的数字一致，并与快速实现相等。
"""

import ast
import json
import math
import re

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from chapter_07_attention_mechanism.attention import scaled_dot_product_attention
from chapter_08_transformer_vanilla.layers import EncoderLayer
from chapter_09_efficient_attention.figures import caches, cost, memory, patterns, states, tiles
from chapter_09_efficient_attention.flash import flash_attention
from chapter_09_efficient_attention.grouped import grouped_attention
from chapter_09_efficient_attention.kv_cache import BlockPool, PagedCache, quantize
from chapter_09_efficient_attention.latent import LatentAttention
from chapter_09_efficient_attention.linear import (
    chunked_gated_attention,
    quadratic_gated_attention,
    quadratic_linear_attention,
    random_features,
    recurrent_delta_rule,
    recurrent_gated_attention,
    recurrent_linear_attention,
)
from chapter_09_efficient_attention.model import Decoder, DecoderConfig, cache_bytes
from chapter_09_efficient_attention.rope import rotary
from chapter_09_efficient_attention.sparse import choose_blocks, strided_blocks, window_mask
from tests.conftest import ROOT

CHAPTER = ROOT / "chapter_09_efficient_attention"
README = (CHAPTER / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


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
        assert found == pytest.approx(wanted, abs=5.1e-4)


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def close(plain, fast, atol=1e-9):
    torch.testing.assert_close(torch.tensor(plain, dtype=torch.float64), fast.double(), rtol=0, atol=atol)


def flops(function):
    counter = FlopCounterMode(display=False)
    with counter:
        function()
    return counter.get_total_flops()


def test_operations_are_those_that_torch_counts():
    """A multiplication and its addition are two operations; heads do not change their number."""
    layer, x = EncoderLayer(12, 3, 20, dropout=0.0), torch.randn(1, 7, 12)
    assert 2 * sum(NAMES["operations"](7, 12, 20)) == flops(lambda: layer(x, need_weights=True))


def test_intensity_is_the_number_of_tokens():
    linear = nn.Linear(8, 16, bias=False).bfloat16()
    n_bytes = linear.weight.nbytes
    for n in (1, 5):
        assert flops(lambda n=n: linear(torch.randn(n, 8).bfloat16())) / n_bytes == n
    ridge = cost.PEAK / cost.BANDWIDTH
    assert NAMES["milliseconds"](ridge) == pytest.approx(NAMES["milliseconds"](1)) and int(ridge) == 295


def test_shared_heads_are_the_modules():
    q, k, v = normal(6, 3), normal(2, 5, 3), normal(2, 5, 4)
    fast = grouped_attention(q[None, :, None], k[None], v[None], scale=1.0)[0, :, 0]
    close(NAMES["grouped"](q.tolist(), k.tolist(), v.tolist()), fast)


def test_turns_are_the_modules():
    x = normal(3, 8)
    for place in (0, 1, 1000):
        fast = rotary(x[:1], place, interleaved=True)[0]
        close(NAMES["rotate"](x[0].tolist(), place), fast)


def test_latents_are_the_modules():
    """The places' part of the queries is 0 here, and the scale is undone."""
    layer = LatentAttention(6, 2, d_latent=3, d_rope=2).double()
    q, c, k_rope = normal(1, 2, 1, 3), normal(1, 1, 5, 3), normal(1, 1, 5, 2)
    up_k, up_v = layer.up_proj.weight.detach().view(2, 2, 3, 3).unbind()  # (H, d, d_latent) each
    for attend in (layer.attend_naive, layer.attend_absorbed):
        fast = attend(q / layer.scale, torch.zeros(1, 2, 1, 2).double(), c, k_rope).detach()
        for name in ("naive", "absorbed"):
            for h in range(2):
                plain = NAMES[name](q[0, h, 0].tolist(), c[0, 0].tolist(), up_k[h].tolist(), up_v[h].tolist())
                close(plain, fast[0, h, 0])


def test_eight_bits_and_pages_are_the_modules():
    x = normal(9)
    codes, step = NAMES["quantise"](x.tolist())
    fast_codes, scale = quantize(x)
    assert codes == fast_codes.tolist() and step == pytest.approx(scale.item(), rel=1e-6)
    pool = BlockPool(8, 4)
    other, cache = PagedCache(pool), PagedCache(pool)
    k = normal(1, 1, 7, 2)
    for i, paged in enumerate((other, cache, other, cache)):
        part = k[:, :, :5] if i < 2 else k[:, :, 5:]
        paged.append(part, part)
    rows = pool.k[:, 0].flatten(0, 1)  # (8, 1, 4, 2) -> (32, 2)
    for place in range(7):
        close(k[0, 0, place].tolist(), rows[NAMES["row_of"](place, cache.table[0].tolist(), 4)])


def test_running_numbers_and_the_way_back_are_the_tiles():
    scores, values = (100 * normal(9)).tolist(), normal(9, 1)
    q, k = torch.ones(1, 1, 1).double(), torch.tensor(scores).double().view(1, 9, 1)
    close(NAMES["online"](scores, values[:, 0].tolist()), flash_attention(q, k, values[None], tile=2)[0, 0, 0])
    q, k, v, g = normal(1, 1, 4), normal(1, 9, 4), normal(1, 9, 3), normal(1, 1, 3)
    leaves = [
        (2 * q).requires_grad_(),
        k.clone().requires_grad_(),
        v.clone().requires_grad_(),
    ]  # q is divided by 2 again
    y = flash_attention(*leaves, tile=2)
    fast = torch.autograd.grad(y, leaves, g)
    log_sum = (q @ k.mT).logsumexp(dim=-1).item()
    plain = NAMES["backward"](
        q[0, 0].tolist(), k[0].tolist(), v[0].tolist(), y[0, 0].tolist(), log_sum, g[0, 0].tolist()
    )
    for found, expected in zip(plain, (2 * fast[0][0, 0], fast[1][0], fast[2][0]), strict=True):
        close(found, expected)


@pytest.mark.parametrize(("layers", "window", "gap"), [(1, 3, 1), (3, 2, 1), (3, 2, 2), (4, 3, 3)])
def test_windows_reach_as_far_as_masks_do(layers, window, gap):
    places = torch.arange(60)
    mask = window_mask(places, places, window, gap).double()
    seen = torch.linalg.matrix_power(mask, layers)[-1].nonzero()
    assert NAMES["reach"](layers, window, gap) == 60 - seen.min().item()
    assert gap > 1 or NAMES["reach"](layers, window) == 1 + layers * window


def test_a_sink_is_a_key_whose_value_is_0():
    scores, b = normal(5), 1.5
    values = torch.cat([torch.zeros(1, 5).double(), torch.eye(5).double()])
    k = torch.cat([torch.tensor([b]).double(), scores])[:, None]  # (6, 1)
    fast = scaled_dot_product_attention(torch.ones(1, 1).double(), k, values)[0][0]
    close(NAMES["with_sink"](scores.tolist(), b), fast)


def test_patterns_are_the_modules():
    for n, stride in ((16, 4), (11, 3)):
        mask = strided_blocks(n, stride)
        assert all(NAMES["strided"](t, stride) == set(mask[t].nonzero()[:, 0].tolist()) for t in range(n))
    q, k = normal(1, 4), normal(12, 4)
    chosen = choose_blocks(q, torch.cat([k, k[:2]]), 2, 3)[0]  # the query stands in a seventh block
    assert NAMES["best_blocks"](q[0].tolist(), k.tolist(), 2, 3) == chosen[:-1].nonzero()[:, 0].tolist()


def test_either_order_of_the_products_is_the_modules():
    q, k, v = normal(3, 6, 4).abs().unbind()
    v = v[:, :1]
    for form in (quadratic_linear_attention, lambda *x: recurrent_linear_attention(*x)[0]):
        fast = form(q, k, v)[-1, 0]
        for name in ("scores_first", "state_first"):
            close(NAMES[name](q[-1].tolist(), k.tolist(), v[:, 0].tolist()), fast)


def test_random_features_are_the_modules_and_as_wrong_as_derived():
    q, k, directions = 0.2 * normal(3), 0.2 * normal(2, 3)[1], normal(7, 3)
    fast = random_features(q, directions) @ random_features(k, directions)
    close(NAMES["estimate"](q.tolist(), k.tolist(), directions.tolist()), fast)
    directions = normal(400_000, 3)
    single = random_features(q, directions) * random_features(k, directions) * len(directions) / (q @ k).exp()
    assert single.mean().item() == pytest.approx(1, abs=0.01)
    assert single.std().item() == pytest.approx(NAMES["relative_error"](q.tolist(), k.tolist(), 1), rel=0.03)


def test_states_in_three_forms_are_the_modules():
    q, k = normal(2, 7, 4).unbind()
    v = normal(7, 1)
    log_gates = -normal(7, 1).abs()
    lists = [x.tolist() for x in (q, k)] + [v[:, 0].tolist()]
    for gates, plain in (
        (torch.zeros_like(log_gates), NAMES["recurrent"](*lists)),
        (torch.zeros_like(log_gates), NAMES["chunked"](*lists, 3)),
        (log_gates, NAMES["gated"](*lists, log_gates.exp()[:, 0].tolist())),
    ):
        close(plain, quadratic_gated_attention(q, k, v, gates)[:, 0])
        close(plain, recurrent_gated_attention(q, k, v, gates)[0][:, 0])
        close(plain, chunked_gated_attention(q, k, v, gates, chunk_size=3)[0][:, 0])


def test_the_delta_rule_is_the_modules_and_a_step_of_gradient_descent():
    k, v, beta = normal(7, 4), normal(7, 1), normal(7, 1).sigmoid()
    k = k / k.norm(dim=-1, keepdim=True)
    found = NAMES["delta"](k.tolist(), v[:, 0].tolist(), beta[:, 0].tolist())
    state = torch.zeros(4, 1).double()
    for t in range(7):
        row = slice(t, t + 1)
        state = state.requires_grad_()
        loss = (v[row] - k[row] @ state).square().sum() / 2
        [gradient] = torch.autograd.grad(loss, state)
        step = (state - beta[row] * gradient).detach()
        state = recurrent_delta_rule(k[row], k[row], v[row], beta[row], torch.zeros(1, 1).double(), state.detach())[1]
        close(found[t], state[:, 0])
        close(found[t], step[:, 0])


@pytest.mark.parametrize(("length", "diverges"), [(1.41, False), (1.42, True)])
def test_the_delta_rule_diverges_for_keys_longer_than_the_root_of_two(length, diverges):
    states = NAMES["delta"]([[length]] * 200, [1] * 200, [1] * 200)
    assert (abs(states[-1][0]) > abs(states[0][0])) is diverges


def test_a_full_state_is_as_wrong_as_derived():
    final = json.loads((CHAPTER / "results" / "theory.json").read_text(encoding="utf-8"))["final"]
    for n in final["pairs"][3:]:
        assert final[f"sum_error_{n}"] == pytest.approx((n - 1) / final["state_rows"], rel=0.05)
        assert final[f"softmax_error_{n}"] < 0.01 < final[f"delta_error_{n}"] < final[f"sum_error_{n}"]
    k, v = normal(6, 3), normal(6, 1)
    ones = torch.ones(6, 1).double()
    fast = k @ recurrent_gated_attention(k, k, v, ones.log())[1]
    plain = NAMES["recall_error"](k.tolist(), v[:, 0].tolist())
    assert plain == pytest.approx(((fast - v).square().sum() / v.square().sum()).item(), abs=1e-9)


def test_kept_bytes_are_those_of_live_tensors():
    n, config = 10, DecoderConfig(50, "delta,gqa,delta", d_model=32, n_heads=4, n_layers=6, n_kv_heads=2)
    model = Decoder(config).eval()
    caches_of_layers = model.new_caches(n)
    with torch.no_grad():
        model(torch.zeros(1, n, dtype=torch.long), caches_of_layers)
    sizes = {"full": 2, "kv_heads": 2, "width": 8, "linear": 4, "states": 4, "side": 8, "n_bytes": 4}
    assert cache_bytes(caches_of_layers) == NAMES["kept"](n, **sizes)


def test_the_table_of_models_is_counted_right():
    rows = dict(
        re.findall(r"^\| (\w[\w .-]*?) \(20\d\d\) \| .* \| ([\d,]+)(?:, up to 4,096 tokens)? \|$", README, re.MULTILINE)
    )
    expected = {
        "Llama 3 8B": 2 * 32 * 8 * 128 * 2,  # keys and values, layers, heads, width, bytes
        "Mistral 7B": 2 * 32 * 8 * 128 * 2,
        "DeepSeek-V3": 61 * (512 + 64) * 2,
        "gpt-oss-120b": 2 * 18 * 8 * 64 * 2,
        "Qwen3-Next": 2 * 12 * 2 * 256 * 2,
    }
    assert {name: int(number.replace(",", "")) for name, number in rows.items()} == expected


def test_the_exercises_answers_are_right():
    intensity = 2 * 128 * (576 + 512) / (2 * 576)
    assert round(intensity) == 242 and "$I = 242$" in README and "278{,}528" in README
    counts = [(math.exp(4 * size**2) - 1) / 0.01 for size in (1, 2)]
    assert round(counts[0]) == 5360 and round(counts[1] / 1e6) == 889 and "5,360" in README and "889 million" in README
    assert round(100 * (32768 + 5 * 1024) / (6 * 32768)) == 19 and round(math.log(0.5) / math.log(1 - 2**-5)) == 22


def test_numbers_in_the_prose_are_right():
    """What no code block computes, as the text says it."""
    matrices, scores = NAMES["operations"](12288, 512, 2048)
    assert scores == 4 * matrices and "From 12,288 tokens on" in README
    said = {
        "4.3 billion scores": 65536**2 / 1e9,
        "17.2 GB in float32": 4 * 65536**2 / 1e9,
        "take 34 MB": 65536 * 2 * 64 * 4 / 1e6,
        "computing 0.014 ms": 1000 * 14e9 / cost.PEAK,
        "are 131 GB": 64 * 4096 * 0.5e6 / 1e9,
        "39 ms a step": 1000 * 64 * 4096 * 0.5e6 / cost.BANDWIDTH,
        "262,144 numbers": 2 * 32 * 32 * 128,
        "524,288 bytes": 2 * 32 * 32 * 128 * 2,
        "2.1 GB of a text": 524288 * 4096 / 1e9,
        "122,070 tokens": 16e9 / 131072,
        "57 times as many": 2 * 128 * 128 / 576,
        "1,024 at $n = 2048$": 2 * 2048 * 4096**2 / (2 * (4096**2 + 2 * 2048 * 4096)),
        "999.5 in steps": 1999 / 2,
        "67$ million": 4 * 4096**2 / 1e6,
        "17$ million": 32 * 2 * 4096 * 64 / 1e6,
        "131,073 places": 1 + 32 * 4096,
        "128 times fewer": 65536 / (2 * 65536**0.5),
        "64 times less": 4096 / 64,
        "12,288 chunked": 64 * 64 + 2 * 64**2,
        "0.78$ of it": (1 - 2**-12) ** 1000,
        "1.31 /": (math.e - 1) ** 0.5,
        "24,576 bytes; the states take 37.7 MB": 24576,
        "98,304 bytes a token": 2 * 48 * 2 * 256 * 2,
        "equal at 3,072": 4 * 36 * 32 * 128**2 / 24576,
    }
    for text, value in said.items():
        shown = re.search(r"\d[\d,]*(\.\d+)?", text)[0].replace(",", "")
        assert text in README and round(value, len(shown.partition(".")[2])) == float(shown), text
    n, d, block = 4096, 64, 128
    moved = 4 * n**2, n // block * 2 * n * d  # numbers of two bytes: scores that travel, and tiles
    assert [4 * n**2 * d / (2 * count) for count in moved] == [32, 128] and "$d / 2 = 32$ to $B = 128$" in README
    weights = NAMES["with_sink"]([4, 0, 0, 0], -math.inf)
    assert weights[:2] == pytest.approx([0.948, 0.017], abs=5e-4)
    assert round(NAMES["with_sink"]([0, 0, 0], -math.inf)[0] / weights[1]) == 19 and "nineteen times" in README


def test_pictures_hold_the_numbers_of_the_text():
    assert states.KEYS.tolist() == NAMES["keys"] and states.VALUES.tolist() == NAMES["values"]
    assert states.QUERIES.tolist() == NAMES["queries"] and flat(memory.NEAR_KEYS.tolist()) == pytest.approx(
        flat(NAMES["near"])
    )
    codes, step = NAMES["quantise"](caches.NUMBERS.tolist())
    assert codes == [50, -127, 2] and step == pytest.approx(0.01)
    assert NAMES["online"](tiles.SCORES, tiles.VALUES) == pytest.approx(21.547, abs=5e-4)
    parts = [caches.QUERY_OF_LATENTS, caches.LATENTS, caches.UP_K, caches.UP_V]
    assert NAMES["absorbed"](*(part.tolist() for part in parts)) == pytest.approx([5.642, 1.881], abs=5e-4)
    assert memory.delta_path(1)[1:] == [
        pytest.approx(point) for point in NAMES["delta"](NAMES["near"], [10, 20], [1, 1])
    ]
    counts = [int(title.rsplit(" ", 2)[1]) for title in (axes.get_title() for axes in patterns.patterns().axes)]
    stated = re.search(
        r"window (\d+), dilated window (\d+), .* sinks (\d+), strided (\d+), .* (\d+), .* (\d+)\]", README
    )
    assert counts == [int(number) for number in stated.groups()]
