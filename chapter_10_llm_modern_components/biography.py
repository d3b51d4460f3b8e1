"""The life of one model: the same ten prompts, put to it after each stage of its training.
一个模型的成长史：同样十个提示，在训练的每个阶段之后各问一遍。

    python chapter_10_llm_modern_components/biography.py    # the models that ship: on 2 CPU cores a minute
    python chapter_10_llm_modern_components/biography.py --stages base sft --sft runs/sft/sft.pth    # one of your own
    python chapter_10_llm_modern_components/biography.py --student runs/distill/taught.pth    # and its student

Eight prompts are test questions, one of each of some families, with a calculator where it helps; two are nothing that a
training has prepared the model for. It is asked as it was pre-trained (it goes on with the prompt as with any text),
fine-tuned, taught to call its calculator, taught by rewards, with weights of 4 bits, and, if there is one, as its
student.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_10_llm_modern_components.answers import LONGEST_ANSWER, answer
from chapter_10_llm_modern_components.dialogue import CALCULATOR, END, Message, encode_prompt, visible
from chapter_10_llm_modern_components.figures.sides import side_by_side
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.pretraining import END_OF_TEXT
from chapter_10_llm_modern_components.shipped import CHECKPOINTS, UNTRAINED, Writer, load_chat, load_learner
from chapter_10_llm_modern_components.tasks import example_set, is_right
from utils.cli import add_output_flags, amount, begin, positive, run, script_parser
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import aligned

FAMILIES = "arithmetic", "word_problem", "units", "sort_numbers", "reverse", "count_letters", "composition", "clock"
OPEN = "Who are you?", "Once upon a time there was a little fox."
STAGES = "base", "sft", "dpo", "grpo", "int4"
TINY = {"stages": ["base", "sft", "int4"], "base": UNTRAINED, "sft": UNTRAINED, "student": UNTRAINED}
TINY |= {"n_tokens": 8}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    examples = example_set(FAMILIES, "test", 1, args.seed)
    rows = [{"prompt": example.question, "right": example.answer} for example in examples]
    rows += [{"prompt": prompt, "right": ""} for prompt in OPEN]
    helped = [bool(example.expression) for example in examples] + [False] * len(OPEN)
    final = {"prompts": len(rows), "questions": len(examples), "temperature": args.temperature}
    for stage in dict.fromkeys([*args.stages, *(["student"] if args.student else [])]):
        writer = load_stage(args, stage)
        for i, row in enumerate(rows):
            ids = prompt_ids(writer, stage, row["prompt"], helped[i])
            row[stage] = ask(writer, ids, args.n_tokens, args.temperature, args.seed + i, helped[i])
        replies = [visible(row[stage]) for row in rows[: len(examples)]]
        final[f"right_{stage}"] = sum(is_right(*pair) for pair in zip(examples, replies, strict=True))
    write_results(args.out_dir / "biography.json", args, final, rows)
    save_figure(side_by_side(rows), args.out_dir / "biography.png")
    for row in rows:
        print("", *aligned([(name, repr(text)) for name, text in row.items()], "<"), sep="\n")
    print(f"\nwritten to {args.out_dir}: biography.json, biography.png")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="which to ask, in this order")
    parser.add_argument("--base", type=Path, help="what pretrain.py has made; None: the one that ships")
    parser.add_argument("--sft", type=Path, help="what sft.py has made of it; None: the one that ships")
    parser.add_argument("--dpo", type=Path, default=CHECKPOINTS / "dpo.pth", help="what dpo.py has made of that")
    parser.add_argument("--grpo", type=Path, default=CHECKPOINTS / "grpo.pth", help="what grpo.py has made of --sft")
    parser.add_argument("--student", type=Path, help="what distill.py has made of --sft, asked last; None: not asked")
    parser.add_argument("--n_tokens", type=positive, default=LONGEST_ANSWER, help="of an answer at most")
    parser.add_argument("--temperature", type=amount, default=0.7, help="of the answers, each from a seed of its own")
    return parser


def load_stage(args: argparse.Namespace, stage: str) -> Writer:
    """Return the model of a stage; "int4" is the fine-tuned one, rounded."""
    if stage == "base":
        return load_learner(args.base, args.device)
    if stage == "student":
        return load_chat(args.student, args.device)
    adapter = {"dpo": args.dpo, "grpo": args.grpo}.get(stage)
    return load_chat(args.sft, args.device, adapter, "int4" if stage == "int4" else "none")


def prompt_ids(writer: Writer, stage: str, prompt: str, calculator: bool) -> list[int]:
    """Return the tokens of a prompt: as the beginning of a text for the base, which knows no turns."""
    if stage == "base":
        return writer.encode_prompt(prompt + "\n")
    system = [Message("system", CALCULATOR)] if calculator else []
    return encode_prompt(writer.tokenizer, [*system, Message("user", prompt)])


def ask(writer: Writer, ids: list[int], n_tokens: int, temperature: float, seed: int, calculator: bool) -> str:
    """Return the model's reply to a prompt, calls of the calculator included."""
    generator = torch.Generator().manual_seed(seed)
    (reply,) = answer(writer.model, writer.tokenizer, [ids], Sampler(temperature), generator, n_tokens, calculator)
    text = writer.tokenizer.decode(reply.tokens.ids[len(ids) :])
    return text.removesuffix(END).partition(END_OF_TEXT)[0].strip()


if __name__ == "__main__":
    run(main)
