"""A bag of frames: what a recording sounds like on the whole, whatever the order of its sounds.
帧袋模型：只看一段录音整体听起来如何，不管声音的先后顺序。
"""

import torch
from torch import Tensor

from chapter_02_nn_basics_mlp.linear_models import predict, softmax_gradient_descent
from chapter_06_rnn_lstm_seq.audio.features import N_FFT, mel_filterbank, n_frames, power_spectrum
from chapter_06_rnn_lstm_seq.dataset import Recordings

N_BANDS, STEPS, L2 = 40, 300, 1e-3


def bag_of_frames(recordings: Recordings, index: Tensor) -> Tensor:
    """Return each band's mean and deviation over a recording's frames, in log energy, (N, 2 bands)."""
    bank, rows = mel_filterbank(N_BANDS), []
    for part in index.split(100):
        sounds, lengths = recordings.batch(part)
        x = (power_spectrum(sounds) @ bank + 1e-6 * N_FFT).log()  # (B, F, bands)
        n = n_frames(lengths)[:, None]  # (B, 1)
        mask = (torch.arange(x.shape[1]) < n)[..., None]  # (B, F, 1)
        mean = (x * mask).sum(dim=1) / n
        variance = ((x - mean[:, None]) * mask).square().sum(dim=1) / n
        rows.append(torch.cat([mean, variance.sqrt()], dim=1))
    return torch.cat(rows)


def bag_of_frames_accuracy(recordings: Recordings, train: Tensor, measured: Tensor) -> float:
    """Fit chapter 2's softmax regression to the bags of the recordings `train`; return its accuracy on `measured`."""
    x, seen = bag_of_frames(recordings, train), bag_of_frames(recordings, measured)
    mean, std = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    w, _ = softmax_gradient_descent((x - mean) / std, recordings.digits[train], 10, steps=STEPS, l2=L2)
    guesses = predict((seen - mean) / std, w).argmax(dim=1)
    return (guesses == recordings.digits[measured]).float().mean().item()
