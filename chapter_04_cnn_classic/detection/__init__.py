"""From classification to detection: scenes, windows, boxes and how to count them.
从分类到检测：场景、窗口、边框及其评测。
"""

from chapter_04_cnn_classic.detection.sliding_window import (
    add_output,
    average_precision,
    best_threshold,
    crops,
    fit_objectness,
    fully_convolutional,
    heat_map,
    iou,
    match,
    nms,
    precision_recall,
    sweep,
    vote,
    window_boxes,
)

__all__ = [
    "add_output",
    "average_precision",
    "best_threshold",
    "crops",
    "fit_objectness",
    "fully_convolutional",
    "heat_map",
    "iou",
    "match",
    "nms",
    "precision_recall",
    "sweep",
    "vote",
    "window_boxes",
]
