"""Turn a trained network into a file that answers without this book's code; compare size, time and answers.
把训练好的网络变成一个文件，没有本书的代码也能给出答案；再比较文件大小、用时和答案。

    python chapter_05_resnet_modern_cnn/src/export.py    # compared on drawn shapes: 2 min on 2 CPU cores
    python chapter_05_resnet_modern_cnn/src/export.py --dataset stl10    # on the pictures held out

A file holds the whole way from pictures (B, 3, 128, 128), uint8, to probabilities (B, 10), so nobody can forget to
normalise. Whoever has it needs PyTorch and nothing else:

    probabilities = torch.export.load("float32.pt2").module()(pictures)
"""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.training import score
from chapter_05_resnet_modern_cnn.src.dataset import DATASETS, SIDE, STL10_CLASSES, load, resize
from chapter_05_resnet_modern_cnn.src.deployment import Deployable, fold_norms, write_program
from chapter_05_resnet_modern_cnn.src.figures.export import sizes_and_times
from chapter_05_resnet_modern_cnn.src.model import build
from utils.checkpoint import load_model
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results
from utils.shapes import shapes
from utils.timer import compare_times

MODEL = Path(__file__).resolve().parents[1] / "checkpoints" / "resnet18_stl10.pth"
SMALL = {"width": 4, "stem": "224"}  # what --dry_run exports: no weights needed
ABOUT_SMALL = {"classes": STL10_CLASSES, "dataset": "shapes", "image_size": 32}
ELSEWHERE = """
import importlib.util, io, sys

assert importlib.util.find_spec("chapter_05_resnet_modern_cnn") is None, "the book's code is in reach"
import torch

answers = []
with torch.no_grad():
    for path, batches in torch.load(io.BytesIO(sys.stdin.buffer.read())):
        program = torch.export.load(path).module()
        answers.append([program(images) for images in batches])
file = io.BytesIO()
torch.save(answers, file)
sys.stdout.buffer.write(file.getbuffer())
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
    images, labels = read_pictures(args.dataset, about, args.data_root, args.count)
    if not 1 < args.batch_size <= len(images):
        raise UserError(f"--batch_size {args.batch_size} is not from 2 to the {len(images)} pictures to compare on")
    images = images.to(args.device)

    fixed = {"static_1": 1, f"static_{args.batch_size}": args.batch_size}  # the others take any number of pictures
    models = variants(network, list(fixed))
    files, batches = {name: args.out_dir / f"{name}.pt2" for name in models}, {}
    for name, model in models.items():
        write_program(model, files[name], tuple(images.shape[1:]), about["classes"], fixed.get(name))
        batches[name] = cut(images, args.batch_size, fixed.get(name))

    known = labels if args.dataset == about.get("dataset") else None
    final = {"dataset": args.dataset, "count": len(images), "batch_size": args.batch_size}
    final |= compare_answers(models, files, batches, known)
    programs = {"eager": models["float32"]} | {name: torch.export.load(file).module() for name, file in files.items()}
    final |= latencies(programs, fixed, images, args.batch_size, args.rounds)
    print_table(final, list(programs))
    write_results(args.out_dir / "export.json", args, final)
    save_figure(sizes_and_times(final, list(programs)), args.out_dir / "export.png")
    print(f"written to {args.out_dir}: {', '.join(path.name for path in files.values())}, export.json, export.png")


def variants(network: nn.Module, fixed: list[str]) -> dict[str, Deployable]:
    """Return what is exported, by name: the network as it is, also for fixed batches, folded, and in bfloat16."""
    eager = Deployable(network)
    models = {"float32": eager} | dict.fromkeys(fixed, eager) | {"folded": Deployable(fold_norms(network))}
    return models | {"bfloat16": Deployable(fold_norms(network).bfloat16())}


def compare_answers(
    models: dict[str, Deployable], files: dict[str, Path], batches: dict[str, Sequence[Tensor]], known: Tensor | None
) -> dict[str, float]:
    """Return by name and fact the size of each file, and how its answers in a new process differ from the network's."""
    eager, facts = models["float32"], {}
    answers = answers_elsewhere({files[name]: batches[name] for name in files})
    for name, found in zip(files, answers, strict=True):
        own = {"bytes": files[name].stat().st_size} | compare(found, eager, batches[name], known)
        facts |= {f"{name}_{fact}": value for fact, value in own.items()}
        if models[name] is eager:
            assert own["difference"] <= 1e-5, f"{files[name]} answers otherwise than the network"
    return facts


@torch.no_grad()
def latencies(
    programs: dict[str, nn.Module], fixed: dict[str, int], images: Tensor, batch_size: int, rounds: int
) -> dict[str, float]:
    """Return the median seconds that each program takes for one picture and for a batch, if it takes such a batch."""
    calls = {
        f"{name}_latency_{n}": partial(program, images[:n])
        for name, program in programs.items()
        for n in (1, batch_size)
        if fixed.get(name, n) == n
    }
    return compare_times(calls, rounds)


def read_pictures(name: str, about: dict, root: Path, count: int) -> tuple[Tensor, Tensor]:
    """Return at most `count` pictures (N, 3, side, side) that the network has not seen, and their labels."""
    side = about.get("image_size", SIDE)
    if name == "shapes":
        return shapes(count, side, seed=2)  # as in the split "test"
    images, labels = load(name, about.get("split", "test"), root)[1]
    return resize(images[:count], side), labels[:count]


def cut(images: Tensor, size: int, batch: int | None = None) -> Sequence[Tensor]:
    """Cut pictures into batches of just `batch`, leaving out a rest; with None, of 1, of 2, and then of `size`."""
    if batch:
        return images[: len(images) // batch * batch].split(batch)
    return [images[:1], images[1:3], *images[3:].split(size)]


def answers_elsewhere(questions: dict[Path, Sequence[Tensor]]) -> list[list[Tensor]]:
    """Let a new process, which has PyTorch but not this book's code, put batches of pictures to each program.

    Questions and answers go through pipes: no other disk than that of the programs can be full.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    asked = io.BytesIO()
    torch.save([(str(path.resolve()), list(batches)) for path, batches in questions.items()], asked)
    command = [sys.executable, "-c", ELSEWHERE]
    with tempfile.TemporaryDirectory() as folder:  # empty: there is nothing to import
        done = subprocess.run(
            command, input=asked.getvalue(), stdout=subprocess.PIPE, cwd=folder, env=environment, check=True
        )
    return torch.load(io.BytesIO(done.stdout), weights_only=True)


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


if __name__ == "__main__":
    run(main)
