"""The flags that scripts share, and how a script begins and ends.
各脚本共用的命令行参数，以及脚本如何开始与结束。
"""

import argparse
import math
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from utils.data import default_data_root
from utils.device import get_device, resolve_amp
from utils.errors import UserError, translated
from utils.file_io_util import ROOT, atomic_write
from utils.flags import typed
from utils.seed import set_seed

NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|-inf|-nan", re.IGNORECASE)
WHERE = {"device", "data_root", "out_dir", "resume"}  # flags that say where a run happens, not what it computes


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults, and the module docstring as it is written."""


def script_parser(doc: str, file: str, cpu_only: bool = False) -> argparse.ArgumentParser:
    """Return a parser for the script `file`, described by its docstring, with the flags that every script has.

    A script that computes on the CPU alone, with NumPy say, is `cpu_only`: its --device takes nothing else.
    """
    script = Path(file).resolve().relative_to(ROOT).as_posix()
    parser = argparse.ArgumentParser(script, description=doc, formatter_class=_Help, allow_abbrev=False)
    parser._negative_number_matcher = re.compile(f"(?:{NEGATIVE.pattern})$", re.IGNORECASE)  # argparse's has no 1e-3
    if cpu_only:
        parser.add_argument(
            "--device",
            default="cpu",
            choices=["cpu"],
            type=lambda s: s.replace("auto", "cpu"),
            help="this script needs no other",
        )
    else:
        parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    parser.add_argument("--dry_run", action="store_true", help="run it all once, tiny, in seconds, without downloads")
    return parser


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a script that draws random numbers and writes files: by default to its chapter's runs/."""
    script = Path(parser.prog)
    runs = ROOT / script.parts[0] / "runs" / script.stem
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random choice")
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
        add_amp_flag(parser)
    parser.add_argument("--resume", action="store_true", help="continue the run in --out_dir")


def add_amp_flag(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """Add the flag of a script that computes in bfloat16 where asked to."""
    parser.add_argument("--amp", default=default, choices=["auto", "off", "bf16"], help="bfloat16 autocast")


def add_train_size_flag(parser: argparse.ArgumentParser, default: int = 4000) -> None:
    """Add the flag of a script that can draw its own training set."""
    parser.add_argument("--train_size", type=positive, default=default, help="how many of the shapes to draw")


def seed(text: str) -> int:
    """An argparse type: a number that PyTorch takes as a seed, with room for further seeds after it."""
    number = natural(text)
    if number >= 2**63:
        raise argparse.ArgumentTypeError(f"{number} is not below 2^63")
    return number


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
    _expand_home(args)
    assert dry_run.keys() <= vars(args).keys(), "dry_run names a flag that the script does not have"
    if args.dry_run:
        if "out_dir" in args and args.out_dir == parser.get_default("out_dir"):
            dry_run = dry_run | {"out_dir": Path(tempfile.mkdtemp(prefix="dry_run_"))}
        parser.set_defaults(**dry_run)
        args = parser.parse_args(argv)
        _expand_home(args)
    if "out_dir" in args:
        _make_folder(args.out_dir)
    args.device = get_device(args.device)
    if "amp" in args:
        args.amp = resolve_amp(args.amp, args.device)
    if "seed" in args:
        set_seed(args.seed)
    args.flags = {name: _plain(value) for name, value in vars(args).items() if name not in WHERE}
    changed = {k: v for k, v in args.flags.items() if v != _plain(parser.get_default(k))}
    args.command = shlex.join(["python", parser.prog, *(word for k, v in changed.items() for word in typed(k, v))])
    return args


def _expand_home(args: argparse.Namespace) -> None:
    """Let a ~ in a path be the home folder where no shell has seen to it, as in --data_root=~/data."""
    for name, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, name, value.expanduser())
        elif isinstance(value, list):
            setattr(args, name, [item.expanduser() if isinstance(item, Path) else item for item in value])


def _make_folder(path: Path) -> None:
    probe = path / ".probe"
    try:
        with atomic_write(probe) as temporary:
            temporary.write_bytes(bytes(4096))  # an empty file would fit on a full disk
        probe.unlink(missing_ok=True)  # another process of the same training may have been quicker
    except OSError as error:  # better now than after an hour of training
        raise UserError(f"--out_dir {path} cannot be written to: {error.strerror}") from error


def _plain(value: object) -> object:
    if not isinstance(value, Path):
        return value
    path = value.absolute()  # what was typed may be relative to the working folder
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else value.name


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; a user's mistake, or the machine's limit, becomes one line on stderr and exit status 2."""
    _open_streams()
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        _end("interrupted: what was saved is whole, and a script with --resume continues", 130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        _end("", 1)
    except Exception as error:
        message = str(error) if isinstance(error, UserError) else translated(error, sys.argv[1:])
        if message is None:
            raise
        _end("error: " + " ".join(message.splitlines()), 2)


def _open_streams() -> None:
    """See to it that stdout and stderr take any text: a notebook, a service or a shell may have left them otherwise."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console without Chinese shows question marks


def _end(message: str, status: int) -> None:
    if message:
        tqdm.write(message, file=sys.stderr)  # on a line of its own, also where a progress bar stands
    try:
        sys.stdout.flush()
    except OSError:  # what is left cannot be written: without this Python would try again at its end
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    sys.exit(status)
