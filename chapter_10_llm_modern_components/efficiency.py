"""What a training step costs in memory and time, and what each way to save brings: all on one model and one batch.
一步训练占用多少内存和时间，各种节省办法各有多大效果：同一个模型，同一批数据。

    python chapter_10_llm_modern_components/efficiency.py    # 6 min on 2 CPU cores
    python chapter_10_llm_modern_components/efficiency.py --arms plain checkpointing    # two of them: 2 min

Each way is one flag of the training loop, or one line of it. The gradients of each are compared with those of the plain
step: recomputing changes nothing, adding in another order almost nothing, bfloat16 its last digits. Weights and tokens
are random, for neither memory nor time depends on them. Times are medians, the ways taking turns in one process; two
processes are timed by themselves.
"""

import argparse
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from chapter_03_optimization_regularization.training import make_optimizers
from chapter_05_resnet_modern_cnn.src.data_parallel import sum_gradients_
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.pretraining import dial
from chapter_10_llm_modern_components.scaling.memory import activation_bytes, state_bytes
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.device import autocast
from utils.distributed import rank, world_size
from utils.errors import UserError
from utils.memory import torch_peak
from utils.results import write_results
from utils.seed import set_seed
from utils.tables import aligned
from utils.timer import compare_times

LOOPBACK = "127.0.0.1"  # nothing leaves this machine
ALONE = ["plain", "accumulation", "checkpointing", "bf16", "compile"]  # ways that one process can go
ARMS = [*ALONE, "processes"]


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    steps = {arm: Step(arm, args) for arm in ALONE if arm in {"plain", *args.arms}}
    plain = steps["plain"].gradient()
    final = sizes(steps["plain"].model, args)
    for arm, step in steps.items():
        final[f"{arm}_gradient_error"] = relative_error(step.gradient(), plain)
        final[f"{arm}_peak_bytes"] = step.peak()
    seconds = compare_times(steps, args.rounds, warmup=1)
    if "processes" in args.arms:
        error, peak, seconds["processes"] = with_processes(args, plain)
        final |= {"processes_gradient_error": error, "processes_peak_bytes": peak}
    tokens = args.batch_size * args.length
    for arm, value in seconds.items():
        final |= {f"{arm}_seconds": value, f"{arm}_tokens_per_second": tokens / value}
        final[f"{arm}_speedup"] = seconds["plain"] / value
    write_results(args.out_dir / "efficiency.json", args, final)
    print(*table(final, list(seconds)), sep="\n")
    print(f"wrote {args.out_dir / 'efficiency.json'}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS, help="ways to compare with the plain step")
    parser.add_argument("--vocab_size", type=positive, default=4096, help="tokens")
    parser.add_argument("--depth", type=positive, default=5, help="pretrain.py's dial: layers, and widths with them")
    parser.add_argument("--length", type=positive, default=512, help="tokens of a window")
    parser.add_argument("--batch_size", type=positive, default=16, help="windows a step")
    parser.add_argument("--accumulate", type=positive, default=4, help="parts of a batch that are computed in turn")
    parser.add_argument("--n_processes", type=positive, default=2, help="processes that share a batch")
    parser.add_argument(
        "--backend", default="inductor", choices=["inductor", "eager"], help="of compile; eager needs no C++ compiler"
    )
    parser.add_argument("--rounds", type=positive, default=5, help="how often each is timed")
    tiny = {"vocab_size": 50, "depth": 1, "length": 8, "batch_size": 4, "backend": "eager"}
    args = begin(parser, argv, dry_run=tiny | {"accumulate": 2, "rounds": 1})
    for name in ("accumulate", "n_processes"):
        if args.batch_size % getattr(args, name):
            raise UserError(f"--batch_size {args.batch_size} is no multiple of --{name} {getattr(args, name)}")
    return args


# --- one step, in several ways ----------------------------------------------------------------------------------------


class Step:
    """A step of AdamW on a fixed batch, in one of the ways; where processes share the batch, on this one's rows."""

    def __init__(self, arm: str, args: argparse.Namespace):
        self.arm, self.parts = arm, args.accumulate if arm == "accumulation" else 1
        self.model, ids = make_problem(args)
        self.ids = ids[rank() :: world_size()]  # (B / processes, T + 1)
        self.model.checkpointing = arm == "checkpointing"
        self.forward = torch.compile(self.model, backend=args.backend) if arm == "compile" else self.model
        self.optimizers = make_optimizers(self.model, "adamw", lr=1e-4, weight_decay=0.1)

    def backward(self) -> None:
        """Leave the batch's gradient in the parameters."""
        self.model.zero_grad()
        for ids in self.ids.chunk(self.parts):  # (b, T + 1)
            with autocast(ids.device, "bf16" if self.arm == "bf16" else "off"):
                logits = self.forward(ids[:, :-1])  # (b, T, V)
            loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
            (loss / (self.parts * world_size())).backward()  # equal shares: the mean of their means is the batch's
        sum_gradients_(self.model.parameters())

    def gradient(self) -> Tensor:
        """Return the batch's gradient as one vector; the weights stay."""
        self.backward()
        return torch.cat([p.grad.flatten() for p in self.model.parameters()])

    def __call__(self) -> None:
        self.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.zero_grad()

    def peak(self) -> int:
        """Return the most bytes of a step beyond weights and moments: gradients, activations, what is in between."""
        self()  # the first one makes the moments
        return torch_peak(self)


def make_problem(args: argparse.Namespace) -> tuple[LanguageModel, Tensor]:
    """Return the model and a batch (B, T + 1) of random tokens, the same in every process."""
    set_seed(args.seed)
    sizes = dial(args.depth)
    del sizes["lr"], sizes["batch_size"]
    model = LanguageModel(ModelConfig(args.vocab_size, max_length=args.length, **sizes)).train()
    return model, torch.randint(args.vocab_size, (args.batch_size, args.length + 1))


def sizes(model: LanguageModel, args: argparse.Namespace) -> dict[str, int]:
    """Return the bytes that training keeps, and those that one batch keeps until the way back."""
    return state_bytes(model) | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": args.batch_size * args.length,
        "activation_bytes": activation_bytes(model, args.batch_size, args.length),
        "logits_bytes": 4 * args.batch_size * args.length * args.vocab_size,
    }


def relative_error(x: Tensor, reference: Tensor) -> float:
    """Return the largest difference, as a part of the largest number."""
    return ((x - reference).abs().max() / reference.abs().max()).item()


# --- several processes ------------------------------------------------------------------------------------------------


def with_processes(args: argparse.Namespace, plain: Tensor) -> tuple[float, int, float]:
    """Share a batch among several processes; return the gradient's error, one process's peak, the seconds of a step."""
    if not dist.is_available():
        raise UserError("this PyTorch was built without torch.distributed: leave processes out of --arms")
    store = dist.TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False)  # a table that all of them can read
    threads = max(1, torch.get_num_threads() // args.n_processes)
    mp.spawn(worker, (args, plain, store.port, threads), nprocs=args.n_processes)
    return tuple(json.loads(store.get("report")))


def worker(index: int, args: argparse.Namespace, plain: Tensor, port: int, threads: int) -> None:
    """One process: its rows of the batch, and the mean of all processes' gradients."""
    torch.set_num_threads(threads)
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)  # keeps gloo off the network, and out of firewalls
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    store = dist.TCPStore(LOOPBACK, port)
    dist.init_process_group("gloo", None, timedelta(seconds=120), args.n_processes, index, store)
    step = Step("processes", args)
    error, peak = relative_error(step.gradient(), plain), step.peak()
    seconds = compare_times({"processes": step}, args.rounds, warmup=1)["processes"]
    if rank() == 0:
        store.set("report", json.dumps([error, peak, seconds]))
    dist.barrier()  # nobody leaves while another still listens
    dist.destroy_process_group()


def table(final: dict, arms: list[str]) -> list[str]:
    """Return the lines of a table, a way a line."""
    rows = [["way", "peak MB", "seconds", "speedup", "gradient error"]]
    for arm in arms:
        columns = f"{final[f'{arm}_seconds']:.3f}", f"{final[f'{arm}_speedup']:.2f}"
        rows.append([arm, f"{final[f'{arm}_peak_bytes'] / 1e6:.1f}", *columns, f"{final[f'{arm}_gradient_error']:.1e}"])
    return aligned(rows, "<>")


if __name__ == "__main__":
    run(main)
