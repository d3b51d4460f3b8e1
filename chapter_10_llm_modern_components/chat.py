"""Talk with a fine-tuned model in the terminal: it answers as it thinks, remembers, and may use a calculator.
在终端里与微调后的模型对话：边生成边显示、记得前文，还能用计算器。

    python chapter_10_llm_modern_components/chat.py    # a conversation; /reset forgets it, /save FILE keeps it
    python chapter_10_llm_modern_components/chat.py --prompt "What is 12 times 7?"    # one answer: seconds
    python chapter_10_llm_modern_components/chat.py --prompt "What is 347 plus 25?" --system "You may use a calculator."
    python chapter_10_llm_modern_components/chat.py --temperature 0.7 --seed 3    # answers that vary
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_10_llm_modern_components.dialogue import (
    CALL,
    END,
    RESULT,
    Message,
    load_conversation,
    prompt_that_fits,
    result_inserter,
    save_conversation,
)
from chapter_10_llm_modern_components.generation import Sampler, TextStream, generate
from chapter_10_llm_modern_components.model_compression import FORMATS
from chapter_10_llm_modern_components.shipped import UNTRAINED, Writer, load_chat
from utils.cli import amount, begin, positive, run, script_parser, seed
from utils.errors import UserError

TINY = {"model_path": UNTRAINED, "prompt": "What is 12 times 7?", "n_tokens": 8}
HELP = "/reset forgets the conversation, /save FILE keeps it, /quit ends"


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    writer = load_chat(args.model_path, args.device, args.adapter, args.quantize)
    if args.n_tokens >= writer.model.config.max_length:
        raise UserError(f"--n_tokens {args.n_tokens} leaves no room in a context of {writer.model.config.max_length}")
    beginning = [Message("system", args.system)] if args.system else []
    messages = load_conversation(args.history) if args.history else beginning
    generator, sampler = torch.Generator().manual_seed(args.seed), Sampler(args.temperature)
    if args.prompt is not None:
        reply(writer, [*messages, Message("user", args.prompt)], args.n_tokens, sampler, generator)
        return
    converse(writer, messages, beginning, args.n_tokens, sampler, generator)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random choice")
    parser.add_argument("--model_path", type=Path, help="a model that answers; None: the fine-tuned one that ships")
    parser.add_argument("--adapter", type=Path, help="what adapt.py, dpo.py or grpo.py has made of it")
    parser.add_argument(
        "--quantize", default="none", choices=["none", *FORMATS], help="round the model's weights to it"
    )
    parser.add_argument("--prompt", help="one question to answer; None: a conversation")
    parser.add_argument("--system", default="", help="what the system says first; empty: nothing")
    parser.add_argument("--history", type=Path, help="a conversation to go on with, as /save wrote it")
    parser.add_argument("--n_tokens", type=positive, default=200, help="tokens of an answer at most")
    parser.add_argument("--temperature", type=amount, default=0.0, help="0: always the likeliest token; 1: as it comes")
    return parser


def converse(
    writer: Writer,
    messages: list[Message],
    beginning: list[Message],
    n_tokens: int,
    sampler: Sampler,
    generator: torch.Generator,
) -> None:
    """Answer what is typed, line by line, until the input ends; what goes wrong with one line ends nothing.

    Args:
        beginning: the messages to which /reset goes back.
    """
    print(HELP, file=sys.stderr)
    for line in typed_lines():
        command, _, rest = line.partition(" ")
        try:
            if command == "/quit":
                return
            if command == "/reset":
                messages = list(beginning)
                print("forgotten", file=sys.stderr)
            elif command == "/save":
                save(rest.strip(), messages)
            elif command.startswith("/"):
                print(f"no command {command}: {HELP}", file=sys.stderr)
            else:
                messages = reply(writer, [*messages, Message("user", line)], n_tokens, sampler, generator)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)


def typed_lines() -> Iterator[str]:
    """Yield the lines that are typed, but not empty ones, until Ctrl-D or, at the prompt, Ctrl-C."""
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line:
            yield line


def save(name: str, messages: list[Message]) -> None:
    """Write the conversation to the file of this name.

    Raises:
        UserError: there is no name.
    """
    if not name:
        raise UserError("where? /save chat.json")
    save_conversation(Path(name).expanduser(), messages)
    print(f"written: {name}", file=sys.stderr)


def reply(
    writer: Writer, messages: list[Message], n_tokens: int, sampler: Sampler, generator: torch.Generator
) -> list[Message]:
    """Print the answer to the last message as it comes; return the conversation with it, as much as was read of it.

    Ctrl-C ends the answer where it stands, and not the conversation.
    """
    tokenizer, model = writer.tokenizer, writer.model
    ids, left = prompt_that_fits(tokenizer, messages, model.config.max_length - n_tokens)
    if len(left) < len(messages):
        print(f"(the oldest {len(messages) - len(left)} messages no longer fit, and are forgotten)", file=sys.stderr)
    end, call, result = (tokenizer.special[name] for name in (END, CALL, RESULT))
    stream, written, calling = TextStream(writer.visible_tokens()), [], False
    try:
        steps = generate(model, [ids], n_tokens, sampler, generator, [end], given=result_inserter(tokenizer))
        for [token] in steps:
            written.append(token)
            calling = token == call or (calling and token != result)  # of a call only the result is shown
            if not calling:
                print(stream.feed(token), end="", flush=True)
    except KeyboardInterrupt:
        print(" (interrupted)", end="")
    print(stream.finish())
    text = tokenizer.decode(written[:-1] if written[-1:] == [end] else written)
    return [*left, Message("assistant", text)]


if __name__ == "__main__":
    run(main)
