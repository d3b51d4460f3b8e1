"""What a run measured, written where READMEs and tests can find it.
记录每次运行的测量结果，供 README 和测试引用。
"""

import argparse
import math
import platform
from pathlib import Path

import torch

from utils.device import machine
from utils.errors import UserError
from utils.file_io_util import write_json


def write_results(
    path: Path,
    args: argparse.Namespace,
    final: dict,
    history: list[dict] | None = None,
    per_seed: list[dict] | None = None,
) -> None:
    """Write the results file: the command that made it, on what, how it went, and in `final` every reported figure.

    Where there are several seeds, `per_seed` has a row for each, and `final` their means and, as `<name>_std`, spreads.
    Accuracies are fractions of 1, losses nats, times seconds. NaN and infinities in a history or a table become null.

    Raises:
        UserError: a figure of `final` itself is NaN or infinite. What was at `path` is still there.
    """
    for name, value in final.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} became {value}, so there is nothing to report: start again with a lower --lr")
    results = {
        "command": args.command,
        "flags": args.flags,
        "machine": machine(args.device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "history": history or [],
        **({"per_seed": per_seed} if per_seed else {}),
        "final": final,
    }
    write_json(path, results)
