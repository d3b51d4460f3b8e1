"""One tiny Transformer that learns first names, written four times: what each rung of engineering buys.
同一个学写英文名字的小 Transformer，写四遍：每一级工程优化各换来了什么。

    python chapter_08_transformer_vanilla/ladder.py    # 3 min on 2 CPU cores, most of it for the first rung
    python chapter_08_transformer_vanilla/ladder.py --dataset toy --max_steps 100    # without a download: 1 min

The rungs are scalar_gpt.py (plain Python), engine_gpt.py (NumPy, on chapter 1's engine), transformer.py (PyTorch), and
transformer.py in bfloat16. All start from the same weights and take the same steps, each on the same one name.
"""

import copy
import gc
import math
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from chapter_01_tensor_autograd.engine import no_grad
from chapter_03_optimization_regularization.optimizers import Adam
from chapter_06_rnn_lstm_seq.baselines.ngram import KneserNey
from chapter_08_transformer_vanilla.engine_gpt import EngineGPT
from chapter_08_transformer_vanilla.figures.ladder import draw_ladder
from chapter_08_transformer_vanilla.names import ALPHABET, END, LONGEST, decode, encode, load_names, padded
from chapter_08_transformer_vanilla.scalar_gpt import ScalarGPT
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser
from utils.device import autocast
from utils.file_io_util import ROOT
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import aligned
from utils.timer import Timer, compare_times

Batch = list[list[int]]  # encoded names
LR = 0.01  # of the first step; it falls in a straight line to 0
BATCH_SIZE = 32  # names a step where the engine reads on, and where the wide model is timed
TEMPERATURE = 0.5  # of the names that are invented
SHAPE = {"n_tokens": len(ALPHABET), "n_heads": 4, "n_encoder_layers": 0, "dropout": 0.0, "positions": "learned"}
SHAPE |= {"max_length": LONGEST + 1}
TINY = TransformerConfig(d_model=16, d_ff=64, n_decoder_layers=1, **SHAPE)
WIDE = TransformerConfig(d_model=128, d_ff=512, n_decoder_layers=4, **SHAPE)
FILES = {  # what one reads to understand a rung, down to Python, NumPy, or PyTorch's tensors
    "scalar": ["chapter_08_transformer_vanilla/scalar_gpt.py"],
    "engine": [
        "chapter_01_tensor_autograd/engine/tensor.py",
        "chapter_01_tensor_autograd/engine/ops*.py",
        "chapter_01_tensor_autograd/nn.py",
    ],
    "engine_gpt": ["chapter_08_transformer_vanilla/engine_gpt.py"],
    "torch": [
        "chapter_08_transformer_vanilla/transformer.py",
        "chapter_08_transformer_vanilla/layers.py",
        "chapter_08_transformer_vanilla/positional_encoding.py",
        "chapter_07_attention_mechanism/attention/*.py",
        "chapter_03_optimization_regularization/optimizers/adam.py",
    ],
}


class TorchGPT:
    """The chapter's own decoder with chapter 3's Adam; `amp` is "off" or "bf16"."""

    def __init__(self, model: Transformer, amp: str = "off"):
        self.model, self.amp = model, amp
        self.optimizer = Adam(model.parameters())

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the mean of -log p(next token), in nats, over all tokens of the sequences."""
        inputs, targets = map(torch.from_numpy, padded(batch))  # (B, T) each
        with autocast(torch.device("cpu"), self.amp):
            logits = self.model(inputs)  # (B, T, V)
        logits = logits.to(self.model.embedding.weight.dtype)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())  # (B T, V), (B T,)

    def step(self, batch: Batch, lr: float) -> float:
        """Forward, loss, backward, step; return the loss."""
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return loss.item()


Rung = ScalarGPT | EngineGPT | TorchGPT


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument(
        "--dataset", default="full", choices=["full", "toy"], help="full: the Names Corpus; toy: a list in names.py"
    )
    parser.add_argument("--max_steps", type=positive, default=1000, help="steps of each rung, of one name")
    parser.add_argument("--more_steps", type=positive, default=5000, help=f"the engine's steps of {BATCH_SIZE} names")
    parser.add_argument("--n_names", type=positive, default=20, help="names that the engine's model invents")
    parser.add_argument("--rounds", type=positive, default=11, help="how often the wide model is timed")
    tiny = {"dataset": "toy", "max_steps": 2, "more_steps": 2, "n_names": 2, "rounds": 1}
    args = begin(parser, argv, dry_run=tiny)

    train, held_out = load_names(args.dataset, args.data_root)
    some = [encode(name) for name in held_out[:BATCH_SIZE]]
    model = Transformer(TINY).double()
    rungs, further = make_rungs(model), EngineGPT(arrays(model), TINY.n_heads)
    final = {"n_train": len(train), "n_held_out": len(held_out)}
    final |= {f"{name}_lines": count_lines(patterns) for name, patterns in FILES.items()}
    final |= disagreement(model, some)

    rng, losses = np.random.default_rng(args.seed), {}
    batches = draw_batches(train, args.max_steps, 1, rng)
    for name, rung in rungs.items():
        losses[name], final[f"{name}_seconds"] = climb(name, rung, batches)
    final |= compare(losses, final)
    batches = draw_batches(train, args.more_steps, BATCH_SIZE, rng)
    _, final["more_seconds"] = climb("engine, more", further, batches)

    final["held_out_loss"] = held_out_loss(rungs["engine"], held_out)
    final["bf16_held_out_loss"] = held_out_loss(EngineGPT(arrays(rungs["bf16"].model), TINY.n_heads), held_out)
    final["more_held_out_loss"] = held_out_loss(further, held_out)
    final |= {"names": invent(rungs["engine"], args.n_names, args.seed), "temperature": TEMPERATURE}
    final["more_names"] = invent(further, args.n_names, args.seed)
    final["more_names_known"] = sum(name in train for name in final["more_names"])
    final["uniform_held_out_loss"] = math.log(len(ALPHABET))
    final |= {f"ngram_{order}_held_out_loss": ngram_loss(order, train, held_out) for order in (2, 3, 4, 5)}
    final |= time_wide(some, args.rounds)

    history = mean_rows(losses, 10)
    write_results(args.out_dir / "ladder.json", args, final, history)
    report(final)
    print(f"wrote {save_figure(draw_ladder(history, final), args.out_dir / 'ladder.png')}")


def arrays(model: Transformer) -> dict[str, np.ndarray]:
    """Return a copy of the model's parameters, each once: what the other rungs take."""
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def make_rungs(model: Transformer) -> dict[str, Rung]:
    """Return the four rungs, from slow to fast, all with the weights that the model (float64) has now."""
    weights, n_heads = arrays(model), model.config.n_heads
    return {
        "scalar": ScalarGPT({name: array.tolist() for name, array in weights.items()}, n_heads),
        "engine": EngineGPT(weights, n_heads),
        "torch": TorchGPT(copy.deepcopy(model)),
        "bf16": TorchGPT(copy.deepcopy(model).float(), "bf16"),
    }


def disagreement(model: Transformer, batch: Batch) -> dict[str, float]:
    """Return the largest differences between the engine and PyTorch of one logit, and of one number's gradient."""
    engine, inputs = EngineGPT(arrays(model), model.config.n_heads), padded(batch)[0]
    logits = np.abs(engine.forward(inputs).data - model(torch.from_numpy(inputs)).detach().numpy())
    engine.loss(batch).backward()
    loss = TorchGPT(model).loss(batch)
    theirs = torch.autograd.grad(loss, list(model.parameters()))
    ours = [engine.weights[name].grad.data for name, _ in model.named_parameters()]
    gradients = [np.abs(a - b.numpy()).max() for a, b in zip(ours, theirs, strict=True)]
    return {"logits_difference": float(logits.max()), "gradients_difference": float(max(gradients))}


def draw_batches(names: Sequence[str], n_steps: int, batch_size: int, rng: np.random.Generator) -> list[Batch]:
    """Return for each step as many names, encoded, drawn from all."""
    return [[encode(names[i]) for i in row] for row in rng.integers(len(names), size=(n_steps, batch_size))]


def climb(name: str, rung: Rung, batches: list[Batch]) -> tuple[list[float], float]:
    """Train a rung on the batches in turn; return the loss of each step, and the seconds of all."""
    losses, timer = [], Timer()
    gc.disable()  # it looks for circles, and finds none among a step's 50,000 scalars: that would double their time
    try:
        for i, batch in enumerate(tqdm(batches, desc=name, unit="step")):
            losses.append(rung.step(batch, LR * (1 - i / len(batches))))
    finally:
        gc.enable()
    return losses, timer.seconds


def compare(losses: dict[str, list[float]], seconds: dict[str, float]) -> dict[str, float]:
    """Return how far apart the rungs' curves are, and how many times faster each rung is than the one below it."""
    scalar, engine, plain, bf16 = (np.array(losses[name]) for name in ("scalar", "engine", "torch", "bf16"))
    found = {"engine_difference": np.abs(engine - scalar).max(), "torch_difference": np.abs(plain - scalar).max()}
    found |= {"bf16_difference": np.abs(bf16 - plain).max(), "bf16_mean_difference": np.abs(bf16 - plain).mean()}
    for below, name in (("scalar", "engine"), ("engine", "torch"), ("torch", "bf16")):
        found[f"{name}_speedup"] = seconds[f"{below}_seconds"] / seconds[f"{name}_seconds"]
    return {name: float(value) for name, value in found.items()}


@no_grad()
def held_out_loss(engine: EngineGPT, names: Sequence[str]) -> float:
    """Return the mean of -log p (nats) over all letters and ends of the names."""
    return engine.loss([encode(name) for name in names]).item()


def ngram_loss(order: int, train: Sequence[str], held_out: Sequence[str]) -> float:
    """Return the same of chapter 6's n-gram model, which begins each name behind order - 1 dots."""

    def stream(names: Sequence[str]) -> torch.Tensor:
        return torch.tensor([token for name in names for token in [END] * (order - 1) + encode(name)[1:-1]] + [END])

    grams = stream(held_out).unfold(0, order, 1)  # (N, order)
    grams = grams[grams[:, -2:].any(dim=1)]  # a dot behind a dot is no end of a name
    return -KneserNey(stream(train), len(ALPHABET), order).probability(grams).log().mean().item()


def invent(engine: EngineGPT, n_names: int, seed: int) -> list[str]:
    """Return the first names that the model writes: none is left out."""
    rng = np.random.default_rng(seed)
    return [decode(engine.write(rng, TEMPERATURE)) for _ in range(n_names)]


def time_wide(batch: Batch, rounds: int) -> dict[str, float]:
    """Time a step of a model of some size, in float32 and in bfloat16: where there is something to compute."""
    model = Transformer(WIDE)
    rungs = {"engine": EngineGPT(arrays(model), WIDE.n_heads), "torch": TorchGPT(model)}
    rungs["bf16"] = TorchGPT(copy.deepcopy(model), "bf16")
    seconds = compare_times({name: partial(rung.step, batch, LR) for name, rung in rungs.items()}, rounds, warmup=1)
    found = {f"wide_{name}_seconds": value for name, value in seconds.items()}
    found |= {"wide_torch_speedup": seconds["engine"] / seconds["torch"]}
    found |= {"wide_bf16_speedup": seconds["torch"] / seconds["bf16"]}
    sizes = {"n_parameters": TINY, "wide_n_parameters": WIDE}
    return found | {key: sum(p.numel() for p in Transformer(config).parameters()) for key, config in sizes.items()}


def count_lines(patterns: Iterable[str]) -> int:
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


def mean_rows(losses: dict[str, list[float]], every: int) -> list[dict[str, float]]:
    """Return the losses in rows for the history, each the mean over so many steps."""
    n_steps = len(losses["scalar"])
    rows = []
    for start in range(0, n_steps, every):
        stop = min(start + every, n_steps)
        rows.append({"step": stop} | {name: float(np.mean(row[start:stop])) for name, row in losses.items()})
    return rows


def report(final: dict) -> None:
    table = [["rung", "seconds", "times faster", "ms a step, wide"]]
    for name in ("scalar", "engine", "torch", "bf16"):
        wide = f"{1e3 * final[f'wide_{name}_seconds']:.1f}" if name != "scalar" else ""
        faster = f"{final[f'{name}_speedup']:.2f}" if name != "scalar" else ""
        table.append([name, f"{final[f'{name}_seconds']:.1f}", faster, wide])
    print(*aligned(table, "<>"), sep="\n")
    names = ("uniform_", *(f"ngram_{order}_" for order in (2, 3, 4, 5)), "", "bf16_", "more_")
    print("held-out loss:", ", ".join(f"{name or 'engine_'}{final[f'{name}held_out_loss']:.3f}" for name in names))
    print("the engine's names:", " ".join(final["names"]))
    print("after more names: ", " ".join(final["more_names"]))


if __name__ == "__main__":
    run(main)
