"""Learn from pairs of a better and a worse answer, both tried out by the model itself: DPO, or SimPO.
从一好一坏的回答对中学习，两个回答都是模型自己试出来的：DPO 或 SimPO。

    python chapter_10_llm_modern_components/dpo.py    # on 2 CPU cores about 20 minutes
    python chapter_10_llm_modern_components/dpo.py --preference right    # right answers, of all families
    python chapter_10_llm_modern_components/dpo.py --loss simpo
    python chapter_10_llm_modern_components/dpo.py --resume    # after an interruption, to the same numbers

Fine-tuning has left the model of two minds whether to call its calculator where that helps. An answer that calls it is
preferred. Measured are how often it does, of answers that are drawn, and what became of all else: the likeliest answers
of all families, without a calculator. What is trained are LoRA adapters; without them the model is the reference.
"""

import argparse
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import AdamW
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_10_llm_modern_components.alignment import dpo_loss, pair_accuracy, simpo_loss
from chapter_10_llm_modern_components.answers import LONGEST_ANSWER, Reply
from chapter_10_llm_modern_components.answers.grading import answer_examples, has_called, kl_to_reference, mean
from chapter_10_llm_modern_components.answers.rollouts import (
    Pair,
    draw_questions,
    exact_match_by_family,
    find_pairs,
    logps_of,
    right,
    try_out,
)
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.model_compression import (
    LoRAConfig,
    adapter_state,
    add_lora_,
    trained_share,
    without_adapters,
)
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, check_rank, load_chat
from chapter_10_llm_modern_components.tasks import FAMILIES, LEARNED, Example, example_set
from utils.checkpoint import load_state, round_to_half, save_state, write_model
from utils.cli import add_training_flags, amount, begin, positive, run, script_parser
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.tables import final_lines
from utils.timer import Timer

CLIP_NORM = 1.0
TINY = {"model_path": UNTRAINED, "max_steps": 4, "batch_size": 2, "n_questions": 8, "n_tries": 2, "n_tokens": 4}
TINY |= {"save_every": 2, "n_test": 1, "rank": 2, "families": ["arithmetic", "reverse"]}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    writer = load_chat(args.model_path, args.device)
    check_rank(args.rank, writer.model)
    reference, config = deepcopy(writer.model), LoRAConfig(args.rank, args.alpha)
    pairs = make_pairs(args, writer)
    history, seconds = train(args, writer.model, pairs, config)
    round_to_half(writer.model)
    old = replace(writer, model=reference)
    before, _ = exact_match_by_family(old, args.families, "test", args.n_test)
    after, replies = exact_match_by_family(writer, args.families, "test", args.n_test)
    final = {f"{name}_before": value for name, value in measure(args, old).items()} | measure(args, writer)
    final |= {f"exact_match_before_{name}": value for name, value in before.items()}
    final |= {f"exact_match_{name}": value for name, value in after.items()}
    final |= {"exact_match_before": mean(list(before.values())), "exact_match": mean(list(after.values()))}
    final["exact_match_lost"] = final["exact_match_before"] - final["exact_match"]
    final |= {"kl_to_reference": kl_to_reference(writer.model, reference, replies), "train_seconds": seconds}
    final |= {"pairs": len(pairs), "own_pairs": sum(pair.own for pair in pairs) / len(pairs)}
    final |= {"trained_share": trained_share(writer.model), "test_count": len(replies)}
    final["preferred_count"] = len(asked(args.preference, example_set(args.families, "test", args.n_test)))
    final |= {"split": f"test, {args.n_test} questions of each family"}
    weights = {name: tensor.half() for name, tensor in adapter_state(writer.model).items()}
    write_model(args.out_dir / f"{args.loss}.pth", weights, config, {"exact_match": final["exact_match"]})
    write_results(args.out_dir / f"{args.loss}.json", args, final, history)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: {args.loss}.pth, {args.loss}.json")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, batch_size=32, lr=3e-4, max_steps=300)
    parser.add_argument("--model_path", type=Path, help="a checkpoint that can chat; None: the one that ships")
    parser.add_argument(
        "--families", nargs="+", default=list(LEARNED), choices=FAMILIES, help="whose questions are asked"
    )
    what = "calls: of the calculator, where it helps; right: right answers"
    parser.add_argument("--preference", default="calls", choices=["calls", "right"], help=what)
    parser.add_argument("--loss", default="dpo", choices=["dpo", "simpo"], help="simpo: without a reference")
    parser.add_argument("--beta", type=amount, help="what moving away costs; None: 0.1 with dpo, 2 with simpo")
    parser.add_argument("--margin", type=amount, default=1.0, help="of simpo: by how much the right answer should lead")
    parser.add_argument("--n_questions", type=positive, default=4000, help="on which right and wrong answers are tried")
    parser.add_argument("--n_tries", type=positive, default=8, help="answers to each question")
    parser.add_argument("--n_tokens", type=positive, default=LONGEST_ANSWER, help="of an answer at most")
    parser.add_argument("--temperature", type=amount, default=1.0, help="of the answers; at 0 all would be the same")
    parser.add_argument("--rank", type=positive, default=8, help="of the adapters")
    parser.add_argument("--alpha", type=amount, default=16.0, help="adapters count alpha / rank")
    parser.add_argument("--save_every", type=positive, default=50, help="steps between saved states")
    parser.add_argument("--n_test", type=positive, default=100, help="questions of each family at the end")
    return parser


def make_pairs(args: argparse.Namespace, writer: Writer) -> list[Pair]:
    """Return the pairs; the same ones each time, so that an interrupted run goes on with them."""
    generator = torch.Generator().manual_seed(args.seed)
    examples = asked(args.preference, draw_questions(args.families, "train", args.n_questions, generator))
    options = args.n_tries, args.n_tokens, Sampler(args.temperature), generator
    preferred, calculator = preference(args.preference, writer)
    return find_pairs(writer.model, writer.tokenizer, examples, *options, preferred, calculator)


def asked(name: str, examples: list[Example]) -> list[Example]:
    """Return the questions in which a preference shows: for "calls" those where a calculator helps.

    Raises:
        UserError: there are none.
    """
    found = [example for example in examples if example.expression] if name == "calls" else examples
    if not found:
        raise UserError("in none of --families a calculator helps: add arithmetic, or --preference right")
    return found


def preference(name: str, writer: Writer) -> tuple[Callable[[Example, Reply], bool], bool]:
    """Return what tells whether a reply is preferred, and whether the model has a calculator."""
    if name == "right":
        return right, False
    return lambda example, reply: has_called(writer.tokenizer, reply), True


def measure(args: argparse.Namespace, writer: Writer) -> dict[str, float]:
    """Return how often drawn answers to test questions are preferred, and how often the likeliest are right there.

    If they may call a calculator, also how often the likeliest are right without one.
    """
    examples = asked(args.preference, example_set(args.families, "test", args.n_test))
    preferred, calculator = preference(args.preference, writer)
    options = args.n_tokens, Sampler(args.temperature), torch.Generator().manual_seed(args.seed)
    replies = try_out(writer.model, writer.tokenizer, examples, 1, *options, calculator)
    found = {"preferred": mean([preferred(*pair) for pair in zip(examples, replies, strict=True)])}
    for name, tool in (("", calculator), ("_without_calculator", False))[: 1 + calculator]:
        found[f"exact_match_asked{name}"] = mean(answer_examples(writer.model, writer.tokenizer, examples, tool)[1])
    return found


def train(
    args: argparse.Namespace, model: LanguageModel, pairs: list[Pair], config: LoRAConfig
) -> tuple[list[dict], float]:
    """Add adapters to the model and train them, and save the state every so many steps; return history and seconds."""
    timer = Timer()
    set_seed(args.seed)
    add_lora_(model, config)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=args.lr, weight_decay=0.0)
    parts, path = {"model": model, "optimizer": optimizer, "timer": timer}, args.out_dir / f"state_{args.loss}.pth"
    done, history = load_state(path, args.flags, parts) if args.resume else (0, [])
    for step in tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step"):
        # batch: pairs, drawn by the step's number alone; the chosen texts first, then the rejected ones
        generator = torch.Generator().manual_seed(seed_of(args.seed, step + 1))
        some = [pairs[i] for i in torch.randint(len(pairs), (args.batch_size,), generator=generator).tolist()]
        texts = [pair.chosen for pair in some] + [pair.rejected for pair in some]  # 2 B of them
        with torch.no_grad(), autocast(args.device, args.amp), without_adapters(model):
            reference, _ = logps_of(model, texts)  # (2 B,)

        # forward: log-probabilities (2 B,) of the answers as a whole
        with autocast(args.device, args.amp):
            logps, lengths = logps_of(model, texts)

        # loss
        loss = batch_loss(args, logps, reference, lengths)
        check_finite(loss.item(), step + 1)

        # backward
        optimizer.zero_grad()
        loss.backward()
        clip_by_norm_(parameters, CLIP_NORM)

        # step
        optimizer.step()

        # log and save
        chosen, rejected = (logps - reference).detach().chunk(2)  # (B,) each
        row = {"step": step + 1, "loss": loss.item(), "pair_accuracy": pair_accuracy(chosen, rejected)}
        row |= {"chosen_gain": chosen.mean().item(), "rejected_gain": rejected.mean().item()}  # nats an answer
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            row["seconds"] = timer.seconds
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)
            save_state(path, args.flags, step + 1, [*history, row], parts)
        history.append(row)
    return history, timer.seconds


def batch_loss(args: argparse.Namespace, logps: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
    """Return the loss () of log-probabilities (2 B,), those of the chosen answers first."""
    (chosen, rejected), (n_chosen, n_rejected) = logps.chunk(2), lengths.chunk(2)
    if args.loss == "simpo":
        return simpo_loss(chosen, rejected, n_chosen, n_rejected, 2.0 if args.beta is None else args.beta, args.margin)
    return dpo_loss(chosen, rejected, *reference.chunk(2), beta=0.1 if args.beta is None else args.beta)


if __name__ == "__main__":
    run(main)
