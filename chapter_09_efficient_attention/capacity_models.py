"""The models whose memory is tried out: each kind of attention, with as much memory as its number of heads gives.
用来检验记忆能力的模型：每一种注意力，记忆的大小由头数决定。
"""

from chapter_09_efficient_attention.model import Decoder, DecoderConfig

MECHANISMS = {  # name: what it changes in the config
    "mha": {},
    "local": {"attention": "local"},
    "linear": {"attention": "linear"},
    "mamba2": {"attention": "mamba2"},
    "gla": {"attention": "gla"},
    "delta": {"attention": "delta"},
    "gated_delta": {"attention": "gated_delta"},
    "signed_delta": {"attention": "gated_delta", "max_rate": 2.0},  # may turn signs round: for parity
    "hybrid": {"attention": "delta,mha"},
}


def small_decoder(mechanism: str, n_tokens: int, d_model: int, n_heads: int, conv_mixed: bool) -> Decoder:
    """Return a model of two layers; a state in it has D^2/H numbers, a window D/H tokens."""
    widths = {"d_model": d_model, "d_ff": 2 * d_model, "n_heads": n_heads, "window": d_model // n_heads}
    convolution = {"conv_size": 2, "conv_mixed": conv_mixed}
    return Decoder(DecoderConfig(n_tokens, n_layers=2, dropout=0.0, **widths, **convolution, **MECHANISMS[mechanism]))
