"""What heads look at, rollout, and untrained norms, against definitions; missing files are named.
注意力头的分工、注意力展开与未训练的归一化，均与定义对照；缺失的文件会被指明。
"""

import pytest
import torch

from chapter_08_transformer_vanilla import visualize
from chapter_08_transformer_vanilla.attention_analysis import ROLES, head_roles, rollout
from chapter_08_transformer_vanilla.figures import trained
from chapter_08_transformer_vanilla.norm_placement import first_step_change, stream_gradients
from utils.errors import UserError


def test_roles_are_the_means_over_the_queries_that_have_them():
    torch.manual_seed(0)
    weights, lengths = torch.rand(2, 3, 5, 5, dtype=torch.float64), torch.tensor([5, 3])
    found = head_roles(weights, lengths)
    for row, key_of in zip(
        found,
        [lambda t, n: t, lambda t, n: t - 1, lambda t, n: t + 1, lambda t, n: 0, lambda t, n: n - 1],
        strict=True,
    ):
        places = [(b, t, key_of(t, n)) for b, n in enumerate(lengths.tolist()) for t in range(n)]
        values = [weights[b, :, t, s] for b, t, s in places if 0 <= s < lengths[b]]
        torch.testing.assert_close(row, torch.stack(values).mean(dim=0), rtol=0, atol=1e-12)
    assert found.shape == (len(ROLES), 3)


def test_a_head_with_one_role_has_all_its_weight_there():
    before = torch.eye(6).roll(1, dims=1)[None, None]  # place t looks at t + 1, the last one at the first
    found = head_roles(before, torch.tensor([6]))[:, 0]
    torch.testing.assert_close(found, torch.tensor([0, 0, 1, 1 / 6, 1 / 6]), rtol=0, atol=1e-6)


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
    gradients, changes, final = visualize.measure_norms(n_layers=3, n_seeds=2)
    for norm in ("pre", "post"):
        assert len(gradients[norm]) == len(gradients[f"{norm}_straight"]) == 4 and list(changes[norm]) == [1, 2, 4]
        wanted = sum(first_step_change(norm, 2, visualize.RATE, seed=seed) for seed in range(2)) / 2
        assert final[f"{norm}_change_2"] == pytest.approx(wanted, rel=1e-4) and final[f"{norm}_change_2_std"] > 0
