"""Learn from answers that a program can check: GRPO, and what Dr. GRPO and DAPO have mended in it.
从程序可以检验的答案中学习：GRPO，以及 Dr. GRPO 与 DAPO 的修正。

    python chapter_10_llm_modern_components/grpo.py    # on a CPU core less than an hour a seed
    python chapter_10_llm_modern_components/grpo.py --variant grpo --families arithmetic
    python chapter_10_llm_modern_components/grpo.py --sft_lr 2e-3    # and as many minutes of fine-tuning
    python chapter_10_llm_modern_components/grpo.py --resume    # after an interruption, to the same numbers

A step draws questions, lets the model answer each of them several times, and makes likelier what was better than the
other answers to the same question. What is trained are LoRA adapters; without them the model is the reference.
Of DAPO these are its mean over tokens and its higher limit; questions that teach nothing are not drawn anew.

With --sft_lr the same model also learns the true answers, with all its weights, for as long: how many steps that are,
the clock decides, so that part is not repeated to the last bit.
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
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import AdamW
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_10_llm_modern_components.alignment import (
    clipped_losses,
    group_advantages,
    kl_k3,
    learned_logps,
    mean_of_sequences,
    mean_of_tokens,
    sum_of_tokens,
    token_entropy,
)
from chapter_10_llm_modern_components.answers import (
    LONGEST_ANSWER,
    Reply,
    draw_questions,
    exact_match_by_family,
    roll_out,
)
from chapter_10_llm_modern_components.answers.grading import kl_to_reference, mean, several_answers
from chapter_10_llm_modern_components.dialogue import draw_chats
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.model_compression import (
    LoRAConfig,
    adapter_state,
    add_lora_,
    trained_share,
    without_adapters,
)
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, check_rank, load_chat
from chapter_10_llm_modern_components.tasks import FAMILIES, LEARNED, example_set
from utils.checkpoint import load_state, round_to_half, save_state, write_model
from utils.cli import add_training_flags, amount, begin, positive, run, script_parser
from utils.device import autocast
from utils.errors import check_finite
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.spread import over_seeds
from utils.tables import final_lines
from utils.timer import Timer

CLIP_NORM = 1.0
CHATS = 64  # a step of fine-tuning, as in sft.py
VARIANTS = {  # divide by the group's spread, upper limit of the ratio, and what a batch's mean is taken over
    "grpo": (True, 0.2, "sequences"),
    "dr_grpo": (False, 0.2, "nothing"),
    "dapo": (True, 0.28, "tokens"),
}
TINY = {"model_path": UNTRAINED, "max_steps": 3, "batch_size": 2, "n_tries": 3, "n_tokens": 4, "save_every": 2}
TINY |= {"seeds": 2, "sft_lr": 0.001, "n_validation": 1, "n_test": 1, "rank": 2, "kl": 0.1}
TINY |= {"families": ["arithmetic", "reverse"]}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    writer, config = load_chat(args.model_path, args.device), LoRAConfig(args.rank, args.alpha)
    check_rank(args.rank, writer.model)
    forget_states(args)
    before, first_replies = exact_match_by_family(writer, args.families, "test", args.n_test)
    examples, generator = example_set(args.families, "test", args.n_test), torch.Generator().manual_seed(args.seed)
    tries = several_answers(writer.model, writer.tokenizer, examples, args.n_tries, Sampler(), generator)
    rows, history = [], []
    for seed in range(args.seed, args.seed + args.seeds):
        learner = replace(writer, model=deepcopy(writer.model))
        steps, seconds = train(args, learner, config, seed)
        round_to_half(learner.model)
        row = {"seed": seed, "train_seconds": seconds} | measure(args, learner, writer, before)
        if args.sft_lr:
            row |= {f"{name}_sft": value for name, value in fine_tuned(args, writer, seed, seconds, before).items()}
        weights = {name: tensor.half() for name, tensor in adapter_state(learner.model).items()}
        name = "grpo.pth" if seed == args.seed else f"grpo_{seed}.pth"
        write_model(args.out_dir / name, weights, config, {"exact_match": row["exact_match"]})
        rows.append(row)
        history += [{"seed": seed} | step for step in steps]
    final = over_seeds(rows) | {f"exact_match_before_{name}": value for name, value in before.items()}
    final |= {"exact_match_before": mean(list(before.values())), "length_before": mean_length(first_replies)}
    final |= {**tries, "n": args.n_tries, "seeds": args.seeds}
    final |= {"split": f"test, {args.n_test} questions of each family", "test_count": len(examples)}
    final |= {"trained_share": trained_share(learner.model), "questions_seen": args.max_steps * args.batch_size}
    write_results(args.out_dir / "grpo.json", args, final, history, rows)
    print(*final_lines(final), sep="\n")
    print(
        f"written to {args.out_dir}: grpo.json, grpo.pth of seed {args.seed}, and of each other seed its grpo_SEED.pth"
    )


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, batch_size=16, lr=3e-4, max_steps=400)
    parser.add_argument("--model_path", type=Path, help="a checkpoint that can chat; None: the one that ships")
    parser.add_argument("--families", nargs="+", default=list(LEARNED), choices=FAMILIES, help="of tasks to learn")
    parser.add_argument("--variant", default="dr_grpo", choices=VARIANTS, help="how advantages and losses are scaled")
    parser.add_argument("--n_tries", type=positive, default=8, help="answers to each question")
    parser.add_argument("--n_tokens", type=positive, default=LONGEST_ANSWER, help="of an answer at most")
    parser.add_argument("--n_updates", type=positive, default=2, help="steps of the optimizer with the same answers")
    parser.add_argument("--seeds", type=positive, default=1, help="how many seeds to train, from --seed upwards")
    parser.add_argument("--sft_lr", type=amount, default=0.0, help="of fine-tuning that takes as long; 0: none")
    parser.add_argument("--kl", type=amount, default=0.0, help="price of a nat of KL to the reference, a token")
    parser.add_argument("--rank", type=positive, default=8, help="of the adapters")
    parser.add_argument("--alpha", type=amount, default=16.0, help="adapters count alpha / rank")
    parser.add_argument("--save_every", type=positive, default=20, help="steps between saved states")
    parser.add_argument("--n_validation", type=positive, default=10, help="questions of each family, then")
    parser.add_argument("--n_test", type=positive, default=100, help="questions of each family at the end")
    return parser


def measure(args: argparse.Namespace, writer: Writer, start: Writer, before: dict[str, float]) -> dict[str, float]:
    """Return what a training has brought, and how far from the model at its start it has led."""
    after, replies = exact_match_by_family(writer, args.families, "test", args.n_test)
    found = {f"exact_match_{name}": value for name, value in after.items()}
    found["exact_match"] = mean(list(after.values()))
    found["gain"] = found["exact_match"] - mean(list(before.values()))
    found["length"] = mean_length(replies)
    return found | {"kl_to_reference": kl_to_reference(writer.model, start.model, replies)}


def mean_length(replies: list[Reply]) -> float:
    """Return how many tokens of a reply the model has chosen."""
    return mean([sum(reply.tokens.learned) for reply in replies])


def forget_states(args: argparse.Namespace) -> None:
    """Remove what an older run has left, which a later --resume would take for this one's."""
    for seed in range(args.seed, args.seed + args.seeds):
        for name in () if args.resume else (args.variant, "sft"):
            (args.out_dir / f"state_{name}_{seed}.pth").unlink(missing_ok=True)


def state_file(args: argparse.Namespace, name: str, seed: int) -> tuple[Path, bool]:
    """Return where a training's state lies, and whether to go on with it: later seeds may not have begun."""
    path = args.out_dir / f"state_{name}_{seed}.pth"
    return path, args.resume and (path.exists() or (name, seed) == (args.variant, args.seed))


def train(args: argparse.Namespace, writer: Writer, config: LoRAConfig, seed: int) -> tuple[list[dict], float]:
    """Add adapters to the model and train them, and save the state every so many steps; return history and seconds."""
    model, timer = writer.model, Timer()
    set_seed(seed)
    add_lora_(model, config)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=args.lr, weight_decay=0.0)
    parts = {"model": model, "optimizer": optimizer, "timer": timer}
    path, resume = state_file(args, args.variant, seed)
    done, history = load_state(path, args.flags, parts) if resume else (0, [])
    for step in tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step"):
        # batch: questions, and the model's answers to them; the step's number alone tells which
        generator = torch.Generator().manual_seed(seed_of(seed, step))
        examples = draw_questions(args.families, "train", args.batch_size, generator)
        batch = roll_out(model, writer.tokenizer, examples, args.n_tries, args.n_tokens, Sampler(), generator)
        with torch.no_grad(), autocast(args.device, args.amp):
            old_logps, mask, logits = learned_logps(model, batch.texts)  # (B, L), (B, L), (N, V)
            with without_adapters(model):
                reference_logps, _, _ = learned_logps(model, batch.texts)
        for _ in range(args.n_updates):
            # forward
            with autocast(args.device, args.amp):
                logps, _, _ = learned_logps(model, batch.texts)  # (B, L)

            # loss
            loss = batch_loss(args, logps, old_logps, reference_logps, mask, batch.rewards)
            check_finite(loss.item(), step + 1)

            # backward
            optimizer.zero_grad()
            loss.backward()
            clip_by_norm_(parameters, CLIP_NORM)

            # step
            optimizer.step()

        # log and save
        row = {"step": step + 1, "reward": batch.rewards.mean().item(), "length": len(logits) / len(mask)}
        row["mixed_groups"] = (batch.rewards.std(dim=1, correction=0) > 0).float().mean().item()
        row["entropy"] = token_entropy(logits).mean().item()
        row["kl"] = mean_of_tokens(kl_k3(old_logps, reference_logps), mask).item()
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            found, _ = exact_match_by_family(writer, args.families, "validation", args.n_validation)
            row |= {"validation_exact_match": mean(list(found.values())), "seconds": timer.seconds}
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)
            save_state(path, args.flags, step + 1, [*history, row], parts)
        history.append(row)
    return history, timer.seconds


def batch_loss(
    args: argparse.Namespace, logps: Tensor, old_logps: Tensor, reference_logps: Tensor, mask: Tensor, rewards: Tensor
) -> Tensor:
    """Return the variant's loss () of log-probabilities and mask (B, L), and rewards (N, G) of the B = N G answers."""
    divide_by_std, clip_high, over = VARIANTS[args.variant]
    reduce = {"sequences": mean_of_sequences, "tokens": mean_of_tokens}
    reduce["nothing"] = partial(sum_of_tokens, longest=args.n_tokens)
    advantages = group_advantages(rewards, divide_by_std).flatten()[:, None]  # (B, 1)
    losses = clipped_losses(logps, old_logps, advantages, clip_high=clip_high)  # (B, L)
    return reduce[over](losses + args.kl * kl_k3(logps, reference_logps), mask)


def fine_tuned(
    args: argparse.Namespace, start: Writer, seed: int, seconds: float, before: dict[str, float]
) -> dict[str, float]:
    """Return what `measure` does after learning the true answers, with all weights, for so many seconds."""
    writer = replace(start, model=deepcopy(start.model))
    steps = fine_tune(args, writer, seed, seconds)
    round_to_half(writer.model)
    return measure(args, writer, start, before) | {"steps": steps}


def fine_tune(args: argparse.Namespace, writer: Writer, seed: int, seconds: float) -> int:
    """Train as sft.py does, at a rate that falls to 0 as time runs out; save the state; return the number of steps."""
    model, tokenizer, timer = writer.model.requires_grad_(True), writer.tokenizer, Timer()
    optimizers = make_optimizers(model, "muon", args.sft_lr, weight_decay=0.01)
    parts = {"model": model, "timer": timer} | {f"optimizer_{i}": o for i, o in enumerate(optimizers)}
    path, resume = state_file(args, "sft", seed)
    step, _ = load_state(path, args.flags, parts) if resume else (0, [])
    while timer.seconds < seconds:
        # batch
        generator = torch.Generator().manual_seed(seed_of(seed, step))
        chats = draw_chats(tokenizer, args.families, CHATS, model.config.max_length, generator)
        ids, targets, texts = (x.to(args.device) for x in chats)  # (B, T)
        learned = targets != IGNORED

        # forward
        with autocast(args.device, args.amp):
            logits = model.head(model.hidden(ids, texts=texts)[learned])  # (N, V)

        # loss
        loss = F.cross_entropy(logits.float(), targets[learned])
        check_finite(loss.item(), step + 1)

        # backward
        model.zero_grad()
        loss.backward()
        clip_by_norm_(model.parameters(), CLIP_NORM)

        # step
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.sft_lr * max(0.0, 1 - timer.seconds / seconds)
            optimizer.step()
        step += 1
        if step % args.save_every == 0:
            save_state(path, args.flags, step, [], parts)
    save_state(path, args.flags, step, [], parts)
    return step


if __name__ == "__main__":
    run(main)
