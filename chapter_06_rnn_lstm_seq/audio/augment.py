"""Another speaker, another room, another microphone: changes that leave a word the same word.
换一个说话人、换一个房间、换一个话筒：不改变词义的声音变化。
"""

import torch
from torch import Tensor


def change_speed(sounds: Tensor, lengths: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Play sounds (B, T) at so many times their speed (B,), which moves their pitch too; return them and their lengths.

    Values between samples are interpolated linearly.
    """
    new_lengths = (lengths / factors).floor().long().clamp(min=1)  # (B,)
    place = torch.arange(int(new_lengths.max()), device=sounds.device) * factors[:, None]  # (B, T')
    left = place.floor().long().clamp(max=sounds.shape[1] - 1)
    right = (left + 1).clamp(max=sounds.shape[1] - 1)
    changed = torch.lerp(sounds.gather(1, left), sounds.gather(1, right), place - left)
    mask = torch.arange(changed.shape[1], device=sounds.device) < new_lengths[:, None]
    return changed * mask, new_lengths


def shift_in_time(sounds: Tensor, lengths: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Put silence of up to `most` samples before each sound (B, T) and as much again behind it."""
    before = torch.randint(most + 1, lengths.shape, device=sounds.device)
    after = torch.randint(most + 1, lengths.shape, device=sounds.device)
    longest = int((lengths + before + after).max())
    place = torch.arange(longest, device=sounds.device) - before[:, None]  # (B, T')
    inside = (place >= 0) & (place < lengths[:, None])
    return sounds.gather(1, place.clamp(0, sounds.shape[1] - 1)) * inside, lengths + before + after


def add_noise(sounds: Tensor, lengths: Tensor, low_db: float, high_db: float) -> Tensor:
    """Add white noise to each sound (B, T), between `low_db` and `high_db` decibels below the sound's mean power."""
    power = sounds.square().sum(dim=1, keepdim=True) / lengths[:, None]
    db = low_db + (high_db - low_db) * torch.rand(len(sounds), 1, device=sounds.device)
    noisy = sounds + torch.randn_like(sounds) * (power * 10 ** (-db / 10)).sqrt()
    return noisy * (torch.arange(sounds.shape[1], device=sounds.device) < lengths[:, None])


def change_colour(x: Tensor, n_steps: Tensor, n_bands: int, strength: float) -> Tensor:
    """Add to each utterance's features a smooth curve over the bands: another microphone, another room.

    x (B, F, stack n_bands), of which `n_steps` (B,) steps count. The curve is the sum of half a wave, one and one and a
    half, each as high as a normal draw times strength / number of half waves.
    """
    waves = torch.arange(1, 4, device=x.device)  # half waves
    places = (torch.arange(n_bands, device=x.device) + 0.5) / n_bands
    shapes = (torch.pi * waves[:, None] * places).cos() / waves[:, None]  # (3, n_bands)
    curve = strength * torch.randn(len(x), 3, device=x.device) @ shapes  # (B, n_bands)
    mask = torch.arange(x.shape[1], device=x.device) < n_steps[:, None]  # (B, F)
    return x + curve.repeat(1, x.shape[2] // n_bands)[:, None, :] * mask[..., None]


def mask_spectrogram(x: Tensor, n_steps: Tensor, n_bands: int, bands: int, share: float) -> Tensor:
    """Set a random stripe of up to `bands` bands, and one of up to a `share` of the steps, to 0 (Park et al. 2019).

    x (B, F, stack n_bands), of which `n_steps` (B,) steps count. 0 is the mean.
    """
    steps, places = torch.arange(x.shape[1], device=x.device), torch.arange(n_bands, device=x.device)
    in_time = _stripe(steps, n_steps, share * n_steps)  # (B, F)
    in_pitch = _stripe(places, torch.full_like(n_steps, n_bands), torch.full_like(n_steps, bands + 1))  # (B, n_bands)
    in_pitch = in_pitch.repeat(1, x.shape[2] // n_bands)  # stacked frames lack the same bands
    return x.masked_fill(in_time[:, :, None] | in_pitch[:, None, :], 0)


def _stripe(places: Tensor, ends: Tensor, widest: Tensor) -> Tensor:
    """Return for each row (B,) a mask over `places` (N,): a stripe narrower than `widest` that ends before `ends`."""
    width = (torch.rand(ends.shape, device=ends.device) * widest).floor()  # (B,)
    start = (torch.rand(ends.shape, device=ends.device) * (ends - width + 1)).floor()
    return (places >= start[:, None]) & (places < (start + width)[:, None])
