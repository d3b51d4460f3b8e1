"""Data-parallel training: several processes, each with its share of the batch, average gradients around a ring.
数据并行训练：多个进程各算一份数据的梯度，再沿一个环把梯度平均。

    python chapter_01_tensor_autograd/data_parallel_demo.py                  # 10 s: data_parallel.json, ring.png
    python chapter_01_tensor_autograd/data_parallel_demo.py --processes 4    # 15 s
"""

import argparse
import io
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn

from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results

from matplotlib.patches import Rectangle

LOOPBACK = "127.0.0.1"  # nothing leaves this machine


def ring_schedule(rank: int, n: int) -> list[tuple[int, int, bool]]:
    """What process `rank` of `n` does with chunks 0 .. n-1: a list of (chunk to send, chunk to receive, add it?).

    It sends to rank + 1 and receives from rank - 1. In step t it sends chunk rank - t, the one that it received in step
    t - 1. For n - 1 steps what arrives is added (reduce-scatter): chunk c starts at process c and meets everyone, so
    that process c - 1 ends with the whole sum. For n - 1 more steps the sums replace what is there (all-gather).
    """
    return [((rank - t) % n, (rank - t - 1) % n, t < n - 1) for t in range(2 * (n - 1))]


def ring_all_reduce(vector: torch.Tensor) -> int:
    """Replace a 1-D `vector`, in place, by its sum over all processes; return the bytes that this one sent.

    Each sends 2 (n - 1) / n of the vector, however many they are: the least possible (Patarasuk and Yuan 2009).
    """
    rank, n = dist.get_rank(), dist.get_world_size()
    chunks = vector.tensor_split(n)  # views; their lengths differ by at most 1
    sent = 0
    for outgoing, incoming, adds in ring_schedule(rank, n):
        inbox = torch.empty_like(chunks[incoming])
        # If all sent first and waited, nobody would receive. `isend` returns at once, so nobody waits for ever.
        # 如果大家都先发送并等待对方收下，就没有人接收，全部卡死。isend 立即返回，因此不会死锁。
        sending = dist.isend(chunks[outgoing], (rank + 1) % n)
        dist.recv(inbox, (rank - 1) % n)
        sending.wait()
        sent += chunks[outgoing].nbytes
        chunks[incoming].copy_(chunks[incoming] + inbox if adds else inbox)
    return sent


def star_all_reduce(vector: torch.Tensor) -> int:
    """The same by way of process 0: all send their vectors to it, it adds them up and sends the sum back."""
    others = range(1, dist.get_world_size())
    if dist.get_rank() == 0:
        inbox = torch.empty_like(vector)
        for other in others:
            dist.recv(inbox, other)
            vector += inbox
        for other in others:
            dist.send(vector, other)
        return vector.nbytes * len(others)
    dist.send(vector, 0)
    dist.recv(vector, 0)
    return vector.nbytes


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--processes", type=int, default=2, choices=[2, 3, 4], help="how many processes")
    parser.add_argument("--batch_size", type=positive, default=251, help="examples in a batch, shared out")
    parser.add_argument("--width", type=positive, default=64, help="hidden units of the network")
    parser.add_argument("--steps", type=positive, default=20, help="training steps")
    args = begin(parser, argv, dry_run={"steps": 2, "width": 5, "batch_size": 9})
    if not dist.is_available():
        raise UserError("this PyTorch was built without torch.distributed")
    if args.batch_size < args.processes:
        raise UserError(f"--batch_size {args.batch_size} leaves a process of {args.processes} without an example")
    if args.device.type == "mps":
        args.device = torch.device("cpu")  # MPS has no float64

    model, x, y = make_problem(args)
    whole = gradient(model, x, y)
    reports = measure(args)
    for _ in range(args.steps):
        sgd_step(model, gradient(model, x, y))
    weights = nn.utils.parameters_to_vector(model.parameters()).detach().cpu()

    first = reports[0]
    final = {
        "process_count": args.processes,
        "parameter_count": len(whole),
        "vector_bytes": whole.nbytes,
        "gradient_largest": whole.abs().max().item(),
        "ring_minus_whole": max_difference(first["ring"], whole),
        "ring_minus_library": max_difference(first["ring"], first["library"]),
        "plain_minus_whole": max_difference(first["plain"], whole),
        "replicas_identical": all(torch.equal(r["weights"], first["weights"]) for r in reports),
        "weights_minus_alone": max_difference(first["weights"], weights),
        "ring_bytes": [r["ring_bytes"] for r in reports],
        "star_bytes": [r["star_bytes"] for r in reports],
    }
    final |= {f"{way}_vectors_sent": max(final[f"{way}_bytes"]) / whole.nbytes for way in ("ring", "star")}
    show(final, [r["examples"] for r in reports], args)
    write_results(args.out_dir / "data_parallel.json", args, final)
    plot_ring(4, final, args.out_dir / "ring.png")
    print(f"wrote data_parallel.json and ring.png to {args.out_dir}")


def measure(args: argparse.Namespace) -> list[dict]:
    """Run `worker` in so many processes and return what each of them reports."""
    store = dist.TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False)  # a table that all of them can read
    mp.spawn(worker, (args, store.port), nprocs=args.processes)
    return [torch.load(io.BytesIO(store.get(f"report {rank}")), weights_only=True) for rank in range(args.processes)]


def worker(rank: int, args: argparse.Namespace, port: int) -> None:
    """One process: its share of the batch, the gradient averaged in four ways, then a training with the ring."""
    torch.set_num_threads(1)
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)  # keeps gloo off the network, and out of firewalls
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    store = dist.TCPStore(LOOPBACK, port)  # here the processes find each other
    dist.init_process_group("gloo", None, timedelta(seconds=120), args.processes, rank, store)

    model, x, y = make_problem(args)
    x, y = x.tensor_split(args.processes)[rank], y.tensor_split(args.processes)[rank]
    share = len(x) / args.batch_size
    mine = gradient(model, x, y)
    ring, star, library, plain = mine * share, mine * share, mine * share, mine / args.processes
    report = {"examples": len(x), "ring_bytes": ring_all_reduce(ring), "star_bytes": star_all_reduce(star)}
    dist.all_reduce(library)
    dist.all_reduce(plain)  # averages means over unequal shares
    for _ in range(args.steps):
        grad = gradient(model, x, y) * share
        ring_all_reduce(grad)
        sgd_step(model, grad)
    weights = nn.utils.parameters_to_vector(model.parameters()).detach().cpu()
    report |= {"ring": ring, "star": star, "library": library, "plain": plain, "weights": weights}
    file = io.BytesIO()
    torch.save(report, file)
    store.set(f"report {rank}", file.getvalue())
    dist.barrier()  # nobody leaves while another still listens
    dist.destroy_process_group()


def make_problem(args: argparse.Namespace) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The same network and the same batch in every process, from the seed."""
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(19, args.width), nn.Tanh(), nn.Linear(args.width, 3)).double().to(args.device)
    x = torch.randn(args.batch_size, 19, dtype=torch.float64).to(args.device)
    return model, x, x[:, :3].argmax(dim=1)


def gradient(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The gradient of the mean loss over (x, y), as one vector in main memory."""
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    return torch.cat([g.flatten() for g in grads]).cpu()


def sgd_step(model: nn.Module, grad: torch.Tensor, lr: float = 0.5) -> None:
    """One step of gradient descent."""
    parameters = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(parameters - lr * grad.to(parameters.device), model.parameters())


def max_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


def show(final: dict, examples: list[int], args: argparse.Namespace) -> None:
    """Print the measured figures."""
    print(f"gradient: {final['parameter_count']:,} numbers, {final['vector_bytes']:,} bytes (float64)\n")
    print(f"{'process':<9}{'examples':>9}{'sent, ring':>16}{'sent, by way of process 0':>28}")
    for rank, row in enumerate(zip(examples, final["ring_bytes"], final["star_bytes"], strict=True)):
        print(f"{rank:<9}{row[0]:>9}{row[1]:>10,} bytes{row[2]:>22,} bytes")
    print(f"the busiest sends {final['ring_vectors_sent']:.3f} and {final['star_vectors_sent']:.3f} vectors\n")
    print(f"largest differences, where the largest gradient is {final['gradient_largest']:.2g}:")
    print(f"  ring - one process with the whole batch     {final['ring_minus_whole']:.1e}")
    print(f"  ring - torch.distributed.all_reduce         {final['ring_minus_library']:.1e}")
    print(f"  plain mean of the processes' means - whole  {final['plain_minus_whole']:.1e}   (the shares are unequal)")
    print(f"  weights after {args.steps} steps - trained alone      {final['weights_minus_alone']:.1e}")
    print(f"all processes hold the same weights, to the last bit: {final['replicas_identical']}")


# The picture: no process is needed to see what the schedule does.


def simulate(n: int) -> Iterator[list[list[list[int]]]]:
    """Yield, before the first step and after each, held[process][chunk]: whose terms that chunk's sum contains."""
    held = [[[rank] for _ in range(n)] for rank in range(n)]
    yield held
    for moves in zip(*(ring_schedule(rank, n) for rank in range(n)), strict=True):
        before, held = held, [list(chunks) for chunks in held]
        for rank, (_, incoming, adds) in enumerate(moves):
            arriving = before[rank - 1][moves[rank - 1][0]]  # what the left neighbour sends
            held[rank][incoming] = before[rank][incoming] + arriving if adds else arriving
        yield held


def plot_ring(n: int, final: dict, path: Path) -> Path:
    """Draw the ring's states for n processes, each colour one process's term, and what is sent as n grows."""
    figure, panels = new_figure(12, 6, nrows=2, ncols=n)
    states = list(simulate(n))
    titles = ["at first", *(f"reduce-scatter {t}" for t in range(1, n)), *(f"all-gather {t}" for t in range(1, n))]
    for step, (axes, state, title) in enumerate(zip(panels.flat, states, titles, strict=False)):
        for rank, chunk in product(range(n), range(n)):
            for term in state[rank][chunk]:
                corner = (chunk + 0.06 + term * 0.88 / n, rank + 0.08)
                axes.add_patch(Rectangle(corner, 0.88 / n, 0.84, color=COLOURS[term]))
            fresh = step > 0 and ring_schedule(rank, n)[step - 1][1] == chunk
            edge = {"edgecolor": "black", "lw": 2.2} if fresh else {"edgecolor": "0.75", "lw": 0.8}
            axes.add_patch(Rectangle((chunk + 0.06, rank + 0.08), 0.88, 0.84, fill=False, **edge))
            if fresh:
                tip, tail = (chunk + 0.5, rank + 0.12), (chunk + 0.5, rank - 0.35)
                axes.annotate("", tip, tail, arrowprops={"arrowstyle": "-|>", "lw": 1.8, "color": "black"})
        axes.set(title=title, xlim=(0, n), ylim=(n, -0.4), aspect="equal")
        axes.set_xticks([c + 0.5 for c in range(n)], [f"chunk {c}" for c in range(n)], fontsize=8)
        axes.set_yticks([r + 0.5 for r in range(n)], [f"process {r}" for r in range(n)], fontsize=8)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)

    counts = range(2, 17)
    axes = panels.flat[-1]
    axes.plot(counts, [len(ring_schedule(0, c)) / c for c in counts], label="ring", color=COLOURS[0])
    axes.plot(counts, [c - 1 for c in counts], label="by way of process 0", color=COLOURS[1])
    for way, colour in (("ring", COLOURS[0]), ("star", COLOURS[1])):
        axes.plot(final["process_count"], final[f"{way}_vectors_sent"], "o", color=colour)
    axes.set(title="sent by the busiest process", xlabel="processes", ylabel="vectors", ylim=(0, 16))
    axes.set_xticks([2, 4, 8, 12, 16])
    axes.legend(title="dots: measured", fontsize=8, title_fontsize=8)
    return save_figure(figure, path)


if __name__ == "__main__":
    run(main)
