"""Spoken digits: which of ten words is said, by a voice that was heard in training, and by one that was not.
语音数字：听出十个词中的哪一个，既包括训练中听过的嗓音，也包括从未听过的。
"""

from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chapter_06_rnn_lstm_seq.audio import LogMel
from chapter_06_rnn_lstm_seq.audio.augment import (
    add_noise,
    change_colour,
    change_speed,
    mask_spectrogram,
    shift_in_time,
)
from chapter_06_rnn_lstm_seq.baselines.frames import bag_of_frames_accuracy
from chapter_06_rnn_lstm_seq.dataset import Recordings, spoken_digits
from chapter_06_rnn_lstm_seq.hearing import N_BANDS, STACK, digit_features
from chapter_06_rnn_lstm_seq.model import Classifier, ClassifierConfig
from chapter_06_rnn_lstm_seq.tasks.shared import Shuffled, accuracy_and_loss, configure
from chapter_06_rnn_lstm_seq.toy import toy_digits
from utils.evaluating import evaluating

TEST_TAKES, VALIDATION_TAKES = range(0, 5), range(5, 10)  # the customary test set, and what chose the recipe
DEVELOPMENT_SPEAKER = "theo"  # left out while the recipe was sought, so what is measured on him is not untouched
WARPS = torch.cat([torch.ones(1), torch.linspace(0.9, 1.1, 11)])  # vocal tracts up to 10 % longer or shorter
SPEEDS = (0.9, 1.1)
SILENCE = 400  # samples put before and behind at most: 0.05 s
NOISE = (20.0, 50.0)  # decibels below the voice
COLOUR = 0.3  # deviations of the features: another microphone
HIDDEN_BANDS, HIDDEN_SHARE = 4, 0.1  # of the spectrogram's bands and steps
LABEL_SMOOTHING = 0.1
PROBE = 8  # recordings whose logits are recorded: the shipped model must say the same again


class Digits:
    """The task: the cross-entropy of the digit, from log-mel features of a voice that was changed at random."""

    def __init__(
        self,
        name: str,
        recordings: Recordings,
        train: Tensor,
        measured: Tensor,
        options: dict,
        batch_size: int,
        device: torch.device,
    ):
        """`train` and `measured` are indices of recordings."""
        self.name, self.recordings, self.train, self.measured = name, recordings, train, measured
        self.config = configure(ClassifierConfig, options, d_input=STACK * N_BANDS, n_classes=10)
        self.order, self.device = Shuffled(train, batch_size), device
        self.features = digit_features(WARPS).to(device)

    def build(self) -> Classifier:
        return Classifier(self.config)

    @torch.no_grad()
    def batch(self) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return features (B, F, D) with their numbers of steps (B,), and digits (B,)."""
        index = self.order.next()
        sounds, lengths = (tensor.to(self.device) for tensor in self.recordings.batch(index))
        slow, fast = SPEEDS
        speeds = slow + (fast - slow) * torch.rand(len(index), device=self.device)
        sounds, lengths = change_speed(sounds, lengths, speeds)
        sounds, lengths = shift_in_time(sounds, lengths, SILENCE)
        sounds = add_noise(sounds, lengths, *NOISE)
        warps = torch.randint(1, len(WARPS), (len(index),), device=self.device)
        x, n_steps = self.features(sounds, lengths, warps)
        x = change_colour(x, n_steps, N_BANDS, COLOUR)
        x = mask_spectrogram(x, n_steps, N_BANDS, HIDDEN_BANDS, HIDDEN_SHARE)
        return (x, n_steps), self.recordings.digits[index].to(self.device)

    def loss(self, logits: Tensor, digits: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), digits, label_smoothing=LABEL_SMOOTHING)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """A quick look at training recordings as they are; what is measured in the end is not looked at."""
        logits = digit_logits(model, self.features, self.recordings, self.train[::10])
        return {"train_accuracy": accuracy_and_loss(logits, self.recordings.digits[self.train[::10]])[0]}

    def evaluate(self, model: nn.Module) -> dict[str, float | int]:
        logits = digit_logits(model, self.features, self.recordings, self.measured)
        right, loss = accuracy_and_loss(logits, self.recordings.digits[self.measured])
        return {"accuracy": right, "loss": loss, "count": len(self.measured)}

    def baselines(self) -> dict[str, float]:
        return {"accuracy_bag_of_frames": bag_of_frames_accuracy(self.recordings, self.train, self.measured)}

    def about(self, model: nn.Module) -> dict:
        probe = digit_logits(model, self.features, self.recordings, self.measured[:PROBE])
        return {"classes": [str(digit) for digit in range(10)], "probe_index": self.measured[:PROBE], "probe": probe}

    def state_dict(self) -> dict:
        return self.order.state_dict()

    def load_state_dict(self, saved: dict) -> None:
        self.order.load_state_dict(saved)


@torch.no_grad()
def digit_logits(model: nn.Module, features: LogMel, recordings: Recordings, index: Tensor) -> Tensor:
    """Return the model's logits (N, 10) for the recordings `index` (N,), as they are, on the CPU."""
    device = features.banks.device
    parts = []
    with evaluating(model):
        for part in index.split(100):
            sounds, lengths = recordings.batch(part)
            parts.append(model(*features(sounds.to(device), lengths.to(device))).cpu())
    return torch.cat(parts)


def tasks(dataset: str, root: Path, split: str, options: dict, batch_size: int, device: torch.device) -> list[Digits]:
    """Return the customary split first, which ships, and then each speaker left out in turn."""
    recordings = spoken_digits(root) if dataset == "full" else toy_digits()
    measured_takes = TEST_TAKES if split == "test" else VALIDATION_TAKES
    takes = recordings.takes
    held_out = torch.isin(takes, torch.tensor(measured_takes))
    learnt = ~held_out & ~torch.isin(takes, torch.tensor(TEST_TAKES))
    splits = [("customary", learnt, held_out)]
    for speaker, name in enumerate(recordings.names):
        own = recordings.speakers == speaker
        splits.append((f"without {name}", ~own, own))
    return [
        Digits(name, recordings, *(mask.nonzero()[:, 0] for mask in masks), options, batch_size, device)
        for name, *masks in splits
    ]


def summarize(rows: list[dict], split: str) -> dict:
    """Return the reported figures: those of the customary split, and means over the speakers left out."""
    customary, *others = rows
    final = {f"{split}_{name}": customary[name] for name in ("accuracy", "loss", "count", "accuracy_bag_of_frames")}
    if others:
        final["speaker_out_accuracy"] = mean(row["accuracy"] for row in others)
        fresh = [row["accuracy"] for row in others if row["run"] != f"without {DEVELOPMENT_SPEAKER}"]
        final["speaker_out_accuracy_fresh"] = mean(fresh)
        final["speaker_out_worst"] = min(row["accuracy"] for row in others)
        final["speaker_out_bag_of_frames"] = mean(row["accuracy_bag_of_frames"] for row in others)
        final["speaker_out_count"] = sum(row["count"] for row in others)
        final["speaker_out_speakers"] = len(others)
    return final
