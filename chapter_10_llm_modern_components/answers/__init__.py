"""What a model answers: many prompts at once, how good the replies are, and several tries at one question.
模型的回答：同时回答许多问题、给回答打分，以及对同一题的多次尝试。
"""

from chapter_10_llm_modern_components.answers.answering import LONGEST_ANSWER, Reply, answer
from chapter_10_llm_modern_components.answers.grading import (
    answer_examples,
    calibration,
    confidences,
    exact_match,
    has_called,
    kl_to_reference,
    rewards_of_texts,
    several_answers,
)
from chapter_10_llm_modern_components.answers.rollouts import (
    Pair,
    draw_questions,
    exact_match_by_family,
    find_pairs,
    logps_of,
    roll_out,
    try_out,
)

__all__ = [
    "LONGEST_ANSWER",
    "Pair",
    "Reply",
    "answer",
    "answer_examples",
    "calibration",
    "confidences",
    "draw_questions",
    "exact_match",
    "exact_match_by_family",
    "find_pairs",
    "has_called",
    "kl_to_reference",
    "logps_of",
    "rewards_of_texts",
    "roll_out",
    "several_answers",
    "try_out",
]
