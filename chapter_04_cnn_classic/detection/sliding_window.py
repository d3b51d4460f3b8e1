"""From classification to detection: a classifier on every window of a canvas, its answers made into boxes and counted.
从分类到检测：让分类器看遍大图的每个窗口，把它的回答变成方框，再数一数对了多少。

Boxes are rows x1, y1, x2, y2, in pixels; x2 and y2 lie just outside. Lists of boxes have the best first.
"""

import copy

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.linear_models import logistic_newton
from chapter_02_nn_basics_mlp.network import Linear
from chapter_04_cnn_classic.dataset import to_input
from chapter_04_cnn_classic.detection.scenes import resize
from utils.shape_checks import check_same_shape

# --- the classifier on every window -----------------------------------------------------------------------------------


@torch.no_grad()
def fully_convolutional(model: nn.Module, side: int = 32) -> nn.Sequential:
    """Return a copy of a ConvNet, in eval mode, that turns any canvas (B, 3, H, W) into maps of logits (B, K, h, w).

    Let a picture of `side` pixels have features of n x n. The mean over all places becomes one over windows of n x n,
    at stride 1. A linear layer becomes a convolution: of 1x1 after the mean, of n x n after Flatten alone (Sermanet et
    al. 2013, section 3.5; Long et al. 2015, section 3.1). On a picture of `side` pixels h = w = 1: the model's logits.
    """
    model = copy.deepcopy(model).eval()
    weight = next(model.parameters())
    n = model.features(weight.new_zeros(1, 3, side, side)).shape[-1]
    layers = list(model.stages)
    for layer in model.head:
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            layers.append(nn.AvgPool2d(n, stride=1))
            n = 1
        elif isinstance(layer, (Linear, nn.Linear)):
            d_out, d_in = layer.weight.shape
            conv = nn.Conv2d(d_in // n**2, d_out, n).to(weight)
            conv.weight.copy_(layer.weight.view_as(conv.weight))  # Flatten, too, has the channel first: (C, n, n)
            conv.bias.copy_(layer.bias)
            layers.append(conv)
            n = 1
        elif not isinstance(layer, nn.Flatten):
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def window_boxes(height: int, width: int, stride: int, side: int = 32) -> Tensor:
    """Return the boxes (height * width, 4) that the places of a map of this size stand for, row by row.

    Place (i, j) is what the classifier says of the window with its corner at (`stride` i, `stride` j): `stride` is the
    step from one place to the next, `receptive_field(model).jump`, and `side` the size of the training pictures.
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    corners = stride * torch.stack([x, y], dim=-1).view(-1, 2)  # (h * w, 2)
    return torch.cat([corners, corners + side], dim=1).float()


@torch.no_grad()
def sweep(
    layers: nn.Sequential, canvases: Tensor, scales: list[float], stride: int, side: int = 32
) -> tuple[Tensor, Tensor]:
    """Apply a fully convolutional network to canvases (B, 3, H, W), uint8, at several scales (an image pyramid).

    The network knows things of one size. To it, a canvas shrunk 1.5 times shows things 1.5 times as large at that size.
    网络只认得一种大小的物体。把画布缩小 1.5 倍，大 1.5 倍的物体就变成它认得的大小。

    Returns:
        boxes (N, 4) on the canvas, and what the network says of each: (B, N, K).
    """
    height, width = canvases.shape[2:]
    boxes, outputs = [], []
    for scale in scales:
        h, w = round(height / scale), round(width / scale)
        if min(h, w) < side:
            continue  # no window fits
        maps = layers(to_input(resize(canvases, h, w)))  # (B, K, rows, columns)
        boxes.append(window_boxes(*maps.shape[2:], stride, side) * torch.tensor([width / w, height / h]).repeat(2))
        outputs.append(maps.flatten(2).transpose(1, 2))  # (B, rows * columns, K)
    return torch.cat(boxes).to(canvases.device), torch.cat(outputs, dim=1)


# --- a class for nothing ----------------------------------------------------------------------------------------------


def fit_objectness(features: Tensor, overlaps: Tensor, thing: float = 0.6, nothing: float = 0.4) -> Tensor:
    """Tell windows on a thing from others by logistic regression: features (N, C) -> weights and bias (C + 1,).

    `overlaps` (N,) are their largest IoU with a thing. Those between `nothing` and `thing` have no right answer and are
    left out.
    """
    _check_one_each(features, overlaps)
    clear = (overlaps >= thing) | (overlaps < nothing)
    return logistic_newton(features[clear].double(), (overlaps[clear] >= thing).double(), l2=1e-4)[0]


@torch.no_grad()
def add_output(layers: nn.Sequential, w: Tensor) -> nn.Sequential:
    """Give the last layer, a 1x1 convolution (C -> K), one more output, of weights and bias w (C + 1,)."""
    last = layers[-1]
    wider = nn.Conv2d(last.in_channels, last.out_channels + 1, 1).to(last.weight)
    wider.weight.copy_(torch.cat([last.weight, w[None, :-1, None, None].to(last.weight)]))
    wider.bias.copy_(torch.cat([last.bias, w[-1:].to(last.bias)]))
    return nn.Sequential(*layers[:-1], wider).eval()


# --- boxes ------------------------------------------------------------------------------------------------------------


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return intersection over union for each pair of boxes (N, 4) and (M, 4): (N, M)."""
    sides = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])  # (N, M, 2)
    both = sides.clamp(min=0).prod(dim=2)  # (N, M)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (a, b))
    return both / (area_a[:, None] + area_b - both)


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression: return the indices of the boxes (N, 4) to keep.

    The best box stays, and what overlaps it by an IoU above the threshold goes; of what is left the best stays, ...
    """
    _check_one_each(boxes, scores)
    order, kept = scores.argsort(descending=True, stable=True), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[iou(boxes[best, None], boxes[order])[0] <= threshold]
    return torch.stack(kept) if kept else order


def vote(kept: Tensor, boxes: Tensor, weights: Tensor, threshold: float = 0.5) -> Tensor:
    """Move each of the boxes `kept` (M, 4) to the weighted mean of those (N, 4) around it (Gidaris & Komodakis 2015).

    The windows lie on a grid. The mean of several that see the same thing lies between its points.
    """
    _check_one_each(boxes, weights)
    share = weights * (iou(kept, boxes) >= threshold)  # (M, N)
    return share @ boxes / share.sum(dim=1, keepdim=True)


def crops(canvas: Tensor, boxes: Tensor, side: int = 32) -> Tensor:
    """Cut boxes (M, 4), rounded to pixels, out of a canvas (3, H, W), and resize each: (M, 3, side, side), float."""
    cut = [canvas[None, :, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.round().int().tolist()]
    return torch.cat([resize(part, side, side) for part in cut])


def heat_map(boxes: Tensor, scores: Tensor, height: int, width: int, step: int = 4) -> Tensor:
    """Return for every `step`-th pixel the best scores (N, K) of the boxes in whose middle it lies: (K, h, w).

    The middle is half as wide and high as the box. Where no box has its middle, the heat is 0.
    """
    y, x = torch.meshgrid(torch.arange(step / 2, height, step), torch.arange(step / 2, width, step), indexing="ij")
    places = torch.stack([x, y], dim=-1).view(-1, 1, 2)  # (h * w, 1, 2)
    centres, quarter = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 4
    inside = ((places - centres).abs() <= quarter).all(dim=2)  # (h * w, N)
    heat = torch.stack([(inside * column).amax(dim=1) for column in scores.T])  # (K, h * w)
    return heat.view(-1, *x.shape)


# --- counting ---------------------------------------------------------------------------------------------------------


def match(boxes: Tensor, labels: Tensor, true_boxes: Tensor, true_labels: Tensor, threshold: float = 0.5) -> Tensor:
    """Return the IoU of each detection (M,) with the thing that it hits, or 0: a false alarm.

    It hits the thing of its label that it overlaps most, by at least the threshold. Each thing can be hit once: another
    box on it is a false alarm.
    """
    _check_one_each(boxes, labels)
    _check_one_each(true_boxes, true_labels)
    overlaps = iou(boxes, true_boxes) * (labels[:, None] == true_labels)  # (M, G)
    hits = overlaps.new_zeros(len(boxes))
    for i in range(len(boxes)):
        best, thing = overlaps[i].max(dim=0)
        if best >= threshold:
            hits[i] = best
            overlaps[:, thing] = 0
    return hits


def precision_recall(scores: Tensor, hits: Tensor, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sort all detections (M,) by score; return the scores and, down to each, precision and recall, float64.

    `hits` are 0 for false alarms; `total` is how many things there are.
    """
    check_same_shape(scores, hits)
    order = scores.argsort(descending=True, stable=True)
    right = (hits[order] > 0).double().cumsum(dim=0)  # (M,)
    return scores[order], right / torch.arange(1, len(right) + 1), right / total


def best_threshold(scores: Tensor, hits: Tensor, total: int) -> float:
    """Return the score down to which F1, the harmonic mean of precision and recall, is largest."""
    ordered, precision, recall = precision_recall(scores, hits, total)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return ordered[f1.argmax()].item()


def average_precision(scores: Tensor, hits: Tensor, total: int) -> float:
    """Return the mean over all things of the precision where each is hit, 0 for those that never are."""
    _, precision, recall = precision_recall(scores, hits, total)
    gains = recall.diff(prepend=recall.new_zeros(1))  # 1 / total at a hit, else 0
    return (precision * gains).sum().item()


def _check_one_each(rows: Tensor, values: Tensor) -> None:
    """Raise ValueError unless there is one value for each row: (N,) for (N, ...), not (N, 1) or (1,)."""
    if values.shape != rows.shape[:1]:
        raise ValueError(f"{tuple(values.shape)} values for {tuple(rows.shape)}: there should be {len(rows)}")
