"""What a variant predicts, and what it must keep to do so.
每个变体预测得多好，为此又要保留多少。
"""

from chapter_07_attention_mechanism.figures.cells import DARK
from chapter_09_efficient_attention.figures import KEY, STATE
from chapter_09_efficient_attention.model import ATTENTIONS
from utils.plotting import new_figure

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

COLOUR_OF = {"grows with the text": KEY, "of one size": STATE, "both": DARK}  # by what is kept


def draw_quality(final: dict) -> Figure:
    """Loss against the cache's bytes, and against tokens a second; a point for each variant, a bar for its seeds."""
    figure, panels = new_figure(10.4, 4.8, ncols=2, sharey=True)
    names = [key.removesuffix("_val_loss") for key in final if key.endswith("_val_loss")]
    names.sort(key=lambda name: final[f"{name}_val_loss"])
    units = [("cache_bytes", 1e-6, f"cache after {final['cache_tokens']:,} tokens (MB)"),
             ("tokens_a_second", 1, "tokens a second, decoding one text")]  # fmt: skip
    for axes, (unit, factor, label) in zip(panels, units, strict=True):
        for i, name in enumerate(names):
            x, loss = factor * final[f"{name}_{unit}"], final[f"{name}_val_loss"]
            colour = COLOUR_OF[kind(name, final[f"{name}_cache_bytes_a_token"])]
            axes.errorbar(x, loss, final[f"{name}_val_loss_std"], marker="o", markersize=7, color=colour)
            side, align = ((5, 4), "left") if i % 2 else ((-5, 4), "right")  # names of equal losses do not meet
            axes.annotate(name, (x, loss), xytext=side, ha=align, textcoords="offset points", fontsize=7, color=colour)
        axes.set_xlabel(label)
        axes.margins(x=0.22)  # room for names
    panels[0].set(xscale="log", ylabel="validation loss (nats a character)")
    panels[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].xaxis.set_major_formatter("{x:g}")
    panels[0].minorticks_off()
    for text, colour in COLOUR_OF.items():
        panels[1].plot([], [], "o", color=colour, label=text)
    handles = panels[1].get_legend_handles_labels()
    figure.legend(*handles, frameon=False, fontsize=8, title="what is kept", ncols=3, loc="outside lower center")
    return figure


def kind(name: str, bytes_a_token: float) -> str:
    """Return what a variant keeps; a name that is none of the attentions is that of several."""
    return "both" if name not in ATTENTIONS else "grows with the text" if bytes_a_token > 0 else "of one size"
