"""The script that learns a tokenizer: what it writes can be loaded, what it reports is so, mistakes end in one line.
训练分词器的脚本：写出的文件能读回，报告的数字属实，用户的错误只用一行说明。
"""

import json

import pytest

from chapter_10_llm_modern_components.bpe import ByteTokenizer, merge_steps, train_tokenizer
from chapter_10_llm_modern_components.figures.merges import draw_merge_counts, draw_merge_steps
from chapter_10_llm_modern_components.pretraining.corpora import toy
from chapter_10_llm_modern_components.tokenizer_train import cut, main
from chapter_10_llm_modern_components.visualize import main as visualize

from matplotlib.patches import Rectangle


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer")
    main(["--dry_run", "--out_dir", str(out)])
    return json.loads((out / "tokenizer_toy.json").read_text(encoding="utf-8")), out / "merges_toy.json"


def test_what_it_writes_is_what_it_reports(results):
    final, tokenizer = results[0]["final"], ByteTokenizer.load(results[1])
    held_out = toy().held_out
    tokens = sum(len(tokenizer.encode(document)) for document in held_out)
    assert final["vocab_size"] == len(tokenizer) == 300 and final["train_bytes"] == 5000
    assert final["held_out_tokens"] == tokens < final["held_out_bytes"] == sum(map(len, held_out))
    assert final["bytes_per_token"] == final["held_out_bytes"] / tokens
    assert final["merges_2kb"] > 30 and final["encode_mb_per_second"] > 0
    assert {"train_seconds", "train_seconds_2kb", "naive_seconds_2kb"} <= final.keys()


def test_a_text_is_cut_at_a_number_of_bytes():
    assert cut(["ab", "cd", "ef"], 3) == ["ab", "c"] and cut(["ab"], 9) == ["ab"]
    assert cut(["aé"], 2) == ["a"], "no half of a character"


def test_pictures_show_each_merge(results):
    tokenizer = ByteTokenizer.load(results[1])
    steps = merge_steps(b"the old cat", tokenizer.merges)
    (axes,) = draw_merge_steps(tokenizer, "the old cat").axes
    assert len([box for box in axes.patches if isinstance(box, Rectangle)]) == sum(map(len, steps))
    (axes,) = draw_merge_counts({"toy": results[0]["history"]}).axes
    curve = axes.lines[0].get_ydata()
    assert list(curve) == [row["count"] for row in results[0]["history"]] and min(curve) > 0
    assert draw_merge_steps(train_tokenizer(["猫猫"], 258), "猫").axes[0].texts[0].get_text() == "\\xe7"


def test_books_and_code_are_drawn_together_or_not_at_all(results, tmp_path, capsys, complaint):
    flags = ["--parts", "tokens", "--results_dir", str(tmp_path), "--out_dir", str(tmp_path)]
    content = json.dumps(results[0])
    (tmp_path / "tokenizer_stories.json").write_text(content, encoding="utf-8")
    visualize(flags)
    assert "tokenizer_train.py --corpus code makes it" in capsys.readouterr().out
    (tmp_path / "tokenizer_code.json").write_text('{"history": [{"merge": 1}]}', encoding="utf-8")
    assert "tokenizer_code.json holds no results" in complaint(visualize, *flags)
    assert not (tmp_path / "merge_counts.png").exists()
    (tmp_path / "tokenizer_code.json").write_text(content, encoding="utf-8")
    visualize(flags)
    assert (tmp_path / "merge_counts.png").stat().st_size > 0


def test_mistakes_end_in_one_line(complaint, tmp_path):
    toy_flags = ["--corpus", "toy", "--out_dir", tmp_path / "out"]
    (tmp_path / "empty.txt").touch()
    (tmp_path / "different.txt").write_text("ab\n\ncd\n", encoding="utf-8")
    assert "no room for 256 bytes and 7 special" in complaint(main, *toy_flags, "--vocab_size", "260")
    assert "no merge was learned" in complaint(main, *toy_flags, "--vocab_size", "263")
    assert "different names" in complaint(main, *toy_flags, "--special", "<|a|>", "<|a|>")
    assert "corpus is empty" in complaint(main, *toy_flags, "--megabytes", "0")
    assert "missing.txt: no such file" in complaint(main, *toy_flags, "--file", tmp_path / "missing.txt")
    assert "fewer than two paragraphs" in complaint(main, *toy_flags, "--file", tmp_path / "empty.txt")
    assert "no merge was learned" in complaint(main, *toy_flags, "--file", tmp_path / "different.txt")
    assert not list((tmp_path / "out").iterdir())
