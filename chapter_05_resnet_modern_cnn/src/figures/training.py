"""The figure of model_train.py: loss and accuracy of a training, or of several beside each other.
model_train.py 的图：一次训练的损失与准确率，或几次训练的并排对比。
"""

from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure

TYPES = {"resnet": "ResNet", "plainnet": "PlainNet"}


def training_curves(histories: dict[str, list[dict]]) -> Figure:
    """Draw training loss and accuracy by epoch, a colour for each network, a key of TYPES."""
    figure, (loss, accuracy) = new_figure(9, 3.4, ncols=2)
    for (model_type, history), colour in zip(histories.items(), COLOURS, strict=False):
        name, epochs = TYPES[model_type], [row["epoch"] for row in history]
        loss.plot(epochs, [row["train_loss"] for row in history], color=colour, label=name)
        for key, label, style in (("train_accuracy", "training", "-"), ("validation_accuracy", "validation", "--")):
            points = [(row["epoch"], 100 * row[key]) for row in history if key in row]
            if points:
                accuracy.plot(*zip(*points, strict=True), style, color=colour, label=f"{name}, {label} pictures")
    loss.set(xlabel="epoch", ylabel="training loss (nats)", title="loss, on augmented pictures and soft labels")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", title="accuracy, on pictures as they are")
    for axes in (loss, accuracy):
        axes.legend(frameon=False)
    return figure
