"""Examine a model that answers: right or wrong by family, best and majority of n, calibration, and what it has kept.
考一考会回答的模型：各任务族的正确率、n 个回答里取最好的或投票、置信度校准，以及从前会的还剩多少。

    python chapter_10_llm_modern_components/evaluate.py    # the fine-tuned model that ships: on 2 CPU cores minutes
    python chapter_10_llm_modern_components/evaluate.py --split unseen --families composition    # unseen pairs of steps
    python chapter_10_llm_modern_components/evaluate.py --calculator --families arithmetic units word_problem
    python chapter_10_llm_modern_components/evaluate.py --quantize int4    # how much does it still know?
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_10_llm_modern_components.answers import Reply
from chapter_10_llm_modern_components.answers.grading import (
    answer_examples,
    by_family,
    calibration,
    confidences,
    kl_to_reference,
    mean,
    several_answers,
)
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.model_compression import FORMATS
from chapter_10_llm_modern_components.pretraining import bits_per_byte, cut, load_corpus
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, check_fits, load_chat, load_reward_model
from chapter_10_llm_modern_components.tasks import FAMILIES, SPLITS, Example, example_set, majority_baseline
from utils.cli import add_data_flag, add_output_flags, amount, begin, natural, positive, run, script_parser
from utils.errors import UserError
from utils.results import write_results
from utils.tables import aligned, final_lines

TINY = {"model_path": UNTRAINED, "reference": UNTRAINED, "corpus": "toy", "count": 2, "n": 2, "kb": 1, "length": 64}
N_BASELINE = 500  # training examples of each family in which the most frequent answer is looked for
N_SHOWN, LONGEST_SHOWN = 5, 100  # wrong answers that are printed, characters of each


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    families = chosen_families(args.families, args.split)
    writer = load_chat(args.model_path, args.device, args.adapter, args.quantize)
    reference = load_reference(args.reference, writer, args.device)
    judge = load_reward_model(args.judge, load_chat(args.model_path, args.device).model) if args.judge else None
    check_fits("--length", args.length, writer.model)
    examples = example_set(families, args.split, args.count, args.seed)

    replies, right = answer_examples(writer.model, writer.tokenizer, examples, args.calculator)
    guesses = majority_baseline(example_set(families, learned_from(args.split), N_BASELINE), examples)
    rows = family_rows(by_family(examples, right), guesses)
    error, bins = calibration(confidences(writer.model, replies), right)
    final = {"exact_match": mean([row["exact_match"] for row in rows]), "by_family": rows}
    final |= {"exact_match_majority": mean([row["majority"] for row in rows]), "split": args.split}
    final |= {"test_count": len(examples), "calibration_error": error, "calibration": bins}
    if args.n:
        sampler, generator = Sampler(args.temperature), torch.Generator().manual_seed(args.seed)
        found = several_answers(writer.model, writer.tokenizer, examples, args.n, sampler, generator, judge)
        final |= found | {"n": args.n, "temperature": args.temperature}
    if reference:
        final["kl_to_reference"] = kl_to_reference(writer.model, reference.model, replies)
    if args.corpus != "none":
        final |= text_kept(writer, reference, load_corpus(args.corpus, args.data_root).held_out, args.kb, args.length)

    show(rows, examples, replies, right)
    write_results(args.out_dir / "evaluate.json", args, final)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: evaluate.json")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, help="a model that answers; None: the fine-tuned one that ships")
    parser.add_argument("--adapter", type=Path, help="what adapt.py, dpo.py or grpo.py has made of it")
    parser.add_argument(
        "--quantize", default="none", choices=["none", *FORMATS], help="round the model's weights to it"
    )
    parser.add_argument("--judge", type=Path, help="what reward.py has made of the model: it picks one of n answers")
    parser.add_argument("--reference", type=Path, help="the model that it was made of, to see how far it has moved")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), help="tasks to ask for; None: all")
    parser.add_argument(
        "--split", default="test", choices=SPLITS, help="unseen: kinds of questions that no training has, of new values"
    )
    parser.add_argument("--count", type=positive, default=100, help="questions of each family")
    parser.add_argument("--calculator", action="store_true", help="tell the model that it has one")
    parser.add_argument("--n", type=natural, default=8, help="answers that are drawn to each question; 0: none")
    parser.add_argument("--temperature", type=amount, default=1.0, help="of these answers")
    parser.add_argument(
        "--corpus", default="none", choices=["none", "stories", "toy"], help="held-out text on which to measure too"
    )
    parser.add_argument("--kb", type=positive, default=100, help="kB of it")
    parser.add_argument("--length", type=positive, default=256, help="tokens of the windows in which it is read")
    return parser


def chosen_families(families: list[str] | None, split: str) -> list[str]:
    """Return the families that have questions for the split, out of those that were asked for.

    Raises:
        UserError: there are none.
    """
    found = [name for name in families or FAMILIES if FAMILIES[name].kinds(split)]
    if not found:
        raise UserError(f"none of --families {' '.join(families)} has questions for --split {split}")
    return found


def learned_from(split: str) -> str:
    """Return the split in which the most frequent answer is looked for: unseen questions have answers of their own."""
    return split if split == "unseen" else "train"


def load_reference(path: Path | None, writer: Writer, device: torch.device) -> Writer | None:
    """Return the other model.

    Raises:
        UserError: its tokens are others.
    """
    if path is None:
        return None
    reference = load_chat(path, device)
    if reference.tokenizer.tokens != writer.tokenizer.tokens:
        raise UserError(f"--reference {path} has other tokens than the model")
    return reference


def family_rows(found: dict[str, float], guesses: dict[str, float]) -> list[dict]:
    return [{"family": name, "exact_match": found[name], "majority": guesses[name]} for name in found]


def text_kept(writer: Writer, reference: Writer | None, documents: list[str], kb: int, length: int) -> dict:
    """Return the bits per byte of held-out text, the model's and the reference's."""
    text = cut(documents, 1000 * kb)
    final = {"bits_per_byte": bits_per_byte(writer.model, writer.tokenizer, text, length)}
    if reference:
        final["bits_per_byte_reference"] = bits_per_byte(reference.model, reference.tokenizer, text, length)
    return final


def show(rows: list[dict], examples: list[Example], replies: list[Reply], right: list[bool]) -> None:
    """Print a table of the families, and the beginnings of the first wrong answers."""
    cells = [(row["family"], f"{row['exact_match']:.3f}", f"{row['majority']:.3f}") for row in rows]
    print(*aligned([("family", "exact match", "majority"), *cells], "<>"), sep="\n")
    wrong = [pair for pair, is_right in zip(zip(examples, replies, strict=True), right, strict=True) if not is_right]
    for example, reply in wrong[:N_SHOWN]:
        print(f"\n{example.question}\n  answered: {reply.text[:LONGEST_SHOWN]!r}\n  right:    {example.answer!r}")
    print()


if __name__ == "__main__":
    run(main)
