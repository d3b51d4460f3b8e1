"""Learn which answers are good from pairs alone, and let the judge pick the best of several: a reward model.
只从成对的比较中学出一个裁判，再让它从几个回答里挑最好的：奖励模型。

    python chapter_10_llm_modern_components/reward.py    # on 2 CPU cores about 20 minutes
    python chapter_10_llm_modern_components/reward.py --resume    # after an interruption, to the same numbers

The judge is the chat model itself with adapters and another head. It is never told what makes an answer right, and is
measured on questions that are in no pair.
"""

import argparse
import sys
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import AdamW
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_10_llm_modern_components.alignment import RewardModel, bradley_terry_loss, pair_accuracy
from chapter_10_llm_modern_components.answers import LONGEST_ANSWER, Pair, draw_questions, find_pairs, try_out
from chapter_10_llm_modern_components.answers.grading import mean, rewards_of_texts
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.model_compression import LoRAConfig, adapter_state, add_lora_, trained_share
from chapter_10_llm_modern_components.packing import Text, pad
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, check_rank, load_chat
from chapter_10_llm_modern_components.tasks import FAMILIES, LEARNED, example_set, is_right
from utils.checkpoint import load_state, round_to_half, save_state, write_model
from utils.cli import add_training_flags, amount, begin, positive, run, script_parser
from utils.device import autocast
from utils.errors import check_finite
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.tables import final_lines
from utils.timer import Timer

CLIP_NORM = 1.0
TINY = {"model_path": UNTRAINED, "max_steps": 4, "batch_size": 2, "n_questions": 4, "n_tries": 2, "n_tokens": 4}
TINY |= {"save_every": 2, "n_test": 2, "rank": 2, "families": ["arithmetic", "reverse"]}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    writer = load_chat(args.model_path, args.device)
    check_rank(args.rank, writer.model)
    generator = torch.Generator().manual_seed(args.seed)
    examples = draw_questions(args.families, "train", args.n_questions, generator)
    options = args.n_tries, args.n_tokens, Sampler(args.temperature), generator
    pairs = find_pairs(writer.model, writer.tokenizer, examples, *options)
    model = RewardModel(deepcopy(writer.model)).to(args.device)
    config = LoRAConfig(args.rank, args.alpha)
    add_lora_(model, config)
    model.head.requires_grad_(True)
    history, seconds = train(args, model, pairs)
    round_to_half(model)
    final = measure(args, writer, model)
    final |= {"pairs": len(pairs), "own_pairs": sum(pair.own for pair in pairs) / len(pairs)}
    final |= {"trained_share": trained_share(model), "train_seconds": seconds}
    weights = adapter_state(model) | {"head.weight": model.head.weight}
    weights = {name: tensor.detach().half() for name, tensor in weights.items()}
    write_model(args.out_dir / "reward.pth", weights, config, {"pair_accuracy": final["pair_accuracy"]})
    write_results(args.out_dir / "reward.json", args, final, history)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: reward.pth, reward.json")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, batch_size=32, lr=3e-4, max_steps=400)
    parser.add_argument("--model_path", type=Path, help="a checkpoint that can chat; None: the one that ships")
    parser.add_argument("--families", nargs="+", default=list(LEARNED), choices=FAMILIES, help="of tasks to judge")
    parser.add_argument("--n_questions", type=positive, default=4000, help="on which right and wrong answers are tried")
    parser.add_argument("--n_tries", type=positive, default=8, help="answers to each question")
    parser.add_argument("--n_tokens", type=positive, default=LONGEST_ANSWER, help="of an answer at most")
    parser.add_argument("--temperature", type=amount, default=1.0, help="of the answers; at 0 all would be the same")
    parser.add_argument("--rank", type=positive, default=8, help="of the adapters")
    parser.add_argument("--alpha", type=amount, default=16.0, help="adapters count alpha / rank")
    parser.add_argument("--save_every", type=positive, default=50, help="steps between saved states")
    parser.add_argument("--n_test", type=positive, default=50, help="questions of each family to measure on")
    return parser


def train(args: argparse.Namespace, model: RewardModel, pairs: list[Pair]) -> tuple[list[dict], float]:
    """Train the adapters and the head, and save the state every so many steps; return history and seconds."""
    timer = Timer()
    set_seed(args.seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=args.lr, weight_decay=0.0)
    parts, path = {"model": model, "optimizer": optimizer, "timer": timer}, args.out_dir / "state.pth"
    done, history = load_state(path, args.flags, parts) if args.resume else (0, [])
    for step in tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step"):
        # batch: pairs, drawn by the step's number alone; the chosen texts first, then the rejected ones
        generator = torch.Generator().manual_seed(seed_of(args.seed, step + 1))
        some = [pairs[i] for i in torch.randint(len(pairs), (args.batch_size,), generator=generator).tolist()]
        texts = [pair.chosen for pair in some] + [pair.rejected for pair in some]  # 2 B of them

        # forward
        with autocast(args.device, args.amp):
            rewards = rewards_of(model, texts, args.device)  # (2 B,)

        # loss
        chosen, rejected = rewards.float().chunk(2)  # (B,) each
        loss = bradley_terry_loss(chosen, rejected)
        check_finite(loss.item(), step + 1)

        # backward
        optimizer.zero_grad()
        loss.backward()
        clip_by_norm_(parameters, CLIP_NORM)

        # step
        optimizer.step()

        # log and save
        row = {"step": step + 1, "loss": loss.item(), "pair_accuracy": pair_accuracy(chosen, rejected)}
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            row["seconds"] = timer.seconds
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)
            save_state(path, args.flags, step + 1, [*history, row], parts)
        history.append(row)
    return history, timer.seconds


def rewards_of(model: RewardModel, texts: list[Text], device: torch.device) -> Tensor:
    """Return the reward (B,) of each text."""
    ids, _ = pad(texts)  # (B, T)
    lengths = torch.tensor([len(text.ids) for text in texts])
    return model(ids.to(device), lengths.to(device))


def measure(args: argparse.Namespace, writer: Writer, model: RewardModel) -> dict:
    """Return how often the judge prefers a right reply to a wrong one, and how good the replies are that it picks."""
    examples = example_set(args.families, "test", args.n_test)
    generator, sampler = torch.Generator().manual_seed(args.seed), Sampler(args.temperature)
    replies = try_out(writer.model, writer.tokenizer, examples, args.n_tries, args.n_tokens, sampler, generator)
    rewards = torch.tensor(rewards_of_texts(model, [reply.tokens for reply in replies]))
    right = torch.tensor([is_right(examples[i // args.n_tries], reply.text) for i, reply in enumerate(replies)])
    rewards, right = rewards.view(-1, args.n_tries), right.view(-1, args.n_tries)  # (N, G)
    pairs = [torch.cartesian_prod(r[ok], r[~ok]) for r, ok in zip(rewards, right, strict=True) if ok.any() > ok.all()]
    picked = right.gather(1, rewards.argmax(dim=1, keepdim=True)).squeeze(1)  # (N,)
    return {
        "pair_accuracy": mean([pair_accuracy(*pair.unbind(1)) for pair in pairs]) if pairs else 0.5,
        "questions_with_both": len(pairs),
        "picked_by_the_judge": picked.float().mean().item(),
        "picked_at_random": right.float().mean().item(),
        "picked_by_the_truth": right.any(dim=1).float().mean().item(),
        "test_count": len(examples),
        "split": f"test, {args.n_test} questions of each family, {args.n_tries} replies to each",
    }


if __name__ == "__main__":
    run(main)
