"""How fast is our Transformer beside PyTorch's, and what does a cache of keys and values save, and cost?
我们的 Transformer 与 PyTorch 的相比有多快？键值缓存省下多少时间，又占用多少内存？

    python chapter_08_transformer_vanilla/benchmark.py    # 2 min on 2 CPU cores

Weights are random, for the time does not depend on them, and in float32. What is compared takes turns in one process;
times are medians. Both models have the embedding, the positions and the head of the translators that ship; without
dropout, which nn.Transformer has in more places. Memory of the cache: all keys and values that the state holds.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chapter_07_attention_mechanism.attention import causal_mask, padding_mask
from chapter_07_attention_mechanism.decoding import greedy
from chapter_08_transformer_vanilla.figures.speed import draw_decoding
from chapter_08_transformer_vanilla.transformer import State, Transformer, TransformerConfig
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import aligned
from utils.timer import compare_times

NEVER = -1  # no token: decoding goes on up to the length


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--n_tokens", type=positive, default=4000, help="tokens of the vocabulary")
    parser.add_argument("--d_model", type=positive, default=256, help="numbers that stand for a token in every layer")
    parser.add_argument("--n_heads", type=positive, default=4, help="heads that share them")
    parser.add_argument("--d_ff", type=positive, default=256, help="width of the feed-forward networks inside")
    parser.add_argument("--n_layers", type=positive, default=3, help="layers of the encoder, and of the decoder")
    parser.add_argument("--batch_size", type=positive, default=64, help="sentence pairs of a training step")
    parser.add_argument("--sentence", type=positive, default=24, help="tokens of each of their sides, padding included")
    parser.add_argument("--lengths", type=positive, nargs="+", default=[8, 16, 32, 64, 128, 256], help="to decode")
    parser.add_argument("--decoded", type=positive, default=1, help="sentences decoded side by side")
    parser.add_argument("--rounds", type=positive, default=11, help="how often each is timed")
    tiny = {"n_tokens": 20, "d_model": 8, "n_heads": 2, "d_ff": 8, "n_layers": 1, "batch_size": 2, "sentence": 4}
    args = begin(parser, argv, dry_run=tiny | {"lengths": [2, 4], "rounds": 1})
    layers = {"n_encoder_layers": args.n_layers, "n_decoder_layers": args.n_layers}
    config = TransformerConfig(args.n_tokens, args.d_model, args.n_heads, args.d_ff, **layers, dropout=0.0)

    model = Transformer(config).to(args.device)
    final = compare_training(model, args.batch_size, args.sentence, args.rounds)
    source = torch.randint(args.n_tokens, (args.decoded, args.sentence), device=args.device)
    rows = [compare_decoding(model.eval(), source, length, args.rounds) for length in sorted(set(args.lengths))]
    final |= {"decoding": rows, "longest_speedup": rows[-1]["speedup"], "bytes_a_token": bytes_a_token(config)}

    write_results(args.out_dir / "benchmark.json", args, final)
    print(f"a training step takes {1e3 * final['train_step_seconds']:.0f} ms, ", end="")
    print(f"{final['train_step_ratio']:.2f} times as long as nn.Transformer's")
    lines = [["tokens", "tokens/s, cache", "tokens/s, none", "speedup", "cache, kB"]]
    for row in rows:
        speeds = [f"{row[name]:.0f}" for name in ("cached_tokens_per_second", "whole_tokens_per_second")]
        lines.append([row["length"], *speeds, f"{row['speedup']:.2f}", f"{row['cache_bytes'] / 1000:.1f}"])
    print(*aligned(lines, ">"), sep="\n")
    print(f"wrote {save_figure(draw_decoding(rows), args.out_dir / 'benchmark.png')}")


class PyTorchTransformer(nn.Module):
    """nn.Transformer between `outer`'s embedding, positions and head; dimensions as `Transformer`'s."""

    def __init__(self, outer: Transformer):
        super().__init__()
        config = outer.config
        shape = config.d_model, config.n_heads, config.d_ff, config.dropout
        layer = nn.TransformerEncoderLayer(*shape, batch_first=True, norm_first=True)
        norm = nn.LayerNorm(config.d_model)
        encoder = nn.TransformerEncoder(layer, config.n_encoder_layers, norm, enable_nested_tensor=False)
        sizes = config.n_encoder_layers, config.n_decoder_layers, config.d_ff, config.dropout, F.relu, encoder
        self.stacks = nn.Transformer(config.d_model, config.n_heads, *sizes, batch_first=True, norm_first=True)
        self.embed, self.head = outer.embed, outer.head

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Return logits (B, T, V)."""
        padding = ~padding_mask(lengths, source.shape[1])[:, 0]  # (B, S), True where nothing may look
        hidden = self.stacks(
            self.embed(source),
            self.embed(target),
            tgt_mask=~causal_mask(target.shape[1], device=target.device),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )  # (B, T, D)
        return self.head(hidden)


def compare_training(ours: Transformer, batch_size: int, length: int, rounds: int) -> dict[str, float]:
    """Time a training step of ours beside PyTorch's: forward, loss, backward, and no optimizer, which both share."""
    device = ours.embedding.weight.device
    theirs = PyTorchTransformer(ours).to(device).train()
    counts = [sum(p.numel() for p in part.parameters()) for part in (ours.encoder, ours.decoder, theirs.stacks)]
    assert sum(counts[:2]) == counts[2], "the shapes differ"
    source, target, following = torch.randint(ours.config.n_tokens, (3, batch_size, length), device=device)
    lengths = torch.randint((length + 1) // 2, length + 1, (batch_size,), device=device)
    calls = {name: partial(train_step, model, (source, lengths, target), following)
             for name, model in (("train_step", ours.train()), ("train_step_torch", theirs))}  # fmt: skip
    seconds = compare_times(calls, rounds)
    ratio = seconds["train_step"] / seconds["train_step_torch"]
    return {f"{name}_seconds": time for name, time in seconds.items()} | {"train_step_ratio": ratio}


def train_step(model: nn.Module, inputs: tuple[Tensor, Tensor, Tensor], following: Tensor) -> None:
    loss = F.cross_entropy(model(*inputs).flatten(0, 1), following.flatten())
    model.zero_grad()
    loss.backward()


def compare_decoding(model: Transformer, source: Tensor, length: int, rounds: int) -> dict[str, float]:
    """Time greedy decoding of so many tokens with and without cache, the reading of the source (B, S) included."""
    start = torch.zeros_like(source[:, 0])
    calls: dict[str, Callable[[], list]] = {
        "cached": lambda: greedy(model.step, model.start(source), start, NEVER, length),
        "whole": lambda: greedy(partial(step_without_cache, model), first_state(model, source), start, NEVER, length),
    }
    with torch.no_grad():
        assert calls["cached"]() == calls["whole"](), "with and without cache, other tokens come out"
        seconds = compare_times(calls, rounds, warmup=1)
        state = model.start(source)
        for _ in range(length):
            state = model.step(start, state)[1]
    speeds = {f"{name}_tokens_per_second": length * len(source) / time for name, time in seconds.items()}
    row = {"length": length} | {f"{name}_seconds": time for name, time in seconds.items()} | speeds
    return row | {"speedup": seconds["whole"] / seconds["cached"], "cache_bytes": cache_bytes(state)}


def first_state(model: Transformer, source: Tensor) -> tuple[Tensor, Tensor]:
    """Return the memory (B, S, D), and the tokens written so far (B, 0): all that decoding without cache keeps."""
    return model.encode(source)[0], source[:, :0]


def step_without_cache(
    model: Transformer, tokens: Tensor, state: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """As `Transformer.step`, but with everything before computed anew."""
    memory, written = state
    written = torch.cat([written, tokens[:, None]], dim=1)  # (B, t)
    hidden = model.decoder(model.embed(written), model.decoder.start(memory))[0]  # (B, t, D)
    return model.head(hidden[:, -1]).log_softmax(dim=-1), (memory, written)


def cache_bytes(state: State | Tensor | None) -> int:
    """Return how many bytes the tensors of a state take."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    return sum(map(cache_bytes, state)) if isinstance(state, tuple) else 0


def bytes_a_token(config: TransformerConfig) -> int:
    """Return what each token, read or written, adds to the cache: a key and a value in each layer of the decoder."""
    return 2 * config.n_decoder_layers * config.d_model * torch.finfo(torch.float32).bits // 8


if __name__ == "__main__":
    run(main)
