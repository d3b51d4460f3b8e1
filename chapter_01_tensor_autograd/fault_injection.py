"""Kill a training again and again, at random moments, and show that nothing is lost.
反复在随机时刻强行杀掉训练进程，验证什么都不会丢。

    python chapter_01_tensor_autograd/fault_injection.py    # fifty kills: 3 min on 2 CPU cores

Each kill is SIGKILL (`kill -9`), which no program can catch. After each one the saved state must load, and after the
last one the resumed training must end with the numbers of a training that nobody interrupted, to the last bit.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tqdm import tqdm

from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.file_io_util import remove_orphans, unfinished
from utils.results import write_results

TRAIN = Path(__file__).resolve().parent / "train.py"


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    parser.add_argument("--kills", type=positive, default=50, help="how often to kill the training")
    parser.add_argument("--epochs", type=positive, default=700, help="length of the training")
    args = begin(parser, argv, dry_run={"kills": 1, "epochs": 20})

    moments = random.Random(args.seed)
    command = [sys.executable, str(TRAIN), "--dataset", "spirals", "--epochs", str(args.epochs)]
    folder = args.out_dir / "killed"
    state = folder / "state_spirals.pth"
    if state.exists():
        raise UserError(f"{folder} holds an earlier run: choose another --out_dir")
    log = []
    for _ in tqdm(range(args.kills), unit="kill"):
        process = start([*command, "--out_dir", str(folder)], resume=state.exists())
        log.append(kill(process, state, moments))
        if log[-1]["finished"]:
            break
    finish([*command, "--out_dir", str(folder)], resume=state.exists())
    finish([*command, "--out_dir", str(args.out_dir / "whole")], resume=False)

    whole, killed = (
        json.loads((args.out_dir / name / "train_spirals.json").read_text()) for name in ("whole", "killed")
    )
    models = [torch.load(args.out_dir / name / "mlp_spirals.pth", weights_only=True) for name in ("whole", "killed")]
    same_weights = all(torch.equal(*pair) for pair in zip(*(m["weights"].values() for m in models), strict=True))
    final = {
        "kills": sum(not entry["finished"] for entry in log),
        "kills_during_save": sum(entry["during_save"] for entry in log),
        "kills_before_first_save": sum(entry["epoch"] is None for entry in log),
        "unreadable_states": sum(not entry["readable"] for entry in log),
        "epochs": args.epochs,
        "uninterrupted_loss": whole["history"][-1]["train_loss"],
        "resumed_loss": killed["history"][-1]["train_loss"],
        "identical_history": whole["history"] == killed["history"],
        "identical_weights": same_weights,
    }
    write_results(args.out_dir / "faults.json", args, final, log)
    for name, value in final.items():
        print(f"{name:25} {value}")
    print(f"wrote {args.out_dir / 'faults.json'}")


def start(command: list[str], resume: bool) -> subprocess.Popen:
    arguments = command + ["--resume"] * resume
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(command: list[str], resume: bool) -> None:
    arguments = command + ["--resume"] * resume
    done = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        *_, reason = ["", *done.stderr.decode(errors="replace").strip().splitlines()]  # such as that the disk is full
        raise UserError(f"the training that was to run to its end failed: {reason.removeprefix('error: ')}")


def kill(process: subprocess.Popen, state: Path, moments: random.Random) -> dict:
    """Kill the process while it starts up, in the middle of a save, or (mostly) at a random moment after a save."""
    before, began, choice = modified(state), time.perf_counter(), moments.random()
    if choice < 0.2:
        time.sleep(moments.uniform(0, 3))
    elif choice < 0.5:
        wait_until(lambda: unfinished(state.parent) or process.poll() is not None)
        time.sleep(moments.uniform(0, 0.004))
    else:
        wait_until(lambda: modified(state) != before or process.poll() is not None)
        time.sleep(moments.uniform(0, 0.5))
    process.kill()
    finished = process.wait() == 0
    entry = {
        "seconds": time.perf_counter() - began,
        "finished": finished,
        "during_save": bool(unfinished(state.parent)),
    }
    remove_orphans(state.parent)
    try:
        epoch = torch.load(state, weights_only=True)["position"] if state.exists() else None
        return entry | {"readable": True, "epoch": epoch}
    except Exception:
        return entry | {"readable": False, "epoch": None}


def modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.0005)


if __name__ == "__main__":
    run(main)
