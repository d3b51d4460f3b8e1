"""Twenty families of tasks with answers that a program can check: what the chapter's models are taught to do.
二十个任务族，答案都可由程序检验：本章的模型要学会做的事。
"""

from chapter_10_llm_modern_components.tasks.catalogue import (
    FAMILIES,
    HELD_OUT,
    LEARNED,
    SPLITS,
    draw_example,
    example_set,
    is_right,
    majority_baseline,
)
from chapter_10_llm_modern_components.tasks.family import Example, Family, last_line, split_of

__all__ = [
    "FAMILIES",
    "HELD_OUT",
    "LEARNED",
    "SPLITS",
    "Example",
    "Family",
    "draw_example",
    "example_set",
    "is_right",
    "last_line",
    "majority_baseline",
    "split_of",
]
