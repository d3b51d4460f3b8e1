"""Ask a shipped network: for its value at points of your own, or what garment a picture shows.
让仓库自带的网络作答：任意点处的函数值，或图片里是哪种衣物。

    python chapter_02_nn_basics_mlp/inference.py --point 0.3
    python chapter_02_nn_basics_mlp/inference.py --mode 2d_surface --point 0.3 -0.2 1.5 0
    python chapter_02_nn_basics_mlp/inference.py --mode extrapolate --csv my_points.csv
    python chapter_02_nn_basics_mlp/inference.py --mode classify --image my_photo.jpg another.png
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from chapter_01_tensor_autograd.dataset import normalise, read_garment
from chapter_02_nn_basics_mlp.dataset import read_csv
from chapter_02_nn_basics_mlp.measures import network_outputs, two_view_probabilities
from chapter_02_nn_basics_mlp.network import build
from chapter_02_nn_basics_mlp.problems import PROBLEMS, Problem
from chapter_02_nn_basics_mlp.recipes import MODES, chosen_mode
from utils.checkpoint import load_model
from utils.cli import add_output_flags, begin, run, script_parser
from utils.errors import UserError
from utils.file_io_util import ROOT, atomic_write
from utils.tables import aligned, printable

MODELS = Path(__file__).resolve().parent / "models"
PICTURES = sorted((ROOT / "chapter_01_tensor_autograd" / "images").glob("*.png"))
SHOWN = 20  # rows of a long table


def main(argv: list[str] | None = None) -> None:
    chosen_mode(sys.argv[1:] if argv is None else argv)  # an unknown one ends here, in one line
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--mode", default="standard", choices=MODES, help="which of the shipped models")
    parser.add_argument("--model_path", type=Path, help="another trained model")
    parser.add_argument(
        "--point", type=float, nargs="+", default=[0.3, -0.2], help="points, the coordinates of each in turn"
    )
    parser.add_argument("--csv", type=Path, help="a file with a point on each line, instead")
    parser.add_argument("--image", type=Path, nargs="+", default=PICTURES, help="pictures, for --mode classify")
    args = begin(parser, argv, dry_run={})

    model, about = load_model(args.model_path or MODELS / f"mlp_{args.mode}.pth", build, args.device)
    if "classes" in about:
        if args.csv:
            raise UserError("--csv holds points, but this model takes pictures: use --image")
        images = torch.stack([read_garment(path) for path in args.image])  # (N, 28, 28)
        probabilities = two_view_probabilities(model, normalise(images).to(args.device)).cpu()  # (N, n_classes)
        names = [printable(path.name) for path in args.image]
        if len(set(names)) < len(names):  # in different folders
            names = [printable(str(path)) for path in args.image]
        print_classes(names, probabilities, about)
        return
    d_in = next(model.parameters()).shape[1]
    points = read_csv(args.csv, d_in) if args.csv else points_of(args.point, d_in)  # (N, d_in)
    columns = [*([f"x{i}" for i in range(1, d_in + 1)] if d_in > 1 else ["x"]), "prediction"]
    table = torch.cat([points, network_outputs(model, points.to(args.device)).cpu()], dim=1)  # (N, d_in + 1)
    problem = PROBLEMS.get(about.get("mode"))
    if problem:  # then the truth is known as well
        columns += ["truth", "error"]
        truth = problem.target(points)  # (N, 1)
        table = torch.cat([table, truth, table[:, -1:] - truth], dim=1)  # (N, d_in + 3)
    print_points(columns, table, points, problem)
    write_csv(args.out_dir / "predictions.csv", columns, table)
    print(f"wrote {args.out_dir / 'predictions.csv'}")


def points_of(numbers: list[float], d_in: int) -> Tensor:
    """Return `numbers` as points (N, d_in).

    Raises:
        UserError: they do not come out even, or one is not finite.
    """
    if len(numbers) % d_in:
        raise UserError(f"--point: {len(numbers)} numbers do not make points of {d_in} coordinates each")
    points = torch.tensor(numbers).view(-1, d_in)
    if not points.isfinite().all():
        raise UserError("--point: every coordinate must be a finite number")
    return points


def print_points(columns: list[str], table: Tensor, points: Tensor, problem: Problem | None) -> None:
    """Print the first rows, and mark points that are not of the kind that the network was trained on."""
    print("".join(f"{name:>12}" for name in columns))
    for row, point in zip(table[:SHOWN].tolist(), points, strict=False):
        note = "  outside the training range" if problem and point.abs().max() > problem.side else ""
        print("".join(f"{value:12.4f}" for value in row) + note)
    if len(table) > SHOWN:
        print(f"... and {len(table) - SHOWN} more")


def print_classes(names: list[str], probabilities: Tensor, about: dict) -> None:
    """Print the three most probable classes of each picture."""
    rows = []
    for name, row in zip(names, probabilities, strict=True):
        best = row.argsort(descending=True)[:3].tolist()
        rows.append([name, *(cell for i in best for cell in (about["classes"][i], f"{row[i]:.1%}"))])
    print("\n".join(aligned(rows, "<>")))
    count, split = about[f"{about['split']}_count"], about["split"]
    print(f"(on {count} {split} pictures this network is right {about['shipped_accuracy']:.1%} of the time)")


def write_csv(path: Path, columns: list[str], table: Tensor) -> None:
    rows = [columns, *([f"{value:.6g}" for value in row] for row in table.tolist())]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    run(main)
