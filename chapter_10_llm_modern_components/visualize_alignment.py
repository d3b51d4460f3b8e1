"""Draw the pictures of the theory of alignment, and the curves of trainings.
画出对齐部分的理论插图，以及各次训练的曲线。

    python chapter_10_llm_modern_components/visualize_alignment.py    # about 10 seconds
    python chapter_10_llm_modern_components/visualize_alignment.py --results runs/dpo/dpo.json runs/simpo/simpo.json

Trainings are compared by what all of their histories have.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chapter_10_llm_modern_components.figures import rewards, tuning
from chapter_10_llm_modern_components.figures.stages import stages
from utils.cli import add_output_flags, begin, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure

PICTURES = {
    "own_lines": tuning.own_lines,
    "lora": tuning.lora,
    "levels": tuning.levels,
    "bradley_terry": rewards.bradley_terry,
    "groups": rewards.groups,
    "tilt": rewards.tilt,
    "doubts": rewards.doubts,
    "stages": stages,
}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run={})
    histories = read_histories(args.results or [])
    figures = {name: draw() for name, draw in PICTURES.items()}
    if histories:
        names = dict.fromkeys(name.partition(",")[0] for name in histories)
        figures[f"curves_{'_'.join(names)}"] = rewards.training_curves(histories, common_columns(histories))
    for name, figure in figures.items():
        print(f"wrote {save_figure(figure, args.out_dir / f'{name}.png')}")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--results", type=Path, nargs="+", help="results of grpo.py, dpo.py, reward.py or ppo.py")
    return parser


def read_histories(paths: Sequence[Path]) -> dict[str, list[dict]]:
    """Return the history of each training in results files, by the file's name, or, of files with the same name, the
    folder's, and by the training's arm or seed.
    """
    stems, found = [path.stem for path in paths], {}
    for path, stem in zip(paths, stems, strict=True):
        found |= read_history(path, stem if stems.count(stem) == 1 else path.absolute().parent.name)
    return found


def read_history(path: Path, name: str) -> dict[str, list[dict]]:
    """Return the history of each training in a results file, by `name` and the training's arm or seed.

    Raises:
        UserError: it is missing, or no such file.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["history"]
        found: dict[str, list[dict]] = {}
        for row in rows:
            words = [name, *(f"{kind} {row[kind]}" for kind in ("arm", "seed") if kind in row)]
            found.setdefault(", ".join(words), []).append(row)
        if rows and all(isinstance(row["step"], int) for row in rows):
            return found
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no results of a training") from error
    raise UserError(f"{path} holds no steps of a training")


def common_columns(histories: dict[str, list[dict]]) -> list[str]:
    """Return what every step of all trainings has, in a fixed order.

    Raises:
        UserError: there is nothing.
    """
    rows = [row for history in histories.values() for row in history]
    columns = [name for name in rewards.LABELS if all(row.get(name) is not None for row in rows)]
    if not columns:
        raise UserError("these --results have nothing in common that could be drawn")
    return columns


if __name__ == "__main__":
    run(main)
