"""Reading, resampling and hearing: wav files of every kind, tones that keep their pitch, spectra with known peaks.
读取、重采样与“听”：各种 wav 文件、音高不变的纯音、峰值已知的频谱。
"""

import math
import struct

import numpy as np
import pytest
import torch

from chapter_06_rnn_lstm_seq.audio import LogMel, mel_filterbank, power_spectrum, read_wav, resample
from chapter_06_rnn_lstm_seq.audio.augment import (
    add_noise,
    change_colour,
    change_speed,
    mask_spectrogram,
    shift_in_time,
)
from chapter_06_rnn_lstm_seq.audio.features import N_FFT, RATE, frames, hz_to_mel, mel_to_hz, n_frames
from utils.errors import UserError

# --- files ------------------------------------------------------------------------------------------------------------


def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(samples, kind=1, channels=1, rate=8000, bits=16, before=b"", extensible=False):
    """The bytes of a wav file around the bytes of its samples."""
    frame = channels * bits // 8
    header = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, channels, rate, rate * frame, frame, bits)
    if extensible:
        header += struct.pack("<HHIH", 22, bits, 0, kind) + bytes.fromhex("000000001000800000aa00389b71")
    body = b"WAVE" + chunk(b"fmt ", header) + before + chunk(b"data", samples)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tone(hz, rate, seconds=0.5):
    return 0.5 * torch.sin(2 * math.pi * hz * torch.arange(round(seconds * rate), dtype=torch.float64) / rate)


def bits_24(x):
    return b"".join(struct.pack("<i", round(v * (2**23 - 1)))[:3] for v in x.tolist())


ENCODERS = {
    ("pcm", 8): (1, lambda x: (128 + 127 * x).round().to(torch.uint8).numpy().tobytes()),
    ("pcm", 16): (1, lambda x: (32767 * x).round().to(torch.int16).numpy().tobytes()),
    ("pcm", 24): (1, bits_24),
    ("pcm", 32): (1, lambda x: ((2**31 - 1) * x).round().to(torch.int32).numpy().tobytes()),
    ("float", 32): (3, lambda x: x.float().numpy().tobytes()),
    ("float", 64): (3, lambda x: x.double().numpy().tobytes()),
}


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("kind, bits", ENCODERS)
def test_numbers_of_every_width_are_read(kind, bits, extensible, tmp_path):
    code, encode = ENCODERS[kind, bits]
    x = tone(300, 8000)
    (tmp_path / "a.wav").write_bytes(wav(encode(x), code, bits=bits, extensible=extensible))
    found, rate = read_wav(tmp_path / "a.wav")
    assert rate == 8000 and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), x, rtol=0, atol=max(2.0 ** (2 - bits), 1e-7))


def test_channels_are_averaged_and_other_chunks_passed_over(tmp_path):
    left, right = tone(200, 44100), tone(500, 44100)
    both = (32767 * torch.stack([left, right], dim=1)).round().to(torch.int16).numpy().tobytes()
    (tmp_path / "a.wav").write_bytes(wav(both, channels=2, rate=44100, before=chunk(b"LIST", b"odd")))
    found, rate = read_wav(tmp_path / "a.wav")
    assert rate == 44100
    torch.testing.assert_close(found.double(), (left + right) / 2, rtol=0, atol=1e-4)


@pytest.mark.parametrize("left_out", [1, 2, 100, 1000])
def test_a_file_that_is_cut_short_is_refused(left_out, tmp_path):
    data = wav(ENCODERS["pcm", 16][1](tone(300, 8000, 0.05)))
    (tmp_path / "a.wav").write_bytes(data[:-left_out] if left_out < len(data) else data[:20])
    with pytest.raises(UserError, match="a.wav is cut short|not a wav"):
        read_wav(tmp_path / "a.wav")


def test_every_place_to_cut_a_file_is_refused(tmp_path):
    data = wav(ENCODERS["pcm", 24][1](tone(300, 8000, 0.002)), bits=24)
    for end in range(len(data)):
        (tmp_path / "a.wav").write_bytes(data[:end])
        with pytest.raises(UserError):
            read_wav(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "data, message",
    [
        (b"ID3 not a wav", "is not a wav file"),
        (wav(b""), "holds no sound"),
        (wav(b"\0" * 100, kind=7, bits=8), "mu-law"),
        (wav(b"\0" * 100, kind=0x55, bits=0), "MP3"),
        (wav(b"\0" * 99), "last sample is not whole"),
        (wav(b"\0" * 100, channels=0), "contradicts itself"),
        (wav(b"\0" * 100, rate=0), "contradicts itself"),
        (wav(b"\0" * 100, rate=2_000_000_000), "2000000000 samples a second"),
        (wav(b"\0" * 100, rate=10), "10 samples a second"),
        (wav(np.array([0, np.nan], "<f4").tobytes(), kind=3, bits=32), "not finite"),
    ],
)
def test_what_cannot_be_read_is_named(data, message, tmp_path):
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_wav(tmp_path / "a.wav")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing.wav cannot be read"):
        read_wav(tmp_path / "nothing.wav")


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old, new", [(44100, 8000), (48000, 8000), (16000, 8000), (11025, 8000), (6000, 8000)])
def test_a_tone_keeps_its_pitch_and_height(old, new):
    x = resample(tone(440, old), old, new)
    wanted = tone(440, new)
    assert len(x) == len(wanted)
    middle = slice(400, -400)  # at the ends there is silence beyond
    torch.testing.assert_close(x[middle], wanted[middle], rtol=0, atol=2e-4)


def test_what_the_new_rate_cannot_hold_is_taken_out():
    assert resample(tone(6000, 44100), 44100, 8000)[200:-200].abs().max() < 1e-3  # taking every nth would leave 2 kHz
    assert tone(6000, 44100)[::5].abs().max() > 0.4


def test_a_constant_and_the_same_rate():
    assert torch.equal(resample(torch.arange(9.0), 8000, 8000), torch.arange(9.0))
    x = resample(torch.ones(4000), 22050, 8000)
    torch.testing.assert_close(x[100:-100], torch.ones(len(x) - 200), rtol=0, atol=1e-6)


# --- features ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 199, 200, 201, 280, 281, 1000])
def test_frames_cover_every_sample(length):
    x = torch.arange(1.0, length + 1)
    found = frames(x)
    assert len(found) == n_frames(length) == n_frames(torch.tensor([length]))[0]
    assert found.max() == length
    for i, frame in enumerate(found):
        wanted = torch.nn.functional.pad(x, (0, 400))[80 * i : 80 * i + 200]
        assert torch.equal(frame, wanted)


def test_the_spectrum_equals_pytorchs():
    x = torch.randn(3, 2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    window = torch.nn.functional.pad(torch.hann_window(200, dtype=torch.float64), (28, 28))
    theirs = torch.stft(x, 256, 80, 256, window, center=False, return_complex=True).abs().square()  # (B, bins, F)
    ours = power_spectrum(x[:, 28:])  # their window stands in the middle of 256
    n = theirs.shape[-1]
    torch.testing.assert_close(ours[:, :n].transpose(1, 2), theirs, rtol=1e-9, atol=1e-9)


def test_a_tones_energy_lies_at_its_frequency():
    spectrum = power_spectrum(tone(1000, RATE))[10]
    assert spectrum.argmax() == round(1000 / (RATE / N_FFT))
    bank = mel_filterbank(40).double()
    centres = mel_to_hz(torch.linspace(*hz_to_mel(torch.tensor([60.0, 3800.0])).tolist(), 42))[1:-1]
    loudest = (spectrum @ bank).argmax()
    assert abs(centres[loudest] - 1000) < 60


def test_triangles_add_up_to_one_between_the_outer_centres():
    bank = mel_filterbank(20)
    hz = torch.linspace(0, RATE / 2, N_FFT // 2 + 1)
    centres = mel_to_hz(torch.linspace(*hz_to_mel(torch.tensor([60.0, 3800.0])).tolist(), 22))[1:-1]
    inside = (hz > centres[0]) & (hz < centres[-1])
    torch.testing.assert_close(bank.sum(dim=1)[inside], torch.ones(int(inside.sum())), rtol=0, atol=1e-5)


def test_hz_and_mel():
    hz = torch.tensor([0.0, 700.0, 4000.0])
    torch.testing.assert_close(mel_to_hz(hz_to_mel(hz)), hz)
    assert hz_to_mel(hz)[1].item() == pytest.approx(2595 * math.log10(2))


def test_features_do_not_depend_on_what_they_are_batched_with():
    features = LogMel(24)
    x = torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    x[0, 1234:] = 0
    both, n = features(x, torch.tensor([1234, 3000]))
    alone, m = features(x[:1, :1234], torch.tensor([1234]))
    assert n[0] == m[0] and (both[0, n[0] :] == 0).all()
    torch.testing.assert_close(both[0, : n[0]], alone[0], rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_loudness():
    features, generator = LogMel(24), torch.Generator().manual_seed(0)
    x = torch.randn(1, 4000, generator=generator)
    quiet, _ = features(0.01 * x, torch.tensor([4000]))
    loud, _ = features(x, torch.tensor([4000]))
    torch.testing.assert_close(quiet, loud, rtol=1e-3, atol=1e-3)
    assert loud.mean().abs() < 1e-4 and (loud.std() - 1).abs() < 0.05


def test_frames_are_stacked_two_by_two():
    sounds = torch.randn(2, 1500, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([1500, 1000])
    one, n = LogMel(24)(sounds, lengths)
    two, m = LogMel(24, stack=2)(sounds, lengths)
    assert n.tolist() == [18, 11] and m.tolist() == [9, 6]
    assert torch.equal(two.reshape(2, -1, 24), one)


def test_silence_is_heard_without_a_nan():
    x, _ = LogMel(24)(torch.zeros(1, 500), torch.tensor([500]))
    assert x.abs().max() < 1e-3


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_twice_the_speed_is_an_octave_up():
    x = tone(400, RATE).float()[None]
    y, lengths = change_speed(x, torch.tensor([4000]), torch.tensor([2.0]))
    assert lengths.tolist() == [2000]
    torch.testing.assert_close(y[0], x[0, ::2])


def test_a_warped_frequency_axis_moves_the_bands():
    spectrum = power_spectrum(tone(1000, RATE))[10].float()
    plain, warped = (int((spectrum @ mel_filterbank(40, warp=s)).argmax()) for s in (1.0, 1.2))
    assert warped > plain


def test_shifting_only_adds_silence():
    torch.manual_seed(0)
    x = torch.zeros(4, 50)
    x[:, :30] = torch.rand(4, 30) + 1
    y, lengths = shift_in_time(x, torch.full((4,), 30), 20)
    assert len(set(lengths.tolist())) > 1 and ((30 <= lengths) & (lengths <= 70)).all()
    for row, shifted in zip(x, y, strict=True):
        assert torch.equal(shifted[shifted != 0], row[:30])


def test_noise_has_the_loudness_asked_for():
    torch.manual_seed(0)
    x, lengths = tone(400, RATE, 2.0).float()[None], torch.tensor([16000])
    noise = add_noise(x, lengths, 20.0, 20.0) - x
    assert 10 * math.log10(x.square().mean() / noise.square().mean()) == pytest.approx(20, abs=0.2)


def test_a_microphones_colour_is_a_smooth_curve_that_stays():
    torch.manual_seed(0)
    x = torch.zeros(500, 6, 2 * 20)
    y = change_colour(x, torch.full((500,), 4), 20, strength=0.5)
    assert (y[:, 4:] == 0).all() and torch.equal(y[:, :1].expand(-1, 4, -1), y[:, :4])
    assert torch.equal(y[:, :, :20], y[:, :, 20:])
    at_the_low_end = 0.5 * math.sqrt(1 + 1 / 4 + 1 / 9)  # where all three cosines are nearly 1
    assert y[:, 0, 0].std().item() == pytest.approx(at_the_low_end, rel=0.1)
    assert y[:, 0, 1:20].diff(dim=1).abs().max() < 0.5


def test_stripes_are_as_wide_as_asked():
    torch.manual_seed(0)
    x = torch.ones(200, 30, 20)
    y = mask_spectrogram(x, torch.full((200,), 30), 20, bands=5, share=0.5)
    whole_frames, whole_bands = (y == 0).all(dim=2).sum(dim=1), (y == 0).all(dim=1).sum(dim=1)
    assert set(whole_bands.tolist()) == {0, 1, 2, 3, 4, 5}
    assert whole_frames.min() == 0 and whole_frames.max() == 14
