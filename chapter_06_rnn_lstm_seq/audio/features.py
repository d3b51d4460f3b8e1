"""The mel spectrogram: cut a sound into frames, take each one's spectrum, and add it up in bands as an ear does.
梅尔频谱：把声音切成帧，求每帧的频谱，再按人耳的尺度汇总成频带。
"""

import torch
from torch import Tensor, nn

RATE = 8000  # samples a second
FRAME, HOP, N_FFT = 200, 80, 256  # samples: 25 ms of sound every 10 ms, padded to a power of 2
LOW, HIGH = 60.0, 3800.0  # Hz: the bands' ends
DYNAMIC_RANGE = 1e-6  # energies below this share of the loudest count as this: 60 dB


def frames(x: Tensor, length: int = FRAME, hop: int = HOP) -> Tensor:
    """Cut sounds (..., T) into frames (..., F, length), one every `hop` samples; the last ones are filled up with 0."""
    count = n_frames(x.shape[-1], length, hop)
    missing = (count - 1) * hop + length - x.shape[-1]
    return nn.functional.pad(x, (0, missing)).unfold(-1, length, hop)


def n_frames(samples: int | Tensor, length: int = FRAME, hop: int = HOP) -> int | Tensor:
    """Return into how many frames so many samples (at least 1) are cut: enough to cover them all."""
    beyond = samples - length
    beyond = beyond.clamp(min=0) if isinstance(beyond, Tensor) else max(beyond, 0)
    return (beyond + hop - 1) // hop + 1


def power_spectrum(x: Tensor) -> Tensor:
    """Return each frame's energy by frequency, (..., T) -> (..., F, N_FFT / 2 + 1): the short-time Fourier transform.

    A Hann window lets each frame begin and end softly; a hard edge would smear every tone over all frequencies.
    """
    window = torch.hann_window(FRAME, periodic=True, dtype=x.dtype, device=x.device)
    return torch.fft.rfft(frames(x) * window, n=N_FFT).abs().square()


def hz_to_mel(hz: Tensor) -> Tensor:
    """Return the mel scale's value: nearly linear up to 1 kHz, logarithmic above (O'Shaughnessy 1987)."""
    return 2595 * torch.log10(1 + hz / 700)


def mel_to_hz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)


def mel_filterbank(n_bands: int, low: float = LOW, high: float = HIGH, warp: float = 1.0) -> Tensor:
    """Return triangles over the spectrum, (N_FFT / 2 + 1, n_bands), evenly spaced in mel from `low` to `high` Hz.

    Each rises from the centre of the band below and falls to that of the band above. With `warp` every frequency counts
    as that many times itself: a vocal tract of another length (Jaitly & Hinton 2013).
    """
    ends = hz_to_mel(torch.tensor([low, high], dtype=torch.float64))
    centres = mel_to_hz(torch.linspace(*ends.tolist(), n_bands + 2, dtype=torch.float64))  # (bands + 2,)
    below, centre, above = centres[:-2], centres[1:-1], centres[2:]
    hz = warp * torch.linspace(0, RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)[:, None]  # (bins, 1)
    rising, falling = (hz - below) / (centre - below), (above - hz) / (above - centre)  # (bins, bands)
    return torch.minimum(rising, falling).clamp(min=0).float()


class LogMel(nn.Module):
    """Log energies by frame and band, an utterance's brought to mean 0 and deviation 1 over all frames and bands.

    This takes the loudness away, a factor on all energies and so an offset of the logarithms. The mean of each band by
    itself would take a microphone's colour away too, but of a short word its vowel with it. `warps` are the lengths of
    the vocal tract to choose from in training (1 alone: as it was said). `stack` frames in a row make one step, which
    leaves a recurrent network so many times fewer (Chan et al. 2016).
    """

    def __init__(self, n_bands: int, warps: Tensor | None = None, stack: int = 1):
        super().__init__()
        self.n_bands, self.stack = n_bands, stack
        warps = torch.ones(1) if warps is None else warps
        banks = torch.stack([mel_filterbank(n_bands, warp=warp) for warp in warps.tolist()])
        self.register_buffer("banks", banks, persistent=False)  # (warps, bins, bands)

    def forward(self, sounds: Tensor, lengths: Tensor, warps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """sounds (B, T), of which `lengths` (B,) samples count -> features (B, F / stack, stack bands), and steps (B,).

        Features after a sound's last frame are 0. `warps` (B,) are indices into the banks; by default the first.
        """
        spectrum = power_spectrum(sounds)  # (B, F, bins)
        bank = self.banks[torch.zeros_like(lengths) if warps is None else warps]  # (B, bins, bands)
        energy = spectrum @ bank  # (B, F, bands)
        n = n_frames(lengths)
        mask = (torch.arange(energy.shape[1], device=n.device) < n[:, None])[..., None]  # (B, F, 1)
        energy = energy * mask
        floor = DYNAMIC_RANGE * energy.amax(dim=(1, 2), keepdim=True).clamp(min=1e-20)
        x = normalize(torch.maximum(energy, floor).log(), mask)  # (B, F, bands)
        x = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % self.stack))
        return x.reshape(len(x), -1, self.stack * self.n_bands), (n + self.stack - 1) // self.stack


def normalize(x: Tensor, mask: Tensor, eps: float = 1e-2) -> Tensor:
    """Give each utterance x (B, F, D) mean 0 and deviation 1 over the frames that `mask` (B, F, 1) says are there."""
    count = x.shape[2] * mask.sum(dim=(1, 2), keepdim=True)
    mean = (x * mask).sum(dim=(1, 2), keepdim=True) / count
    centred = (x - mean) * mask
    variance = centred.square().sum(dim=(1, 2), keepdim=True) / count
    return centred / (variance + eps).sqrt()
