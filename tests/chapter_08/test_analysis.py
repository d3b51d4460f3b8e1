"""What heads look at, rollout, and untrained norms, against definitions; missing files are named.
注意力头的分工、注意力展开与未训练的归一化，均与定义对照；缺失的文件会被指明。
"""

import pytest
import torch

from chapter_07_attention_mechanism.answering import word_numbers
from chapter_08_transformer_vanilla import visualize
from chapter_08_transformer_vanilla.attention_analysis import (
    ROLES,
    cross_roles,
    effective_tokens,
    head_roles,
    rollout,
    uniform,
)
from chapter_08_transformer_vanilla.figures import trained
from chapter_08_transformer_vanilla.head_survey import is_mark, specialists, survey_heads
from chapter_08_transformer_vanilla.norm_placement import first_step_change, measure_norms, stream_gradients
from chapter_08_transformer_vanilla.shipped import untrained
from utils.errors import UserError

WORDS = torch.tensor([[0, 0, 0, 1, 2], [0, 1, 1, 0, 0]])  # of the second text, the last two are padding
MARKS = torch.tensor([[0, 0, 0, 0, 1], [1, 0, 0, 1, 1]]).bool()
LENGTHS = torch.tensor([5, 3])
PLAYS = {  # whether key s of text b, which has n tokens, plays a role for query t
    "itself": lambda b, t, s, n: s == t,
    "before": lambda b, t, s, n: s == t - 1,
    "after": lambda b, t, s, n: s == t + 1,
    "word": lambda b, t, s, n: s != t and WORDS[b, s] == WORDS[b, t],
    "mark": lambda b, t, s, n: bool(MARKS[b, s]),
    "first": lambda b, t, s, n: s == 0,
    "last": lambda b, t, s, n: s == n - 1,
}


def random_weights(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def mean_over_queries(weights, lengths, keys_of):
    """By definition: the sum over the keys, averaged over the queries that have any."""
    positions = [(b, t, keys_of(b, t, n)) for b, n in enumerate(lengths.tolist()) for t in range(n)]
    return torch.stack([weights[b, :, t, keys].sum(dim=-1) for b, t, keys in positions if keys]).mean(dim=0)


@pytest.mark.parametrize("causal", [False, True])
def test_roles_are_the_means_over_the_queries_that_have_them(causal):
    weights = random_weights(2, 3, 5, 5)
    found = head_roles(weights, LENGTHS, WORDS, MARKS, causal)
    assert list(PLAYS) == list(ROLES) and found.shape == (7, 3)
    for name, row in zip(ROLES, found, strict=True):
        if causal and name == "after":
            assert not row.any()
            continue

        def keys_of(b, t, n, name=name):
            return [s for s in range(t + 1 if causal else n) if PLAYS[name](b, t, s, n)]

        torch.testing.assert_close(row, mean_over_queries(weights, LENGTHS, keys_of), rtol=0, atol=1e-12)


def test_cross_attention_goes_to_the_sources_marks_and_end():
    weights, lengths = random_weights(2, 3, 4, 5), torch.tensor([2, 4])
    real_marks = [[4], [0]]  # padding is no mark that counts
    found = cross_roles(weights, lengths, LENGTHS, MARKS & (torch.arange(5) < LENGTHS[:, None]))
    marks = mean_over_queries(weights, lengths, lambda b, t, n: real_marks[b])
    ends = mean_over_queries(weights, lengths, lambda b, t, n: [LENGTHS[b].item() - 1])
    torch.testing.assert_close(found, torch.stack([marks, ends]), rtol=0, atol=1e-12)


def test_how_many_tokens_a_head_looks_at():
    weights = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0, 0.5, 0], [0.7, 0.1, 0.1, 0.1]])
    tokens = [effective_tokens(weights[None, None], torch.arange(4)[None] == t).item() for t in range(4)]
    assert tokens[:3] == pytest.approx([1, 4, 2]) and 2 < tokens[3] < 3
    first_two = torch.tensor([[True, True, False, False]])
    assert effective_tokens(weights[None, None], first_two).item() == pytest.approx(2.5)
    alike = uniform(torch.ones(4, 4, dtype=torch.bool).tril()[None])
    torch.testing.assert_close(alike[0, 0], torch.ones(4, 4).tril() / torch.arange(1.0, 5.0)[:, None])


def test_a_survey_is_of_each_layers_weights_over_real_tokens_alone():
    """Two texts side by side give the mean of each alone, weighted by its tokens; what is uniform is known."""
    pairs = [("Ein Hund sucht eine Katze.", "A dog looks for a cat."), ("Heute.", "Today, a man.")]
    translator = untrained("de-en", pairs, torch.device("cpu"))
    both, *alone = (survey_heads(translator, some, torch.device("cpu")) for some in (pairs, pairs[:1], pairs[1:]))
    sizes = [len(translator.tokenizer.encode(text)) + 1 for text, _ in pairs]
    for name in ("tokens", "weights"):
        role = both["encoder"]["roles"].index("itself")
        rows = [
            part["encoder"][name][:, role] if name == "weights" else part["encoder"][name] for part in (both, *alone)
        ]
        expected = sum(n * row for n, row in zip(sizes, rows[1:], strict=True)) / sum(sizes)
        torch.testing.assert_close(rows[0], expected, rtol=0, atol=1e-5)
    assert both["encoder"]["uniform_tokens"] == pytest.approx(sum(n * n for n in sizes) / sum(sizes))
    assert "after" not in both["decoder"]["roles"] and both["cross"]["weights"].shape == (1, 2, 2)


def test_specialists_are_the_heads_with_most_weight():
    weights = torch.tensor([[[0.1, 0.2], [0.6, 0.3]], [[0.4, 0.9], [0.5, 0.0]]])  # (L, R, H)
    part = {"roles": ["itself", "first"], "weights": weights, "tokens": torch.tensor([[3.0, 1.5], [2.0, 8.0]])}
    report = specialists({"encoder": part | {"uniform": torch.tensor([0.2, 0.3]), "uniform_tokens": 5.0}})
    assert (report["encoder_itself_head"], report["encoder_first_head"]) == ("2.2", "1.1")
    assert report["encoder_itself"] == pytest.approx(0.9) and report["encoder_first_uniform"] == pytest.approx(0.3)
    assert (report["encoder_sharpest_head"], report["encoder_most_diffuse_head"]) == ("1.2", "2.2")


def test_words_and_marks_are_told_by_their_pieces():
    pieces = ["<bos>", "▁Ein", "▁H", "und", ",", "▁-", "我", "们", ".", "<eos>"]
    assert word_numbers(pieces) == [0, 1, 2, 2, 3, 4, 5, 6, 7, 8] and word_numbers([]) == []
    assert [piece for piece in pieces if is_mark(piece)] == [",", "▁-", "."] and not is_mark("▁")


def test_rollout_adds_up_all_paths():
    torch.manual_seed(0)
    maps = [torch.rand(1, 2, 3, 3, dtype=torch.float64).softmax(dim=-1) for _ in range(3)]
    steps = [weights[0].mean(dim=0) / 2 + torch.eye(3) / 2 for weights in maps]
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for end in range(3):
        for a in range(3):
            for b in range(3):
                for start in range(3):
                    expected[end, start] += steps[2][end, a] * steps[1][a, b] * steps[0][b, start]
    torch.testing.assert_close(rollout(maps)[0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(rollout(maps).sum(dim=-1), torch.ones(1, 3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_what_norms_do_before_training():
    pre, post = (stream_gradients(norm, 8) for norm in ("pre", "post"))
    assert len(pre) == len(post) == 9
    assert pre[0] > 1.2 * pre[-1] and post[0] < 0.7 * post[-1]
    straight = stream_gradients("pre", 8, through_branches=False)
    assert straight == pytest.approx([straight[-1]] * 9, rel=1e-5), "nothing stands across pre-norm's stream"
    straight = stream_gradients("post", 8, through_branches=False)
    assert straight == sorted(straight) and straight[0] < 0.2 * straight[-1]
    assert first_step_change("post", 8) > 1.5 * first_step_change("pre", 8)
    assert first_step_change("pre", 2, lr=0.0) == 0


def test_a_missing_model_or_result_is_named(tmp_path):
    flags = ["--device", "cpu", "--out_dir", str(tmp_path)]
    with pytest.raises(UserError, match="nothing.pth: no such file"):
        visualize.main(["--parts", "heads", "--model_path", str(tmp_path / "nothing.pth"), *flags])
    with pytest.raises(UserError, match=r"nothing.json cannot be read; .*train.py --pair zh-en"):
        visualize.main(["--parts", "training", "--history", str(tmp_path / "nothing.json"), "--pair", "zh-en", *flags])
    with pytest.raises(UserError, match=r"nothing.json cannot be read; .*train.py --task lm"):
        visualize.main(["--parts", "lm_race", "--history", str(tmp_path / "nothing.json"), *flags])
    with pytest.raises(UserError, match="2 to 60 characters fit into a picture, not 0"):
        visualize.main(["--parts", "lm_lens", "--text", "猫", "--model_path", "untrained", *flags])


def test_figures_show_what_was_measured():
    torch.manual_seed(0)
    maps = [torch.rand(2, 4, 5) for _ in range(3)]  # 3 layers of 2 heads
    panels = trained.all_heads(maps, list("abcd"), list("vwxyz")).axes
    assert len(panels) == 6
    for axes, weights in zip(panels, torch.cat(maps), strict=True):
        torch.testing.assert_close(torch.tensor(axes.images[0].get_array()).float(), weights)
    rows = [{"step": 10 * i, "train_loss": 3.0 / i, "validation_loss": 2.0 / i, "lr": 0.1 * i} for i in (1, 2, 3)]
    losses, _, rates = trained.training(rows).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in losses.lines}
    assert list(drawn.values()) == [[row["train_loss"] for row in rows], [row["validation_loss"] for row in rows]]
    assert list(rates.lines[0].get_ydata()) == [row["lr"] for row in rows]


def test_norms_are_measured_at_every_depth_up_to_the_layers():
    gradients, changes, final = measure_norms(n_layers=3, n_seeds=2, rate=visualize.RATE)
    for norm in ("pre", "post"):
        assert len(gradients[norm]) == len(gradients[f"{norm}_straight"]) == 4 and list(changes[norm]) == [1, 2, 4]
        wanted = sum(first_step_change(norm, 2, visualize.RATE, seed=seed) for seed in range(2)) / 2
        assert final[f"{norm}_change_2"] == pytest.approx(wanted, rel=1e-4) and final[f"{norm}_change_2_std"] > 0
