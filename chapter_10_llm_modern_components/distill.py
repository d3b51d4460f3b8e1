"""What does a teacher give a small model? Two that begin alike: one learns from texts, one also from the teacher.
教师能教给小模型什么？两个起点相同的学生：一个只看文本，一个还看教师给出的概率。

    python chapter_10_llm_modern_components/distill.py    # on 2 CPU cores about an hour
    python chapter_10_llm_modern_components/distill.py --soft_weight 0.5 --temperature 1
    python chapter_10_llm_modern_components/distill.py --resume    # after an interruption, to the same numbers

The teacher is the fine-tuned model, and a student has some of its layers. Both students see the same chats and stories
in the same order. The teacher reads them, too, which takes time that the figures tell: a fair student without a teacher
would read more.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_10_llm_modern_components.answers.grading import exact_match, mean
from chapter_10_llm_modern_components.dialogue import draw_chats
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.model_compression import distillation_loss, token_kl, with_fewer_layers
from chapter_10_llm_modern_components.pretraining import Windows, cached_stream, load_corpus, mean_loss
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, check_fits, load_chat
from chapter_10_llm_modern_components.tasks import FAMILIES, LEARNED, example_set
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, positive, run, script_parser
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.tables import final_lines
from utils.timer import Timer

CLIP_NORM = 1.0
WARMUP = 50  # steps
STUDENTS = "alone", "taught"
TINY = {"model_path": UNTRAINED, "corpus": "toy", "n_layers": 1, "length": 350, "max_steps": 4, "batch_size": 4}
TINY |= {"story_rows": 1, "save_every": 2, "tokens": 60, "n_test": 1}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    if not 0 <= args.soft_weight <= 1 or args.temperature == 0:
        raise UserError("--soft_weight is at most 1, and --temperature above 0")
    teacher = load_chat(args.model_path, args.device)
    check_fits("--length", args.length, teacher.model)
    if args.n_layers >= teacher.model.config.n_layers:
        raise UserError(f"--n_layers {args.n_layers} is not less than the teacher's {teacher.model.config.n_layers}")
    corpus = load_corpus(args.corpus, args.data_root)
    windows = Windows(cached_stream(corpus.train, teacher.tokenizer, args.out_dir), args.length, args.seed)
    students, history, seconds = train(args, teacher, windows)
    texts = [
        torch.tensor(teacher.tokenizer.encode(text)[: args.tokens], device=args.device) for text in corpus.held_out
    ]
    texts = [ids for ids in texts if len(ids) > 1]
    final = {"train_seconds": seconds}
    for name, model in ({"teacher": teacher.model} | students).items():
        if name in STUDENTS:
            round_to_half(model)
            final[f"kl_to_teacher_{name}"] = mean_kl(teacher.model, model, texts, args.length)
        found = exact_match(model, teacher.tokenizer, example_set(args.families, "test", args.n_test))
        final |= {f"exact_match_{name}": mean(list(found.values())), f"by_family_{name}": found}
        final |= {f"loss_{name}": mean_loss(model, texts, args.length)}
        final |= {f"parameters_{name}": sum(p.numel() for p in model.parameters())}
        if name in STUDENTS:
            about = {"exact_match": final[f"exact_match_{name}"], "tokenizer": teacher.tokenizer.to_plain()}
            save_model(args.out_dir / f"{name}.pth", model, model.config, about)
    final |= {
        "split": f"test, {args.n_test} questions of each family; the first {args.tokens} tokens of held-out texts"
    }
    final |= {"held_out_tokens": sum(len(ids) - 1 for ids in texts)}
    write_results(args.out_dir / "distillation.json", args, final, history)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: {', '.join(f'{name}.pth' for name in STUDENTS)}, distillation.json")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, batch_size=64, lr=2e-3, max_steps=1500)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, help="the teacher's checkpoint; None: the fine-tuned one that ships")
    parser.add_argument("--n_layers", type=positive, default=2, help="layers of the students")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(LEARNED), help="tasks to learn")
    parser.add_argument("--corpus", default="stories", choices=["stories", "toy"], help="what is read beside the chats")
    parser.add_argument("--length", type=positive, default=256, help="tokens of a row")
    parser.add_argument("--story_rows", type=positive, default=4, help="rows of the corpus beside each batch")
    parser.add_argument("--story_weight", type=amount, default=0.3, help="of their loss")
    parser.add_argument("--temperature", type=amount, default=2.0, help="above 1: unlikely tokens count more")
    parser.add_argument("--soft_weight", type=amount, default=0.9, help="from 0, text alone, to 1, the teacher alone")
    parser.add_argument("--save_every", type=positive, default=100, help="steps between saved states")
    parser.add_argument("--tokens", type=positive, default=20_000, help="of each held-out document to measure on")
    parser.add_argument("--n_test", type=positive, default=100, help="questions of each family in the end")
    return parser


def train(
    args: argparse.Namespace, teacher: Writer, windows: Windows
) -> tuple[dict[str, LanguageModel], list[dict], float]:
    """Train both students side by side, and save the state every so many steps; return them, history and seconds."""
    set_seed(args.seed)
    timer, students = Timer(), {name: with_fewer_layers(teacher.model, args.n_layers) for name in STUDENTS}
    optimizers = {name: make_optimizers(model, "muon", args.lr, 0.01) for name, model in students.items()}
    factor = warmup(cosine(args.max_steps - min(WARMUP, args.max_steps)), min(WARMUP, args.max_steps))
    schedules = {name: [Schedule(optimizer, factor) for optimizer in optimizers[name]] for name in STUDENTS}
    parts = {f"model_{name}": model for name, model in students.items()} | {"timer": timer}
    for name in STUDENTS:
        parts |= {f"optimizer_{name}_{i}": part for i, part in enumerate(optimizers[name])}
        parts |= {f"schedule_{name}_{i}": part for i, part in enumerate(schedules[name])}
    path = args.out_dir / "state.pth"
    done, history = load_state(path, args.flags, parts) if args.resume else (0, [])
    for step in tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step"):
        # batch: chats from the step's own seed, stories by its number
        generator = torch.Generator().manual_seed(seed_of(args.seed, step))
        chats = draw_chats(teacher.tokenizer, args.families, args.batch_size, args.length, generator)
        ids, targets, texts = (x.to(args.device) for x in chats)  # (B, T)
        x, y = (part.to(args.device) for part in windows.batch(step * args.story_rows, args.story_rows))
        learned = targets != IGNORED  # (B, T): of chats, only what the assistant writes counts
        with torch.no_grad(), autocast(args.device, args.amp):
            teacher_chat, teacher_story = both_logits(teacher.model, ids, texts, learned, x)
        row = {"step": step + 1}
        for name, model in students.items():
            # forward
            model.train()
            with autocast(args.device, args.amp):
                chat_logits, story_logits = both_logits(model, ids, texts, learned, x)

            # loss
            settings = args.temperature, args.soft_weight if name == "taught" else 0.0
            chat_loss = distillation_loss(chat_logits, teacher_chat, targets[learned], *settings)
            story_loss = distillation_loss(story_logits, teacher_story, y.flatten(), *settings)
            loss = chat_loss + args.story_weight * story_loss
            check_finite(loss.item(), step + 1)
            row[f"train_loss_{name}"] = F.cross_entropy(story_logits.float(), y.flatten()).item()

            # backward
            model.zero_grad()
            loss.backward()
            clip_by_norm_(model.parameters(), CLIP_NORM)

            # step
            for optimizer, schedule in zip(optimizers[name], schedules[name], strict=True):
                optimizer.step()
                schedule.step()

        # log and save
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            row["seconds"] = timer.seconds
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)
            save_state(path, args.flags, step + 1, [*history, row], parts)
        history.append(row)
    return {name: model.eval() for name, model in students.items()}, history, timer.seconds


def both_logits(model: LanguageModel, ids: Tensor, texts: Tensor, learned: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (N, V) of what is learned of chats (B, T), and those (M, V) of all M tokens of stories x."""
    return model.head(model.hidden(ids, texts=texts)[learned]), model(x).flatten(0, 1)


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
