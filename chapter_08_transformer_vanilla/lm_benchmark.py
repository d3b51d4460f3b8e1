"""How many tokens a second does our language model learn from, beside one built of nn.TransformerEncoderLayer?
我们的语言模型每秒能从多少词元中学习？与用 nn.TransformerEncoderLayer 搭成的模型相比如何？

    python chapter_08_transformer_vanilla/lm_benchmark.py    # 1 min on 2 CPU cores

Weights and tokens are random, for the time does not depend on them. A step is forward, loss and backward, without an
optimizer, which both would share. The models take turns in one process; times are medians. Both have the embedding, the
positions and the head of ours; neither has dropout, which PyTorch's layer has in more places. benchmark.py times the
translator.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chapter_07_attention_mechanism.attention import causal_mask
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from utils.cli import add_amp_flag, add_output_flags, begin, positive, run, script_parser
from utils.device import autocast
from utils.results import write_results
from utils.tables import final_lines
from utils.timer import compare_times


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_amp_flag(parser)
    parser.add_argument("--n_tokens", type=positive, default=65, help="tokens of the vocabulary")
    parser.add_argument("--d_model", type=positive, default=384, help="numbers that stand for a token in every layer")
    parser.add_argument("--n_heads", type=positive, default=6, help="heads that share them")
    parser.add_argument("--d_ff", type=positive, default=1536, help="width of the feed-forward networks inside")
    parser.add_argument("--n_layers", type=positive, default=6, help="layers")
    parser.add_argument("--batch_size", type=positive, default=16, help="texts of a training step")
    parser.add_argument("--length", type=positive, default=256, help="tokens of each")
    parser.add_argument("--rounds", type=positive, default=11, help="how often each model is timed")
    tiny = {"n_tokens": 20, "d_model": 8, "n_heads": 2, "d_ff": 8, "n_layers": 1, "batch_size": 2, "length": 4}
    args = begin(parser, argv, dry_run=tiny | {"rounds": 1})
    shape = {"d_model": args.d_model, "n_heads": args.n_heads, "d_ff": args.d_ff, "n_decoder_layers": args.n_layers}
    config = TransformerConfig(args.n_tokens, n_encoder_layers=0, dropout=0.0, activation="gelu", **shape)
    final = compare_training(Transformer(config).to(args.device), args.batch_size, args.length, args.amp, args.rounds)
    write_results(args.out_dir / "lm_benchmark.json", args, final)
    print(*final_lines(final), sep="\n")


class PyTorchDecoder(nn.Module):
    """nn.TransformerEncoderLayer, causal, between `outer`'s embedding, positions and head; pre-norm, GELU."""

    def __init__(self, outer: Transformer):
        super().__init__()
        config = outer.config
        shape = config.d_model, config.n_heads, config.d_ff, config.dropout, F.gelu
        layer = nn.TransformerEncoderLayer(*shape, batch_first=True, norm_first=True)
        norm = nn.LayerNorm(config.d_model)
        self.stack = nn.TransformerEncoder(layer, config.n_decoder_layers, norm, enable_nested_tensor=False)
        self.embed, self.head = outer.embed, outer.head

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (B, T, V); dimensions as `Transformer`'s."""
        mask = ~causal_mask(tokens.shape[1], device=tokens.device)
        return self.head(self.stack(self.embed(tokens), mask, is_causal=True))


def compare_training(ours: Transformer, batch_size: int, length: int, amp: str, rounds: int) -> dict:
    """Return the time of a training step of ours and of PyTorch's, and tokens a second: ours over theirs."""
    device = ours.embedding.weight.device
    theirs = PyTorchDecoder(ours).to(device)
    counts = [sum(p.numel() for p in stack.parameters()) for stack in (ours.decoder, theirs.stack)]
    assert counts[0] == counts[1], "the shapes differ"
    window = torch.randint(ours.config.n_tokens, (batch_size, length + 1), device=device)
    models = {"train_step": ours.train(), "train_step_torch": theirs.train()}
    seconds = compare_times({name: partial(train_step, model, window, amp) for name, model in models.items()}, rounds)
    final = {f"{name}_seconds": time for name, time in seconds.items()}
    final |= {"tokens_per_second": batch_size * length / seconds["train_step"]}
    final |= {"tokens_per_second_torch": batch_size * length / seconds["train_step_torch"]}
    final |= {"throughput_ratio": seconds["train_step_torch"] / seconds["train_step"]}
    return final | {"n_parameters": sum(p.numel() for p in ours.parameters())}


def train_step(model: nn.Module, window: Tensor, amp: str) -> None:
    """Forward, loss and backward on texts (B, T + 1)."""
    with autocast(window.device, amp):
        logits = model(window[:, :-1])  # (B, T, V)
    loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
    model.zero_grad()
    loss.backward()


if __name__ == "__main__":
    run(main)
