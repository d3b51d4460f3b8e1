"""Teach a fine-tuned model something new: all its weights, two thin matrices a layer, or those beside 4-bit weights.
教微调后的模型学会新任务：训练全部权重，或只训练每层两个瘦长的矩阵，或在 4 位权重旁训练这样的矩阵。

    python chapter_10_llm_modern_components/adapt.py    # on 2 CPU cores about an hour
    python chapter_10_llm_modern_components/adapt.py --arms lora --rank 2 --trial_steps 0 --lr 4e-3
    python chapter_10_llm_modern_components/adapt.py --resume    # after an interruption, to the same numbers

The tasks are those that sft.py has left out. All ways read the same chats, for as many steps, and each has as many
trials to find its learning rate. What has become of the tasks that the model knew before is measured, too.
"""

import argparse
import math
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import AdamW
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine
from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_10_llm_modern_components.answers.grading import exact_match, mean
from chapter_10_llm_modern_components.dialogue import draw_chats
from chapter_10_llm_modern_components.figures import tuning
from chapter_10_llm_modern_components.model_compression import (
    FORMATS,
    LoRAConfig,
    adapter_state,
    add_lora_,
    quantize_,
    stored_bytes,
    trained_share,
)
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, check_fits, check_rank, load_chat
from chapter_10_llm_modern_components.tasks import FAMILIES, HELD_OUT, LEARNED, example_set
from utils.checkpoint import load_state, round_to_half, save_state, write_model
from utils.cli import add_training_flags, amount, begin, natural, positive, run, script_parser
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.plotting import save_figure
from utils.rate_search import best_rate, search_rates
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.tables import final_lines
from utils.timer import Timer

CLIP_NORM = 1.0
ARMS = "full", "lora", "lora_4bit"
GRIDS = {"full": [5e-4, 1e-3, 2e-3], "lora": [2e-3, 4e-3, 8e-3], "lora_4bit": [2e-3, 4e-3, 8e-3]}
RATIO, REACH = 2, 2  # of the grids' growth
TINY = {"model_path": UNTRAINED, "max_steps": 4, "batch_size": 4, "length": 350, "save_every": 2, "n_test": 1}
TINY |= {"trial_steps": 1, "n_validation": 1, "rank": 2, "families": ["clock"], "others": ["arithmetic"]}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    start = load_chat(args.model_path, args.device)
    check_fits("--length", args.length, start.model)
    check_rank(args.rank, start.model)
    before, others_before = (score(start, names, "test", args.n_test) for names in (args.families, args.others))
    forget_states(args)
    trials = try_rates(args, start)
    final, history = {"exact_match_before": before, "exact_match_others_before": others_before}, []
    for arm in args.arms:
        learner = make_learner(args, start, arm)
        lr = best_rate(trials[arm]) if trials else args.lr
        steps, seconds = train(args, learner, lr, args.max_steps, args.out_dir / f"state_{arm}.pth")
        round_to_half(learner.model)
        found = {"exact_match": score(learner, args.families, "test", args.n_test), "train_seconds": seconds, "lr": lr}
        found["exact_match_others"] = score(learner, args.others, "test", args.n_test)
        found["forgotten"] = others_before - found["exact_match_others"]
        found |= {"trained_share": trained_share(learner.model), "bytes": stored_bytes(learner.model)}
        final |= {f"{name}_{arm}": value for name, value in found.items()}
        history += [{"arm": arm} | row for row in steps]
        if arm != "full":
            weights = {name: tensor.detach().half() for name, tensor in adapter_state(learner.model).items()}
            write_model(args.out_dir / f"{arm}.pth", weights, LoRAConfig(args.rank, args.alpha), found)
    final |= ratios(final) | {"trials": {arm: {f"{r:g}": s for r, s in trials[arm].items()} for arm in trials}}
    final |= {
        "families": args.families,
        "others": args.others,
        "split": f"test, {args.n_test} questions of each family",
    }
    write_results(args.out_dir / "lora.json", args, final, history)
    ends = {arm: (final[f"exact_match_others_{arm}"], final[f"exact_match_{arm}"]) for arm in args.arms}
    save_figure(tuning.adaptation((others_before, before), ends), args.out_dir / "adaptation.png")
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: lora.json, adaptation.png, and of each adapter its ARM.pth")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, batch_size=64, lr=4e-3, max_steps=600)
    parser.add_argument("--model_path", type=Path, help="a checkpoint that can chat; None: the one that ships")
    what = "full: all weights; lora: adapters alone; lora_4bit: adapters beside weights of 4 bits"
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help=what)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(HELD_OUT), help="tasks to learn")
    parser.add_argument("--others", nargs="+", choices=list(FAMILIES), default=list(LEARNED), help="tasks to remember")
    parser.add_argument("--rank", type=positive, default=4, help="of LoRA's matrices")
    parser.add_argument("--alpha", type=amount, default=8.0, help="LoRA's updates are multiplied by alpha / rank")
    four_bits = [name for name in FORMATS if name != "int8"]
    parser.add_argument("--format", choices=four_bits, default="nf4", help="of the weights of 4 bits")
    parser.add_argument("--length", type=positive, default=256, help="tokens of a row, into which chats are packed")
    parser.add_argument("--trial_steps", type=natural, default=150, help="of each trial of a rate; 0: --lr for all")
    parser.add_argument("--save_every", type=positive, default=100, help="steps between saved states")
    parser.add_argument("--n_validation", type=positive, default=50, help="questions a family, to choose the rates by")
    parser.add_argument("--n_test", type=positive, default=200, help="questions of each family in the end")
    return parser


def make_learner(args: argparse.Namespace, start: Writer, arm: str) -> Writer:
    """Return the model as a way to learn begins with it: frozen but for its adapters, or as it is."""
    model = deepcopy(start.model)
    if arm == "lora_4bit":
        quantize_(model, args.format)
    if arm != "full":
        set_seed(args.seed)
        add_lora_(model, LoRAConfig(args.rank, args.alpha))
    return replace(start, model=model)


def score(writer: Writer, families: list[str], split: str, count: int) -> float:
    """Return the exact match, the mean over families."""
    return mean(list(exact_match(writer.model, writer.tokenizer, example_set(families, split, count)).values()))


def forget_states(args: argparse.Namespace) -> None:
    """Remove what an older run has left, which a later --resume would take for this one's."""
    for name in () if args.resume else ("rates", *args.arms):
        (args.out_dir / f"state_{name}.pth").unlink(missing_ok=True)


def try_rates(args: argparse.Namespace, start: Writer) -> dict[str, dict[float, float]]:
    """Return for each arm the validation's exact match by learning rate, after a short training each; all are saved."""
    path = args.out_dir / "state_rates.pth"
    done = load_state(path, args.flags, {})[1] if args.resume else []

    def trial(arm: str, lr: float) -> float:
        found = [row["score"] for row in done if (row["arm"], row["lr"]) == (arm, lr)]
        if not found:
            learner = make_learner(args, start, arm)
            try:
                train(args, learner, lr, args.trial_steps, None)
                found = [score(learner, args.families, "validation", args.n_validation)]
            except UserError:  # the loss was not finite
                found = [math.nan]
            done.append({"arm": arm, "lr": lr, "score": found[0]})
            save_state(path, args.flags, len(done), done, {})
        return found[0]

    save_state(path, args.flags, len(done), done, {})
    return search_rates(trial, {arm: GRIDS[arm] for arm in args.arms if args.trial_steps}, RATIO, REACH)


def train(
    args: argparse.Namespace, writer: Writer, lr: float, n_steps: int, path: Path | None
) -> tuple[list[dict], float]:
    """Train what of the model is not frozen; save the state every so many steps, if there is a path for it.

    Returns:
        The history, and seconds.
    """
    model, timer = writer.model, Timer()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=lr, weight_decay=0.0)
    schedule = Schedule(optimizer, cosine(n_steps))
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "timer": timer}
    resume = args.resume and path is not None and path.exists()  # the last arms may not have begun
    done, history = load_state(path, args.flags, parts) if resume else (0, [])
    for step in tqdm(range(done, n_steps), initial=done, total=n_steps, unit="step"):
        # batch: the step's number alone tells which chats
        generator = torch.Generator().manual_seed(seed_of(args.seed, step))
        chats = draw_chats(writer.tokenizer, args.families, args.batch_size, args.length, generator)
        ids, targets, texts = (x.to(args.device) for x in chats)  # (B, T)
        learned = targets != IGNORED
        model.train()

        # forward
        with autocast(args.device, args.amp):
            logits = model.head(model.hidden(ids, texts=texts)[learned])  # (N, V)

        # loss
        loss = F.cross_entropy(logits.float(), targets[learned])
        check_finite(loss.item(), step + 1)

        # backward
        optimizer.zero_grad()
        loss.backward()
        clip_by_norm_(parameters, CLIP_NORM)

        # step
        optimizer.step()
        schedule.step()

        # log and save
        history.append({"step": step + 1, "loss": loss.item()})
        if path is not None and ((step + 1) % args.save_every == 0 or step + 1 == n_steps):
            tqdm.write(f"{path.stem}  step {step + 1}  loss {loss.item():.4g}", file=sys.stderr)
            save_state(path, args.flags, step + 1, history, parts)
    model.eval()
    return history, timer.seconds


def ratios(final: dict) -> dict[str, float]:
    """Return each adapter's exact match on the new tasks as a share of what all weights reach, where both are there."""
    full = final.get("exact_match_full", 0)
    names = {"lora": "ratio_to_full", "lora_4bit": "ratio_to_full_4bit"}
    return {name: final[f"exact_match_{arm}"] / full for arm, name in names.items() if full and f"lr_{arm}" in final}


if __name__ == "__main__":
    run(main)
