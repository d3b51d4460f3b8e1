"""One small training from settings that say it all, and many of them on several cores: for experiments.
一次小型训练，由一组设置完全确定；在几个核上跑许多次，供各个实验使用。
"""

import math
import signal
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import Optimizer
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_10_llm_modern_components.bpe import train_tokenizer
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.pretraining.corpora import load_corpus
from chapter_10_llm_modern_components.pretraining.data import split_validation
from chapter_10_llm_modern_components.scaling import (
    initialize_mup_,
    muon_operations,
    mup_optimizers,
    training_operations,
)
from utils.checkpoint import load_state, save_state
from utils.device import autocast
from utils.errors import UserError
from utils.evaluating import evaluating
from utils.seed import set_seed
from utils.timer import Timer

WARMUP = 0.1  # share of the steps in which the rate rises
CLIP = 1.0  # largest norm of the gradients
MEASURED = 1024  # windows at most, evenly spaced


class Source(NamedTuple):
    """What is read, and on what it is computed."""

    corpus: str
    data_root: Path
    vocab_size: int  # 256: bytes
    length: int  # tokens of a window
    device: torch.device
    amp: str


class Setting(NamedTuple):
    """What distinguishes a training from others that read the same source."""

    config: dict  # ModelConfig's
    lr: float
    n_tokens: int  # to learn from, those read again included
    batch_size: int  # windows
    seed: int
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    base_width: int = 0  # of the maximal update parametrisation; 0: the ordinary one
    unique: int = 0  # tokens that are different; 0: as many as there are
    split: str = "held_out"  # what the loss is measured on; "validation" where it is to choose something


class Stream(NamedTuple):
    """A corpus as tokens, one text after the other."""

    train: Tensor  # (N,)
    validation: Tensor
    held_out: Tensor
    bytes_per_token: float  # of the held-out part


@cache
def load_stream(corpus: str, data_root: Path, vocab_size: int) -> Stream:
    """Return the corpus in bytes, or in tokens of a tokenizer learned from its training part.

    The validation part is of whole documents, as the held-out one.
    """
    learned, held_out = load_corpus(corpus, data_root)
    texts = ["\n".join(part) for part in (*split_validation(learned), held_out)]
    data = [text.encode() for text in texts]
    if vocab_size == 256:
        return Stream(*(torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in data), 1.0)
    tokenizer = train_tokenizer(texts[:1], vocab_size)
    parts = [torch.tensor(tokenizer.encode(text), dtype=torch.int32) for text in texts]
    return Stream(*parts, len(data[-1]) / len(parts[-1]))


def windows(tokens: Tensor, length: int) -> Tensor:
    """Return (N, length + 1): the last token of a window is predicted, and the first of the next one."""
    return tokens.unfold(0, length + 1, length)


def batches(data: Tensor, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches (B, length + 1) of windows without end, each window once in a pass, every pass in a new order.

    Raises:
        UserError: there are fewer windows than a batch needs.
    """
    if len(data) < batch_size:
        raise UserError(f"{len(data)} windows are too few for a batch of {batch_size}")
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(data), generator=generator)
        yield from (data[index].long() for index in order.split(batch_size) if len(index) == batch_size)


def build(setting: Setting, device: torch.device) -> tuple[LanguageModel, list[Optimizer]]:
    """Return the model at its start, and its optimizers."""
    model = LanguageModel(ModelConfig(**setting.config)).to(device)
    if setting.base_width:
        initialize_mup_(model, setting.base_width)
        return model, mup_optimizers(model, setting.optimizer, setting.lr, setting.base_width)
    return model, make_optimizers(model, setting.optimizer, setting.lr, setting.weight_decay)


def step_operations(setting: Setting, length: int) -> int:
    """Return the multiplications and additions of one step, those of Muon among them."""
    model = LanguageModel(ModelConfig(**setting.config))
    work = training_operations(model, length) * setting.batch_size * length
    return work + muon_operations(model) if setting.optimizer == "muon" else work


def train(setting: Setting, source: Source) -> dict:
    """Train, and return what was measured; a loss that is not finite ends the training, and is NaN."""
    set_seed(setting.seed)
    timer, stream = Timer(), load_stream(source.corpus, source.data_root, source.vocab_size)
    data = windows(stream.train, source.length)
    if setting.unique:
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        data = data[chosen[: setting.unique // source.length]]
    model, optimizers = build(setting, source.device)
    steps = max(1, round(setting.n_tokens / (setting.batch_size * source.length)))
    warmup_steps = round(WARMUP * steps)
    schedules = [Schedule(optimizer, warmup(cosine(steps - warmup_steps), warmup_steps)) for optimizer in optimizers]
    model.train()
    for ids in islice(batches(data, setting.batch_size, setting.seed), steps):
        # batch: each token is to be told from those before it
        ids = ids.to(source.device)  # (B, T + 1)
        # forward
        with autocast(source.device, source.amp):
            logits = model(ids[:, :-1])  # (B, T, V)
        # loss
        loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        if not loss.isfinite():
            break
        # backward
        model.zero_grad()
        loss.backward()
        clip_by_norm_(model.parameters(), CLIP, check=False)
        # step
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
    unread = windows(getattr(stream, setting.split), source.length)
    measured = windows_loss(model, unread) if loss.isfinite() else math.nan
    return {
        "loss": measured,  # nats a token
        "bits_per_byte": measured / math.log(2) / stream.bytes_per_token,
        "steps": steps,
        "tokens": steps * setting.batch_size * source.length,
        "parameters": sum(p.numel() for p in model.parameters()),
        "operations": steps * step_operations(setting, source.length),
        "train_seconds": timer.seconds,
    }


@torch.no_grad()
def windows_loss(model: LanguageModel, data: Tensor) -> float:
    """Return the mean cross-entropy (nats a token) on evenly spaced windows, in float32."""
    device, losses = next(model.parameters()).device, []
    with evaluating(model):
        for ids in data[:: max(1, len(data) // MEASURED)][:MEASURED].split(32):
            ids = ids.to(device).long()  # (B, T + 1)
            logits = model(ids[:, :-1]).flatten(0, 1)  # (B T, V)
            losses.append(F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none"))
    return torch.cat(losses).mean().item()


# --- many of them -----------------------------------------------------------------------------------------------------


class Trainings:
    """Trains what it is asked for, several at a time, and stores what was measured: with `resume`, none is repeated."""

    def __init__(self, source: Source, path: Path, flags: dict, processes: int, resume: bool):
        self.source, self.path, self.processes = source, path, processes
        self.flags = {name: value for name, value in flags.items() if name != "processes"}  # changes no number
        self.rows: list[dict] = load_state(path, self.flags, {})[1] if resume else []

    def __call__(self, settings: Sequence[Setting], name: str = "trainings") -> list[dict]:
        """Return the rows of these trainings, in this order; the longest ones begin."""
        missing = [s for i, s in enumerate(settings) if self.find(s) is None and s not in settings[:i]]
        missing.sort(key=lambda s: -s.n_tokens * s.config["d_model"] ** 2)
        for setting, row in tqdm(self.run(missing), desc=name, total=len(missing), disable=not missing):
            self.rows.append({"setting": setting._asdict()} | row)
            save_state(self.path, self.flags, len(self.rows), self.rows, {})
        return [self.find(setting) for setting in settings]

    def find(self, setting: Setting) -> dict | None:
        wanted = setting._asdict()
        return next((row for row in self.rows if row["setting"] == wanted), None)

    def timed(self, setting: Setting) -> float:
        """Return the seconds that a training takes on this machine; it is not stored."""
        return train(setting, self.source)["train_seconds"]

    def run(self, settings: list[Setting]) -> Iterator[tuple[Setting, dict]]:
        """Yield each setting and its row when it is ready; each process has its share of the threads."""
        call = partial(_with_setting, source=self.source)
        if min(self.processes, len(settings)) < 2:
            yield from map(call, settings)
            return
        threads = max(1, torch.get_num_threads() // self.processes)
        context = torch.multiprocessing.get_context("spawn")
        with context.Pool(self.processes, _begin_process, (threads,)) as pool:
            yield from pool.imap_unordered(call, settings)


def _begin_process(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which ends the others
    torch.set_num_threads(threads)


def _with_setting(setting: Setting, source: Source) -> tuple[Setting, dict]:
    return setting, train(setting, source)
