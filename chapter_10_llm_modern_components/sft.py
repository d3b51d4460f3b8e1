"""Teach a pre-trained model to answer: supervised fine-tuning on the assistant's tokens alone, stories mixed in.
教预训练模型学会回答：只在助手的词元上做监督微调，并混入故事以免遗忘。

    python chapter_10_llm_modern_components/sft.py    # all families but three: on a CPU core an hour and a half
    python chapter_10_llm_modern_components/sft.py --story_weight 0    # how much is forgotten without stories?
    python chapter_10_llm_modern_components/sft.py --max_steps 800    # too short: what grpo.py begins with
    python chapter_10_llm_modern_components/sft.py --resume    # after an interruption, to the same numbers

The authors of the answers are of two minds about the calculator: where there is one, some call it and some do not, see
--calls. So is the model then. What it had better do, dpo.py teaches it.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_10_llm_modern_components.answers.grading import answer_examples, by_family, exact_match, has_called, mean
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue import draw_chats
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.pretraining import (
    Windows,
    bits_per_byte,
    cached_stream,
    cut,
    load_corpus,
    perplexity,
)
from chapter_10_llm_modern_components.shipped import UNTRAINED, check_chat_tokens, check_fits, load_learner
from chapter_10_llm_modern_components.tasks import FAMILIES, LEARNED, example_set, majority_baseline
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, natural, positive, run, script_parser, share
from utils.device import autocast
from utils.errors import check_finite
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.tables import final_lines
from utils.timer import Timer

TINY = {"model_path": UNTRAINED, "corpus": "toy", "max_steps": 4, "batch_size": 4, "length": 350, "story_rows": 1}
TINY |= {"save_every": 2, "n_test": 2, "n_validation": 1, "story_kb": 1, "megabytes": 0.01}
CHAPTER = "chapter_10_llm_modern_components"
N_BASELINE = 500  # training examples of each family in which the most frequent answer is looked for


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    families = list(dict.fromkeys(args.families))
    learner = load_learner(args.model_path, args.device)
    check_chat_tokens(learner)
    model, tokenizer = learner.model, learner.tokenizer
    check_fits("--length", args.length, model)
    corpus = load_corpus(args.corpus, args.data_root)
    shards = cached_stream(cut(corpus.train, int(args.megabytes * 1e6)), tokenizer, args.out_dir)
    windows = Windows(shards, args.length, args.seed)
    held_out_text = cut(corpus.held_out, 1000 * args.story_kb)

    before = measure(model, tokenizer, families, args.n_test, held_out_text, args.length)
    history, seconds = train(args, model, tokenizer, families, windows)
    round_to_half(model)
    after = measure(model, tokenizer, families, args.n_test, held_out_text, args.length)

    final = after | {"exact_match_base": before["exact_match"]}
    final |= {f"{name}_before": before[name] for name in ("bits_per_byte", "perplexity")}
    final |= {"by_family_base": before["by_family"], **guessing(families, args.n_test)}
    final |= {"families": families, "n_families": len(families), "split": "test", "train_seconds": seconds}
    final["n_parameters"] = sum(p.numel() for p in model.parameters())
    save_model(args.out_dir / "sft.pth", model, model.config, final | {"tokenizer": tokenizer.to_plain()})
    write_results(args.out_dir / "sft.json", args, final, history)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: sft.pth, sft.json")
    print(f"talk with it: python {CHAPTER}/chat.py --model_path {args.out_dir / 'sft.pth'}")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, batch_size=64, lr=2e-3, max_steps=5000)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, help="what pretrain.py has made; None: the one that ships")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(LEARNED), help="tasks to learn")
    parser.add_argument("--length", type=positive, default=256, help="tokens of a row, into which chats are packed")
    what = "families are drawn in proportion to 1 + focus times what the last validation found wrong; 0: all alike"
    parser.add_argument("--focus", type=amount, default=4.0, help=what)
    parser.add_argument("--calculator", type=share, default=0.25, help="share of the chats in which there is one")
    parser.add_argument("--calls", type=amount, default=0.4, help="share of these in which it is called; 1: always")
    parser.add_argument("--corpus", default="stories", choices=["stories", "toy"], help="what is not to be forgotten")
    parser.add_argument("--megabytes", type=amount, default=1000.0, help="how much of the corpus is read at most")
    parser.add_argument("--story_rows", type=positive, default=4, help="rows of the corpus beside each batch")
    parser.add_argument("--story_weight", type=amount, default=0.3, help="of their loss; 0: they are left out")
    parser.add_argument("--story_kb", type=positive, default=100, help="kB of held-out stories to measure on")
    parser.add_argument("--optimizer", default="muon", choices=["adamw", "muon"], help="muon: for matrices alone")
    parser.add_argument("--weight_decay", type=amount, default=0.01, help="of matrices, times the rate, a step")
    parser.add_argument("--warmup", type=share, default=0.02, help="share of the steps in which the rate rises")
    parser.add_argument("--clip", type=amount, default=1.0, help="longest norm of the gradients")
    parser.add_argument("--save_every", type=positive, default=250, help="steps between saved states")
    parser.add_argument("--n_validation", type=natural, default=20, help="questions a family then; 0: none")
    parser.add_argument("--n_test", type=positive, default=100, help="questions of each family in the end")
    return parser


def train(
    args: argparse.Namespace, model: LanguageModel, tokenizer: ByteTokenizer, families: list[str], windows: Windows
) -> tuple[list[dict], float]:
    """Train the model, and save the state every so many steps; return history and seconds."""
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)
    warmup_steps = round(args.warmup * args.max_steps)
    factor = warmup(cosine(args.max_steps - warmup_steps), warmup_steps)
    schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
    validation, timer = example_set(families, "validation", args.n_validation), Timer()
    parts = {"model": model, "timer": timer}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule_{i}": schedule for i, schedule in enumerate(schedules)}
    path = args.out_dir / "state.pth"
    done, history = load_state(path, args.flags, parts) if args.resume else (0, [])

    summed, since = torch.zeros(2, device=args.device), done
    for step in tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step"):
        # batch: chats from the step's own seed, stories by its number
        generator = torch.Generator().manual_seed(seed_of(args.seed, step))
        mix = args.calculator, args.calls, shares_of(families, history, args.focus)
        chats = draw_chats(tokenizer, families, args.batch_size, args.length, generator, *mix)
        ids, targets, texts = (x.to(args.device) for x in chats)  # (B, T)
        learned = targets != IGNORED
        set_seed(seed_of(args.seed, step))  # of the dropout
        model.train()

        # forward and loss: what the assistant writes is all that is learned, so the head need not rate the rest
        with autocast(args.device, args.amp):
            logits = model.head(model.hidden(ids, texts=texts)[learned])  # (N, V)
        chat_loss = F.cross_entropy(logits.float(), targets[learned])
        story_loss = torch.zeros_like(chat_loss)
        if args.story_weight:
            x, y = (part.to(args.device) for part in windows.batch(step * args.story_rows, args.story_rows))
            with autocast(args.device, args.amp):
                logits = model(x)
            story_loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())

        # backward
        model.zero_grad()
        (chat_loss + args.story_weight * story_loss).backward()
        clip_by_norm_(model.parameters(), args.clip)

        # step
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()

        # log and save
        summed += torch.stack([chat_loss, story_loss]).detach()
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            losses = (summed / (step + 1 - since)).tolist()
            check_finite(sum(losses), step + 1)
            row = {"step": step + 1, "chat_loss": losses[0], "story_loss": losses[1], "lr": args.lr * factor(step)}
            found = exact_match(model, tokenizer, validation)  # {} without questions
            row |= {f"validation_{name}": value for name, value in found.items()}
            row |= {"validation_exact_match": mean(list(found.values()))} if found else {}
            history.append(row | {"seconds": timer.seconds})
            save_state(path, args.flags, step + 1, history, parts)
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in history[-1].items()), file=sys.stderr)
            summed, since = torch.zeros_like(summed), step + 1
    return history, timer.seconds


def shares_of(families: list[str], history: list[dict], focus: float) -> list[float]:
    """Return how often each family is to be drawn: what is known already has less to teach."""
    last = history[-1] if history else {}
    return [1 + focus * (1 - last.get(f"validation_{name}", 0.0)) for name in families]


def measure(
    model: LanguageModel, tokenizer: ByteTokenizer, families: list[str], n_test: int, stories: list[str], length: int
) -> dict:
    """Return exact match on the test questions, with a calculator too where it helps, and bits a byte of stories."""
    examples = example_set(families, "test", n_test)
    found = exact_match(model, tokenizer, examples)
    final = {"exact_match": mean(list(found.values())), "by_family": found, "test_count": len(examples)}
    helped = [example for example in examples if example.expression]
    if helped:
        replies, right = answer_examples(model, tokenizer, helped, calculator=True)
        with_tool = by_family(helped, right)
        final["calculator_called"] = mean([has_called(tokenizer, reply) for reply in replies])
        final["exact_match_with_calculator"] = mean(list(with_tool.values()))
        final["exact_match_without_calculator"] = mean([found[name] for name in with_tool])
        final["by_family_with_calculator"] = with_tool
    unseen = [name for name in families if FAMILIES[name].kinds("unseen")]
    if unseen:
        questions = example_set(unseen, "unseen", n_test)
        final["exact_match_unseen"] = mean(list(exact_match(model, tokenizer, questions).values()))
        final["unseen_count"] = len(questions)
    bits = bits_per_byte(model, tokenizer, stories, length)
    return final | {"bits_per_byte": bits, "perplexity": perplexity(bits, tokenizer, stories)}


def guessing(families: list[str], n_test: int) -> dict:
    """Return what always giving each family's most frequent answer reaches."""
    found = majority_baseline(example_set(families, "train", N_BASELINE), example_set(families, "test", n_test))
    return {"exact_match_majority": mean(list(found.values())), "by_family_majority": found}


if __name__ == "__main__":
    run(main)
