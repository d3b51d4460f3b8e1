"""The figure of blocks_compare.py: accuracy, speed and size of the families of blocks.
blocks_compare.py 的图：各种块的准确率、速度与大小。
"""

from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure

LABELS = {
    "basic": "basic block", "bottleneck": "bottleneck", "se": "basic + SE", "resnext": "ResNeXt",
    "densenet": "DenseNet", "mobilenetv2": "MobileNetV2", "convnext": "ConvNeXt",
}  # fmt: skip


def families(table: list[dict]) -> Figure:
    """Draw each family's accuracy, speed and size, the best on top."""
    table = sorted(table, key=lambda row: row["test_accuracy"])
    names = [LABELS[row["model"]] for row in table]
    figure, (accuracy, speed, size) = new_figure(8.5, 3, ncols=3, sharey=True)
    values = [100 * row["test_accuracy"] for row in table]
    accuracy.plot(values, names, "o", color=COLOURS[0])  # points, not bars: the axis need not start at 0
    for value, name in zip(values, names, strict=True):
        accuracy.annotate(f"{value:.1f}", (value, name), (6, 0), textcoords="offset points", va="center", fontsize=8)
    accuracy.set(xlabel="test accuracy (%)", title="accuracy after equal minutes")
    accuracy.margins(x=0.2)
    for axes, key, unit in ((speed, "pictures_per_second", 1), (size, "parameters", 1000)):
        bars = axes.barh(names, [row[key] / unit for row in table], height=0.6, color=COLOURS[0])
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axes.margins(x=0.2)
    speed.set(xlabel="pictures a second in training", title="speed")
    size.set(xlabel="parameters (thousands)", title="size")
    for axes in (accuracy, speed, size):
        axes.grid(axis="y", visible=axes is accuracy)
        axes.set_axisbelow(True)
    return figure
