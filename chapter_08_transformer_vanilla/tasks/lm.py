"""Language modelling: a decoder alone predicts each next character of Shakespeare's plays.
语言模型：只用解码器，逐字符预测莎士比亚剧本。
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from chapter_06_rnn_lstm_seq.baselines.ngram import best_order
from chapter_06_rnn_lstm_seq.dataset import encode, shakespeare, split_text
from chapter_06_rnn_lstm_seq.toy import toy_text
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from utils.errors import UserError
from utils.evaluating import evaluating

AT_ONCE = 32  # windows that are read side by side
N_VALIDATED = 64  # windows of the validation text, evenly spaced, that are looked at during training, at least
N_PROBE = 32  # characters of the validation text whose last logits are recorded with the weights


class LanguageModelling:
    """The task; see `tasks`. There is no test text: nanoGPT's split has a training and a validation part."""

    name = "lm_shakespeare"

    def __init__(self, dataset: str, root: Path, length: int, config: dict, batch_size: int, device: torch.device):
        """A batch is of `batch_size` windows of `length` characters, each from anywhere in the training text."""
        text = shakespeare(root) if dataset == "full" else toy_text()
        train, validation = split_text(text)
        if min(len(train), len(validation)) <= length:
            raise UserError(f"--length {length}: the shorter text has {min(len(train), len(validation))} characters")
        self.characters = "".join(sorted(set(text)))
        self.train, self.validation = (encode(part, self.characters).to(device) for part in (train, validation))
        self.batch_size, self.length = batch_size, length
        self.config = TransformerConfig(len(self.characters), n_encoder_layers=0, max_length=length, **config)

    def build(self) -> Transformer:
        return Transformer(self.config)

    def batch(self) -> tuple[tuple[Tensor], Tensor]:
        """Return windows (B, T), and what follows each of their characters (B, T)."""
        starts = torch.randint(len(self.train) - self.length, (self.batch_size, 1))  # (B, 1)
        window = self.train[(starts + torch.arange(self.length + 1)).to(self.train.device)]  # (B, T + 1)
        return (window[:, :-1],), window[:, 1:]

    def n_epochs(self, steps: int) -> float:
        """Return how often each character is read in so many steps."""
        return steps * self.batch_size * self.length / len(self.train)

    def validate(self, model: Transformer) -> dict[str, float]:
        """A quick look at some of the windows side by side that `evaluate` reads, from all over the validation text."""
        starts = torch.arange(0, len(self.validation) - self.length, self.length)
        starts = starts[:: max(1, len(starts) // N_VALIDATED)]
        return {"val_loss": window_losses(model, self.validation, starts, self.length).mean().item()}

    def evaluate(self, model: Transformer) -> dict:
        """Measure on all of the validation text, in windows side by side, as is usual, and in ones that overlap.

        Where windows follow one another without overlap, the first characters of each are guessed from next to nothing.
        """
        loss = text_loss(model, self.validation, self.length, self.length)
        return {
            "val_loss": loss,
            "val_bits_per_character": loss / math.log(2),
            "val_perplexity": math.exp(loss),
            "val_loss_overlapping": text_loss(model, self.validation, self.length, self.stride),
            "train_loss": text_loss(model, self.train[: len(self.validation)], self.length, self.length),
            "val_count": len(self.validation) - 1,
            "split": "validation: the last tenth of the text",
            "window": self.length,
            "stride_overlapping": self.stride,
        }

    @property
    def stride(self) -> int:
        return max(1, self.length // 4)

    def baselines(self) -> dict[str, float | int]:
        """Return the best n-gram model's loss on the same characters, and its order."""
        loss, order = best_order(self.train.cpu(), self.validation.cpu(), len(self.characters))
        return {"ngram_loss": loss, "ngram_order": order}

    @torch.no_grad()
    def about(self, model: Transformer) -> dict:
        """Return what inference needs, and some logits by which a loaded model can be known again."""
        text = self.validation[: min(N_PROBE, self.length)]
        return {"characters": self.characters, "probe_text": text.tolist(), "probe": model(text[None])[0, -1].tolist()}


def text_loss(model: Transformer, ids: Tensor, length: int, stride: int) -> float:
    """Return the mean loss (nats a token) on all tokens of a text (N,) but the first.

    The text is read in windows of `length` tokens, one every `stride`. A token that lies in several windows counts in
    the first of them, which shows the most of what stands before it: at least length - stride tokens.
    """
    n_targets = len(ids) - 1
    length = min(length, n_targets)
    starts = torch.arange(0, n_targets - length + stride, stride).clamp(max=n_targets - length)  # (W,)
    starts = starts.flip(0)  # from the last to the first, which has the last word
    losses = torch.empty(n_targets, dtype=torch.float64)
    for start, found in zip(starts.tolist(), window_losses(model, ids, starts, length), strict=True):
        losses[start : start + length] = found
    return losses.mean().item()


@torch.no_grad()
def window_losses(model: Transformer, ids: Tensor, starts: Tensor, length: int) -> Tensor:
    """Return what follows each token of windows of a text (N,) costs (nats), in float64: (W, T) for starts (W,)."""
    losses = []
    with evaluating(model):
        for some in starts.split(AT_ONCE):
            positions = some[:, None] + torch.arange(length)  # (B, T)
            tokens, targets = (ids[shifted.to(ids.device)] for shifted in (positions, positions + 1))  # (B, T)
            logits = model(tokens).transpose(1, 2)  # (B, T, V) -> (B, V, T)
            losses.append(F.cross_entropy(logits, targets, reduction="none").cpu().double())  # (B, T)
    return torch.cat(losses)
