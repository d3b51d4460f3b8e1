"""What is read off a trained model's inside, against definitions: copying heads, the lens, attention over patches.
从训练好的模型内部读出的量，与定义对照：会照抄的头、logit 透镜、图块上的注意力。
"""

import json

import pytest
import torch

from chapter_08_transformer_vanilla import visualize
from chapter_08_transformer_vanilla.attention_analysis import attention_received
from chapter_08_transformer_vanilla.figures import inside
from chapter_08_transformer_vanilla.lm_analysis import (
    copying_weights,
    logit_lens,
    repeated_texts,
    report_copying,
    survey_copying,
    token_losses,
    without_head,
)
from chapter_08_transformer_vanilla.shipped import build

LETTERS = "ab cdefgh\ni"


def decoder(n_layers, n_heads):
    torch.manual_seed(0)
    config = {"n_tokens": len(LETTERS), "d_model": 8, "n_heads": n_heads, "d_ff": 12, "dropout": 0.0}
    return build(config | {"n_encoder_layers": 0, "n_decoder_layers": n_layers}).double().eval()


def test_a_head_that_copies_has_all_its_weight_behind_the_earlier_token():
    texts = repeated_texts(2, 4, 50, torch.Generator().manual_seed(0))
    assert texts.shape == (2, 8) and torch.equal(texts[:, :4], texts[:, 4:])
    weights = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    expected = torch.stack([weights[:, :, t, t - 4 + 1] for t in range(4, 8)]).mean(dim=(0, 1))
    torch.testing.assert_close(copying_weights(weights), expected)


@torch.no_grad()
def test_a_head_is_left_out_and_comes_back():
    """Of a single head nothing but the bias is left; of two, what the other one found."""
    tokens = torch.arange(6)[None]
    for n_heads in (1, 2):
        model = decoder(1, n_heads)
        attention = model.decoder.layers[0].self_attention
        torch.nn.init.normal_(attention.out_proj.bias)
        whole, kept = model(tokens), attention.out_proj.weight.clone()
        with without_head(model, 0, n_heads - 1):
            without = model(tokens)
        assert torch.equal(model(tokens), whole) and not torch.allclose(without, whole)
        heads = attention.join
        attention.join = lambda found, heads=heads: heads(torch.cat([found[:, :-1], 0 * found[:, -1:]], dim=1))
        torch.testing.assert_close(model(tokens), without)
        assert torch.equal(attention.out_proj.weight, kept)


@torch.no_grad()
def test_a_survey_reports_the_largest():
    model, texts = decoder(2, 2), repeated_texts(3, 5, len(LETTERS), torch.Generator().manual_seed(1))
    found = survey_copying(model, texts)
    losses = torch.nn.functional.cross_entropy(model(texts)[:, :-1].flatten(0, 1), texts[:, 1:].flatten())
    assert token_losses(model, texts).mean().item() == pytest.approx(losses.item())
    with without_head(model, 1, 0):
        cost = (token_losses(model, texts)[:, 5:].mean() - found["losses"][5:].mean()).item()
    assert found["costs"][1, 0].item() == pytest.approx(cost) and found["weights"].shape == (2, 2)
    assert found["uniform"] == pytest.approx(sum(1 / t for t in range(6, 11)) / 5)
    found |= {"weights": torch.tensor([[0.1, 0.2], [0.9, 0.3]]), "costs": torch.tensor([[0.0, 0.4], [0.1, 0.1]])}
    report = report_copying(found)
    assert (report["largest_weights_head"], report["largest_costs_head"], report["half"]) == ("2.1", "1.2", 5)
    assert report["loss_first"] == pytest.approx(found["losses"][:4].mean().item())
    assert report["loss_second"] == pytest.approx(found["losses"][5:].mean().item())
    panels = inside.copying(found).axes
    assert list(panels[0].lines[0].get_ydata()) == found["losses"].tolist()


@torch.no_grad()
def test_the_lens_is_the_model_cut_off_behind_each_layer():
    model, tokens = decoder(3, 2), torch.tensor([1, 7, 3, 2])
    log_p = logit_lens(model, tokens)
    layers = model.decoder.layers
    for n in range(4):
        model.decoder.layers = layers[:n]
        torch.testing.assert_close(log_p[n], model(tokens[None])[0].log_softmax(dim=-1))
    labels = [text.get_text() for text in inside.lens(log_p, "a e\n", LETTERS).axes[0].texts]
    loss = -(log_p[3, 0, 2] + log_p[3, 1, 5] + log_p[3, 2, 9]).item() / 3
    assert f"layer 3: {loss:.2f} nats" in labels and labels[-1] == "?" and {"␣", "↵"} < set(labels)


def test_attention_over_patches_is_what_the_class_is_read_from():
    weights = torch.rand(2, 5, 5).softmax(dim=-1)
    torch.testing.assert_close(attention_received(weights, False), weights.sum(dim=1) / 5)
    torch.testing.assert_close(attention_received(weights, True), weights[:, 0, 1:] / (1 - weights[:, 0, :1]))
    shares = torch.full((2, 3, 2, 2), 0.25)
    shares[1, 2] = torch.tensor([[0.7, 0.1], [0.1, 0.1]])
    figure = inside.patch_attention(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), shares, ["cat $", "dog"])
    grid = figure.axes[7].images[1].get_array()
    assert grid.max() == pytest.approx(2.8) and figure.axes[7].images[1].get_clim() == (0, pytest.approx(2.8))


def test_a_race_shows_both_histories(tmp_path):
    rows = [{"seconds": 60.0, "val_loss": 2.0}, {"seconds": 120.0, "val_loss": 1.6}]
    final = {"val_loss": 1.55, "train_seconds": 125.0, "ngram_loss": 1.7}
    one = {"history": rows, "final": final, "flags": {}, "machine": "x (cpu, fast bfloat16), 1 threads"}
    two = one | {"final": final | {"processes": 2}}
    first, _, second = inside.race({"ours": two, "theirs": one}).axes[0].lines[:3]
    assert list(first.get_xdata()) == [1, 2] and list(first.get_ydata()) == pytest.approx(
        [1.95, 1.55]
    )  # ends at final's
    assert first.get_label() == "ours (cores: 2), shifted by -0.050"
    assert second.get_label() == "theirs (cores: 1), shifted by -0.050"
    (tmp_path / "lm.json").write_text(json.dumps(two), encoding="utf-8")
    flags = ["--device", "cpu", "--out_dir", str(tmp_path), "--history", str(tmp_path / "lm.json")]
    visualize.main([*flags, "--parts", "lm_race"])
    assert (tmp_path / "lm_race.png").exists()
