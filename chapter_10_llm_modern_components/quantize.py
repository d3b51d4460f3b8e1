"""What do fewer bits cost? A model's weights in int8, int4 and NF4 beside 16 bits: perplexity, bytes, tokens a second.
每个权重少用几位，要付出什么代价？把权重存成 int8、int4 与 NF4，与 16 位比较：困惑度、字节数、每秒词元数。

    python chapter_10_llm_modern_components/quantize.py    # on 2 CPU cores about 10 minutes
    python chapter_10_llm_modern_components/quantize.py --model_path runs/pretrain/code.pth --corpus code

All formats read the same held-out documents. Only the file and the memory shrink: PyTorch has no product of packed
weights here, so that a layer unpacks its own each time that it is used, and more bits are quicker.
"""

import argparse
import math
import sys
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from tqdm import tqdm

from chapter_10_llm_modern_components.generation import prefill
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.model_compression import FORMATS, PROJECTIONS, quantize_, stored_bytes
from chapter_10_llm_modern_components.pretraining import load_corpus, mean_loss
from chapter_10_llm_modern_components.shipped import UNTRAINED, check_fits, load_writer
from utils.checkpoint import round_to_half
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser
from utils.results import write_results
from utils.tables import aligned
from utils.timer import compare_times

TINY = {"model_path": UNTRAINED, "corpus": "toy", "group_sizes": [4], "tokens": 40, "length": 16, "n_timed": 2}
TINY |= {"rounds": 1}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    writer = load_writer(args.model_path, args.device)
    check_fits("--length", args.length, writer.model)
    round_to_half(writer.model)
    models = {"float16": writer.model} | {
        name: quantized(writer.model, *setting) for name, setting in settings(args.group_sizes).items()
    }
    texts = [
        torch.tensor(writer.tokenizer.encode(document)[: args.tokens], device=args.device)
        for document in load_corpus(args.corpus, args.data_root).held_out
    ]
    texts = [ids for ids in texts if len(ids) > 1]
    speeds = tokens_a_second(models, args.n_timed, args.rounds)
    rows, original = [], projections(writer.model)
    for name, model in tqdm(models.items()):
        loss = mean_loss(model, texts, args.length)
        difference = projections(model) - original
        row = {"format": name, "bytes": stored_bytes(model), "loss": loss, "perplexity": math.exp(loss)}
        row["cost"] = row["perplexity"] / (rows or [row])[0]["perplexity"] - 1  # a share of the original's perplexity
        row["relative_error"] = (difference.norm() / original.norm()).item()
        rows.append(row | {"tokens_per_second": speeds[name]})
    final = {f"{key}_{row['format']}": row[key] for row in rows for key in row if key != "format"}
    final |= {"split": f"held-out documents, the first {args.tokens} tokens of each", "held_out_documents": len(texts)}
    final |= {"held_out_tokens": sum(len(ids) - 1 for ids in texts), "quantized_weights": original.numel()}
    write_results(args.out_dir / "quantization.json", args, final, rows)
    shown = [[f"{value:.5g}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    print(*aligned([list(rows[0]), *shown], "<>"), sep="\n")
    print(f"wrote {args.out_dir / 'quantization.json'}")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, help="a checkpoint or a folder; None: the one that ships")
    parser.add_argument("--corpus", default="stories", choices=["stories", "code", "toy"], help="whose held-out part")
    parser.add_argument("--group_sizes", type=positive, nargs="+", default=[32, 64, 128], help="of 4-bit weights")
    parser.add_argument("--tokens", type=positive, default=20_000, help="of each held-out document at most")
    parser.add_argument("--length", type=positive, default=256, help="tokens of a window; each is read half anew")
    parser.add_argument("--n_timed", type=positive, default=50, help="tokens that are written in a round of the timing")
    parser.add_argument("--rounds", type=positive, default=10, help="rounds of the timing, all formats in turn")
    return parser


def settings(group_sizes: list[int]) -> dict[str, tuple]:
    """Return the arguments of `quantize_` by a name: int8 has no groups, but a scale a row."""
    four_bits = [name for name in FORMATS if name != "int8"]
    groups = {f"{name}_{size}": (name, size) for size in dict.fromkeys(group_sizes) for name in four_bits}
    return {"int8": ("int8",)} | groups


def quantized(model: LanguageModel, *setting: object) -> LanguageModel:
    copy = deepcopy(model)
    quantize_(copy, *setting)
    return copy


def projections(model: LanguageModel) -> Tensor:
    """Return all weights that are quantized, or would be, in a row, as a layer computes with them."""
    layers = [module for name, module in model.named_modules() if name.rpartition(".")[2] in PROJECTIONS]
    return torch.cat([layer.weight.detach().flatten() for layer in layers])


def tokens_a_second(models: dict[str, LanguageModel], n_tokens: int, rounds: int) -> dict[str, float]:
    """Return how fast each model writes one text; all go through the same modules, and take turns."""
    seconds = compare_times({name: lambda m=m: write(m, n_tokens) for name, m in models.items()}, rounds, warmup=1)
    return {name: n_tokens / value for name, value in seconds.items()}


@torch.inference_mode()
def write(model: LanguageModel, n_tokens: int) -> None:
    logits, caches, _ = prefill(model, [[0]], n_tokens + 1)
    for _ in range(n_tokens):
        logits = model(logits.argmax(dim=-1, keepdim=True), caches)[:, -1]  # (1, V)


if __name__ == "__main__":
    run(main)
