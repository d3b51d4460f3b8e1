"""The language-modelling task that all variants are trained and compared on: the next character of a text.
所有变体共同的训练与比较任务：预测文本的下一个字符。
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_06_rnn_lstm_seq.dataset import encode, split_text
from chapter_09_efficient_attention.model import Decoder
from utils.errors import UserError
from utils.evaluating import evaluating


class CharacterTask:
    """Windows of a text, at random places to learn from and side by side to measure on.

    The first nine tenths of the text are for training, the rest for validation.

    Raises:
        UserError: one of the two is shorter than a window.
    """

    def __init__(self, text: str, batch_size: int, length: int, device: torch.device):
        train, valid = split_text(text)
        self.characters = "".join(sorted(set(text)))
        self.train_ids, self.valid_ids = encode(train, self.characters), encode(valid, self.characters)
        if min(len(self.train_ids), len(self.valid_ids)) <= length:
            raise UserError(f"a text of {len(text)} characters is too short for --length {length}")
        self.batch_size, self.length, self.device = batch_size, length, device

    def batch(self) -> tuple[Tensor, Tensor]:
        """Draw inputs (B, T) and targets (B, T), the characters that follow them."""
        starts = torch.randint(len(self.train_ids) - self.length, (self.batch_size, 1))
        windows = self.train_ids[starts + torch.arange(self.length + 1)].to(self.device)  # (B, T + 1)
        return windows[:, :-1], windows[:, 1:]

    @torch.no_grad()
    def loss(self, model: Decoder, n_windows: int | None = None) -> tuple[float, int]:
        """Return the mean cross-entropy (nats) on the validation text, and over how many characters it is.

        Windows overlap by half and their second half counts, so every character is predicted from at least T/2 before.

        Args:
            n_windows: only the first ones, for a quick look.
        """
        half = self.length // 2
        windows = self.valid_ids.unfold(0, self.length + 1, self.length - half)[:n_windows]  # (N, T + 1)
        total, count = 0.0, windows.shape[0] * (self.length - half)
        with evaluating(model):
            for rows in windows.split(32):
                rows = rows.to(self.device)
                logits = model(rows[:, :-1])[0][:, half:]  # (B, T/2, V)
                total += F.cross_entropy(logits.flatten(0, 1), rows[:, 1 + half :].flatten(), reduction="sum").item()
        return total / count, count
