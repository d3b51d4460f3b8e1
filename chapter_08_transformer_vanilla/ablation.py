"""What does each part of the Transformer bring? A small translator, trained again and again with one thing changed.
Transformer 的每个部分有多大作用？反复训练一个小型翻译模型，每次只改一处。

    python chapter_08_transformer_vanilla/ablation.py    # 45 min on 1 CPU core
    python chapter_08_transformer_vanilla/ablation.py --resume    # after an interruption, to the same numbers
    python chapter_08_transformer_vanilla/ablation.py --arms base no_positions --max_steps 100    # 2 min

German to English, equally many steps for every arm, far fewer than the model that ships gets: what helps early need not
help late. All arms of a seed see the same batches. The learning rate is chosen for Muon and for AdamW, by equally many
shorter trainings each; the other arms take Muon's, although some might want another. Measured on the validation part.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_07_attention_mechanism.tasks.translate import SIGNATURE, bleu
from chapter_08_transformer_vanilla.figures.ablation import draw_arms
from chapter_08_transformer_vanilla.tasks.translate import Translate
from chapter_08_transformer_vanilla.transformer import Transformer
from utils.checkpoint import load_state, save_state
from utils.cli import (
    add_amp_flag,
    add_data_flag,
    add_output_flags,
    amount,
    begin,
    positive,
    run,
    script_parser,
    share,
)
from utils.device import autocast
from utils.errors import UserError
from utils.plotting import save_figure
from utils.rate_search import best_rate, search_rates
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.spread import over_seeds
from utils.tables import aligned
from utils.timer import Timer


class Recipe(NamedTuple):
    """What the arms differ in."""

    n_heads: int = 4
    n_layers: int = 2  # of the encoder, and of the decoder
    norm: str = "pre"
    positions: str = "sinusoidal"
    label_smoothing: float = 0.1
    warmup: float = 0.1  # share of the steps in which the rate rises
    optimizer: str = "muon"
    averaged: bool = True  # the weights' running average is measured, not the last ones


ARMS = {  # each differs from the base in one thing; but for one, which asks whether post-norm needs the warmup
    "base": Recipe(),
    "heads_1": Recipe(n_heads=1),
    "heads_8": Recipe(n_heads=8),
    "layers_1": Recipe(n_layers=1),
    "layers_4": Recipe(n_layers=4),
    "post_norm": Recipe(norm="post"),
    "no_warmup": Recipe(warmup=0.0),
    "post_norm_no_warmup": Recipe(norm="post", warmup=0.0),
    "no_positions": Recipe(positions="none"),
    "learned_positions": Recipe(positions="learned"),
    "no_smoothing": Recipe(label_smoothing=0.0),
    "adamw": Recipe(optimizer="adamw"),
    "no_average": Recipe(averaged=False),
}
TUNING_SEED = 500_009  # between a measured training's seed and that of the trials
TENTHS = 10  # of a training, for each of which its mean loss is recorded


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    config = {"d_model": args.d_model, "d_ff": args.d_ff, "dropout": args.dropout}
    data = args.dataset, args.data_root, args.vocab_size
    trainings = Trainings(Translate("de-en", *data, config, args.batch_size, 1, 1.0, args.device), args)
    arms = {arm: ARMS[arm] for arm in ARMS if arm in {"base", *args.arms}}  # the base is what all are compared with
    rates, final = choose_rates(trainings, {recipe.optimizer for recipe in arms.values()}, args)
    per_seed = [
        {"arm": arm} | trainings(recipe, rates[recipe.optimizer], seed, args.max_steps)
        for seed in range(args.seed, args.seed + args.runs)
        for arm, recipe in arms.items()
    ]
    trainings.bar.close()
    final |= summarise(per_seed) | {
        "split": "validation",
        "validation_count": min(args.validated, len(trainings.task.validation)),
        "epochs": trainings.task.n_epochs(args.max_steps),
        "train_seconds": sum(row["train_seconds"] for row in trainings.rows),
        "trainings": len(trainings.rows),
        "signature": SIGNATURE,
    }
    write_results(args.out_dir / "ablation.json", args, final, per_seed=per_seed)
    save_figure(draw_arms(per_seed), args.out_dir / "ablation.png")
    print(*table(final, list(arms)), sep="\n")
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="what to change, one at a time")
    parser.add_argument("--max_steps", type=positive, default=400, help="steps of each training: the budget")
    parser.add_argument("--runs", type=positive, default=2, help="trainings of each arm, with seeds from --seed on")
    parser.add_argument("--muon_lr", type=amount, nargs="+", default=[5e-3, 1e-2, 2e-2], help="rates to begin with")
    parser.add_argument("--adamw_lr", type=amount, nargs="+", default=[2e-3, 4e-3, 8e-3], help="the same for AdamW")
    parser.add_argument("--trial_share", type=share, default=0.5, help="part of the steps that a trial of a rate takes")
    parser.add_argument(
        "--dataset", default="full", choices=["full", "toy"], help="full: Multi30k; toy: a grammar made up here"
    )
    parser.add_argument("--validated", type=positive, default=1014, help="validation pairs to measure on, at most")
    parser.add_argument("--batch_size", type=positive, default=1500, help="tokens a step, at most")
    parser.add_argument("--vocab_size", type=positive, default=2000, help="pieces that both languages share, at most")
    parser.add_argument("--d_model", type=positive, default=128, help="numbers that stand for a token in every layer")
    parser.add_argument("--d_ff", type=positive, default=256, help="width of the feed-forward networks inside")
    parser.add_argument("--dropout", type=share, default=0.0, help="share of the activations left out")
    parser.add_argument("--weight_decay", type=amount, default=0.05, help="of weights, not of biases and norms")
    parser.add_argument("--clip", type=amount, default=1.0, help="largest norm of the gradients")
    parser.add_argument("--ema", type=share, default=0.98, help="decay of the weights' running average")
    add_amp_flag(parser)
    parser.add_argument("--resume", action="store_true", help="continue in --out_dir; what is finished there is kept")
    tiny = {"arms": ["base", "post_norm", "adamw", "no_average"], "max_steps": 2, "muon_lr": [1e-2, 2e-2]}
    tiny |= {"adamw_lr": [1e-3, 2e-3], "dataset": "toy", "validated": 2, "batch_size": 50, "vocab_size": 320}
    args = begin(parser, argv, dry_run=tiny | {"d_model": 8, "d_ff": 8, "amp": "off"})
    if args.d_model % 8:
        raise UserError(f"--d_model {args.d_model} cannot be shared by 8 heads: take a multiple of 8")
    return args


def choose_rates(trainings: "Trainings", optimizers: set[str], args: argparse.Namespace) -> tuple[dict, dict]:
    """Return each optimizer's best rate, and all that was tried, equally often for each, with the losses."""
    grids = {name: grid for name, grid in (("muon", args.muon_lr), ("adamw", args.adamw_lr)) if name in optimizers}
    if all(len(grid) == 1 for grid in grids.values()):
        return {name: grid[0] for name, grid in grids.items()}, {}
    steps = max(1, round(args.trial_share * args.max_steps))

    def score(optimizer: str, lr: float) -> float:
        recipe = Recipe(optimizer=optimizer)
        return -trainings(recipe, lr, args.seed + TUNING_SEED, steps, trial=True)["loss"]

    found = search_rates(score, grids, ratio=2, reach=2)
    rates = {name: best_rate(scores) for name, scores in found.items()}
    final = {f"{name}_lr": lr for name, lr in rates.items()}
    return rates, final | {f"{name}_tuning": [[lr, -score] for lr, score in found[name].items()] for name in found}


class Trainings:
    """Trains a model when asked to, and stores what was measured: --resume will not train it again."""

    def __init__(self, task: Translate, args: argparse.Namespace):
        self.task, self.args, self.path = task, args, args.out_dir / "ablation_state.pth"
        self.rows: list[dict] = load_state(self.path, args.flags, {})[1] if args.resume else []
        self.bar = tqdm(unit="step")  # how many there are is known once the search for rates has ended

    def __call__(self, recipe: Recipe, lr: float, seed: int, steps: int, trial: bool = False) -> dict:
        """Return the row of one training: loss, and unless it is a `trial`, BLEU."""
        key = recipe._replace(averaged=True)._asdict() | {"lr": lr, "seed": seed, "steps": steps}
        row = next((row for row in self.rows if key.items() <= row.items()), None)
        if row is None:
            last, average, facts = self.train(recipe, lr, seed, steps)
            row = key | facts | self.measure(average, trial)
            if not trial:
                row |= {f"last_{name}": value for name, value in self.measure(last, trial).items()}
            self.rows.append(row)
            self.bar.set_postfix(trainings=len(self.rows))
            save_state(self.path, self.args.flags, len(self.rows), self.rows, {})
        return row if recipe.averaged else row | {"averaged": False, "loss": row["last_loss"], "bleu": row["last_bleu"]}

    def train(self, recipe: Recipe, lr: float, seed: int, steps: int) -> tuple[nn.Module, nn.Module, dict]:
        """Return the model after the last step, its running average, and what to note of the training."""
        args, task = self.args, self.task
        set_seed(seed)
        layers = {"n_encoder_layers": recipe.n_layers, "n_decoder_layers": recipe.n_layers}
        own = {name: getattr(recipe, name) for name in ("n_heads", "norm", "positions")}
        model = Transformer(replace(task.config, **layers, **own)).to(args.device).train()
        optimizers = make_optimizers(model, recipe.optimizer, lr, args.weight_decay)
        warmup_steps = round(recipe.warmup * steps)
        factor = warmup(cosine(steps - warmup_steps), warmup_steps)
        schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
        ema, timer, losses, skipped = EMA(model, args.ema), Timer(), [], 0
        for step in range(steps):
            # batch: drawn from the step's own seed, so that all arms see the same ones
            set_seed(seed_of(seed, step + 1))
            inputs, targets = task.batch()
            # forward: logits (B, T, V)
            with autocast(args.device, args.amp):
                logits = model(*inputs)
            # loss: cross-entropy with smoothed labels, padding left out
            logits, targets = logits.float().flatten(0, 1), targets.flatten()  # (B T, V), (B T,)
            loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            # backward
            model.zero_grad()
            loss.backward()
            norm = clip_by_norm_(model.parameters(), args.clip, check=False)
            # step: none where the gradients overflowed, so that an arm may fail without ending the others
            if norm.isfinite():
                for optimizer in optimizers:
                    optimizer.step()
            else:
                skipped += 1
            for schedule in schedules:
                schedule.step()
            ema.update(model)
            # log
            losses.append(loss.item())
            self.bar.update()
        parts = torch.tensor(losses).tensor_split(min(TENTHS, steps))
        facts = {"train_losses": [part.mean().item() for part in parts], "skipped": skipped}
        facts |= {"train_seconds": timer.seconds, "n_parameters": sum(p.numel() for p in model.parameters())}
        return model, ema.model, facts

    def measure(self, model: nn.Module, trial: bool) -> dict[str, float]:
        """Return the mean cross-entropy (nats a token) on validation pairs, and unless it is a `trial`, greedy BLEU."""
        pairs = self.task.validation[: self.args.validated]
        found = {"loss": self.task.loss(model, pairs)}
        return found if trial else found | {"bleu": bleu(self.task.answers(model, pairs, beam=1), pairs)}


def summarise(per_seed: list[dict]) -> dict:
    """Return for each arm means and spreads over the seeds of loss and BLEU, and of what it gains on the same seed."""
    base = {row["seed"]: row for row in per_seed if row["arm"] == "base"}
    final = {}
    for arm in dict.fromkeys(row["arm"] for row in per_seed):
        rows = [
            {name: row[name] for name in ("bleu", "loss", "train_seconds")}
            | {f"{name}_gain": row[name] - base[row["seed"]][name] for name in ("bleu", "loss")}
            for row in per_seed
            if row["arm"] == arm
        ]
        final |= {f"{arm}_{name}": value for name, value in over_seeds(rows).items()}
        final[f"{arm}_n_parameters"] = next(row["n_parameters"] for row in per_seed if row["arm"] == arm)
    return final


def table(final: dict, arms: list[str]) -> list[str]:
    """Return the lines of a table, the highest BLEU first."""
    rows = [["arm", "parameters", "BLEU", "gain", "loss", "seconds"]]
    for arm in sorted(arms, key=lambda arm: -final[f"{arm}_bleu"]):
        columns = [(final[f"{arm}_{name}"], final[f"{arm}_{name}_std"]) for name in ("bleu", "bleu_gain", "loss")]
        shown = [f"{value:.2f} ± {spread:.2f}" for value, spread in columns]
        rows.append([arm, f"{final[f'{arm}_n_parameters']:,}", *shown, f"{final[f'{arm}_train_seconds']:.0f}"])
    return aligned(rows, "<>")


if __name__ == "__main__":
    run(main)
