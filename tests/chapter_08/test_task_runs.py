"""The tasks of a Transformer's halves as they are run: trained, interrupted, used; and whether what ships is small.
只用编码器或只用解码器的任务的完整运行：训练、中断、使用；以及随附文件是否足够小。
"""

import json

import pytest
import torch

from chapter_08_transformer_vanilla import inference
from chapter_08_transformer_vanilla import train as script
from chapter_08_transformer_vanilla.classifier import SentenceClassifier
from chapter_08_transformer_vanilla.shipped import (
    UNTRAINED,
    build,
    build_vit,
    load_language_model,
    load_masked_model,
    load_sentence_classifier,
    load_vit,
)
from utils.errors import UserError

CPU = torch.device("cpu")


def run_task(task, out_dir, *flags):
    """Train in --dry_run's sizes where no flag says otherwise; return the results file."""
    script.main(["--task", task, "--dry_run", "--device", "cpu", "--out_dir", str(out_dir), *map(str, flags)])
    [path] = out_dir.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_both_starts_get_the_same_trials_and_a_resumed_comparison_equals_a_whole_one(tmp_path):
    pretrained = tmp_path / "mlm"
    run_task("mlm", pretrained)
    flags = ["--pretrained", pretrained / "masked_lm.pth", "--max_steps", 2, "--save_every", 1, "--runs", 1]
    whole = run_task("finetune", tmp_path / "whole", *flags)
    saves, save = [], script.save_state

    def interrupted(*arguments):
        save(*arguments)
        saves.append(arguments)
        if len(saves) == 5:  # in the third training
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "save_state", interrupted)
        run_task("finetune", tmp_path / "parts", *flags)
    parts = run_task("finetune", tmp_path / "parts", *flags, "--resume")
    for results in (whole, parts):
        for row in [*results["history"], *results["per_seed"]]:
            row.pop("seconds", row.pop("train_seconds", None))
    assert whole["history"] == parts["history"] and whole["per_seed"] == parts["per_seed"]
    trials = whole["final"]["trials"]
    rates = {start: [row["lr"] for row in trials if row["start"] == start] for start in ("finetuned", "scratch")}
    assert rates["finetuned"] == rates["scratch"] and len(trials) >= 6
    final = whole["final"]
    assert {"finetuned_accuracy", "scratch_accuracy", "finetuned_lr", "test_count", "split", "gain"} <= final.keys()
    model, tokenizer, classes = load_sentence_classifier(tmp_path / "whole" / "sentiment.pth", CPU)
    assert classes == ["negative", "positive"] and len(tokenizer) == model.config.n_tokens
    assert isinstance(model, SentenceClassifier) and model.config.d_model == 8


def test_a_decoder_learns_a_text_and_goes_on_with_it(tmp_path, capsys):
    flags = ["--max_steps", 120, "--save_every", 60, "--batch_size", 16, "--length", 32, "--d_model", 32, "--d_ff", 64]
    final = run_task("lm", tmp_path, *flags, "--dropout", 0)["final"]
    assert final["val_loss"] < 1.5 and final["val_count"] == 1198  # by how frequent characters are alone: 2.8
    names = {"val_loss_overlapping", "ngram_loss", "val_bits_per_character", "window", "train_seconds", "n_parameters"}
    assert names <= final.keys()
    path = tmp_path / "lm_shakespeare.pth"
    model, characters = load_language_model(path, CPU)
    assert len(characters) == model.config.n_tokens and model.config.max_length == 32
    command = ["--task", "lm", "--device", "cpu", "--model_path", str(path), "--out_dir", str(tmp_path / "out")]
    capsys.readouterr()
    inference.main([*command, "--prompt", "the cat §", "--length", "60", "--temperature", "0"])
    shown = capsys.readouterr()
    assert shown.out.startswith("the cat ") and "§" in shown.err
    assert json.loads((tmp_path / "out" / "lm.json").read_text(encoding="utf-8"))["final"]["text"] in shown.out


def test_an_encoder_learns_to_fill_gaps(tmp_path, capsys):
    flags = ["--max_steps", 150, "--save_every", 75, "--batch_size", 32, "--d_model", 32, "--d_ff", 64, "--dropout", 0]
    final = run_task("mlm", tmp_path, *flags)["final"]
    assert final["validation_accuracy"] > final["unigram_accuracy"] + 0.2
    assert final["validation_loss"] < final["unigram_loss"] - 0.5
    model, tokenizer = load_masked_model(tmp_path / "masked_lm.pth", CPU)
    assert len(tokenizer) == model.config.n_tokens and model.config.n_decoder_layers == 0
    command = ["--task", "unmask", "--device", "cpu", "--model_path", str(tmp_path / "masked_lm.pth"), "--gaps", "5"]
    capsys.readouterr()
    texts = ["the cat [mask] [mask]", "", "猫", "a " * 99]
    inference.main([*command, "--out_dir", str(tmp_path / "out"), "--text", *texts])
    shown = capsys.readouterr()
    rows = json.loads((tmp_path / "out" / "unmask.json").read_text(encoding="utf-8"))["final"]["texts"]
    assert [(len(row["guesses"]), len(row["steps"])) for row in rows] == [(2, 2), (0, 5), (0, 5)]
    assert rows[0]["steps"][0].startswith("the cat ") and rows[0]["steps"][0].count("[mask]") == 1
    assert rows[2]["steps"][-1].startswith("猫") and shown.out.splitlines()[0] == "the cat [mask] [mask]"
    n_pieces = len(tokenizer.encode("a " * 98 + "a")) + 5
    assert f"left out: {n_pieces} pieces, of which 16 can be read" in shown.err


def test_a_classifier_learns_from_sentences(tmp_path, capsys):
    flags = ["--max_steps", 30, "--save_every", 30, "--runs", 1, "--batch_size", 400, "--lr", 0.01, "--dropout", 0]
    final = run_task("finetune", tmp_path, *flags)["final"]
    assert min(final["finetuned_accuracy"], final["scratch_accuracy"]) > 0.9
    path = tmp_path / "sentiment.pth"
    capsys.readouterr()
    command = ["--task", "sentiment", "--device", "cpu", "--model_path", str(path), "--out_dir", str(tmp_path / "out")]
    odd = ["the plot " * 300, "这部电影很好看", "\0"]
    inference.main([*command, "--text", "the plot is a delight", "the plot is tedious", " ", *odd])
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()[:2]] == ["positive", "negative"]
    assert "nothing to read" in shown.err and shown.out.count("很好看 [this does not look like English]") == 1
    assert "only the first 512 of" in shown.out


def test_a_vision_transformer_is_trained_beside_one_on_plain_patches(tmp_path, capsys):
    final = run_task("vit", tmp_path)["final"]
    names = {"test_accuracy", "test_accuracy_patches", "train_seconds", "train_seconds_patches", "n_parameters_patches"}
    assert names <= final.keys() and final["test_count"] == 500
    model, classes = load_vit(tmp_path / "vit.pth", CPU)
    assert model.config.tokenizer == "conv" and len(classes) == 10
    inference.main(
        ["--task", "vit", "--device", "cpu", "--model_path", str(tmp_path / "vit.pth"), "--out_dir", str(tmp_path)]
    )
    assert "the five most probable classes" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds another model"):
        load_sentence_classifier(tmp_path / "vit.pth", CPU)
    script.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path)])
    with pytest.raises(UserError, match="another task's model: it has a decoder"):
        load_masked_model(tmp_path / "translate_de_en.pth", CPU)
    with pytest.raises(UserError, match="another task's model: it has no characters"):
        load_language_model(tmp_path / "translate_de_en.pth", CPU)


def test_where_no_model_ships_yet_one_line_says_what_makes_it(complaint, tmp_path, monkeypatch):
    monkeypatch.setattr("chapter_08_transformer_vanilla.shipped.CHECKPOINTS", tmp_path)
    makers = {"lm": "lm", "unmask": "mlm", "sentiment": "finetune", "vit": "vit"}
    for task, maker in makers.items():
        flags = ["--task", task, "--device", "cpu", "--out_dir", tmp_path / "out", "--text", "x"]
        assert f"train.py --task {maker} makes one" in complaint(inference.main, *flags)
    flags = ["--task", "finetune", "--dataset", "toy", "--device", "cpu", "--out_dir", tmp_path / "out"]
    assert "train.py --task mlm makes one" in complaint(script.main, *flags)
    assert load_vit(UNTRAINED, CPU)[1][0] == "airplane"


def test_all_that_ships_is_small_enough():
    """With both translators, in 16 bits: the language model 5 MB, the chapter 30 MB."""
    sizes, recipes = {}, script.RECIPES
    for task, unused in {"lm": "n_encoder_layers", "mlm": "n_decoder_layers"}.items():
        names = {"d_model", "n_heads", "d_ff", "n_encoder_layers", "n_decoder_layers"} - {unused}
        config = {name: recipes[task][name] for name in names} | {unused: 0}
        sizes[task] = build(config | {"n_tokens": recipes[task].get("vocab_size", 65)})
    widths = {name: recipes["vit"][name] for name in ("d_model", "n_heads", "d_ff")}
    sizes["vit"] = build_vit(widths | {"n_layers": recipes["vit"]["n_encoder_layers"], "tokenizer": "conv"})
    megabytes = {task: 2e-6 * sum(p.numel() for p in model.parameters()) for task, model in sizes.items()}
    assert megabytes["lm"] < 4.9 and 2 * 8.5 + megabytes["lm"] + 2 * (megabytes["mlm"] + 0.1) + megabytes["vit"] < 30
