"""Turn a trained network into a file that answers without this book's code; compare size, time and answers.
把训练好的网络变成一个文件，没有本书的代码也能给出答案；再比较文件大小、用时和答案。

    python chapter_05_resnet_modern_cnn/src/export.py    # compared on drawn shapes: 2 min on 2 CPU cores
    python chapter_05_resnet_modern_cnn/src/export.py --dataset stl10    # on the pictures held out

A file holds the whole way from pictures (B, 3, 128, 128), uint8, to probabilities (B, 10), so nobody can forget to
normalise. Whoever has it needs PyTorch and nothing else:

    probabilities = torch.export.load("float32.pt2").module()(pictures)
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from matplotlib.figure import Figure
from torch import Tensor, fx, nn

from chapter_03_optimization_regularization.training import score
from chapter_05_resnet_modern_cnn.src.dataset import DATASETS, SIDE, STL10_CLASSES, load, resize, to_input
from chapter_05_resnet_modern_cnn.src.model import build
from utils.checkpoint import load_model
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.file_io_util import atomic_write
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.shapes import shapes
from utils.timer import compare_times

MODEL = Path(__file__).resolve().parents[1] / "checkpoints" / "resnet18_stl10.pth"
SMALL = {"width": 4, "stem": "224"}  # what --dry_run exports: no weights needed
ABOUT_SMALL = {"classes": STL10_CLASSES, "dataset": "shapes", "image_size": 32}
GREY, (BLUE, ORANGE, GREEN, _, _, LIGHT_BLUE) = "#808080", COLOURS
COLOUR_OF = {"eager": GREY, "float32": BLUE, "static": LIGHT_BLUE, "folded": GREEN, "bfloat16": ORANGE}
ELSEWHERE = """
import importlib.util

assert importlib.util.find_spec("chapter_05_resnet_modern_cnn") is None, "the book's code is in reach"
import torch

answers = []
with torch.no_grad():
    for path, batches in torch.load("questions.pt"):
        program = torch.export.load(path).module()
        answers.append([program(images) for images in batches])
torch.save(answers, "answers.pt")
"""


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, default=MODEL, help="a trained model")
    parser.add_argument("--dataset", default="shapes", choices=DATASETS, help="pictures to compare the answers on")
    parser.add_argument("--count", type=positive, default=1000, help="how many of them at most")
    parser.add_argument("--batch_size", type=positive, default=64, help="pictures at a time, where it is not one")
    parser.add_argument("--rounds", type=positive, default=30, help="how often each is timed")
    args = begin(parser, argv, dry_run={"model_path": None, "count": 10, "batch_size": 4, "rounds": 1})

    untrained = build(SMALL).to(args.device).eval(), ABOUT_SMALL
    network, about = load_model(args.model_path, build, args.device) if args.model_path else untrained
    images, labels = pictures(args.dataset, about, args.data_root, args.count)
    if not 1 < args.batch_size <= len(images):
        raise UserError(f"--batch_size {args.batch_size} is not from 2 to the {len(images)} pictures to compare on")
    images = images.to(args.device)

    eager = Deployable(network)
    fixed = {"static_1": 1, f"static_{args.batch_size}": args.batch_size}  # the others take any number of pictures
    models = {"float32": eager} | dict.fromkeys(fixed, eager) | {"folded": Deployable(fold_norms(network))}
    models["bfloat16"] = Deployable(fold_norms(network).bfloat16())
    files, batches = {name: args.out_dir / f"{name}.pt2" for name in models}, {}
    for name, model in models.items():
        export(model, files[name], tuple(images.shape[1:]), about["classes"], fixed.get(name))
        batches[name] = cut(images, args.batch_size, fixed.get(name))

    final = {"dataset": args.dataset, "count": len(images), "batch_size": args.batch_size}
    known = labels if args.dataset == about.get("dataset") else None
    answers = answers_elsewhere({files[name]: batches[name] for name in files})
    for name, found in zip(files, answers, strict=True):
        facts = {"bytes": files[name].stat().st_size} | compare(found, eager, batches[name], known)
        final |= {f"{name}_{fact}": value for fact, value in facts.items()}
        if models[name] is eager:
            assert facts["difference"] <= 1e-5, f"{files[name]} answers otherwise than the network"

    programs = {"eager": eager} | {name: torch.export.load(path).module() for name, path in files.items()}
    calls = {
        f"{name}_latency_{n}": partial(program, images[:n])
        for name, program in programs.items()
        for n in (1, args.batch_size)
        if fixed.get(name, n) == n
    }
    with torch.no_grad():
        final |= compare_times(calls, args.rounds)
    print_table(final, list(programs))
    write_results(args.out_dir / "export.json", args, final)
    save_figure(draw(final, list(programs)), args.out_dir / "export.png")
    print(f"written to {args.out_dir}: {', '.join(path.name for path in files.values())}, export.json, export.png")


def pictures(name: str, about: dict, root: Path, count: int) -> tuple[Tensor, Tensor]:
    """Return at most `count` pictures (N, 3, side, side) that the network has not seen, and their labels."""
    side = about.get("image_size", SIDE)
    if name == "shapes":
        return shapes(count, side, seed=2)  # as in the split "test"
    images, labels = load(name, about.get("split", "test"), root)[1]
    return resize(images[:count], side), labels[:count]


class Deployable(nn.Module):
    """Pictures (B, 3, H, W), uint8 -> probabilities (B, n_classes), float32: preparation, network and softmax."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(torch.uint8)  # converts nothing: for it, recent exporters let a program refuse other types
        x = to_input(images).to(self.network.fc.weight.dtype)  # (B, 3, H, W)
        return self.network(x).softmax(dim=1, dtype=torch.float32)


@torch.no_grad()
def fold_norms(model: nn.Module) -> fx.GraphModule:
    """Return a copy for inference, in which each norm that follows a convolution has become part of it.

    In eval mode a norm is gamma (y - mean) / sqrt(var + eps) + beta. After y = w * x + b that is a convolution again,
    of weight s w and bias s (b - mean) + beta, where s = gamma / sqrt(var + eps), a number for each channel.
    """
    traced = fx.symbolic_trace(deepcopy(model).eval())
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = modules.get(node.target)
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.args[0]
        conv = modules.get(before.target)
        if not isinstance(conv, nn.Conv2d) or len(before.users) > 1:  # it follows a sum, as in v2, or is not alone
            continue
        s = norm.weight / (norm.running_var + norm.eps).sqrt()  # (C,)
        b = 0 if conv.bias is None else conv.bias
        conv.weight.mul_(s.view(-1, 1, 1, 1))  # (C, C_in, k, k)
        conv.bias = nn.Parameter(s * (b - norm.running_mean) + norm.bias)  # (C,)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def export(
    model: Deployable, path: Path, shape: tuple[int, int, int], classes: list[str], batch: int | None = None
) -> None:
    """Write `model` as a program for `batch` pictures of this shape (C, H, W), or, with None, for any number of them.

    "about.json" inside the file says what goes in and comes out. The program runs on the kind of device it is made on.
    """
    example = torch.zeros(batch or 2, *shape, dtype=torch.uint8, device=next(model.parameters()).device)
    free = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(model, (example,), dynamic_shapes=free, strict=False)
    about = {
        "input": {"type": "uint8", "shape": [batch or "B", *shape], "colours": "red, green, blue"},
        "output": "probabilities of the classes",
        "classes": classes,
        "precision": str(model.network.fc.weight.dtype).removeprefix("torch."),
        "device": example.device.type,
    }
    with atomic_write(path) as temporary:
        torch.export.save(program, temporary, extra_files={"about.json": json.dumps(about, ensure_ascii=False)})


def cut(images: Tensor, size: int, batch: int | None = None) -> Sequence[Tensor]:
    """Cut pictures into batches of just `batch`, leaving out a rest; with None, of 1, of 2, and then of `size`."""
    if batch:
        return images[: len(images) // batch * batch].split(batch)
    return [images[:1], images[1:3], *images[3:].split(size)]


def answers_elsewhere(questions: dict[Path, Sequence[Tensor]]) -> list[list[Tensor]]:
    """Let a new process, which has PyTorch but not this book's code, put batches of pictures to each program."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:  # empty: there is nothing to import
        absolute = [(str(path.resolve()), list(batches)) for path, batches in questions.items()]
        torch.save(absolute, f"{folder}/questions.pt")
        subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=folder, env=environment, check=True)
        return torch.load(f"{folder}/answers.pt", weights_only=True)


@torch.no_grad()
def compare(
    answers: list[Tensor], model: Deployable, batches: Sequence[Tensor], labels: Tensor | None
) -> dict[str, float]:
    """Return how far a program's answers are from the model's, how often the most probable class is the same, and,
    where it has answered for all the pictures that there are labels of, its accuracy.
    """
    found, expected = torch.cat(answers), torch.cat([model(batch) for batch in batches])  # (N, K)
    facts = {
        "difference": (found - expected).abs().max().item(),
        "agreement": (found.argmax(dim=1) == expected.argmax(dim=1)).float().mean().item(),
        "count": len(found),
    }
    if labels is not None and len(labels) == len(found):
        facts["accuracy"] = score(found.cpu(), labels)[0]
    return facts


def print_table(final: dict, names: list[str]) -> None:
    sizes = 1, final["batch_size"]
    print(
        f"answers of a new process without this book's code, compared on {final['count']} pictures ({final['dataset']})"
    )
    heads = ["size", *(f"{n} at a time" for n in sizes), "difference", "same class", "accuracy"]
    print(f"{'':10}{''.join(f'{head:>15}' for head in heads)}")
    for name in names:
        cells = [cell(final, f"{name}_bytes", 1e-6, ".2f", " MB")]
        cells += [cell(final, f"{name}_latency_{n}", 1e3, ".2f", " ms") for n in sizes]
        cells += [cell(final, f"{name}_difference", 1, ".0e", "")]
        cells += [cell(final, f"{name}_{fact}", 100, ".1f", " %") for fact in ("agreement", "accuracy")]
        print(f"{name:10}{''.join(f'{text:>15}' for text in cells)}")


def cell(final: dict, key: str, factor: float, form: str, unit: str) -> str:
    return f"{final[key] * factor:{form}}{unit}" if key in final else "-"


def draw(final: dict, names: list[str]) -> Figure:
    """Draw the sizes of the files, and how long one picture and a batch of them take."""
    figure, axes = new_figure(10, 0.36 * len(names) + 0.8, ncols=3, sharey=True)
    many = final["batch_size"]
    panels = {
        "bytes": (1e-6, "size of the file (MB)"),
        "latency_1": (1e3, "time for 1 picture (ms)"),
        f"latency_{many}": (1e3, f"time for {many} pictures (ms)"),
    }
    for ax, (fact, (factor, title)) in zip(axes, panels.items(), strict=True):
        values = [final.get(f"{name}_{fact}", 0) * factor for name in names]
        bars = ax.barh(range(len(names)), values, color=[COLOUR_OF[name.split("_")[0]] for name in names])
        ax.bar_label(bars, [f"{value:.3g}" if value else "-" for value in values], padding=3, fontsize=9)
        ax.set(title=title, xticks=[], xlim=(0, 1.2 * max(values)))
        ax.spines["bottom"].set_visible(False)
        ax.grid(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()  # the first at the top
    return figure


if __name__ == "__main__":
    run(main)
