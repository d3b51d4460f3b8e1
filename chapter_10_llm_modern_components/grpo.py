"""Learn from answers that a program can check: GRPO, and what Dr. GRPO and DAPO have mended in it.
从程序可以检验的答案中学习：GRPO，以及 Dr. GRPO 与 DAPO 的修正。

    python chapter_10_llm_modern_components/grpo.py    # on 2 CPU cores about an hour
    python chapter_10_llm_modern_components/grpo.py --variant grpo --families arithmetic
    python chapter_10_llm_modern_components/grpo.py --resume    # after an interruption, to the same numbers

A step draws questions, lets the model answer each of them several times, and makes likelier what was better than the
other answers to the same question. What is trained are LoRA adapters; without them the model is the reference.
Of DAPO these are its mean over tokens and its higher limit; questions that teach nothing are not drawn anew.
"""

import argparse
import sys
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import AdamW
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_10_llm_modern_components.answering import LONGEST_ANSWER
from chapter_10_llm_modern_components.data import STRIDE
from chapter_10_llm_modern_components.grading import kl_to_reference, mean
from chapter_10_llm_modern_components.log_probabilities import token_logps
from chapter_10_llm_modern_components.lora import LoRAConfig, adapter_state, add_lora_, trained_share, without_adapters
from chapter_10_llm_modern_components.policy import (
    clipped_losses,
    group_advantages,
    kl_k3,
    mean_of_sequences,
    mean_of_tokens,
    sum_of_tokens,
)
from chapter_10_llm_modern_components.rollouts import (
    Rollouts,
    before_and_after,
    draw_questions,
    exact_match_by_family,
    roll_out,
)
from chapter_10_llm_modern_components.sampling import Sampler
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, load_chat
from chapter_10_llm_modern_components.tasks import FAMILIES
from utils.checkpoint import load_state, round_to_half, save_state, write_model
from utils.cli import add_training_flags, amount, begin, positive, run, script_parser
from utils.device import autocast
from utils.errors import check_finite
from utils.results import write_results
from utils.seed import set_seed
from utils.tables import final_lines
from utils.timer import Timer

CLIP_NORM = 1.0
VARIANTS = {  # divide by the group's spread, upper limit of the ratio, and what a batch's mean is taken over
    "grpo": (True, 0.2, "sequences"),
    "dr_grpo": (False, 0.2, "nothing"),
    "dapo": (True, 0.28, "tokens"),
}
TINY = {"model_path": UNTRAINED, "max_steps": 3, "batch_size": 2, "n_tries": 3, "n_tokens": 4, "save_every": 2}
TINY |= {"n_validation": 1, "n_test": 1, "rank": 2, "families": ["arithmetic", "reverse"], "kl": 0.1}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    writer = load_chat(args.model_path, args.device)
    reference, config = deepcopy(writer.model), LoRAConfig(args.rank, args.alpha)
    history, seconds = train(args, writer, config)
    round_to_half(writer.model)
    before, _ = exact_match_by_family(replace(writer, model=reference), args.families, "test", args.n_test)
    after, replies = exact_match_by_family(writer, args.families, "test", args.n_test)
    final = before_and_after(before, after)
    final |= {"kl_to_reference": kl_to_reference(writer.model, reference, replies), "train_seconds": seconds}
    final |= {"split": f"test, {args.n_test} questions of each family", "test_count": len(replies)}
    final |= {"trained_share": trained_share(writer.model), "questions_seen": args.max_steps * args.batch_size}
    weights = {name: tensor.half() for name, tensor in adapter_state(writer.model).items()}
    write_model(args.out_dir / f"{args.variant}.pth", weights, config, {"exact_match": final["exact_match"]})
    write_results(args.out_dir / f"{args.variant}.json", args, final, history)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: {args.variant}.pth, {args.variant}.json")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, batch_size=16, lr=3e-4, max_steps=200)
    parser.add_argument("--model_path", type=Path, help="a checkpoint that can chat; None: the one that ships")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES, help="of tasks to learn")
    parser.add_argument("--variant", default="dr_grpo", choices=VARIANTS, help="how advantages and losses are scaled")
    parser.add_argument("--n_tries", type=positive, default=8, help="answers to each question")
    parser.add_argument("--n_tokens", type=positive, default=LONGEST_ANSWER, help="of an answer at most")
    parser.add_argument("--n_updates", type=positive, default=2, help="steps of the optimizer with the same answers")
    parser.add_argument("--temperature", type=amount, default=1.0, help="of the answers; at 0 all would be the same")
    parser.add_argument("--kl", type=amount, default=0.0, help="price of a nat of KL to the reference, a token")
    parser.add_argument("--rank", type=positive, default=8, help="of the adapters")
    parser.add_argument("--alpha", type=amount, default=16.0, help="adapters count alpha / rank")
    parser.add_argument("--save_every", type=positive, default=20, help="steps between saved states")
    parser.add_argument("--n_validation", type=positive, default=10, help="questions of each family, then")
    parser.add_argument("--n_test", type=positive, default=100, help="questions of each family at the end")
    return parser


def train(args: argparse.Namespace, writer: Writer, config: LoRAConfig) -> tuple[list[dict], float]:
    """Add adapters to the model and train them, and save the state every so many steps; return history and seconds."""
    model, timer, sampler = writer.model, Timer(), Sampler(args.temperature)
    set_seed(args.seed)
    add_lora_(model, config)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=args.lr, weight_decay=0.0)
    parts, path = {"model": model, "optimizer": optimizer, "timer": timer}, args.out_dir / f"state_{args.variant}.pth"
    done, history = load_state(path, args.flags, parts) if args.resume else (0, [])
    for step in tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step"):
        # batch: questions, and the model's answers to them; the step's number alone tells which
        generator = torch.Generator().manual_seed(args.seed + STRIDE * step)
        examples = draw_questions(args.families, "train", args.batch_size, generator)
        batch = roll_out(model, writer.tokenizer, examples, args.n_tries, args.n_tokens, sampler, generator)
        with torch.no_grad(), autocast(args.device, args.amp):
            old_logps = token_logps(model(batch.ids), batch.ids)  # (B, T-1)
            with without_adapters(model):
                reference_logps = token_logps(model(batch.ids), batch.ids)
        for _ in range(args.n_updates):
            # forward
            with autocast(args.device, args.amp):
                logits = model(batch.ids)  # (B, T, V)
            logps = token_logps(logits, batch.ids)  # (B, T-1)

            # loss
            loss = batch_loss(args, logps, old_logps, reference_logps, batch)
            check_finite(loss.item(), step + 1)

            # backward
            optimizer.zero_grad()
            loss.backward()
            clip_by_norm_(parameters, CLIP_NORM)

            # step
            optimizer.step()

        # log and save
        lengths = batch.mask.sum(dim=1).float()  # (B,)
        row = {"step": step + 1, "reward": batch.rewards.mean().item(), "length": lengths.mean().item()}
        row["mixed_groups"] = (batch.rewards.std(dim=1, correction=0) > 0).float().mean().item()
        row["kl"] = mean_of_tokens(kl_k3(old_logps, reference_logps), batch.mask).item()
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            found, _ = exact_match_by_family(writer, args.families, "validation", args.n_validation)
            row["validation_exact_match"] = mean(list(found.values()))
            row["seconds"] = timer.seconds
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)
            save_state(path, args.flags, step + 1, [*history, row], parts)
        history.append(row)
    return history, timer.seconds


def batch_loss(
    args: argparse.Namespace, logps: Tensor, old_logps: Tensor, reference_logps: Tensor, batch: Rollouts
) -> Tensor:
    """Return the variant's loss () of log-probabilities (B, T-1)."""
    divide_by_std, clip_high, over = VARIANTS[args.variant]
    reduce = {"sequences": mean_of_sequences, "tokens": mean_of_tokens}
    reduce["nothing"] = partial(sum_of_tokens, longest=args.n_tokens)
    advantages = group_advantages(batch.rewards, divide_by_std).flatten()[:, None]  # (B, 1)
    losses = clipped_losses(logps, old_logps, advantages, clip_high=clip_high)  # (B, T-1)
    return reduce[over](losses + args.kl * kl_k3(logps, reference_logps), batch.mask)


if __name__ == "__main__":
    run(main)
