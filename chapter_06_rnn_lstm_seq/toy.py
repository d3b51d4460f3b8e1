"""Small made-up data that needs no download: a text of simple lines, sung digits, sentences with feelings.
无需下载的小型合成数据：简单句子组成的文本、“唱”出来的数字、带情绪的句子。
"""

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.dataset import Recordings

WHO = ["the cat", "the old king", "a small bird", "my sister", "the moon"]
DOES = ["sees", "follows", "sings to", "forgets", "waits for"]
SIGNS = [".", ",", "!"]
FILMS = ["this film", "the plot", "her role", "the music", "this sequel", "the script"]
PRAISE, SCORN = ["lovely", "a delight", "brilliant", "moving"], ["dull", "a mess", "tedious", "lifeless"]
LINKS = ["is", "was", "is simply", "turns out"]
TONES = [200, 300, 450, 675]  # Hz
SINGERS = ["alto", "tenor"]


def toy_text(lines: int = 400, seed: int = 0) -> str:
    """Return so many lines, each "WHO does WHO" and a sign."""
    generator = torch.Generator().manual_seed(seed)
    columns = [_choices(options, lines, generator) for options in (WHO, DOES, WHO, SIGNS)]
    return "".join(f"{a} {does} {b}{sign}\n" for a, does, b, sign in zip(*columns, strict=True))


def toy_sentences(count: int = 120, seed: int = 0) -> tuple[list[str], Tensor, Tensor]:
    """Return sentences of two clauses on films, their labels (N,), 1 for praise, and in which tenth each is (N,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    columns = [_choices(options, count, generator) for options in (FILMS, LINKS, PRAISE, SCORN, FILMS, LINKS)]
    sentences = [
        f"{film} {link} {praise if label else scorn} , as {other} {again}"
        for film, link, praise, scorn, other, again, label in zip(*columns, labels, strict=True)
    ]
    return sentences, labels, torch.arange(count) // 2 % 10


def toy_digits(takes: int = 12, seed: int = 0) -> Recordings:
    """Return recordings of two singers: digit d is two tones out of four, one after the other, a tenor's lower."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [(first, second) for first in TONES for second in TONES if first != second][:10]
    sounds, facts = [], []
    for speaker in range(len(SINGERS)):
        for digit, pair in enumerate(pairs):
            for take in range(takes):
                length = 400 + int(torch.randint(200, (), generator=generator))  # samples of each tone
                t = torch.arange(length) / 8000
                pitch = 1 - 0.1 * speaker + 0.05 * torch.rand((), generator=generator)
                tones = [(2 * torch.pi * pitch * hz * t).sin() for hz in pair]
                sound = torch.cat(tones) + 0.05 * torch.randn(2 * length, generator=generator)
                sounds.append((6000 * sound).to(torch.int16))
                facts.append((digit, speaker, take))
    ends = torch.tensor([0, *map(len, sounds)]).cumsum(0)
    return Recordings(torch.cat(sounds), ends, *torch.tensor(facts).T, SINGERS)


def _choices(options: list[str], count: int, generator: torch.Generator) -> list[str]:
    return [options[i] for i in torch.randint(len(options), (count,), generator=generator)]
