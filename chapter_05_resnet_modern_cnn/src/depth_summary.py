"""What trainings of plain and residual networks say together: means over seeds, differences, gradients by layer.
把普通网络与残差网络的多次训练汇总起来：种子均值、差距、各层梯度。
"""

from statistics import mean

from chapter_05_resnet_modern_cnn.src.probes.signals import geometric_mean
from utils.spread import over_seeds

MOMENTS = {"start": 0, "epoch_1": 1, "end": -1}  # when: the place in a history


def summarise(rows: list[dict], depths: list[int]) -> dict:
    """Return by network means and spreads over the seeds, the differences that matter, and norms by layer."""
    networks, norms, losses = {}, {}, {}
    for kind, depth in dict.fromkeys((row["kind"], row["depth"]) for row in rows):
        mine = [row for row in rows if (row["kind"], row["depth"]) == (kind, depth)]
        found = {name: mine[0][name] for name in ("kind", "depth", "lr", "parameters", "macs")} | {"runs": len(mine)}
        found |= over_seeds(mine, ["train_loss", "train_accuracy_augmented", "test_accuracy", "train_seconds"])
        layers = {moment: {} for moment in MOMENTS}
        for moment, epoch in MOMENTS.items():
            for what in ("gradient", "weight"):
                layers[moment][what] = geometric_mean([row["history"][epoch]["norms"][what] for row in mine])
        first, *_, last, _ = layers["start"]["gradient"]  # of the convolutions
        networks[f"{kind}_{depth}"] = found | {"first_gradient_over_last": first / last}
        norms[f"{kind}_{depth}"] = layers
        losses[kind, depth] = [row["train_loss"] for row in mine]
    plain, shallow = losses["plain", depths[-1]], losses["plain", depths[0]]
    residual, shallow_residual = losses["residual", depths[-1]], losses["residual", depths[0]]
    differences = {  # of training losses; "least": over all pairs of seeds
        "deep_plain_minus_shallow_plain": mean(plain) - mean(shallow),
        "deep_plain_minus_shallow_plain_least": min(plain) - max(shallow),
        "deep_plain_minus_deep_residual": mean(plain) - mean(residual),
        "deep_plain_minus_deep_residual_least": min(plain) - max(residual),
        "deep_residual_minus_shallow_residual": mean(residual) - mean(shallow_residual),
    }
    return {"networks": networks, **differences, "norms": norms}
