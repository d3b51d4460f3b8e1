"""The digit recogniser as a function: a sound in, a probability for each digit out.
把语音数字识别器当作函数来用：输入声音，输出每个数字的概率。
"""

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.audio import LogMel, resample
from chapter_06_rnn_lstm_seq.audio.features import RATE
from chapter_06_rnn_lstm_seq.model import Classifier
from utils.errors import UserError
from utils.evaluating import evaluating

N_BANDS, STACK = 40, 2  # of 10 ms each: a step of the network is 20 ms
LONGEST = 10.0  # seconds: it was trained on single words


def digit_features(warps: Tensor | None = None) -> LogMel:
    """Return what the network hears with; `warps` are the vocal tracts to choose from in training."""
    return LogMel(N_BANDS, warps, STACK)


@torch.no_grad()
def recognize_digit(model: Classifier, features: LogMel, samples: Tensor, rate: int) -> Tensor:
    """Return the probability of each digit (10,) for a sound (T,) with so many samples a second.

    Raises:
        UserError: the sound is longer than a word can be.
    """
    if len(samples) > LONGEST * rate:
        raise UserError(f"the sound lasts {len(samples) / rate:.0f} s; a spoken digit lasts less than {LONGEST:.0f} s")
    sound = resample(samples, rate, RATE)[None].to(features.banks.device)
    with evaluating(model):
        logits = model(*features(sound, torch.tensor([sound.shape[1]], device=sound.device)))
    return logits[0].softmax(dim=0).cpu()
