"""How many tokens a second does our decoder write beside transformers' `generate`, and what does a draft gain?
与 transformers 的 `generate` 相比，我们的解码器每秒能写多少词元？小模型先猜又能快多少？

    python chapter_10_llm_modern_components/benchmark.py    # 4 min on 2 CPU cores
    python chapter_10_llm_modern_components/benchmark.py --compare_with nothing    # without transformers

All in float32, one text at a time, and what is compared takes turns in one process. Weights are random where speed
alone counts. A draft gains only by guessing well, so for it two models of bytes learn the standard library of this
Python first, both from the same batches; they write on from files that were held out.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_10_llm_modern_components.generation import Sampler, generate, speculate, transpose_weights_
from chapter_10_llm_modern_components.hugging_face import write_folder
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.pretraining import Corpus, load_corpus
from utils.cli import add_amp_flag, add_output_flags, begin, positive, run, script_parser
from utils.device import autocast
from utils.errors import UserError
from utils.results import write_results
from utils.tables import final_lines
from utils.timer import compare_times

TINY = {"compare_with": "nothing", "corpus": "toy", "n_tokens": 4, "prompt_length": 3, "rounds": 1, "train_steps": 2}
TINY |= {"d_model": 32, "n_layers": 1, "batch_size": 2, "amp": "off"}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    final = compare_with_transformers(args) | measure_speculation(args)
    write_results(args.out_dir / "benchmark.json", args, final)
    print(*final_lines(final), sep="\n")
    print(f"wrote {args.out_dir / 'benchmark.json'}")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_amp_flag(parser)
    parser.add_argument(
        "--compare_with",
        default="transformers",
        choices=["transformers", "nothing"],
        help="transformers: its `generate` on the same weights; nothing: ours alone",
    )
    parser.add_argument(
        "--corpus", default="code", choices=["code", "toy"], help="code: the standard library; toy: made-up lines"
    )
    parser.add_argument("--d_model", type=positive, default=256, help="numbers that stand for a token in every layer")
    parser.add_argument("--n_layers", type=positive, default=6, help="layers of the models; a draft has one")
    parser.add_argument("--prompt_length", type=positive, default=32, help="tokens to read first")
    parser.add_argument("--n_tokens", type=positive, default=128, help="tokens to write")
    parser.add_argument("--n_guesses", type=positive, nargs="+", default=[2, 4, 8], help="of a draft before a check")
    parser.add_argument("--rounds", type=positive, default=7, help="how often each is timed")
    parser.add_argument("--train_steps", type=positive, default=200, help="batches that model and draft learn from")
    parser.add_argument("--batch_size", type=positive, default=16, help="windows of 128 bytes in a batch")
    return parser


def make_model(args: argparse.Namespace, n_tokens: int, d_model: int, n_layers: int) -> LanguageModel:
    """Return a model of eight heads or, if it is narrow, four, half as many of keys as of queries.

    Raises:
        UserError: the heads cannot share the width.
    """
    d_ff, n_heads = 8 * d_model // 3 // 8 * 8, 8 if d_model >= 128 else 4
    length = args.prompt_length + args.n_tokens + 128
    sizes = {"d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "n_kv_heads": n_heads // 2, "d_ff": d_ff}
    try:
        return LanguageModel(ModelConfig(n_tokens, max_length=length, **sizes)).to(args.device).eval()
    except ValueError as error:
        raise UserError(f"--d_model, a quarter of which a draft has: {error}") from error


def count_parameters(model: LanguageModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# --- beside transformers ----------------------------------------------------------------------------------------------


def compare_with_transformers(args: argparse.Namespace) -> dict[str, float | int | str]:
    """Time cached greedy decoding by ours and by transformers' `generate`, on the same weights."""
    if args.compare_with == "nothing":
        return {"generate": "skipped: not asked for"}
    if find_spec("transformers") is None:
        return {"generate": "skipped: transformers is not installed (requirements-dev.txt)"}
    import transformers

    model = make_model(args, 4096, args.d_model, args.n_layers)
    transpose_weights_(model)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), model)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(args.device).eval()
    ids = torch.randint(4096, (1, args.prompt_length), device=args.device)
    prompts, n = ids.tolist(), args.n_tokens
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": n, "do_sample": False, "pad_token_id": 0}

    def write() -> list[int]:
        return [token for [token] in generate(model, prompts, n, Sampler(temperature=0))]

    def write_theirs() -> list[int]:
        return theirs.generate(ids, **options)[0, args.prompt_length :].tolist()

    same = sum(a == b for a, b in zip(write(), write_theirs(), strict=True))
    seconds = compare_times({"generate": write, "transformers": write_theirs}, args.rounds, warmup=1)
    return {
        "generate_tokens_per_second": n / seconds["generate"],
        "transformers_tokens_per_second": n / seconds["transformers"],
        "generate_ratio": seconds["transformers"] / seconds["generate"],
        "generate_same_tokens": same / n,
        "generate_parameters": count_parameters(model),
        "transformers_version": transformers.__version__,
    }


# --- with a draft -----------------------------------------------------------------------------------------------------


def measure_speculation(args: argparse.Namespace) -> dict[str, float | int]:
    """Time a model of bytes with a draft and without, where it takes the likeliest and where it draws."""
    corpus = load_corpus(args.corpus, Path())
    model, draft = make_model(args, 256, args.d_model, args.n_layers), make_model(args, 256, args.d_model // 4, 1)
    final = {"model_parameters": count_parameters(model), "draft_parameters": count_parameters(draft)}
    for name, some in (("model", model), ("draft", draft)):
        train_on_bytes(some, corpus, args, name)
        final[f"{name}_loss"] = held_out_loss(some, corpus, args.device)
        transpose_weights_(some)
    prompts = [list(text.encode()[: args.prompt_length]) for text in corpus.held_out[: args.rounds + 1]]
    for name, sampler in (("greedy", Sampler(temperature=0)), ("sampled", Sampler(temperature=1.0))):
        options = args.n_tokens, sampler
        calls = {"plain": Writing(prompts, lambda prompt, o=options: generate(model, [prompt], *o))}
        for n in args.n_guesses:
            write = lambda prompt, o=(*options, n): speculate(model, draft, prompt, *o)  # noqa: E731
            calls[f"{n}_guesses"] = Writing(prompts, write)
        seconds = compare_times(calls, args.rounds, warmup=1)
        final |= {f"{name}_{key}_seconds": value for key, value in seconds.items()}
        for n in args.n_guesses:
            final[f"{name}_{n}_guesses_speedup"] = seconds["plain"] / seconds[f"{n}_guesses"]
            final[f"{name}_{n}_guesses_tokens_per_pass"] = calls[f"{n}_guesses"].tokens_per_pass
        final[f"speculative_{name}_speedup"] = max(final[f"{name}_{n}_guesses_speedup"] for n in args.n_guesses)
    return final


class Writing:
    """Writes on from one prompt after another, one a call, and counts the tokens that each pass of the model gave."""

    def __init__(self, prompts: list[list[int]], write: Callable[[list[int]], Iterator[list[int]]]):
        self.prompts, self.write = prompts, write
        self.calls = self.passes = self.tokens = 0

    @property
    def tokens_per_pass(self) -> float:
        return self.tokens / self.passes

    def __call__(self) -> None:
        for tokens in self.write(self.prompts[self.calls % len(self.prompts)]):
            self.passes += 1
            self.tokens += len(tokens)
        self.calls += 1


def byte_windows(texts: list[str]) -> Tensor:
    """Return the texts' bytes in windows of 129, (N, 129), uint8."""
    data = torch.frombuffer(bytearray("\n".join(texts).encode()), dtype=torch.uint8)
    return data.unfold(0, 129, 128)  # the last byte is predicted, and the first of the next window


def train_on_bytes(model: LanguageModel, corpus: Corpus, args: argparse.Namespace, name: str) -> None:
    """Train by Muon and AdamW on windows drawn at random."""
    windows, generator = byte_windows(corpus.train), torch.Generator().manual_seed(args.seed)
    optimizers = make_optimizers(model.train(), "muon", lr=0.01, weight_decay=0.0)
    schedules = [Schedule(optimizer, cosine(args.train_steps)) for optimizer in optimizers]
    for _ in tqdm(range(args.train_steps), desc=name, unit="step"):
        ids = windows[torch.randint(len(windows), (args.batch_size,), generator=generator)].to(args.device).long()
        with autocast(args.device, args.amp):
            logits = model(ids[:, :-1])  # (B, T, V)
        loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
    model.eval()


@torch.no_grad()
def held_out_loss(model: LanguageModel, corpus: Corpus, device: torch.device) -> float:
    """Return the mean cross-entropy (nats a byte) on the first windows of the files that were held out."""
    ids = byte_windows(corpus.held_out)[:64].to(device).long()
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).item()


if __name__ == "__main__":
    run(main)
