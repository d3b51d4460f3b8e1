"""Let stories end well: PPO with a value head, and chapter 6's sentiment classifier as the judge.
让故事有好结局：带价值头的 PPO，由第 6 章的情感分类器当裁判。

    python chapter_10_llm_modern_components/ppo.py    # on 2 CPU cores about two hours
    python chapter_10_llm_modern_components/ppo.py --arms bounded    # only the run that is held back: an hour
    python chapter_10_llm_modern_components/ppo.py --resume    # after an interruption, to the same numbers

A step lets the model go on from beginnings in books that it was trained on, and has each ending judged. Moving away
from the reference costs, and the price follows how far the policy has moved; a second run is free to move: what then
pleases the judge? Both are measured on held-out books.
"""

import argparse
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import AdamW
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_10_llm_modern_components.alignment import (
    ActorCritic,
    adapted_beta,
    clipped_losses,
    clipped_value_losses,
    gae,
    mean_of_tokens,
    rewards_with_kl,
    token_logps,
    whiten,
)
from chapter_10_llm_modern_components.answers.story_endings import Judge, beginnings, load_judge, write_endings
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.model_compression import LoRAConfig, adapter_state, add_lora_, without_adapters
from chapter_10_llm_modern_components.pretraining import load_corpus
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, check_fits, check_rank, load_learner
from utils.checkpoint import load_state, round_to_half, save_state, write_model
from utils.cli import add_data_flag, add_training_flags, amount, begin, positive, run, script_parser
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.file_io_util import atomic_write
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.tables import final_lines
from utils.timer import Timer

CLIP_NORM = 1.0
ARMS = "bounded", "free"
N_SHOWN = 10  # endings that are written
TINY = {"model_path": UNTRAINED, "corpus": "toy", "max_steps": 3, "batch_size": 4, "n_prompt": 3, "n_tokens": 4}
TINY |= {"save_every": 2, "n_test": 4, "rank": 2}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    writer, judge = load_learner(args.model_path, args.device), load_judge(args.device)
    check_fits("--n_prompt + --n_tokens =", args.n_prompt + args.n_tokens, writer.model)
    check_rank(args.rank, writer.model)
    for arm in () if args.resume else args.arms:
        (args.out_dir / f"state_{arm}.pth").unlink(missing_ok=True)  # an older run's
    corpus, config = load_corpus(args.corpus, args.data_root), LoRAConfig(args.rank, args.alpha)
    prompts = beginnings(writer.tokenizer, corpus.train, args.n_prompt)
    tested = beginnings(writer.tokenizer, corpus.held_out, args.n_prompt)
    if not prompts or not tested:
        raise UserError(f"no paragraph of the corpus goes on after {args.n_prompt} tokens: lower --n_prompt")
    chosen = torch.randperm(len(tested), generator=torch.Generator().manual_seed(0))[: args.n_test].tolist()
    tested = [tested[i] for i in chosen]
    before, _ = measure(args, writer, writer.model, judge, tested)
    final, history = {f"{name}_before": value for name, value in before.items()}, []
    for arm in args.arms:
        learner = replace(writer, model=deepcopy(writer.model))
        steps, seconds = train(args, learner, judge, prompts, config, arm)
        round_to_half(learner.model)
        after, texts = measure(args, learner, writer.model, judge, tested)
        after |= {f"{gain}gain": after[name] - before[name] for gain, name in (("", "score"), ("praise_", "praise"))}
        after |= {"train_seconds": seconds, "beta": steps[-1]["beta"]}
        final |= {f"{name}_{arm}": value for name, value in after.items()}
        history += [{"arm": arm} | row for row in steps]
        weights = {name: tensor.detach().half() for name, tensor in adapter_state(learner.model).items()}
        write_model(args.out_dir / f"ppo_{arm}.pth", weights, config, after)
        with atomic_write(args.out_dir / f"endings_{arm}.txt") as temporary:
            temporary.write_text("\n".join(texts[:N_SHOWN]), encoding="utf-8")
    final |= {"split": f"beginnings of {args.n_prompt} tokens from held-out documents", "test_count": len(tested)}
    write_results(args.out_dir / "ppo.json", args, final, history)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: ppo.json, and of each of {', '.join(args.arms)} ppo_ARM.pth and endings_ARM.txt")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, batch_size=64, lr=3e-4, max_steps=150)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, help="a checkpoint that writes stories; None: the one that ships")
    parser.add_argument("--corpus", default="stories", choices=["stories", "toy"], help="where beginnings are from")
    what = "bounded: moving away costs what holds it near --kl_target; free: nothing"
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help=what)
    parser.add_argument("--n_prompt", type=positive, default=16, help="tokens of a beginning")
    parser.add_argument("--n_tokens", type=positive, default=32, help="tokens of an ending")
    parser.add_argument("--n_updates", type=positive, default=4, help="steps of the optimizer with the same endings")
    parser.add_argument("--gamma", type=amount, default=1.0, help="what a reward is worth a token later")
    parser.add_argument("--lam", type=amount, default=0.95, help="1: returns as they came, 0: the value head's word")
    parser.add_argument("--kl_target", type=amount, default=6.0, help="nats an ending: above it KL becomes dearer")
    parser.add_argument("--beta", type=amount, default=0.05, help="price of a nat of KL at the beginning")
    parser.add_argument("--rank", type=positive, default=8, help="of the adapters")
    parser.add_argument("--alpha", type=amount, default=16.0, help="adapters count alpha / rank")
    parser.add_argument("--save_every", type=positive, default=10, help="steps between saved states")
    parser.add_argument("--n_test", type=positive, default=200, help="held-out beginnings to measure on")
    return parser


class Beta:
    """The price of KL, in a form that a training state can hold."""

    def __init__(self, value: float):
        self.value = value

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.value = state["value"]


def train(
    args: argparse.Namespace, writer: Writer, judge: Judge, prompts: list[list[int]], config: LoRAConfig, arm: str
) -> tuple[list[dict], float]:
    """Add adapters and a value head, train them, save the state every so many steps; return history and seconds."""
    timer, beta = Timer(), Beta(args.beta if arm == "bounded" else 0.0)
    set_seed(args.seed)
    add_lora_(writer.model, config)
    model = ActorCritic(writer.model).to(args.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=args.lr, weight_decay=0.0)
    parts = {"model": model, "optimizer": optimizer, "timer": timer, "beta": beta}
    path = args.out_dir / f"state_{arm}.pth"
    resume = args.resume and (path.exists() or arm == args.arms[0])  # the second may not have begun
    done, history = load_state(path, args.flags, parts) if resume else (0, [])
    for step in tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step"):
        # batch: beginnings, and the model's endings; the step's number alone tells which
        generator = torch.Generator().manual_seed(seed_of(args.seed, step))
        some = [prompts[i] for i in torch.randint(len(prompts), (args.batch_size,), generator=generator).tolist()]
        ids, mask, endings = write_endings(writer, some, args.n_tokens, Sampler(), generator)  # (B, T), (B, T-1)
        scores = judge.scores(endings).to(args.device)  # (B,)
        with torch.no_grad(), autocast(args.device, args.amp):
            old_logps, old_values = look(model, ids)  # (B, T-1) each
            with without_adapters(model):
                reference_logps, _ = look(model, ids)
        rewards = rewards_with_kl(scores, old_logps, reference_logps, mask, beta.value)  # (B, T-1)
        advantages = gae(rewards, old_values, mask, args.gamma, args.lam)
        targets, advantages = old_values + advantages, whiten(advantages, mask)
        for _ in range(args.n_updates):
            # forward
            with autocast(args.device, args.amp):
                logps, values = look(model, ids)  # (B, T-1) each

            # loss
            value_loss = mean_of_tokens(clipped_value_losses(values, old_values, targets), mask)
            loss = mean_of_tokens(clipped_losses(logps, old_logps, advantages), mask) + value_loss
            check_finite(loss.item(), step + 1)

            # backward
            optimizer.zero_grad()
            loss.backward()
            clip_by_norm_(parameters, CLIP_NORM)

            # step
            optimizer.step()

        # log and save
        kl = ((old_logps - reference_logps) * mask).sum(dim=1).mean().item()  # nats an ending
        row = {"step": step + 1, "score": scores.mean().item(), "kl": kl, "beta": beta.value}
        row["value_loss"] = value_loss.item()
        beta.value = adapted_beta(beta.value, kl, args.kl_target)
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            row["seconds"] = timer.seconds
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)
            save_state(path, args.flags, step + 1, [*history, row], parts)
        history.append(row)
    return history, timer.seconds


def look(model: ActorCritic, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return of tokens (B, T) but the first the log-probabilities, and the values of what is before them, (B, T-1)."""
    logits, values = model(ids)  # (B, T, V), (B, T)
    return token_logps(logits, ids), values[:, :-1].float()


@torch.no_grad()
def measure(
    args: argparse.Namespace, writer: Writer, reference: torch.nn.Module, judge: Judge, prompts: list[list[int]]
) -> tuple[dict[str, float], list[str]]:
    """Return figures on endings from held-out beginnings, and beginnings with endings."""
    generator = torch.Generator().manual_seed(args.seed)
    ids, mask, endings = write_endings(writer, prompts, args.n_tokens, Sampler(), generator)
    ours, theirs = (token_logps(model(ids), ids) for model in (writer.model, reference))
    words = [word for ending in endings for word in ending.split()]
    scores = judge.scores(endings)
    found = {
        "score": scores.mean().item(),
        "praise": scores.sigmoid().mean().item(),  # the probability that the judge sees in it
        "kl": ((ours - theirs) * mask).sum(dim=1).mean().item(),  # nats an ending
        "reference_loss": -mean_of_tokens(theirs, mask).item(),  # how unlikely the reference finds each token
        "different_words": len(set(words)) / max(len(words), 1),
    }
    starts = [writer.tokenizer.decode(prompt) for prompt in prompts]
    return found, [f"{start}|{ending}\n" for start, ending in zip(starts, endings, strict=True)]


if __name__ == "__main__":
    run(main)
