"""Chapter 4: the classifier on every window of a canvas, boxes, and how they are counted.
第 4 章：看遍画布每个窗口的分类器、方框，以及怎样计数。
"""

import argparse

import pytest
import torch
from torch import nn
from torchvision import ops

from chapter_04_cnn_classic import detect
from chapter_04_cnn_classic.conv.receptive_field import receptive_field
from chapter_04_cnn_classic.dataset import to_input
from chapter_04_cnn_classic.detection import (
    add_output,
    average_precision,
    best_threshold,
    crops,
    fit_objectness,
    fully_convolutional,
    heat_map,
    iou,
    match,
    nms,
    precision_recall,
    sweep,
    vote,
    window_boxes,
)
from chapter_04_cnn_classic.detection.scenes import GAP, Scene, background, scene
from chapter_04_cnn_classic.model import MODELS, build
from utils.errors import UserError


def classifier(name, dtype=torch.float64):
    """A small network whose batch norms have seen something, in eval mode."""
    torch.manual_seed(0)
    model = build({"model": name, "width": 0.1, "dropout": 0.5}).to(dtype)
    with torch.no_grad():
        model(torch.randn(8, 3, 32, 32, dtype=dtype))
    return model.eval()


def random_boxes(count, dice, dtype=torch.float64):
    corners = 40 * torch.rand(count, 2, generator=dice, dtype=dtype)
    return torch.cat([corners, corners + 1 + 20 * torch.rand(count, 2, generator=dice, dtype=dtype)], dim=1)


# --- the classifier on every window -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", MODELS)
def test_on_a_training_picture_the_maps_are_the_logits(name, dtype, tolerance):
    model = classifier(name, dtype)
    x = torch.randn(2, 3, 32, 32, dtype=dtype)
    with torch.no_grad():
        maps, logits = fully_convolutional(model)(x), model(x)
    assert maps.shape == (2, 10, 1, 1)
    torch.testing.assert_close(maps[:, :, 0, 0], logits, rtol=tolerance, atol=tolerance)


def test_without_padding_every_place_is_the_classifier_on_its_window():
    """LeNet-5 pads nothing, so a window does not see what lies around it."""
    model = classifier("lenet")
    x, stride = torch.randn(1, 3, 45, 57, dtype=torch.float64), receptive_field(model).jump
    with torch.no_grad():
        maps = fully_convolutional(model)(x)[0]  # (K, h, w)
        boxes = window_boxes(*maps.shape[1:], stride).int().tolist()
        cut = torch.cat([x[:, :, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes])
        torch.testing.assert_close(maps.flatten(1).T, model(cut), rtol=1e-10, atol=1e-10)
    assert maps.shape == (10, 4, 7)


def test_with_padding_a_window_sees_its_surroundings():
    model = classifier("vgg")
    layers, picture = fully_convolutional(model), torch.randn(1, 3, 32, 32, dtype=torch.float64)
    canvas = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    canvas[..., 16:48, 16:48] = picture
    with torch.no_grad():
        maps, logits = layers(canvas), model(picture)
        assert window_boxes(5, 5, 8)[12].tolist() == [16, 16, 48, 48]
        assert not torch.allclose(maps[:, :, 2, 2], logits, rtol=0.01)
        changed = canvas.clone()
        changed[..., 12, 20] += 1  # outside of the window, but within the receptive field
        assert not torch.allclose(layers(changed)[:, :, 2, 2], maps[:, :, 2, 2], rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_window_lies_in_the_middle_of_what_its_place_sees(name):
    model = classifier(name)
    field, n = receptive_field(model), model.features(torch.zeros(1, 3, 32, 32, dtype=torch.float64)).shape[-1]
    seen = field.through(n).pixels(1)  # along one axis, by place 1 of the map after the mean over n units
    box = window_boxes(2, 2, field.jump)[3]
    middle = (box[0] + box[2] - 1) / 2
    assert abs((seen[0] + seen[-1]) / 2 - middle) <= field.jump / 2  # 3x3 poolings pad on one side only
    assert box[2] - box[0] == 32


def test_sweep_scales_the_canvas_and_the_boxes():
    layers = fully_convolutional(classifier("vgg", torch.float32))
    canvases = torch.randint(256, (2, 3, 64, 88), dtype=torch.uint8)
    boxes, outputs = sweep(layers, canvases, [1.0, 2.0, 4.0], stride=8)
    with torch.no_grad():
        maps = layers(to_input(canvases))
    assert maps.shape == (2, 10, 5, 8) and outputs.shape == (2, 5 * 8 + 2, 10)  # at 4.0 no window fits
    torch.testing.assert_close(outputs[:, :40], maps.flatten(2).transpose(1, 2))
    assert boxes[9].tolist() == [8, 8, 40, 40]
    assert boxes[40:].tolist() == [[0, 0, 64, 64], [16, 0, 80, 64]]


# --- a class for nothing ----------------------------------------------------------------------------------------------


def test_one_more_output_leaves_the_others_as_they_were():
    layers, x = fully_convolutional(classifier("nin")), torch.randn(1, 3, 40, 48, dtype=torch.float64)
    with torch.no_grad():
        features = layers[:-1](x)
        w = torch.randn(features.shape[1] + 1, dtype=torch.float64)
        outputs = add_output(layers, w)(x)
        torch.testing.assert_close(outputs[:, :-1], layers(x), rtol=1e-10, atol=1e-10)
    expected = torch.einsum("bchw,c->bhw", features, w[:-1]) + w[-1]
    torch.testing.assert_close(outputs[:, -1], expected, rtol=1e-10, atol=1e-10)


def test_objectness_learns_from_clear_windows_only():
    dice = torch.Generator().manual_seed(0)
    overlaps = torch.rand(2000, generator=dice)
    features = torch.randn(2000, 5, generator=dice)
    features[:, 2] += 4 * overlaps
    unclear = (overlaps >= 0.4) & (overlaps < 0.6)
    w = fit_objectness(features, overlaps)
    features[unclear] = float("nan")
    assert torch.equal(fit_objectness(features, overlaps), w)
    logits = features.double() @ w[:-1] + w[-1]
    right = (logits > 0) == (overlaps >= 0.6)
    assert right[~unclear].double().mean() > 0.85 and w[:-1].abs().argmax() == 2


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_iou_by_hand_and_by_torchvision():
    a = torch.tensor([[0, 0, 4, 4.0]])
    b = torch.tensor([[0, 0, 4, 4.0], [2, 0, 6, 4], [1, 1, 3, 3], [4, 0, 8, 4], [9, 9, 10, 10]])
    torch.testing.assert_close(iou(a, b), torch.tensor([[1, 8 / 24, 4 / 16, 0, 0]]))
    dice = torch.Generator().manual_seed(0)
    a, b = random_boxes(50, dice), random_boxes(70, dice)
    torch.testing.assert_close(iou(a, b), ops.box_iou(a, b), rtol=1e-10, atol=1e-10)
    assert iou(a, b[:0]).shape == (50, 0)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_nms_keeps_what_torchvision_keeps(count, threshold):
    dice = torch.Generator().manual_seed(count)
    boxes, scores = random_boxes(count, dice), torch.rand(count, generator=dice, dtype=torch.float64)
    assert torch.equal(nms(boxes, scores, threshold), ops.nms(boxes, scores, threshold))


def test_a_cut_before_nms_equals_one_after():
    """This is why a threshold can be chosen afterwards: a worse box never removes a better one."""
    dice = torch.Generator().manual_seed(0)
    boxes, scores = random_boxes(200, dice), torch.rand(200, generator=dice)
    after = nms(boxes, scores, 0.3)
    good = torch.where(scores >= 0.6)[0]
    assert torch.equal(after[scores[after] >= 0.6], good[nms(boxes[good], scores[good], 0.3)])


def test_boxes_vote_by_weight_if_they_overlap_enough():
    boxes = torch.tensor([[0, 0, 32, 32.0], [8, 0, 40, 32], [100, 0, 132, 32]])
    weights = torch.tensor([3.0, 1.0, 5.0])
    torch.testing.assert_close(vote(boxes[:1], boxes, weights), torch.tensor([[2, 0, 34, 32.0]]))
    torch.testing.assert_close(vote(boxes[2:], boxes, weights), boxes[2:])


def test_crops_are_what_lies_in_the_boxes():
    canvas = torch.randint(256, (3, 60, 70), dtype=torch.uint8)
    out = crops(canvas, torch.tensor([[5.2, 6.9, 37.1, 39.0], [0, 0, 48, 48]]))
    assert out.shape == (2, 3, 32, 32)
    torch.testing.assert_close(out[0], canvas[:, 7:39, 5:37].float(), rtol=0, atol=1e-3)


def test_heat_lies_in_the_middle_of_a_box():
    boxes, scores = torch.tensor([[8, 0, 40, 32.0], [16, 0, 48, 32]]), torch.tensor([[0.5, 0.1], [0.2, 0.3]])
    heat = heat_map(boxes, scores, height=40, width=64)
    assert heat.shape == (2, 10, 16)
    expected = torch.zeros(10, 16)
    expected[2:6, 4:8] = 0.5  # pixels 16 to 32 of the first
    expected[2:6, 8:10] = 0.2  # and 32 to 40 of the second alone
    torch.testing.assert_close(heat[0], expected)
    assert heat[1, 4, 5] == 0.1 and heat[1, 4, 6] == 0.3


# --- counting ---------------------------------------------------------------------------------------------------------

TRUE = Scene(
    torch.zeros(3, 40, 120, dtype=torch.uint8), torch.tensor([[0, 0, 32, 32.0], [60, 0, 92, 32]]), torch.tensor([3, 5])
)


def test_matching_by_hand():
    boxes = torch.tensor([[0, 0, 32, 32.0], [0, 0, 32, 28], [60, 0, 92, 32], [64, 0, 96, 32], [80, 0, 112, 32]])
    labels = torch.tensor([3, 3, 4, 5, 5])  # right, a second on the same thing, wrong name, right, too far away
    hits = match(boxes, labels, TRUE.boxes, TRUE.labels)
    torch.testing.assert_close(hits, torch.tensor([1, 0, 0, 28 / 36, 0]))
    assert match(boxes[:0], labels[:0], TRUE.boxes, TRUE.labels).shape == (0,)


def test_counting_by_hand():
    scores = torch.tensor([0.2, 0.9, 0.5, 0.8, 0.1])
    hits = torch.tensor([0.9, 0.7, 0.6, 0.0, 0.0])
    ordered, precision, recall = precision_recall(scores, hits, total=4)
    torch.testing.assert_close(ordered, torch.tensor([0.9, 0.8, 0.5, 0.2, 0.1]))
    torch.testing.assert_close(precision, torch.tensor([1, 1 / 2, 2 / 3, 3 / 4, 3 / 5], dtype=torch.float64))
    torch.testing.assert_close(recall, torch.tensor([1, 1, 2, 3, 3], dtype=torch.float64) / 4)
    assert best_threshold(scores, hits, total=4) == pytest.approx(0.2)
    assert average_precision(scores, hits, total=4) == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)
    assert best_threshold(scores, torch.zeros(5), total=4) == pytest.approx(0.9)  # nothing is ever hit


def test_measure_by_hand():
    boxes = torch.tensor([[0, 0, 32, 32.0], [64, 0, 96, 32], [100, 0, 120, 32]])
    found = [{"boxes": boxes, "scores": torch.tensor([0.9, 0.8, 0.3]), "labels": torch.tensor([3, 1, 1])}]
    result = detect.measure(found, [TRUE], threshold=0.5)
    expected = {"threshold": 0.5, "hit_rate": 0.5, "precision": 0.5, "mean_iou": 1.0, "found_unnamed": 1.0}
    assert result == expected | {"average_precision": 0.5}


# --- scenes -----------------------------------------------------------------------------------------------------------


def test_scenes_hold_the_pictures_where_they_say():
    images = torch.randint(256, (30, 3, 32, 32), dtype=torch.uint8)
    labels, sizes, counts = torch.arange(30), set(), set()
    dice = torch.Generator().manual_seed(0)
    for _ in range(20):
        one = scene(images, labels, 120, 150, 6, dice)
        counts.add(len(one.labels))
        assert one.canvas.shape == (3, 120, 150) and one.canvas.dtype == torch.uint8
        assert one.boxes.min() >= 0 and one.boxes[:, 2].max() <= 150 and one.boxes[:, 3].max() <= 120
        wide = one.boxes + torch.tensor([0, 0, GAP, GAP])
        assert torch.equal(iou(wide, wide) > 0, torch.eye(len(wide), dtype=torch.bool))
        seen = crops(one.canvas, one.boxes)
        for box, label, picture in zip(one.boxes, one.labels, seen, strict=True):
            sizes.add(int(box[2] - box[0]))
            if box[2] - box[0] == 32:
                torch.testing.assert_close(picture, images[label].float(), rtol=0, atol=1e-3)
            else:
                assert torch.corrcoef(torch.stack([picture, images[label].float()]).flatten(1))[0, 1] > 0.8
    assert min(sizes) == 32 and max(sizes) == 48 and len(counts) > 1 and max(counts) <= 6


def test_scenes_follow_from_the_seed_and_small_canvases_hold_one():
    images, labels = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8), torch.arange(5)
    first, second, third = (scene(images, labels, 80, 90, 8, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first.canvas, second.canvas) and not torch.equal(first.canvas, third.canvas)
    assert len(scene(images, labels, 32, 32, 1, torch.Generator().manual_seed(0)).labels) == 1


def test_backgrounds_are_smooth_and_differ():
    dice = torch.Generator().manual_seed(0)
    first, second = background(70, 90, dice), background(70, 90, dice)
    assert first.shape == (3, 70, 90) and 0 <= first.min() and first.max() <= 255
    assert first.diff(dim=2).abs().mean() < 5 < first.std() and (first - second).abs().mean() > 10


# --- the script -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small():
    return argparse.Namespace(
        seed=0, canvases=4, height=64, width=80, overlap=0.1, device=torch.device("cpu"), model_path=None
    )


def test_grey_surroundings_change_nothing_where_nothing_is_padded(small):
    pictures = torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8), torch.arange(10)
    for name, least in (("lenet", 0), ("vgg", 0.01)):
        model = classifier(name, torch.float32)
        layers, stride = fully_convolutional(model), receptive_field(model).jump
        layers = add_output(layers, torch.zeros(layers[-1].in_channels + 1))
        effect = detect.padding_effect(model, layers, stride, pictures, small)
        assert effect["count"] == 8
        for around in ("grey", "texture"):
            change = effect[f"{around}_logit_change"]
            assert change > least * effect["logit_deviation"] if least else change < 1e-5


def test_the_whole_canvas_at_once_is_cheaper(small):
    layers = fully_convolutional(classifier("vgg", torch.float32))
    head = layers[-1].weight.numel()
    result = detect.savings(layers, small)
    window, canvas = result["macs_window"] - head, result["macs_canvas"] - 35 * head
    assert result["windows"] == 5 * 7 and canvas == 5 * window  # 64x80 pixels are five times 32x32
    assert result["ratio"] == pytest.approx(35 * (window + head) / (5 * window + 35 * head))
    assert result["ratio"] > 6


class Oracle(nn.Module):
    """Stands in for the classifier: names a crop by its mean brightness."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return 20 * nn.functional.one_hot((x.mean(dim=(1, 2, 3)) > 0).long(), 2).float()


def test_with_perfect_outputs_everything_is_found(small):
    """The windows that lie on things know it: boxes, names and scores then come out right at the second look."""
    canvas = torch.full((3, 64, 80), 128, dtype=torch.uint8)
    canvas[:, 8:40, 0:32], canvas[:, 24:56, 48:80] = 250, 0
    truth = Scene(canvas, torch.tensor([[0, 8, 32, 40.0], [48, 24, 80, 56]]), torch.tensor([1, 0]))
    boxes = window_boxes(5, 7, 8)
    near = iou(boxes, truth.boxes).amax(dim=1)
    outputs = torch.cat([torch.zeros(35, 2), 20 * (near[:, None] - 0.8)], dim=1)[None]
    found = detect.search(4, Oracle(), [truth], boxes, outputs, small.overlap)
    result = detect.measure(found, [truth], threshold=0.5)
    assert result["hit_rate"] == result["precision"] == result["found_unnamed"] == 1 and result["mean_iou"] > 0.9
    found = detect.search(3, Oracle(), [truth], boxes, outputs, small.overlap)
    assert detect.measure(found, [truth], threshold=0.1)["found_unnamed"] == 1


def test_a_canvas_must_hold_a_picture():
    with pytest.raises(UserError, match="needs 32 pixels"):
        detect.main(["--dry_run", "--device", "cpu", "--height", "31"])
