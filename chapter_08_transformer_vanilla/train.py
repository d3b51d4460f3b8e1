"""Train a Transformer on one of five tasks; each task's defaults are the recipe of the model that ships.
在五个任务之一上训练 Transformer；每个任务的默认参数就是随附模型的训练配方。

    python chapter_08_transformer_vanilla/train.py    # German to English, Multi30k: two hours; 71 min by torchrun
    python chapter_08_transformer_vanilla/train.py --pair en-de    # the other way round: as long
    python chapter_08_transformer_vanilla/train.py --pair zh-en    # Chinese to English, Tatoeba: 47 min
    python chapter_08_transformer_vanilla/train.py --task lm    # Shakespeare, character by character: over an hour
    python chapter_08_transformer_vanilla/train.py --task mlm    # reads children's books with gaps: 49 min
    python chapter_08_transformer_vanilla/train.py --task finetune    # then judges sentences: half an hour on a core
    python chapter_08_transformer_vanilla/train.py --task vit    # CIFAR-10, on two kinds of tokens: two hours on a core
    python chapter_08_transformer_vanilla/train.py --dataset toy    # a small model, without a download: 1 min
    python chapter_08_transformer_vanilla/train.py --resume    # after an interruption, to the same numbers
    torchrun --nproc_per_node=2 chapter_08_transformer_vanilla/train.py    # each batch shared by 2 processes
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_05_resnet_modern_cnn.src.data_parallel import average, first_process_first, sum_gradients_
from chapter_08_transformer_vanilla.recipes import RECIPES, TINY, TINY_TASK, VARIANTS, add_flags, check_flags_fit
from chapter_08_transformer_vanilla.sentences import load_sentences
from chapter_08_transformer_vanilla.shipped import load_masked_model
from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_08_transformer_vanilla.tasks.finetune import Finetuning
from chapter_08_transformer_vanilla.tasks.lm import LanguageModelling
from chapter_08_transformer_vanilla.tasks.mlm import MaskedPretraining
from chapter_08_transformer_vanilla.tasks.translate import Translate
from chapter_08_transformer_vanilla.tasks.vit import ImageClassification
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import begin, run, script_parser
from utils.device import autocast
from utils.distributed import process_group, rank, world_size
from utils.errors import check_finite
from utils.rate_search import best_rate, search_rates
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.spread import over_seeds
from utils.tables import final_lines
from utils.timer import Timer

Task = Translate | LanguageModelling | MaskedPretraining | Finetuning | ImageClassification
RATIO = 10**0.5  # from one learning rate that is tried to the next


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_flags(parser)
    known = parser.parse_known_args(argv)[0]
    variants = VARIANTS[known.task]
    parser.set_defaults(**RECIPES[known.task] | variants.get(known.pair, {}) | variants.get(known.dataset, {}))
    args = begin(parser, argv, dry_run=TINY | TINY_TASK[known.task])
    check_flags_fit(args)
    with process_group(args.device):
        if args.task == "finetune":
            task, model, final, history, per_seed = compare_starts(args)
        else:
            with first_process_first():
                task = TASKS[args.task](args)
            (model, final, history), per_seed = train_and_measure(task, args), None
        if args.task == "vit" and args.stem == "conv" and args.patches_steps:
            final |= beside_plain_patches(args)
        if rank() > 0:
            return
        save_model(args.out_dir / f"{task.name}.pth", model, task.config, final | task.about(model))
        name = "mlm" if args.task == "finetune" else task.name  # what masked pre-training was for
        write_results(args.out_dir / f"{name}.json", args, final, history, per_seed)
        print(*final_lines(final), sep="\n")
        print(f"written to {args.out_dir}")


def model_options(args: argparse.Namespace) -> dict:
    """Return what all Transformers for text take."""
    config = {"d_model": args.d_model, "n_heads": args.n_heads, "d_ff": args.d_ff, "dropout": args.dropout}
    return config | {"norm": args.norm, "positions": args.positions, "activation": args.activation}


def make_translation(args: argparse.Namespace) -> Translate:
    layers = {"n_encoder_layers": args.n_encoder_layers, "n_decoder_layers": args.n_decoder_layers}
    data = args.pair, args.dataset, args.data_root, args.vocab_size
    config = model_options(args) | layers
    return Translate(*data, config, args.batch_size, args.beam, args.length_penalty, args.device)


def make_language_modelling(args: argparse.Namespace) -> LanguageModelling:
    config = model_options(args) | {"n_decoder_layers": args.n_decoder_layers}
    return LanguageModelling(args.dataset, args.data_root, args.length, config, args.batch_size, args.device)


def make_pretraining(args: argparse.Namespace) -> MaskedPretraining:
    config = model_options(args) | {"n_encoder_layers": args.n_encoder_layers}
    data = args.dataset, args.data_root, args.vocab_size, args.length
    return MaskedPretraining(*data, config, args.batch_size, args.device)


def make_image_classification(args: argparse.Namespace) -> ImageClassification:
    config = {"d_model": args.d_model, "n_heads": args.n_heads, "d_ff": args.d_ff, "dropout": args.dropout}
    config |= {"n_layers": args.n_encoder_layers, "patch_size": args.patch_size}
    config |= {"tokenizer": args.stem, "pooling": args.pooling}
    return ImageClassification(args.dataset, args.data_root, args.split, config, args.batch_size, args.device)


TASKS: dict[str, Callable[[argparse.Namespace], Task]] = {  # "finetune" makes several: see `compare_starts`
    "translate": make_translation,
    "lm": make_language_modelling,
    "mlm": make_pretraining,
    "vit": make_image_classification,
}


def train_and_measure(task: Task, args: argparse.Namespace) -> tuple[nn.Module, dict, list[dict]]:
    """Return a trained model, rounded to 16 bits, its figures (the first process alone has any), and the history."""
    model, history, seconds = train(task, args, args.out_dir / f"state_{task.name}.pth")
    if rank() > 0:
        return model, {}, history
    round_to_half(model)
    final = task.evaluate(model) | task.baselines() | {"epochs": task.n_epochs(args.max_steps)}
    final |= {"train_seconds": seconds, "processes": world_size()}
    return model, final | {"n_parameters": sum(parameter.numel() for parameter in model.parameters())}, history


def beside_plain_patches(args: argparse.Namespace) -> dict:
    """Train the same network on plain patches, for --patches_steps; return its figures, "_patches" in their names."""
    later = changed(args, stem="patches", max_steps=args.patches_steps)
    later.resume = args.resume and (args.out_dir / "state_vit_patches.pth").exists()
    set_seed(args.seed)
    _, final, _ = train_and_measure(make_image_classification(later), later)
    names = f"{args.split}_accuracy", f"{args.split}_loss", "epochs", "train_seconds", "n_parameters"
    return {f"{name}_patches": final[name] for name in names if name in final}


def compare_starts(args: argparse.Namespace) -> tuple[Finetuning, nn.Module, dict, list[dict], list[dict]]:
    """Train a classifier from what a masked model knows and from scratch: rates first, on validation, then the seeds.

    Return the task and the model of the first seed that was fine-tuned, what all reached, the histories, the seeds.
    """
    with first_process_first():
        parts = load_sentences(args.dataset, args.data_root)
    pretrained = *load_masked_model(args.pretrained, args.device), parts, args.batch_size, args.dropout, args.device
    tasks = {"finetuned": Finetuning(*pretrained, False), "scratch": Finetuning(*pretrained, True)}
    begun = []

    def trained(start: str, lr: float, seed: int) -> tuple[nn.Module, list[dict], float]:
        path = args.out_dir / f"state_{start}_{lr:.1e}_{seed}.pth"
        begun.append(path)
        set_seed(seed)
        resume = args.resume and (path.exists() or len(begun) == 1)
        return train(tasks[start], changed(args, lr=lr, seed=seed, resume=resume), path)

    def trial(start: str, lr: float) -> float:
        return tasks[start].validate(trained(start, lr, args.seed)[0])["validation_accuracy"]

    grid = [args.lr / RATIO, args.lr, args.lr * RATIO]
    trials = search_rates(trial, dict.fromkeys(tasks, grid), RATIO, reach=2)
    rows, history, models, final = [], [], [], {}
    for start, task in tasks.items():
        lr, own = best_rate(trials[start]), []
        for seed in range(args.seed + 1, args.seed + 1 + args.runs):  # the trials' seed has had its say
            model, lines, seconds = trained(start, lr, seed)
            round_to_half(model)
            own.append({"start": start, "seed": seed, "lr": lr} | task.evaluate(model) | {"train_seconds": seconds})
            history += [{"start": start, "seed": seed} | line for line in lines]
            models.append(model)
        reached = over_seeds(own, ["accuracy", "loss", "train_seconds"]) | {"lr": lr}
        final |= {f"{start}_{name}": value for name, value in reached.items()}
        rows += own
    task, model = tasks["finetuned"], models[0]
    final |= {"gain": final["finetuned_accuracy"] - final["scratch_accuracy"], "n_seeds": args.runs}
    final |= {"split": "test", "test_count": len(task.labels["test"]), "epochs": task.n_epochs(args.max_steps)}
    final |= {"n_parameters": sum(parameter.numel() for parameter in model.parameters())}
    final["trials"] = [
        {"start": start, "lr": lr, "validation_accuracy": accuracy}
        for start, scores in trials.items()
        for lr, accuracy in scores.items()
    ]
    return task, model, final, history, rows


def changed(args: argparse.Namespace, **flags: object) -> argparse.Namespace:
    """Return the flags with others in place of some."""
    return argparse.Namespace(**vars(args) | flags)


def train(task: Task, args: argparse.Namespace, state_path: Path) -> tuple[nn.Module, list[dict], float]:
    """Train, save the state every so many steps; return the model (with --ema its average), history and seconds."""
    model = task.build().to(args.device)
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)
    warmup_steps = round(args.warmup * args.max_steps)
    factor = warmup(cosine(args.max_steps - warmup_steps), warmup_steps)
    schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
    ema, timer = EMA(model, args.ema), Timer()
    averaged = ema.model if args.ema else model
    parts = {"model": model, "ema": ema, "timer": timer}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule_{i}": schedule for i, schedule in enumerate(schedules)}
    done, history = load_state(state_path, args.flags, parts) if args.resume else (0, [])

    summed, since = torch.zeros((), device=args.device), done
    bar = tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step", disable=rank() > 0)
    for step in bar:
        # batch: drawn from the step's own seed, so that all processes draw the same, and take their share of its rows
        model.train()
        set_seed(seed_of(args.seed, step))
        inputs, targets = task.batch()
        n_targets = (targets != IGNORED).sum()  # of all processes together
        inputs, targets = [x[rank() :: world_size()] for x in inputs], targets[rank() :: world_size()]

        # forward: logits (B, T, V), or (B, V) where an input has one target
        set_seed(seed_of(args.seed, step) + rank())  # dropout is each process's own
        with autocast(args.device, args.amp):
            logits = model(*inputs)

        # loss: cross-entropy with smoothed labels; padding, and what is not to be guessed, is left out
        logits, targets = logits.float().flatten(0, -2), targets.flatten()  # (B T, V), (B T,)
        losses = F.cross_entropy(logits, targets, label_smoothing=args.label_smoothing, reduction="none")  # (B T,)
        loss = losses.sum() / n_targets  # where the target is IGNORED it is 0

        # backward
        model.zero_grad()
        loss.backward()
        sum_gradients_(model.parameters())
        clip_by_norm_(model.parameters(), args.clip)

        # step
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        ema.update(model)

        # log and save
        summed += loss.detach()
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            mean = world_size() * average(summed).item() / (step + 1 - since)
            check_finite(mean, step + 1)
            row = {"step": step + 1, "train_loss": mean, "lr": args.lr * factor(step), "seconds": timer.seconds}
            if rank() == 0:
                row |= task.validate(averaged)
                save_state(state_path, args.flags, step + 1, [*history, row], parts)
            history.append(row)
            bar.set_postfix({name: f"{value:.4f}" for name, value in row.items() if name not in ("step", "seconds")})
            summed, since = torch.zeros_like(summed), step + 1
    return averaged.eval(), history, timer.seconds


if __name__ == "__main__":
    run(main)
