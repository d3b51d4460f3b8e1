"""What does a teacher give a small model? Two that begin alike: one learns from the text, one also from the teacher.
老师能教给小模型什么？两个起点相同的学生：一个只看文本，一个还看老师给出的概率。

    python chapter_10_llm_modern_components/distill.py    # on 2 CPU cores about half an hour
    python chapter_10_llm_modern_components/distill.py --soft_weight 0.5 --temperature 1
    python chapter_10_llm_modern_components/distill.py --resume    # after an interruption, to the same numbers

Both students see the same windows in the same order. The teacher reads them, too, which takes time that the figures
tell: a fair student without a teacher would read more.
"""

import argparse
import sys
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_10_llm_modern_components.corpora import load_corpus
from chapter_10_llm_modern_components.data import Windows, cached_stream
from chapter_10_llm_modern_components.distillation import distillation_loss, token_kl
from chapter_10_llm_modern_components.measuring import mean_loss
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, load_learner
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, positive, run, script_parser
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.results import write_results
from utils.seed import set_seed
from utils.tables import final_lines
from utils.timer import Timer

CLIP_NORM = 1.0
STUDENTS = "alone", "taught"
TINY = {"model_path": UNTRAINED, "corpus": "toy", "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 24, "length": 16}
TINY |= {"max_steps": 4, "batch_size": 4, "save_every": 2, "tokens": 60}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    if not 0 <= args.soft_weight <= 1 or args.temperature == 0:
        raise UserError("--soft_weight is at most 1, and --temperature above 0")
    teacher, corpus = load_learner(args.model_path, args.device), load_corpus(args.corpus, args.data_root)
    if args.length > teacher.model.config.max_length:
        raise UserError(f"--length {args.length} is more than the teacher's context, {teacher.model.config.max_length}")
    sizes = {"d_model": args.d_model, "n_layers": args.n_layers, "n_heads": args.n_heads, "d_ff": args.d_ff}
    config = ModelConfig(teacher.model.config.n_tokens, max_length=args.length, **sizes)
    windows = Windows(cached_stream(corpus.train, teacher.tokenizer, args.out_dir), args.length, args.seed)
    students, history, seconds = train(args, config, teacher, windows)
    tokens = [
        torch.tensor(teacher.tokenizer.encode(text)[: args.tokens], device=args.device) for text in corpus.held_out
    ]
    tokens = [ids for ids in tokens if len(ids) > 1]
    final = {"loss_teacher": mean_loss(teacher.model, tokens, args.length), "train_seconds": seconds}
    for name, model in students.items():
        round_to_half(model)
        final |= {f"loss_{name}": mean_loss(model, tokens, args.length)}
        final |= {f"kl_to_teacher_{name}": mean_kl(teacher.model, model, tokens, args.length)}
        about = {"loss": final[f"loss_{name}"], "tokenizer": teacher.tokenizer.to_plain()}
        save_model(args.out_dir / f"{name}.pth", model, config, about)
    final |= {"parameters_teacher": sum(p.numel() for p in teacher.model.parameters())}
    final |= {"parameters": sum(p.numel() for p in students["alone"].parameters())}
    final |= {"split": f"held-out documents, the first {args.tokens} tokens of each"}
    final |= {"held_out_tokens": sum(len(ids) - 1 for ids in tokens)}
    write_results(args.out_dir / "distill.json", args, final, history)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: {', '.join(f'{name}.pth' for name in students)}, distill.json")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, batch_size=16, lr=2e-3, max_steps=2000)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, help="the teacher's checkpoint; None: the one that ships")
    parser.add_argument("--corpus", default="stories", choices=["stories", "code", "toy"], help="what is read")
    parser.add_argument("--length", type=positive, default=256, help="tokens of a window")
    parser.add_argument("--d_model", type=positive, default=96, help="width of the students")
    parser.add_argument("--n_layers", type=positive, default=3, help="layers of the students")
    parser.add_argument("--n_heads", type=positive, default=3, help="heads of the students")
    parser.add_argument("--d_ff", type=positive, default=256, help="inner width of the students")
    parser.add_argument("--temperature", type=amount, default=2.0, help="above 1: unlikely tokens count more")
    parser.add_argument("--soft_weight", type=amount, default=0.9, help="from 0, text alone, to 1, the teacher alone")
    parser.add_argument("--save_every", type=positive, default=200, help="steps between saved states")
    parser.add_argument("--tokens", type=positive, default=20_000, help="of each held-out document to measure on")
    return parser


def train(
    args: argparse.Namespace, config: ModelConfig, teacher: Writer, windows: Windows
) -> tuple[dict[str, LanguageModel], list[dict], float]:
    """Train both students side by side, and save the state every so many steps; return them, history and seconds."""
    set_seed(args.seed)
    alone, timer = LanguageModel(config).to(args.device), Timer()
    students = dict(zip(STUDENTS, (alone, deepcopy(alone)), strict=True))
    optimizers = {name: make_optimizers(model, "adamw", args.lr, 0.1)[0] for name, model in students.items()}
    schedules = {name: Schedule(optimizer, cosine(args.max_steps)) for name, optimizer in optimizers.items()}
    kinds = {"model": students, "optimizer": optimizers, "schedule": schedules}
    parts = {f"{kind}_{name}": part[name] for kind, part in kinds.items() for name in STUDENTS} | {"timer": timer}
    path = args.out_dir / "state.pth"
    done, history = load_state(path, args.flags, parts) if args.resume else (0, [])
    for step in tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step"):
        # batch: the step's number alone tells which windows
        inputs, targets = (x.to(args.device) for x in windows.batch(step * args.batch_size, args.batch_size))  # (B, T)
        everywhere, row = torch.ones_like(targets, dtype=torch.bool), {"step": step + 1}
        with torch.no_grad(), autocast(args.device, args.amp):
            taught = teacher.model(inputs).float()  # (B, T, V)
        for name, model in students.items():
            # forward
            model.train()
            with autocast(args.device, args.amp):
                logits = model(inputs).float()  # (B, T, V)

            # loss
            on_text = F.cross_entropy(logits.flatten(0, 1), targets.flatten())  # of (B T, V), (B T,)
            loss = on_text
            if name == "taught":
                loss = distillation_loss(logits, taught, targets, everywhere, args.temperature, args.soft_weight)
            check_finite(loss.item(), step + 1)

            # backward
            optimizers[name].zero_grad()
            loss.backward()
            clip_by_norm_(model.parameters(), CLIP_NORM)

            # step
            optimizers[name].step()
            schedules[name].step()
            row[f"train_loss_{name}"] = on_text.item()

        # log and save
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            row["seconds"] = timer.seconds
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)
            save_state(path, args.flags, step + 1, [*history, row], parts)
        history.append(row)
    return {name: model.eval() for name, model in students.items()}, history, timer.seconds


@torch.no_grad()
def mean_kl(teacher: LanguageModel, student: LanguageModel, texts: list[torch.Tensor], length: int) -> float:
    """Return KL(teacher || student) in nats, the mean over the tokens of all texts, read in windows without overlap."""
    total, count = 0.0, 0
    for ids in texts:
        for window in ids.split(length):
            kl = token_kl(teacher(window[None]), student(window[None]))  # (1, T)
            total, count = total + kl.sum().item(), count + kl.numel()
    return total / max(count, 1)


if __name__ == "__main__":
    run(main)
