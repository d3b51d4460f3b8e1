"""Does a network that says 80 % hit 80 % of the time? Reliability bins and the expected calibration error.
网络说“八成把握”时，是否真有八成答对？可靠性分箱与期望校准误差。
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.dataset import to_input
from chapter_03_optimization_regularization.model import CNN
from chapter_03_optimization_regularization.regularization import mc_dropout
from utils.device import autocast
from utils.evaluating import evaluating
from utils.shape_checks import check_labels


def reliability(p: Tensor, labels: Tensor, bins: int = 15) -> list[dict[str, float]]:
    """Sort predictions by confidence, the probability of the class they name, into bins of equal width.

    Returns:
        for each bin that is not empty its share of all predictions, their mean confidence and their accuracy.
    """
    check_labels(p, labels)
    confidence, answers = p.max(dim=1)  # (N,)
    right = (answers == labels).double()
    place = (confidence * bins).long().clamp(max=bins - 1)
    rows = []
    for k in place.unique().tolist():
        here = place == k
        row = {"share": here.double().mean(), "confidence": confidence[here].double().mean()}
        rows.append({name: value.item() for name, value in (row | {"accuracy": right[here].mean()}).items()})
    return rows


def calibration_error(p: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error: |accuracy - confidence|, averaged over all predictions, by their bins.

    Guo et al. 2017, eq. 3.
    """
    return sum(row["share"] * abs(row["accuracy"] - row["confidence"]) for row in reliability(p, labels, bins))


@torch.no_grad()
def mask_averages(model: CNN, images: Tensor, masks: int, amp: str = "off") -> Iterator[Tensor]:
    """Yield class probabilities (N, K), averaged over 1, 2, ..., `masks` networks that dropout draws.

    Dropout comes just before the head, so all masks share the features and cost hardly more than a single pass.
    """
    with evaluating(model), autocast(images.device, amp):
        features = torch.cat([model.features(to_input(part)) for part in images.split(500)])  # (N, 4 * width)
    head = nn.Sequential(model.dropout, model.head)
    total = torch.zeros((), device=images.device)
    for count in range(1, masks + 1):
        total = total + mc_dropout(head, features.float(), passes=1)
        yield total / count
