"""Sounds and series: what the network hears and what it says, what it foretells and how sure that is.
声音与数列：网络听到了什么、回答了什么，预测了什么、有多大把握。
"""

from torch import Tensor

from chapter_06_rnn_lstm_seq.figures.colours import INPUT, OUTPUT, STATE
from utils.plotting import new_figure

from matplotlib.figure import Figure


def draw_spectrograms(sounds: list[tuple[str, Tensor, Tensor]]) -> Figure:
    """Draw each sound's features (F, bands) above its digits' probabilities: (title, features, (10,))."""
    figure, panels = new_figure(1.9 * len(sounds), 4, nrows=2, ncols=len(sounds), sharey="row", squeeze=False)
    for (title, x, p), above, below in zip(sounds, *panels, strict=True):
        above.imshow(x.T.numpy(), aspect="auto", origin="lower", cmap="magma", extent=(0, 0.01 * len(x), 0, x.shape[1]))
        above.set(title=title, xlabel="time (s)")
        above.title.set_fontsize(9)
        above.grid(False)
        below.bar(range(10), p.tolist(), color=OUTPUT)
        below.set(xlabel="digit", ylim=(0, 1), xticks=range(10))
    panels[0][0].set_ylabel("mel band")
    panels[1][0].set_ylabel("probability")
    return figure


def draw_forecasts(past: Tensor, truth: Tensor, forecasts: dict[str, tuple[Tensor, Tensor]]) -> Figure:
    """Draw what was read, what followed, and each method's forecast (H,) with the half width (H,) of its band."""
    figure, panels = new_figure(10, 1.9 * len(forecasts), nrows=len(forecasts), sharex=True, sharey=True, squeeze=False)
    ahead = range(len(truth))
    for axes, (name, (values, band)) in zip(panels[:, 0], forecasts.items(), strict=True):
        axes.fill_between(
            ahead, values - band, values + band, color=STATE, alpha=0.25, lw=0, label="nine in ten errors on validation"
        )
        axes.plot(range(-len(past), 0), past.tolist(), color=INPUT, label="read")
        axes.plot(ahead, values.tolist(), color=STATE, linewidth=2, label="forecast")
        axes.plot(ahead, truth.tolist(), color="black", linewidth=0.8, label="truth")
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_ylabel("x")
    margin = 0.3 * (past.max() - past.min()).item()
    panels[0, 0].set_ylim(past.min().item() - margin, past.max().item() + margin)
    panels[-1, 0].set_xlabel("steps from the start of the forecast")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False)
    return figure
