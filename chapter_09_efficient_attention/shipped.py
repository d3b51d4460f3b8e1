"""Loads the trained language models of this chapter; in place of their folder, UNTRAINED gives tiny random ones.
载入本章训练好的语言模型；若用 UNTRAINED 代替文件夹，则给出随机初始化的小模型。
"""

from pathlib import Path

import torch

from chapter_06_rnn_lstm_seq.toy import toy_text
from chapter_09_efficient_attention.model import Decoder, DecoderConfig, build_decoder
from utils.checkpoint import load_model
from utils.errors import UserError

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
UNTRAINED = Path("untrained")
TINY = {"d_model": 16, "n_heads": 4, "d_ff": 16, "n_layers": 2, "conv_size": 2}
ADVICE = "chapter_09_efficient_attention/train.py makes some, and --model_dir names their folder"


def load_language_models(folder: Path, names: list[str], device: torch.device) -> dict[str, tuple[Decoder, str]]:
    """Return by name a model and its characters; for "all", every model in the folder.

    Raises:
        UserError: there is no such model, or a file is damaged or another model's.
    """
    if folder == UNTRAINED:
        return untrained(["mha", "gated_delta"] if "all" in names else names, device)
    there = {path.stem: path for path in sorted(folder.glob("*.pth")) if not path.stem.startswith("state_")}
    if not there:
        raise UserError(f"{folder} holds no weights: {ADVICE}")
    wanted = list(there) if "all" in names else list(dict.fromkeys(names))
    if missing := [name for name in wanted if name not in there]:
        raise UserError(f"{folder} holds no {', '.join(missing)}, but {', '.join(there)}: {ADVICE}")
    found = {}
    for name in wanted:
        model, about = load_model(there[name], build_decoder, device)
        if not isinstance(about.get("characters"), str):
            raise UserError(f"{there[name]} holds another script's model: it does not say which characters it knows")
        found[name] = model, about["characters"]
    return found


def untrained(names: list[str], device: torch.device) -> dict[str, tuple[Decoder, str]]:
    """Return tiny models with random weights, that know the characters of a made-up text.

    Raises:
        UserError: an attention that there is not.
    """
    characters = "".join(sorted(set(toy_text())))
    try:
        models = {name: Decoder(DecoderConfig(len(characters), name, **TINY)) for name in names}
    except ValueError as error:
        raise UserError(f"--attention: {error}") from error
    return {name: (model.to(device).eval(), characters) for name, model in models.items()}
