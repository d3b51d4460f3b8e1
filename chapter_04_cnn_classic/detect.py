"""Find things on large canvases with a network that was trained to name small pictures.
用一个只学过给小图片命名的网络，在大画布上找出物体。

    python chapter_04_cnn_classic/detect.py    # on 2 CPU cores: 4 min
    python chapter_04_cnn_classic/detect.py --dataset shapes --model_path my_run/best_model.pth

The class for nothing is learned on scenes of training pictures, the thresholds are chosen on scenes of validation
pictures, and what is reported is measured on scenes of test pictures.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from tqdm import tqdm

from chapter_04_cnn_classic.conv.receptive_field import receptive_field
from chapter_04_cnn_classic.dataset import DATASETS, MEAN, load, to_input
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
)
from chapter_04_cnn_classic.detection.scenes import Scene, background, scene
from chapter_04_cnn_classic.figures import detection as figures
from chapter_04_cnn_classic.model import ConvNet, build
from utils.checkpoint import load_model
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser, share
from utils.data import batches
from utils.errors import UserError
from utils.model_summary import model_summary
from utils.plotting import save_figure
from utils.results import write_results
from utils.timer import Timer

MODEL = Path(__file__).resolve().parent / "results" / "best_model.pth"
SMALL = {"model": "vgg", "width": 0.1}  # what --dry_run looks with: no weights needed
SIDE = 32  # of the pictures that the network was trained on
SCALES = [1.0, 1.5**0.5, 1.5]  # things are 1 to 1.5 times as large
MOST = 20  # boxes of a canvas to look at, at most
METHODS = ["windows of one size", "three sizes", "boxes vote", "a class for nothing", "a second look"]


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    timer = Timer()
    train_set, validation_set, classes = load(args.dataset, "validation", args.data_root)
    _, test_set, _ = load(args.dataset, "test", args.data_root)
    model = read_classifier(args, classes)
    scenes = {
        "training": make_scenes(train_set, args.training_canvases, 3 * args.seed, args),
        "validation": make_scenes(validation_set, args.validation_canvases, 3 * args.seed + 1, args),
        "test": make_scenes(test_set, args.canvases, 3 * args.seed + 2, args),
    }
    layers, stride = fully_convolutional(model, SIDE), receptive_field(model).jump
    layers = add_output(layers, learn_nothing(layers[:-1], stride, scenes["training"], args.device))
    swept = {name: sweep_all(layers, stride, scenes[name], args.device) for name in ("validation", "test")}
    table, curves, found = compare_methods(model, scenes, swept, args.overlap)
    final = {
        **table[-1],
        "canvases": args.canvases,
        "things": sum(len(one.labels) for one in scenes["test"]),
        "split": "test",
        "methods": table,
        "given_boxes_accuracy": given_boxes(model, scenes["test"], args.device),
        "padding": padding_effect(model, layers, stride, test_set, args),
        "savings": savings(layers, args),
        "seconds": timer.seconds,
    }
    boxes, outputs = swept["test"][0], swept["test"][1][0]  # of the first canvas
    probability, thing = outputs[:, :-1].softmax(dim=1), outputs[:, -1:].sigmoid()  # (N, K), (N, 1)
    heats = [heat_map(boxes, scores, args.height, args.width) for scores in (probability, thing * probability)]
    overview = figures.overview(scenes["test"][0], heats, found, classes)
    save_figure(overview, args.out_dir / "detect.png")
    save_figure(figures.curves(curves, table), args.out_dir / "detect_curves.png")
    write_results(args.out_dir / "detect.json", args, final)
    print_report(final)
    print(f"detect.png, detect_curves.png and detect.json written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, default=MODEL, help="a trained model")
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="whose pictures to hide on the canvases")
    parser.add_argument("--canvases", type=positive, default=500, help="how many to measure on")
    parser.add_argument("--validation_canvases", type=positive, default=100, help="how many to choose thresholds on")
    parser.add_argument("--training_canvases", type=positive, default=60, help="how many to learn `nothing` from")
    parser.add_argument("--height", type=positive, default=160, help="of a canvas, in pixels")
    parser.add_argument("--width", type=positive, default=224, help="of a canvas, in pixels")
    parser.add_argument("--pictures", type=positive, default=8, help="pictures on a canvas, at most")
    parser.add_argument("--overlap", type=share, default=0.1, help="IoU above which the worse of two boxes goes")
    few = {"canvases": 2, "validation_canvases": 2, "training_canvases": 2, "height": 96, "width": 128}
    args = begin(parser, argv, dry_run=few | {"model_path": None, "dataset": "shapes"})
    if min(args.height, args.width) < SIDE:
        raise UserError(f"--height {args.height} --width {args.width}: a canvas needs {SIDE} pixels each way")
    return args


def read_classifier(args: argparse.Namespace, classes: list[str]) -> ConvNet:
    if not args.model_path:
        return build(SMALL).to(args.device).eval()
    model, about = load_model(args.model_path, build, args.device)
    if about["classes"] != classes:
        raise UserError(f"{args.model_path} knows {', '.join(about['classes'])}: it needs another --dataset")
    return model.to(memory_format=torch.channels_last)


def make_scenes(pictures: tuple[Tensor, Tensor], count: int, seed: int, args: argparse.Namespace) -> list[Scene]:
    dice = torch.Generator().manual_seed(seed)
    return [scene(*pictures, args.height, args.width, args.pictures, dice) for _ in range(count)]


def sweep_all(layers: nn.Sequential, stride: int, scenes: list[Scene], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the windows of all canvases, the same for each: (N, 4); and what the network says of them: (S, N, K)."""
    outputs = []
    for one in tqdm(scenes, desc="sweep", unit="canvas"):
        boxes, output = sweep(layers, one.canvas[None].to(device), SCALES, stride, SIDE)
        outputs.append(output[0].cpu())
    return boxes.cpu(), torch.stack(outputs)


def learn_nothing(body: nn.Sequential, stride: int, scenes: list[Scene], device: torch.device) -> Tensor:
    """Learn from the features of all windows on these scenes to tell things from nothing: (C + 1,)."""
    boxes, features = sweep_all(body, stride, scenes, device)
    overlaps = torch.stack([iou(boxes, one.boxes).amax(dim=1) for one in scenes])  # (S, N)
    return fit_objectness(features.flatten(0, 1), overlaps.flatten())


def compare_methods(
    model: ConvNet, scenes: dict[str, list[Scene]], swept: dict[str, tuple[Tensor, Tensor]], overlap: float
) -> tuple[list[dict], list[tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """Choose each method's threshold on validation scenes, and measure it on test scenes.

    Returns:
        a row for each method; precision and recall by falling score; what the last one finds on the first test scene.
    """
    table, curves = [], []
    total = {name: sum(len(one.labels) for one in scenes[name]) for name in swept}
    for level, method in enumerate(METHODS):
        found = {name: search(level, model, scenes[name], *swept[name], overlap) for name in swept}
        judged = {name: judge(found[name], scenes[name]) for name in swept}
        threshold = best_threshold(*judged["validation"], total["validation"])
        table.append({"method": method, **measure(found["test"], scenes["test"], threshold)})
        curves.append(precision_recall(*judged["test"], total["test"])[1:])
    first = found["test"][0]
    return table, curves, {name: part[first["scores"] >= threshold] for name, part in first.items()}


@torch.no_grad()
def search(
    level: int, model: ConvNet, scenes: list[Scene], boxes: Tensor, outputs: Tensor, overlap: float
) -> list[dict[str, Tensor]]:
    """Make boxes (M, 4), scores and labels (M,) of what the network said of each scene, by METHODS[level].

    Each method adds to the one before it. There is no threshold yet: those below it change nothing above it.
    """
    found, device = [], next(model.parameters()).device
    for one, output in zip(scenes, outputs, strict=True):
        thing = output[:, -1].sigmoid()  # (N,)
        probability, labels = output[:, :-1].softmax(dim=1).max(dim=1)
        scores = probability * thing if level >= 3 else probability
        if level == 0:
            scores = scores.masked_fill(boxes[:, 2] - boxes[:, 0] > SIDE, 0)
        kept = nms(boxes, scores, overlap)[:MOST]
        places = vote(boxes[kept], boxes, scores) if level >= 2 else boxes[kept]
        scores, labels = scores[kept], labels[kept]
        if level == 4:
            x = to_input(crops(one.canvas, places, SIDE).to(device))
            probability, labels = model(x).softmax(dim=1).cpu().max(dim=1)
            scores = thing[kept] * probability
        order = scores.argsort(descending=True, stable=True)
        found.append({"boxes": places[order], "scores": scores[order], "labels": labels[order]})
    return found


def judge(found: list[dict[str, Tensor]], scenes: list[Scene], named: bool = True) -> tuple[Tensor, Tensor]:
    """Return the scores of all detections, and their IoU with what they hit or 0; unless `named`, any class will do."""
    hits = []
    for one, truth in zip(found, scenes, strict=True):
        labels = [labels if named else torch.zeros_like(labels) for labels in (one["labels"], truth.labels)]
        hits.append(match(one["boxes"], labels[0], truth.boxes, labels[1]))
    return torch.cat([one["scores"] for one in found]), torch.cat(hits)


def measure(found: list[dict[str, Tensor]], scenes: list[Scene], threshold: float) -> dict[str, float]:
    """Return what a detector reaches whose detections are those from the threshold on."""
    total = sum(len(one.labels) for one in scenes)
    scores, hits = judge(found, scenes)
    _, places = judge(found, scenes, named=False)
    claimed = scores >= threshold
    right = claimed & (hits > 0)
    return {
        "threshold": threshold,
        "hit_rate": right.sum().item() / total,
        "precision": right.sum().item() / max(1, claimed.sum().item()),
        "mean_iou": hits[right].mean().item() if right.any() else 0.0,
        "found_unnamed": (claimed & (places > 0)).sum().item() / total,
        "average_precision": average_precision(scores, hits, total),
    }


@torch.no_grad()
def given_boxes(model: ConvNet, scenes: list[Scene], device: torch.device) -> float:
    """Return how often the classifier names a thing rightly when it is told where the thing is."""
    right = []
    for one in scenes:
        logits = model(to_input(crops(one.canvas, one.boxes, SIDE).to(device)))
        right.append(logits.argmax(dim=1).cpu() == one.labels)
    return torch.cat(right).double().mean().item()


@torch.no_grad()
def padding_effect(
    model: ConvNet, layers: nn.Sequential, stride: int, pictures: tuple[Tensor, Tensor], args: argparse.Namespace
) -> dict[str, float]:
    """Ask about pictures alone, and amid plain grey or a texture, in the same window of a canvas.

    Alone, a picture is padded with zeros in every layer, as in training. On a canvas the window sees its surroundings.
    """
    dice = torch.Generator().manual_seed(args.seed)
    margin, side = 2 * stride, SIDE + 4 * stride
    grey = (255 * torch.tensor(MEAN)).view(3, 1, 1).expand(3, side, side)  # the input 0
    right, change, spread = {"alone": 0, "grey": 0, "texture": 0}, {"grey": [], "texture": []}, []
    images, labels = (t[: 2 * args.canvases] for t in pictures)
    for image, label in batches(images, labels, batch_size=100):
        alone = model(to_input(image.to(args.device))).cpu()  # (B, K)
        right["alone"] += (alone.argmax(dim=1) == label).sum().item()
        spread.append(alone)
        texture = torch.stack([background(side, side, dice) for _ in label])  # (B, 3, side, side)
        for name, canvas in {"grey": grey.expand_as(texture).clone(), "texture": texture}.items():
            canvas[:, :, margin : margin + SIDE, margin : margin + SIDE] = image
            logits = layers(to_input(canvas.to(args.device)))[:, :-1, 2, 2].cpu()
            right[name] += (logits.argmax(dim=1) == label).sum().item()
            change[name].append((logits - alone).abs())
    return {
        "count": len(labels),
        **{f"{name}_accuracy": count / len(labels) for name, count in right.items()},
        **{f"{name}_logit_change": torch.cat(parts).mean().item() for name, parts in change.items()},
        "logit_deviation": torch.cat(spread).std().item(),
    }


@torch.no_grad()
def savings(layers: nn.Sequential, args: argparse.Namespace) -> dict[str, float]:
    """Count multiply-accumulates: a canvas at once, against its windows one by one."""
    canvas = torch.zeros(1, 3, args.height, args.width, device=args.device)
    count = layers(canvas)[0, 0].numel()
    window, whole = (model_summary(layers, x).macs for x in (canvas[..., :SIDE, :SIDE], canvas))
    return {"windows": count, "macs_window": window, "macs_canvas": whole, "ratio": count * window / whole}


def print_report(final: dict) -> None:
    print(f"{final['things']} things on {final['canvases']} canvases of test pictures")
    columns = {"hit_rate": "hit rate", "precision": "precision", "mean_iou": "mean IoU", "found_unnamed": "found"}
    columns |= {"average_precision": "AP", "threshold": "threshold"}
    print(f"{'':20}" + "".join(f"{head:>11}" for head in columns.values()))
    for row in final["methods"]:
        print(f"{row['method']:20}" + "".join(f"{row[name]:11.4f}" for name in columns))
    print(f"named rightly when given the boxes: {final['given_boxes_accuracy']:.4f}")
    padding = final["padding"]
    for name in ("alone", "grey", "texture"):
        print(f"named rightly, {name:8} {padding[f'{name}_accuracy']:.4f}   ({padding['count']} test pictures)")
    save = final["savings"]
    print(f"{save['windows']} windows one by one cost {save['ratio']:.1f} times the canvas at once")


if __name__ == "__main__":
    run(main)
