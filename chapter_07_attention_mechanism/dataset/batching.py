"""Sequences of different lengths in one tensor, with as little padding as possible.
把长短不一的序列放进一个张量，并尽量少填充。
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID, PAD_ID


def pad(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return the sequences as (B, T), filled up with PAD_ID, and their lengths (B,)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = torch.full((len(sequences), int(lengths.max())), PAD_ID)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    return padded, lengths


def pad_targets(sequences: Sequence[Sequence[int]]) -> Tensor:
    """Return (B, T + 2): each sequence between BOS_ID and EOS_ID, filled up with PAD_ID."""
    return pad([[BOS_ID, *sequence, EOS_ID] for sequence in sequences])[0]


class LengthBuckets:
    """Draws batches whose sequences are about equally long.

    Batches are cut anew at every draw: from a bucket of sequences of similar lengths come as many as fit into `tokens`.
    A bucket is chosen as often as it holds batches, so every sequence comes equally often, and the next batch depends
    on nothing but PyTorch's generator.
    """

    def __init__(self, lengths: Sequence[int], tokens: int, n_buckets: int = 16):
        self.lengths = torch.tensor(lengths)
        self.buckets = self.lengths.argsort(stable=True).chunk(n_buckets)
        self.sizes = [max(1, tokens // max(1, int(self.lengths[bucket].max()))) for bucket in self.buckets]
        self.batches = torch.tensor([len(b) / min(len(b), n) for b, n in zip(self.buckets, self.sizes, strict=True)])

    def draw(self) -> Tensor:
        """Return the places of one batch's sequences, (B,), in random order."""
        i = int(torch.multinomial(self.batches, 1))
        return self.buckets[i][torch.randperm(len(self.buckets[i]))[: self.sizes[i]]]
