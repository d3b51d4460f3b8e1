"""Reads a wav file byte by byte: its chunks, its numbers of 8 to 64 bits, its channels.
逐字节读取 wav 文件：数据块、8 至 64 位的采样值、多声道。
"""

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # codes of formats
OTHER_FORMATS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x55: "MP3"}
RATES = range(1000, 400_001)  # samples a second; what lies beyond is a damaged header
UNKNOWN_SIZE = 0xFFFFFFFF  # what a program writes that could not go back to fill in the length


def read_wav(path: Path) -> tuple[Tensor, int]:
    """Return the samples (T,), float32 from -1 to 1, channels averaged, and how many of them there are in a second.

    Reads whole numbers of 8, 16, 24 and 32 bits and floating-point ones of 32 and 64.

    Raises:
        UserError: the file cannot be read, is no wav file, is cut short, or holds no sound or one in another format.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise UserError(f"{path} is not a wav file")
    header, samples = _chunks(data, path)
    kind, channels, rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", header[:16])
    if kind == EXTENSIBLE:
        if len(header) < 26:
            raise UserError(f"{path} is cut short within its header")
        kind = struct.unpack("<H", header[24:26])[0]  # the first two bytes of a longer name
    if kind not in (PCM, FLOAT) or (kind, bits) not in DECODERS:
        name = OTHER_FORMATS.get(kind, f"format {kind}")
        raise UserError(f"{path} holds {bits}-bit {name}, which is not read here: convert it to 16-bit PCM")
    if channels == 0 or rate == 0 or frame_bytes != channels * bits // 8:
        raise UserError(
            f"{path} contradicts itself: {channels} channels of {bits} bits in {frame_bytes} bytes, {rate} Hz"
        )
    if rate not in RATES:
        raise UserError(f"{path} has {rate} samples a second; from {RATES[0]} to {RATES[-1]} are read")
    if len(samples) % frame_bytes:
        raise UserError(f"{path} is cut short: its last sample is not whole")
    if not samples:
        raise UserError(f"{path} holds no sound")
    sound = DECODERS[kind, bits](samples).reshape(-1, channels).mean(axis=1)  # (T, channels) -> (T,)
    if not np.isfinite(sound).all():
        raise UserError(f"{path} holds samples that are not finite numbers")
    return torch.from_numpy(sound.astype(np.float32)), rate


def _chunks(data: bytes, path: Path) -> tuple[bytes, bytes]:
    """Return the contents of the chunks "fmt " and "data"; each chunk is a name, a length, and so many bytes."""
    header, place = b"", 12
    while place + 8 <= len(data):
        name, size = struct.unpack("<4sI", data[place : place + 8])
        place += 8
        if name == b"data" and size == UNKNOWN_SIZE:
            size = len(data) - place
        if place + size > len(data):
            there = len(data) - place
            raise UserError(
                f"{path} is cut short: of {size} bytes of {name.decode('latin-1').strip()}, {there} are there"
            )
        if name == b"fmt ":
            header = data[place : place + size]
        elif name == b"data":
            if len(header) < 16:
                raise UserError(f"{path} does not say what its samples are")
            return header, data[place : place + size]
        place += size + size % 2  # chunks begin at even places
    raise UserError(f"{path} is cut short: it has no samples")


def _bits_24(samples: bytes) -> np.ndarray:
    """Three bytes a number, the lowest first: put above an empty byte they make a 32-bit one."""
    wide = np.zeros((len(samples) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(samples, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0] / 2.0**31


DECODERS = {  # (format, bits) -> bytes to numbers from -1 to 1
    (PCM, 8): lambda samples: (np.frombuffer(samples, np.uint8) - 128.0) / 128,  # the only one without a sign
    (PCM, 16): lambda samples: np.frombuffer(samples, "<i2") / 2.0**15,
    (PCM, 24): _bits_24,
    (PCM, 32): lambda samples: np.frombuffer(samples, "<i4") / 2.0**31,
    (FLOAT, 32): lambda samples: np.frombuffer(samples, "<f4").astype(np.float64),
    (FLOAT, 64): lambda samples: np.frombuffer(samples, "<f8"),
}
