"""Sounds and series: what the network hears and what it says, what it foretells and how sure that is.
声音与数列：网络听到了什么、回答了什么，预测了什么、有多大把握。
"""

from torch import Tensor

from chapter_06_rnn_lstm_seq.figures.colours import INPUT, OUTPUT, STATE
from utils.plotting import new_figure

from matplotlib.figure import Figure


def draw_spectrograms(sounds: list[tuple[str, Tensor, Tensor]]) -> Figure:
    """Draw each sound's features (F, bands) above its digits' probabilities: (title, features, (10,))."""
    figure, panels = new_figure(2.2 * len(sounds), 4.2, nrows=2, ncols=len(sounds), squeeze=False)
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


def draw_forecasts(past: Tensor, truth: Tensor, forecasts: dict[str, tuple[Tensor, Tensor | None]]) -> Figure:
    """Draw what was read, what followed, and forecasts (H,) with their bands (H,), half widths, where there are any."""
    figure, panels = new_figure(9, 2.1 * len(forecasts), nrows=len(forecasts), sharex=True, sharey=True, squeeze=False)
    ahead = range(len(truth))
    for axes, (name, (values, band)) in zip(panels[:, 0], forecasts.items(), strict=True):
        axes.plot(range(-len(past), 0), past.tolist(), color=INPUT, label="read")
        axes.plot(ahead, truth.tolist(), color="black", linewidth=1, label="truth")
        axes.plot(ahead, values.tolist(), color=STATE, label=name)
        if band is not None:
            axes.fill_between(
                ahead,
                values - band,
                values + band,
                color=STATE,
                alpha=0.2,
                label="nine in ten errors on validation",
            )
        axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper left")
        axes.set_ylabel("x")
    margin = 0.6 * (past.max() - past.min()).item()
    panels[0, 0].set_ylim(past.min().item() - margin, past.max().item() + margin)
    panels[-1, 0].set_xlabel("steps from the start of the forecast")
    return figure
