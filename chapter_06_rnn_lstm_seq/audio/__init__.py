"""From a wav file to what a network hears: samples, another rate, frames, a spectrum on the ear's scale.
从 wav 文件到网络“听到”的内容：采样、变换采样率、分帧、梅尔频谱。
"""

from chapter_06_rnn_lstm_seq.audio.features import LogMel, mel_filterbank, power_spectrum
from chapter_06_rnn_lstm_seq.audio.resample import resample
from chapter_06_rnn_lstm_seq.audio.wav import read_wav

__all__ = ["LogMel", "mel_filterbank", "power_spectrum", "read_wav", "resample"]
