"""Talking in the terminal: history, commands, interruptions, what is too long, and files that are damaged.
终端对话：历史、命令、中断、过长的内容，以及损坏的存档。
"""

import json

import pytest

from chapter_10_llm_modern_components import chat as script
from chapter_10_llm_modern_components import evaluate
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue import (
    CHAT_TOKENS,
    Message,
    encode_prompt,
    load_conversation,
    prompt_that_fits,
    save_conversation,
)
from utils.errors import UserError

SYSTEM = Message("system", "Be kind.")


def turns(count):
    return [Message(role, f"{role} {i}") for i in range(count) for role in ("user", "assistant")]


@pytest.fixture
def typed(monkeypatch, capsys):
    """Type some lines, then Ctrl-D; return what stands on stdout and stderr."""

    def call(*lines, flags=()):
        left = iter(lines)

        def next_line(prompt):
            line = next(left, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr("builtins.input", next_line)
        script.main(["--model_path", "untrained", "--n_tokens", "3", "--device", "cpu", *map(str, flags)])
        return capsys.readouterr()

    return call


def test_commands_and_odd_lines(typed, tmp_path):
    path = tmp_path / "chat.json"
    shown = typed("hello", "", "  ", "/what", "/save", f"/save {path}", "/reset", "again", f"/save {path}.2")
    assert "no command /what" in shown.err and "where? /save" in shown.err and "forgotten" in shown.err
    first, second = (load_conversation(tmp_path / name) for name in ("chat.json", "chat.json.2"))
    assert [message.text for message in first[:1] + second[:1]] == ["hello", "again"]
    assert len(first) == len(second) == 2
    shown = typed(
        "more", f"/save {path}", "/reset", f"/save {path}.3", flags=["--history", path, "--system", "Be kind."]
    )
    assert [message.role for message in load_conversation(path)] == ["user", "assistant"] * 2
    assert load_conversation(tmp_path / "chat.json.3") == [SYSTEM]
    assert "error" in typed(f"/save {tmp_path}", "hello").err, "a folder cannot be written to"


def test_interruptions(typed, tmp_path, monkeypatch):
    def two_tokens(*arguments, **options):
        yield [ord("o")]
        yield [ord("k")]
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "generate", two_tokens)
    shown = typed("hello", f"/save {tmp_path / 'chat.json'}", KeyboardInterrupt(), "never read")
    assert "ok (interrupted)" in shown.out
    assert load_conversation(tmp_path / "chat.json") == [Message("user", "hello"), Message("assistant", "ok")]


def test_of_a_call_the_result_is_shown(typed, monkeypatch):
    special = ByteTokenizer([(116, 104), (256, 101)], ["<|endoftext|>", *CHAT_TOKENS]).special
    tokens = [special["<|call|>"], *b"1+1", special["<|result|>"], *b"2", special["<|end|>"]]
    monkeypatch.setattr(script, "generate", lambda *arguments, **options: ([token] for token in tokens))
    assert typed("hello").out.splitlines()[0] == "2"


def test_the_oldest_turns_are_dropped():
    tokenizer = ByteTokenizer([], CHAT_TOKENS)
    messages = [SYSTEM, *turns(5), Message("user", "last")]
    ids, left = prompt_that_fits(tokenizer, messages, 1000)
    assert left == messages and ids == encode_prompt(tokenizer, messages)
    ids, left = prompt_that_fits(tokenizer, messages, len(ids) - 1)
    assert left == [SYSTEM, *turns(5)[2:], messages[-1]] and ids == encode_prompt(tokenizer, left)
    needed = len(encode_prompt(tokenizer, [SYSTEM, messages[-1]]))
    assert prompt_that_fits(tokenizer, messages, needed)[1] == [SYSTEM, messages[-1]]
    with pytest.raises(UserError, match=f"the model can read {needed - 1}"):
        prompt_that_fits(tokenizer, messages, needed - 1)


def test_a_long_line_and_a_long_history(typed):
    shown = typed("x" * 500, *["y" * 100] * 5)
    assert "say it more shortly" in shown.err and "no longer fit" in shown.err


def test_damaged_files_are_one_line(tmp_path, complaint):
    path = tmp_path / "chat.json"
    save_conversation(path, [SYSTEM, *turns(2)])
    assert load_conversation(path) == [SYSTEM, *turns(2)]
    good = json.loads(path.read_text())
    for broken in ("{", "3", '["a"]', "\x00", json.dumps(good[:2]), json.dumps([{"role": "user", "text": 3}] * 2)):
        path.write_text(broken)
        with pytest.raises(UserError, match="holds no conversation"):
            load_conversation(path)
    flags = "--model_path", "untrained", "--prompt", "hello"
    assert "holds no conversation" in complaint(script.main, *flags, "--history", path)
    assert "no such file" in complaint(script.main, *flags, "--history", tmp_path / "nothing.json")
    assert "sft.py makes a model" in complaint(script.main, "--model_path", tmp_path / "nothing.pth")
    assert "dpo.py, grpo.py and adapt.py make" in complaint(script.main, *flags, "--adapter", tmp_path / "nothing.pth")
    assert "reward.py makes" in complaint(evaluate.main, *flags[:2], "--judge", tmp_path / "nothing.pth")
    assert "leaves no room" in complaint(script.main, *flags, "--n_tokens", 9999)
