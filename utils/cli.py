"""The flags that scripts share, and how a script begins and ends.
各脚本共用的命令行参数，以及脚本如何开始与结束。
"""

import argparse
import math
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from utils.data import default_data_root
from utils.device import get_device, resolve_amp
from utils.errors import UserError
from utils.file_io_util import ROOT
from utils.seed import set_seed

WHERE = {"device", "data_root", "out_dir", "resume"}  # flags that say where a run happens, not what it computes


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults, and the module docstring as it is written."""


def script_parser(doc: str, file: str, cpu_only: bool = False) -> argparse.ArgumentParser:
    """Return a parser for the script `file`, described by its docstring, with the flags that every script has.

    A script that computes with NumPy is `cpu_only`: its --device takes nothing else.
    """
    script = Path(file).resolve().relative_to(ROOT).as_posix()
    parser = argparse.ArgumentParser(script, description=doc, formatter_class=_Help, allow_abbrev=False)
    if cpu_only:
        parser.add_argument(
            "--device",
            default="cpu",
            choices=["cpu"],
            type=lambda s: s.replace("auto", "cpu"),
            help="NumPy computes here",
        )
    else:
        parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    parser.add_argument("--dry_run", action="store_true", help="run it all once, tiny, in seconds, without downloads")
    return parser


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a script that draws random numbers and writes files: by default to its chapter's runs/."""
    script = Path(parser.prog)
    runs = ROOT / script.parts[0] / "runs" / script.stem
    parser.add_argument("--seed", type=natural, default=0, help="seed of every random choice")
    parser.add_argument("--out_dir", type=Path, default=runs, help="folder to write into")


def add_data_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag of a script that reads a data set which does not ship with the repository."""
    parser.add_argument("--data_root", type=Path, default=default_data_root(), help="folder of data sets")


def add_training_flags(
    parser: argparse.ArgumentParser,
    *,
    batch_size: int,
    lr: float,
    epochs: int | None = None,
    max_steps: int | None = None,
) -> None:
    """Add the flags that every training script has; its length is given in `epochs` or in `max_steps`."""
    add_output_flags(parser)
    if epochs is not None:
        parser.add_argument("--epochs", type=positive, default=epochs, help="passes over the training set")
    else:
        parser.add_argument("--max_steps", type=positive, default=max_steps, help="steps of the optimizer in all")
    parser.add_argument("--batch_size", type=positive, default=batch_size, help="examples a step")
    parser.add_argument("--lr", type=amount, default=lr, help="peak learning rate")
    if parser.get_default("device") == "auto":  # NumPy has no bfloat16
        parser.add_argument("--amp", default="auto", choices=["auto", "off", "bf16"], help="bfloat16 autocast")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out_dir")


def natural(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def amount(text: str) -> float:
    """An argparse type: a finite number of at least 0."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{number} is not a finite number of at least 0")
    return number


def share(text: str) -> float:
    """An argparse type: a number from 0 to less than 1."""
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not from 0 to less than 1")
    return number


def begin(parser: argparse.ArgumentParser, argv: list[str] | None, dry_run: dict[str, object]) -> argparse.Namespace:
    """Parse `argv`, choose device and precision, seed the generators.

    With --dry_run the values in `dry_run` become the defaults and output goes to a temporary folder. `args.flags` holds
    what defines the run, as plain values; `args.command` repeats it on any machine.
    """
    args = parser.parse_args(argv)
    assert dry_run.keys() <= vars(args).keys(), "dry_run names a flag that the script does not have"
    if args.dry_run:
        if "out_dir" in args and args.out_dir == parser.get_default("out_dir"):
            dry_run = dry_run | {"out_dir": Path(tempfile.mkdtemp(prefix="dry_run_"))}
        parser.set_defaults(**dry_run)
        args = parser.parse_args(argv)
    if "out_dir" in args:
        _make_folder(args.out_dir)
    args.device = get_device(args.device)
    if "amp" in args:
        args.amp = resolve_amp(args.amp, args.device)
    if "seed" in args:
        set_seed(args.seed)
    args.flags = {name: _plain(value) for name, value in vars(args).items() if name not in WHERE}
    args.command = shlex.join(["python", parser.prog, *_words(parser, args.flags)])
    return args


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # better now than after an hour of training
        raise UserError(f"--out_dir {path} cannot be made: {error.strerror}") from error


def _plain(value: object) -> object:
    if not isinstance(value, Path):
        return value
    path = value.absolute()  # what was typed may be relative to the working folder
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else value.name


def _words(parser: argparse.ArgumentParser, flags: dict[str, object]) -> Iterator[str]:
    for name, value in flags.items():
        if value != _plain(parser.get_default(name)):
            yield f"--{name}"
            if value is not True:
                yield from map(str, value if isinstance(value, list) else [value])


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; a user's mistake becomes one line on stderr and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a console without Chinese shows question marks
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: what was saved is whole, and a script with --resume continues", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
