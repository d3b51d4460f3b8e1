"""Masked pre-training: an encoder alone guesses words that are hidden in children's books.
掩码预训练：只用编码器，猜出童书中被遮住的词。
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from chapter_06_rnn_lstm_seq.toy import toy_text
from chapter_07_attention_mechanism.vocab import EOS_ID
from chapter_08_transformer_vanilla.books import load_books, plain_text
from chapter_08_transformer_vanilla.masking import MaskedTransformer, mask_tokens
from chapter_08_transformer_vanilla.sentences import load_sentences
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.transformer import TransformerConfig
from utils.errors import UserError
from utils.evaluating import evaluating

MIN_COUNT = 20  # a character that is rarer is written in bytes
AT_ONCE = 32  # windows that are read side by side
N_VALIDATED = 64  # windows of the held-out books, evenly spaced, that are looked at during training, at least
N_PROBE = 32  # tokens and logits that are recorded with the weights


class MaskedPretraining:
    """The task; see `tasks`."""

    name = "masked_lm"

    def __init__(
        self,
        dataset: str,
        root: Path,
        vocab_size: int,
        length: int,
        config: dict,
        batch_size: int,
        device: torch.device,
    ):
        """A batch is of `batch_size` windows of `length` tokens, each from anywhere in the books.

        The pieces of words are those of the books and of the sentences that a classifier will be trained on.
        """
        parts = load_books(root, "--dataset toy needs no download") if dataset == "full" else toy_books()
        train, held_out = [[plain_text(book) for book in part] for part in parts]
        sentences, _ = load_sentences(dataset, root)["train"]
        self.tokenizer = Tokenizer.train([*train, *sentences], vocab_size, MIN_COUNT)
        self.config = TransformerConfig(len(self.tokenizer), n_decoder_layers=0, max_length=length, **config)
        self.train = self.encode(train).to(device)  # (N,)
        self.batch_size, self.length = batch_size, length
        held_out = self.encode(held_out)
        if min(len(self.train), len(held_out)) <= length:
            raise UserError(f"--length {length}: there are {len(held_out)} tokens to validate on")
        windows = held_out[: len(held_out) // length * length].view(-1, length).to(device)  # (M, T)
        self.held_out = mask_tokens(windows, len(self.tokenizer))  # once: each look is at the same gaps

    def encode(self, books: list[str]) -> Tensor:
        """Return the numbers of all the books, (N,), EOS behind each."""
        return torch.tensor([i for book in books for i in [*self.tokenizer.encode(book), EOS_ID]])

    def build(self) -> MaskedTransformer:
        return MaskedTransformer(self.config)

    def batch(self) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return windows (B, T) with gaps, where these are (B, G), and what was in them (B, G)."""
        starts = torch.randint(len(self.train) - self.length + 1, (self.batch_size, 1))  # (B, 1)
        tokens = self.train[(starts + torch.arange(self.length)).to(self.train.device)]  # (B, T)
        shown, chosen, truth = mask_tokens(tokens, len(self.tokenizer))
        return (shown, chosen), truth

    def n_epochs(self, steps: int) -> float:
        """Return how often each token is read in so many steps."""
        return steps * self.batch_size * self.length / len(self.train)

    @torch.no_grad()
    def measure(self, model: MaskedTransformer, every: int = 1) -> tuple[float, float, int]:
        """Return cross-entropy (nats a gap) and accuracy on the gaps of held-out books, and how many these are.

        Args:
            every: only every so many windows are looked at.
        """
        parts = [part[::every].split(AT_ONCE) for part in self.held_out]
        loss, n_right, count = 0.0, 0, 0
        with evaluating(model):
            for shown, chosen, truth in zip(*parts, strict=True):
                logits, truth = model(shown, chosen).flatten(0, 1), truth.flatten()  # (B G, V), (B G,)
                loss += F.cross_entropy(logits, truth, reduction="sum").item()
                n_right += (logits.argmax(dim=1) == truth).sum().item()
                count += len(truth)
        return loss / count, n_right / count, count

    def validate(self, model: MaskedTransformer) -> dict[str, float]:
        every = max(1, len(self.held_out[0]) // N_VALIDATED)
        return {"validation_loss": self.measure(model, every)[0]}

    def evaluate(self, model: MaskedTransformer) -> dict:
        loss, accuracy, count = self.measure(model)
        return {
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "validation_count": count,
            "split": "validation: gaps in books that are held out",
            "n_training_tokens": len(self.train),
            "window": self.length,
        }

    def baselines(self) -> dict[str, float]:
        """Return loss and accuracy of guesses by how frequent each token is, whatever stands around."""
        counts = torch.bincount(self.train, minlength=len(self.tokenizer)) + 1.0  # (V,): none is impossible
        truth = self.held_out[2]  # (M, G)
        loss = -(counts / counts.sum()).log()[truth].mean().item()
        return {"unigram_loss": loss, "unigram_accuracy": (truth == counts.argmax()).float().mean().item()}

    @torch.no_grad()
    def about(self, model: MaskedTransformer) -> dict:
        """Return what inference needs, and some logits by which a loaded model can be known again."""
        tokens = self.held_out[0][:1, :N_PROBE]  # (1, T)
        with evaluating(model):
            probe = model(tokens, torch.full_like(tokens[:, :1], tokens.shape[1] - 1))[0, 0, :N_PROBE].tolist()
        return {"tokenizer": self.tokenizer.to_plain(), "probe_tokens": tokens[0].tolist(), "probe": probe}


def toy_books() -> tuple[list[str], list[str]]:
    """Return a text of simple lines to train on, and one of other lines."""
    lines = list(dict.fromkeys(toy_text().splitlines()))
    held_out = lines[::8]
    return ["\n".join(line for line in lines if line not in held_out)], ["\n".join(held_out)]
