"""The script that writes: it streams, writes several texts, takes a draft and foreign folders, and says what is wrong.
写作脚本：流式输出、多条并行、投机草稿、外来文件夹，以及出错时的提示。
"""

import json

import pytest
import torch

from chapter_10_llm_modern_components import generate as script
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.hugging_face import write_folder
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from tests.chapter_10.test_hf_compat import tokenizer_json
from utils.checkpoint import round_to_half, save_model

TINY = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8, "max_length": 32}


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path / "model.pth")


def save(path, about=None, **options):
    torch.manual_seed(0)
    tokenizer = ByteTokenizer([(116, 104)], ["<|endoftext|>"])
    model = LanguageModel(ModelConfig(**{"n_tokens": len(tokenizer)} | TINY | options))
    round_to_half(model)
    save_model(path, model, model.config, {"tokenizer": tokenizer.to_plain()} if about is None else about)
    return path


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    write_folder(tmp_path / "llama", LanguageModel(ModelConfig(260, **TINY)), end_token=257)
    (tmp_path / "llama" / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    return tmp_path / "llama"


def written(capsys, *arguments):
    capsys.readouterr()
    script.main([str(argument) for argument in (*arguments, "--device", "cpu")])
    return capsys.readouterr().out


def test_one_text_several_and_a_draft_are_the_same(checkpoint, capsys):
    flags = ["--model_path", checkpoint, "--temperature", 0, "--n_tokens", 10]
    one = written(capsys, *flags, "--prompt", "the")
    assert one.startswith("the") and one == written(capsys, *flags, "--prompt", "the", "--draft", checkpoint)
    both = written(capsys, *flags, "--prompt", "the", "a long one")
    assert both.startswith(f"--- 1 ---\n{one}--- 2 ---\na long one")
    script.main(["--model_path", str(checkpoint), "--prompt", "the", "--n_tokens", "31", "--device", "cpu"])
    assert "context" not in capsys.readouterr().err
    script.main(["--model_path", str(checkpoint), "--prompt", "the", "--n_tokens", "32", "--device", "cpu"])
    assert "the model's context ends after 32 tokens" in capsys.readouterr().err
    stop = one.strip()[5]
    cut = written(capsys, *flags, "--prompt", "the", "--stop", stop)
    assert cut.strip() == "the" + one.strip()[3:].split(stop)[0]


def test_a_foreign_folder_is_run(folder, capsys):
    text = written(capsys, "--model_path", folder, "--prompt", "he", "", "--n_tokens", 4, "--seed", 3)
    assert text == written(capsys, "--model_path", folder, "--prompt", "he", "", "--n_tokens", 4, "--seed", 3)
    assert "--- 2 ---" in text


def test_mistakes_are_one_line(checkpoint, folder, complaint):
    missing = checkpoint.parent / "nothing.pth"
    assert "pretrain.py trains a model" in complaint(script.main, "--model_path", missing)
    path = "--model_path", checkpoint
    assert "--prompt has 40 tokens, and the model's context 32" in complaint(script.main, *path, "--prompt", "x" * 40)
    assert "one --prompt at a time" in complaint(script.main, *path, "--draft", checkpoint, "--prompt", "a", "b")
    short = save(checkpoint.parent / "short.pth", max_length=4)
    assert "reads 4 tokens, and --prompt has 7" in complaint(
        script.main, *path, "--draft", short, "--prompt", "xxxxxxx"
    )
    assert "has other tokens" in complaint(script.main, *path, "--draft", folder)
    assert "--top_p is above 0" in complaint(script.main, *path, "--top_p", 0)
    for flags in (["--temperature", "-1"], ["--top_k", "-1"], ["--n_tokens", "0"], ["--min_p", "nan"]):
        with pytest.raises(SystemExit) as stop:
            script.main(flags)
        assert stop.value.code == 2
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json: no such file" in complaint(script.main, "--model_path", folder)
    save(checkpoint, about={})
    assert "holds no tokenizer beside its model" in complaint(script.main, *path)
    save(checkpoint, n_tokens=257)
    assert "tokenizer has 258 tokens, more than its model's 257" in complaint(script.main, *path)
    checkpoint.write_bytes(b"nothing")
    assert "is damaged" in complaint(script.main, *path)
