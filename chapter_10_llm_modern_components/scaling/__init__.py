"""Scaling: what a training costs, what it will reach, and how a small model's settings carry over to a large one.
规模：训练要花多少算力，能达到多低的损失，以及小模型的设置怎样搬到大模型上。
"""

from chapter_10_llm_modern_components.scaling.isoflop import Parabola, fit_parabola, power_law
from chapter_10_llm_modern_components.scaling.law import Law, bootstrap_laws, fit_law, interval, r_squared
from chapter_10_llm_modern_components.scaling.mup import activations, initialize_mup_, mup_factors, mup_optimizers
from chapter_10_llm_modern_components.scaling.operations import muon_operations, training_operations
from chapter_10_llm_modern_components.scaling.repetition import effective_tokens, fit_repetition

__all__ = [
    "Law",
    "Parabola",
    "activations",
    "bootstrap_laws",
    "effective_tokens",
    "fit_law",
    "fit_parabola",
    "fit_repetition",
    "initialize_mup_",
    "interval",
    "muon_operations",
    "mup_factors",
    "mup_optimizers",
    "power_law",
    "r_squared",
    "training_operations",
]
