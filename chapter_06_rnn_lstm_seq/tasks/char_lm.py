"""Language modelling: predict each next character of Shakespeare's plays, with truncated backpropagation through time.
语言模型：用截断的时间反向传播，逐字符预测莎士比亚剧本。
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chapter_06_rnn_lstm_seq.baselines.ngram import best_order
from chapter_06_rnn_lstm_seq.dataset import encode, shakespeare, split_text
from chapter_06_rnn_lstm_seq.model import LanguageModel, LanguageModelConfig, State, detach
from chapter_06_rnn_lstm_seq.tasks.shared import configure
from chapter_06_rnn_lstm_seq.toy import toy_text
from utils.errors import UserError
from utils.evaluating import evaluating

PROBE_LENGTH = 32  # characters of the validation text whose last logits are recorded with the weights


class Streams:
    """Cuts a text into B parallel streams and yields windows of T tokens in order, so that a state can be carried on.

    Each pass over the text begins at another place, chosen at random: windows and streams then break elsewhere.
    """

    def __init__(self, ids: Tensor, batch_size: int, length: int):
        if len(ids) <= batch_size * length:
            raise ValueError(f"{batch_size} streams of {length} tokens need more than {len(ids)} tokens")
        self.ids, self.batch_size, self.length = ids, batch_size, length
        self.stream_length = (len(ids) - 1) // batch_size
        self.start, self.position = 0, self.stream_length  # the pass is over: the first window begins another

    def next(self) -> tuple[Tensor, Tensor, bool]:
        """Return inputs (B, T), targets (B, T), the tokens that follow them, and whether these begin a pass."""
        begins = self.position + self.length > self.stream_length
        if begins:
            self.start, self.position = int(torch.randint(len(self.ids), ())), 0
        rows = self.start + self.stream_length * torch.arange(self.batch_size)[:, None]  # (B, 1)
        index = rows + self.position + torch.arange(self.length + 1)  # (B, T + 1)
        window = self.ids[index % len(self.ids)]
        self.position += self.length
        return window[:, :-1], window[:, 1:], begins


class CharLM:
    """The task: the mean cross-entropy of the next character, in nats."""

    def __init__(self, text: str, options: dict, batch_size: int, length: int, device: torch.device):
        train, valid = split_text(text)
        self.characters = "".join(sorted(set(text)))
        self.name = "the plays"
        self.config = configure(LanguageModelConfig, options, n_tokens=len(self.characters))
        self.train_ids, self.valid_ids = encode(train, self.characters), encode(valid, self.characters)
        self.streams, self.device = Streams(self.train_ids, batch_size, length), device
        self.states: list[State] | None = None

    def build(self) -> LanguageModel:
        return LanguageModel(self.config)

    def batch(self) -> tuple[tuple, Tensor]:
        """Return the model's inputs, ids (B, T) and the states that the last window left, and targets (B, T)."""
        x, y, begins = self.streams.next()
        if begins:
            self.states = None
        return (x.to(self.device), self.states), y.to(self.device)

    def loss(self, outputs: tuple[Tensor, list[State]], targets: Tensor) -> Tensor:
        """Return the loss, and keep the states for the next window: their values go on, gradients end here."""
        logits, states = outputs  # (B, T, V)
        self.states = detach(states)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def validate(self, model: nn.Module) -> dict[str, float]:
        """A quick look: the validation text as up to 32 streams side by side, each from a fresh state."""
        return {"val_loss": text_loss(model, self.valid_ids.to(self.device), n_streams=32)}

    def evaluate(self, model: nn.Module) -> dict[str, float | int]:
        """The reported figure: the whole validation text in one pass from left to right, the state carried on."""
        loss = text_loss(model, self.valid_ids.to(self.device))
        return {
            "val_loss": loss,
            "val_bits_per_character": loss / math.log(2),
            "val_perplexity": math.exp(loss),
            "val_count": len(self.valid_ids) - 1,
            "train_loss": text_loss(model, self.train_ids[: len(self.valid_ids)].to(self.device), n_streams=32),
        }

    def baselines(self) -> dict[str, float | int]:
        """Return the best n-gram model's loss on the same characters, and its order."""
        loss, order = best_order(self.train_ids, self.valid_ids, self.config.n_tokens)
        return {"ngram_loss": loss, "ngram_order": order}

    @torch.no_grad()
    def about(self, model: nn.Module) -> dict:
        text = self.valid_ids[:PROBE_LENGTH]
        probe = model(text[None].to(self.device))[0][0, -1].tolist()
        return {"characters": self.characters, "probe_text": text.tolist(), "probe": probe}

    def state_dict(self) -> dict:
        return {"start": self.streams.start, "position": self.streams.position, "states": self.states}

    def load_state_dict(self, saved: dict) -> None:
        self.streams.start, self.streams.position = saved["start"], saved["position"]
        self.states = saved["states"] and detach(saved["states"], self.device)


@torch.no_grad()
def text_loss(model: nn.Module, ids: Tensor, n_streams: int = 1, chunk: int = 1024) -> float:
    """Return the mean loss (nats a token) on a text (T,), read as so many streams with their state carried on."""
    n_streams = min(n_streams, len(ids) - 1)
    length = (len(ids) - 1) // n_streams
    x = ids[: n_streams * length].view(n_streams, length)
    y = ids[1 : n_streams * length + 1].view(n_streams, length)
    total, states = 0.0, None
    with evaluating(model):
        for inputs, targets in zip(x.split(chunk, dim=1), y.split(chunk, dim=1), strict=True):
            logits, states = model(inputs, states)
            total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    return total / y.numel()


def tasks(dataset: str, root: Path, split: str, options: dict, batch_size: int, device: torch.device) -> list[CharLM]:
    """Return the one task; its `split` is nanoGPT's, which has a validation part and no test part.

    Raises:
        UserError: a test split was asked for.
    """
    if split == "test":
        raise UserError("--task char_lm has no test split: it both chooses and reports on the last tenth of the text")
    text = shakespeare(root) if dataset == "full" else toy_text()
    return [CharLM(text, options, batch_size, options["length"], device)]


def summarize(rows: list[dict], split: str) -> dict:
    return {name: value for name, value in rows[0].items() if name != "run"}
