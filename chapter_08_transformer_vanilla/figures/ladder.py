"""The ladder: four losses that are one curve, and what a step costs on each rung.
阶梯图：四条重合的损失曲线，以及每一级上走一步要花的时间。
"""

from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

RUNGS = {"scalar": "plain Python", "engine": "our engine", "torch": "PyTorch", "bf16": "bfloat16"}
COLOUR = dict(zip(RUNGS, COLOURS, strict=False))
WIDTH = {"scalar": 9, "engine": 5.5, "torch": 2.5, "bf16": 1}  # of lines that lie on each other


def draw_ladder(history: list[dict], final: dict) -> Figure:
    """Draw the results of ladder.py: `history` has the rungs' losses by step, `final` the seconds."""
    figure, (left, middle, right) = new_figure(11, 3.4, ncols=3, width_ratios=[1.3, 1, 1])
    steps = [row["step"] for row in history]
    for name, label in RUNGS.items():
        losses = [row[name] for row in history]
        left.plot(steps, losses, color=COLOUR[name], linewidth=WIDTH[name], label=label, solid_capstyle="butt")
    left.set(xlabel="step", ylabel="loss (nats a letter)")
    left.set_title("four losses, means of 10 steps", fontsize=10)
    left.legend(frameon=False)
    tiny = {name: 1e3 * final[f"{name}_seconds"] / steps[-1] for name in RUNGS}
    bars(middle, tiny, f"{final['n_parameters']:,} parameters, 1 name")
    middle.set_xscale("log")
    middle.set_xlim(min(tiny.values()) / 10, max(tiny.values()) * 6)
    wide = {name: 1e3 * final[f"wide_{name}_seconds"] for name in RUNGS if name != "scalar"}
    bars(right, wide, f"{final['wide_n_parameters']:,} parameters, 32 names")
    right.set_xlim(0, max(wide.values()) * 1.25)
    return figure


def bars(axes: Axes, milliseconds: dict[str, float], title: str) -> None:
    names = list(milliseconds)
    drawn = axes.barh([RUNGS[name] for name in names], milliseconds.values(), color=[COLOUR[name] for name in names])
    axes.bar_label(drawn, [f"{t:,.0f}" if t >= 10 else f"{t:.1f}" for t in milliseconds.values()], padding=3)
    axes.set_xlabel("milliseconds a step")
    axes.set_title(title, fontsize=10)
    axes.set_axisbelow(True)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
