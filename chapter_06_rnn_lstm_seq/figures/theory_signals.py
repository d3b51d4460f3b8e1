"""The theory's pictures of losses, sampling, the mel scale and chaos, with numbers from the chapter's own code.
理论部分的插图：损失、采样、梅尔刻度与混沌，数字由本章代码算出。
"""

import torch

from chapter_06_rnn_lstm_seq.audio.features import N_FFT, RATE, hz_to_mel, mel_filterbank
from chapter_06_rnn_lstm_seq.figures.colours import GRADIENT, INPUT, OUTPUT
from chapter_06_rnn_lstm_seq.sampling import keep_top_k, keep_top_p, with_temperature
from chapter_06_rnn_lstm_seq.series import mackey_glass
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw_loss() -> Figure:
    """The probabilities that the right four characters got, and -log of each: their mean is the loss."""
    p = torch.tensor([1 / 4, 1 / 2, 1 / 2, 1 / 4])
    nats = -p.log()
    figure, (left, right) = new_figure(8, 2.8, ncols=2)
    draw_bars(left, p, OUTPUT, decimals=2)
    draw_bars(right, nats, GRADIENT, decimals=3)
    right.axhline(nats.mean(), color="black", linestyle="--", linewidth=1)
    place = right.get_yaxis_transform()  # x from 0 to 1 over the panel
    right.text(1.01, nats.mean(), f"mean: {nats.mean():.3f}", transform=place, va="center", fontsize=9)
    left.set(ylabel="$p$", ylim=(0, 1))
    right.set(ylabel="$-\\ln p$ (nats)", ylim=(0, 1.7))
    for axes in (left, right):
        axes.set_xticks(range(4), "lord", family="monospace", fontsize=12)
        axes.set_xlabel("character that came next")
    return figure


def draw_sampling() -> Figure:
    """What each rule draws from: above where the model is unsure, below where it is sure."""
    figure, panels = new_figure(9.5, 4, nrows=2, ncols=4, sharex=True, sharey=True)
    for i, scores in enumerate(([2.0, 1.0, 0.0], [4.0, 1.0, 0.0])):
        logits = torch.tensor(scores)
        rules = {
            "all": logits,
            "temperature 0.5": with_temperature(logits, 0.5),
            "top-k, k = 2": keep_top_k(logits, 2),
            "top-p, p = 0.7": keep_top_p(logits, 0.7),
        }
        for axes, (name, kept) in zip(panels[i], rules.items(), strict=True):
            draw_bars(axes, kept.softmax(dim=0), OUTPUT, decimals=3)
            axes.set_title(name if i == 0 else "", fontsize=10)
            axes.set_xticks(range(3), "abc")
        panels[i, 0].set(ylabel="scores " + ", ".join(f"{score:g}" for score in scores), ylim=(0, 1.15))
    return figure


def draw_bars(axes: Axes, values: torch.Tensor, colour: str, decimals: int) -> None:
    bars = axes.bar(range(len(values)), values.tolist(), color=colour)
    axes.bar_label(bars, [f"{value:.{decimals}f}" if value else "0" for value in values.tolist()], fontsize=9)


def draw_mel() -> Figure:
    """Triangles that are evenly spaced in mel, and two steps of 100 Hz on the mel scale."""
    figure, (left, right) = new_figure(9.5, 3.4, ncols=2)
    hz = torch.linspace(0, RATE / 2, N_FFT // 2 + 1)
    for i, triangle in enumerate(mel_filterbank(10).T):
        left.fill_between(hz, triangle, color=INPUT, alpha=0.3 if i % 2 else 0.7, linewidth=0)
    left.set(xlabel="frequency (Hz)", ylabel="weight", title="ten bands")
    right.plot(hz, hz_to_mel(hz), color="black")
    for low in (200.0, 3200.0):
        ends = torch.tensor([low, low + 100])
        mel = hz_to_mel(ends)
        for x, y in zip(ends, mel, strict=True):
            right.plot([x, x, 0], [0, y, y], color=INPUT, linewidth=1)
        right.text(ends[1] + 40, mel[0] - 60, f"{mel.diff().item():.0f} mel", va="top", color=INPUT, fontsize=9)
    right.set(xlabel="frequency (Hz)", ylabel="pitch (mel)", xlim=(0, 4200), ylim=(0, 2300), title="the mel scale")
    return figure


def draw_chaos() -> Figure:
    """The Mackey-Glass equation from two starts that hardly differ, and how far apart the two series are."""
    one, other = (mackey_glass(1000, washout=0, seed=seed) for seed in (23, 47))  # 0.0002 apart at the start
    figure, (top, bottom) = new_figure(9, 4, nrows=2, sharex=True)
    top.plot(one, color="black", label="one start")
    top.plot(other, color=INPUT, label="another start")
    top.set(ylabel="x(t)", ylim=(0.2, 1.75))
    top.legend(frameon=False, fontsize=9, ncols=2, loc="upper right")
    bottom.plot((one - other).abs(), color="black")
    bottom.set(yscale="log", xlabel="t (days)", ylabel="distance")
    return figure
