"""Let a language model write: one text as it comes, several side by side, or with a small model that guesses ahead.
让语言模型写作：边写边输出、多条提示并排，或让小模型先猜。

    python chapter_10_llm_modern_components/generate.py --prompt "Once upon a time"
    python chapter_10_llm_modern_components/generate.py --prompt "Once upon a time" "The sea" --temperature 0
    python chapter_10_llm_modern_components/generate.py --prompt "def main():" --stop "def " --top_p 0.9
    python chapter_10_llm_modern_components/generate.py --model_path my_llama --draft my_small_llama

A model is a checkpoint of this chapter, or a folder in Hugging Face's format whose kind is Llama, Mistral or Qwen 3.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_10_llm_modern_components.generation import Sampler, TextStream, generate, speculate
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, load_writer
from utils.cli import amount, begin, natural, positive, run, script_parser, seed
from utils.errors import UserError
from utils.timer import Timer

TINY = {"model_path": UNTRAINED, "prompt": ["the", "", "你好"], "n_tokens": 12, "min_p": 0.01}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    if not 0 < args.top_p <= 1 or args.min_p > 1 or args.repetition_penalty == 0:
        raise UserError("--top_p is above 0 and at most 1, --min_p at most 1, and --repetition_penalty above 0")
    sampler = Sampler(args.temperature, args.top_k or None, args.top_p, args.min_p, args.repetition_penalty)
    writer = load_writer(args.model_path, args.device)
    prompts = [encode_prompt(writer, text) for text in args.prompt]
    streams = [TextStream(writer.visible_tokens(), args.stop or ()) for _ in prompts]
    generator, timer = torch.Generator().manual_seed(args.seed), Timer()
    if args.draft is not None:
        draft = load_draft(args.draft, writer, prompts, args.device)
        options = sampler, args.n_guesses, generator, writer.end_tokens
        steps = one_by_one(speculate(writer.model, draft, prompts[0], args.n_tokens, *options))
    else:
        options = sampler, generator, writer.end_tokens, lambda row: not streams[row].stopped
        steps = generate(writer.model, prompts, args.n_tokens, *options)
    count = show_one(args.prompt[0], streams[0], steps) if len(prompts) == 1 else show_all(args.prompt, streams, steps)
    print(f"{count} tokens, {count / timer.seconds:.0f} a second", file=sys.stderr)
    if max(map(len, prompts)) + args.n_tokens > writer.model.config.max_length + 1:
        print(f"the model's context ends after {writer.model.config.max_length} tokens", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random choice")
    parser.add_argument("--prompt", nargs="+", default=["Once upon a time"], help="one text or several to go on from")
    parser.add_argument("--model_path", type=Path, help="a checkpoint or a folder; None: the one that ships")
    parser.add_argument("--draft", type=Path, help="a small model of the same tokens that guesses ahead")
    parser.add_argument("--n_guesses", type=positive, default=4, help="tokens that it guesses before they are checked")
    parser.add_argument("--n_tokens", type=positive, default=200, help="tokens to write at most")
    parser.add_argument("--temperature", type=amount, default=0.8, help="below 1 safer, above 1 bolder")
    parser.add_argument("--top_k", type=natural, default=0, help="draw from so many likeliest; 0: from all")
    parser.add_argument("--top_p", type=amount, default=1.0, help="draw from the likeliest that make up so much")
    parser.add_argument("--min_p", type=amount, default=0.0, help="leave out what is so much less likely than the best")
    parser.add_argument("--repetition_penalty", type=amount, default=1.0, help="above 1: what was written comes less")
    parser.add_argument("--stop", nargs="+", help="strings before which a text ends")
    return parser


def encode_prompt(writer: Writer, text: str) -> list[int]:
    """Return a prompt's tokens.

    Raises:
        UserError: there are more than the model can read.
    """
    tokens, longest = writer.encode_prompt(text), writer.model.config.max_length
    if len(tokens) > longest:
        raise UserError(f"--prompt has {len(tokens)} tokens, and the model's context {longest}: shorten it")
    return tokens


def load_draft(path: Path, writer: Writer, prompts: list[list[int]], device: torch.device) -> LanguageModel:
    """Return the model that guesses.

    Raises:
        UserError: there are several prompts, its tokens are others, or it cannot read so many.
    """
    if len(prompts) > 1:
        raise UserError("--draft guesses for one --prompt at a time")
    draft = load_writer(path, device)
    if draft.tokenizer.tokens != writer.tokenizer.tokens or draft.model.config.n_tokens != writer.model.config.n_tokens:
        raise UserError(f"--draft {path} has other tokens than the model")
    if len(prompts[0]) > draft.model.config.max_length:
        raise UserError(
            f"--draft {path} reads {draft.model.config.max_length} tokens, and --prompt has {len(prompts[0])}"
        )
    return draft.model


def one_by_one(rounds: Iterator[list[int]]) -> Iterator[list[int | None]]:
    """Yield the tokens of one sequence as `generate` yields them."""
    return ([token] for tokens in rounds for token in tokens)


def show_one(prompt: str, stream: TextStream, steps: Iterator[list[int | None]]) -> int:
    """Print a text as it comes; return how many tokens it had."""
    print(prompt, end="", flush=True)
    count = 0
    for [token] in steps:
        print(stream.feed(token), end="", flush=True)
        count += 1
        if stream.stopped:
            break
    print(stream.finish())
    return count


def show_all(prompts: list[str], streams: list[TextStream], steps: Iterator[list[int | None]]) -> int:
    """Print several texts, one below the other, when all are done; return how many tokens they had."""
    texts, count = list(prompts), 0
    for tokens in steps:
        for i, token in enumerate(tokens):
            if token is not None:
                texts[i] += streams[i].feed(token)
                count += 1
    for number, (text, stream) in enumerate(zip(texts, streams, strict=True), start=1):
        print(f"--- {number} ---\n{text}{stream.finish()}")
    return count


if __name__ == "__main__":
    run(main)
