"""Which network each task trains, and how a trained one comes back with its vocabulary.
每个任务训练哪种网络，以及如何连同词表一起读回训练好的模型。
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from chapter_07_attention_mechanism.captioner import Captioner
from chapter_07_attention_mechanism.dataset.toy_pairs import toy_pairs
from chapter_07_attention_mechanism.decoder import DecoderConfig
from chapter_07_attention_mechanism.seq2seq import Seq2Seq
from chapter_07_attention_mechanism.sorter import Sorter, SorterConfig
from chapter_07_attention_mechanism.tasks.caption import caption_vocabulary
from chapter_07_attention_mechanism.tasks.dates import date_vocabulary
from chapter_07_attention_mechanism.tasks.sort import sort_vocabulary
from chapter_07_attention_mechanism.vocab import Vocabulary
from utils.checkpoint import load_model
from utils.errors import UserError

BUILDERS: dict[str, Callable[[dict], nn.Module]] = {
    "dates": lambda config: Seq2Seq(DecoderConfig(**config)),
    "translate": lambda config: Seq2Seq(DecoderConfig(**config)),
    "caption": lambda config: Captioner(DecoderConfig(**config)),
    "sort": lambda config: Sorter(SorterConfig(**config)),
}


def load(task: str, path: Path, device: torch.device) -> tuple[nn.Module, Vocabulary]:
    """Return the task's model in eval mode, and its vocabulary.

    Raises:
        UserError: the file is missing, damaged, or another task's.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; chapter_07_attention_mechanism/train.py --task {task} makes one")
    model, about = load_model(path, BUILDERS[task], device)
    if about.get("task") != task:
        raise UserError(f"{path} was trained for --task {about.get('task')}, not for {task}")
    return model, Vocabulary.of_plain(about)


def untrained(task: str, device: torch.device) -> tuple[nn.Module, Vocabulary]:
    """Return a tiny model with random weights, and a vocabulary: something to try a script on."""
    vocabulary = {
        "dates": date_vocabulary,
        "translate": lambda: Vocabulary.of_subwords((text.lower() for pair in toy_pairs(200) for text in pair), 80),
        "caption": caption_vocabulary,
        "sort": sort_vocabulary,
    }[task]()
    config = {"vocabulary": len(vocabulary)}
    config |= {"width": 8, "hidden": 8} if task == "sort" else {"embedding": 8, "hidden": 8}
    return BUILDERS[task](config).to(device).eval(), vocabulary
