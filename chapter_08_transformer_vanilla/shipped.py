"""Loads a trained translator; in place of a file, `UNTRAINED` gives a small one that has learnt nothing.
载入训练好的翻译模型；若用 `UNTRAINED` 代替文件，则给出尚未训练的小模型。
"""

from pathlib import Path

import torch

from chapter_07_attention_mechanism.tasks.translate import Pairs
from chapter_08_transformer_vanilla.dataset import load_pairs
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from chapter_08_transformer_vanilla.translating import Translator, encode_source, language_odds
from utils.checkpoint import load_model
from utils.errors import UserError

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
UNTRAINED = Path("untrained")


def build(config: dict) -> Transformer:
    return Transformer(TransformerConfig(**config))


def load_translator(pair: str, path: Path | None, device: torch.device) -> Translator:
    """Return the translator from `path`; None: the one that ships for the pair of languages, such as "de-en".

    Raises:
        UserError: the file is missing, damaged, or another pair's.
    """
    if path == UNTRAINED:
        return untrained(load_pairs(pair, "toy", Path())[0][:200], device)
    path = path or CHECKPOINTS / f"translate_{pair.replace('-', '_')}.pth"
    if not path.is_file():
        raise UserError(f"{path}: no such file; chapter_08_transformer_vanilla/train.py --pair {pair} makes one")
    model, about = load_model(path, build, device)
    if about.get("pair") != pair:
        raise UserError(f"{path} was trained for --pair {about.get('pair')}, not for {pair}")
    return Translator(model, Tokenizer(**about["tokenizer"]), about["odds"], about["longest"])


def untrained(pairs: Pairs, device: torch.device) -> Translator:
    """Return a tiny model with random weights that knows the pieces of the pairs."""
    tokenizer = Tokenizer.train((text for pair in pairs for text in pair), 400)
    config = TransformerConfig(len(tokenizer), d_model=8, n_heads=2, d_ff=8, n_encoder_layers=1, n_decoder_layers=1)
    sources, targets = [encode_source(tokenizer, a) for a, _ in pairs], [tokenizer.encode(b) for _, b in pairs]
    odds, longest = language_odds(sources, targets, len(tokenizer)), max(map(len, sources))
    return Translator(Transformer(config).to(device).eval(), tokenizer, odds, longest)
