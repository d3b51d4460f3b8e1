"""Regularisers, soft targets, and augmentation of whole batches.
正则化方法、软标签，以及整批的数据增强。
"""

from chapter_03_optimization_regularization.regularization.regularizers import (
    DropConnect,
    Dropout,
    DropPath,
    EarlyStopping,
    drop,
    drop_path_rates,
    elastic_net,
    l1,
    l2,
    max_norm_,
    mc_dropout,
    soft_threshold_,
)

__all__ = [
    "DropConnect",
    "DropPath",
    "Dropout",
    "EarlyStopping",
    "drop",
    "drop_path_rates",
    "elastic_net",
    "l1",
    "l2",
    "max_norm_",
    "mc_dropout",
    "soft_threshold_",
]
