"""The Vision Transformer against torchvision's, and what its two tokenizers see.
视觉 Transformer 与 torchvision 的对照，以及两种切分方式各看到什么。
"""

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer as TheirVisionTransformer

from chapter_03_optimization_regularization.optimizers import Adam
from chapter_08_transformer_vanilla.vit import TOKENIZERS, VisionTransformer, ViTConfig, from_torchvision
from tests.chapter_08.test_layers import gradients, shake_

TINY = {"image_size": 12, "patch_size": 4, "d_model": 8, "n_heads": 2, "d_ff": 12, "n_layers": 2, "n_classes": 5}


@pytest.mark.parametrize("batch,patch_size", [(1, 4), (3, 4), (2, 3)])
def test_vit_equals_torchvisions(batch, patch_size):
    ours = VisionTransformer(ViTConfig(**TINY | {"patch_size": patch_size})).double().eval()
    theirs = TheirVisionTransformer(12, patch_size, 2, 2, 8, 12, num_classes=5).double()
    shake_(theirs)
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    images = torch.randn(batch, 3, 12, 12, dtype=torch.float64, requires_grad=True)
    mine, wanted = ours(images), theirs(images)
    torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-9)
    names = [name for name, _ in ours.named_parameters()]
    found = dict(zip(names, gradients(mine, [*ours.parameters()]), strict=True))
    expected = gradients(wanted, [*theirs.parameters()])
    expected = from_torchvision(dict(zip((name for name, _ in theirs.named_parameters()), expected, strict=True)))
    assert found.keys() == expected.keys()
    for name in names:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-9, msg=name)
    torch.testing.assert_close(*(gradients(model(images), [images])[0] for model in (ours, theirs)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("patch_size", [2, 4])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_tokens_go_row_by_row(tokenizer, patch_size):
    """A lit pixel moves the token of its own patch; the convolutions' tokens overlap, plain patches do not."""
    tokens = TOKENIZERS[tokenizer](patch_size, 8)
    dark, lit = torch.zeros(1, 3, 8, 16), torch.zeros(1, 3, 8, 16)
    row, column = patch_size + 1, 2 * patch_size + 1
    lit[:, :, row, column] = 5.0
    moved = (tokens(lit) - tokens(dark)).norm(dim=2)[0]  # (h w,)
    across = 16 // patch_size
    assert moved.shape == (8 // patch_size * across,) and moved[across + 2] > 0
    assert (moved > 0).sum() == 1 if tokenizer == "patches" else 1 < (moved > 0).sum() < len(moved)


def test_the_maximum_may_come_before_the_relu():
    """As in the paper, where it comes after: the same tokens and the same gradients."""
    torch.manual_seed(0)
    ours = TOKENIZERS["conv"](4, 8).double()
    conv1, pool, relu, conv2 = [*ours][:4]
    images = torch.randn(2, 3, 8, 16, dtype=torch.float64, requires_grad=True)
    papers = pool(relu(conv2(pool(relu(conv1(images)))))).flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours(images), papers, rtol=0, atol=1e-12)
    inputs = [images, conv1.weight, conv2.weight]
    for mine, wanted in zip(*(gradients(tokens, inputs) for tokens in (ours(images), papers)), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-12)


def test_pooling_by_mean_takes_all_tokens_alike():
    torch.manual_seed(0)
    model = VisionTransformer(ViTConfig(**TINY, pooling="mean")).double().eval()
    nn.init.zeros_(model.positions.weight)  # without positions a mean does not see the order of patches
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    swapped = torch.cat([images[:, :, 4:8], images[:, :, :4], images[:, :, 8:]], dim=2)
    torch.testing.assert_close(model(swapped), model(images), rtol=0, atol=1e-12)
    assert model.class_token is None and model.positions.weight.shape == (9, 8)


def test_attention_maps():
    maps = VisionTransformer(ViTConfig(**TINY)).attention_maps(torch.randn(2, 3, 12, 12))
    assert [tuple(weights.shape) for weights in maps] == [(2, 2, 10, 10)] * 2
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(2, 2, 10))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="12 pixels are no whole number of patches of 5"):
        VisionTransformer(ViTConfig(**TINY | {"patch_size": 5}))
    with pytest.raises(ValueError, match="its patch size is 2, 4, 8, ..., not 6"):
        VisionTransformer(ViTConfig(**TINY | {"patch_size": 6, "tokenizer": "conv"}))
    with pytest.raises(ValueError, match='not "max"'):
        VisionTransformer(ViTConfig(**TINY, pooling="max"))


@pytest.mark.parametrize("options,steps", [({}, 300), ({"tokenizer": "conv", "pooling": "mean"}, 80)])
def test_it_learns_where_a_spot_is(options, steps):
    """Four classes: the quarter of a noisy picture in which the middle of a bright square lies."""
    torch.manual_seed(0)
    sizes = {"image_size": 16, "d_model": 32, "d_ff": 64, "n_layers": 1, "n_classes": 4}
    model, generator = VisionTransformer(ViTConfig(**TINY | sizes | options)), torch.Generator().manual_seed(0)
    optimizer = Adam(model.parameters(), lr=3e-3)

    def batch(count):
        images = 0.3 * torch.randn(count, 3, 16, 16, generator=generator)
        positions = torch.randint(13, (count, 2), generator=generator)
        for image, (row, column) in zip(images, positions.tolist(), strict=True):
            image[:, row : row + 4, column : column + 4] += 1.0
        low, right = (positions > 6).long().T
        return images, 2 * low + right

    for _ in range(steps):
        images, labels = batch(64)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images, labels = batch(400)
    assert (model.eval()(images).argmax(dim=1) == labels).float().mean() > 0.95
