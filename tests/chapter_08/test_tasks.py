"""The tasks of a Transformer's halves: what is learned from, what is hidden, what is measured, and that it is learned.
只用编码器或只用解码器的任务：从什么学、遮住什么、测什么，以及确实学会了。
"""

import json

import pytest
import torch

from chapter_07_attention_mechanism.vocab import SPECIAL
from chapter_08_transformer_vanilla import books, inference
from chapter_08_transformer_vanilla import train as script
from chapter_08_transformer_vanilla.books import HELD_OUT, NUMBERS, load_books, plain_text
from chapter_08_transformer_vanilla.classifier import SentenceClassifier, from_masked_model, sentence_logits
from chapter_08_transformer_vanilla.masking import MASK_ID, fill_gaps, mask_tokens
from chapter_08_transformer_vanilla.sentences import load_sentences
from chapter_08_transformer_vanilla.shipped import (
    UNTRAINED,
    build,
    build_vit,
    load_language_model,
    load_masked_model,
    load_sentence_classifier,
    load_vit,
)
from chapter_08_transformer_vanilla.tasks import IGNORED, lm, mlm
from chapter_08_transformer_vanilla.tasks.lm import LanguageModelling, text_loss
from chapter_08_transformer_vanilla.tasks.mlm import MaskedPretraining
from chapter_08_transformer_vanilla.tasks.vit import ImageClassification
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.writing import generate
from utils.errors import UserError

CPU = torch.device("cpu")
SMALL = {"d_model": 8, "n_heads": 2, "d_ff": 16, "dropout": 0.0}
ENCODER, DECODER = SMALL | {"n_encoder_layers": 1}, SMALL | {"n_decoder_layers": 1}


def decoder(n_tokens=11, max_length=8):
    torch.manual_seed(0)
    options = {"n_encoder_layers": 0, "n_decoder_layers": 2, "n_tokens": n_tokens, "max_length": max_length}
    return build(SMALL | options).double().eval()


def run_task(task, out_dir, *flags):
    """Train in --dry_run's sizes where no flag says otherwise; return the results file."""
    script.main(["--task", task, "--dry_run", "--device", "cpu", "--out_dir", str(out_dir), *map(str, flags)])
    [path] = out_dir.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))


# --- hiding tokens ----------------------------------------------------------------------------------------------------


def test_fifteen_percent_are_guessed_of_which_most_are_hidden():
    torch.manual_seed(0)
    tokens = torch.randint(len(SPECIAL), 1000, (500, 400))
    shown, targets = mask_tokens(tokens, 1000)
    chosen = targets != IGNORED
    assert torch.equal(targets[chosen], tokens[chosen]) and torch.equal(shown[~chosen], tokens[~chosen])
    masked, same = (shown == MASK_ID)[chosen], (shown == tokens)[chosen]
    other = shown[chosen][~masked & ~same]
    expected = {0.15: chosen, 0.8: masked, 0.1 + 0.1 / 996: same, 0.1 - 0.1 / 996: ~masked & ~same}
    for share, found in expected.items():
        assert found.double().mean().item() == pytest.approx(
            share, abs=4 * (share * (1 - share) / found.numel()) ** 0.5
        )
    assert other.min() >= len(SPECIAL) and other.max() == 999 and len(other.unique()) > 900


def test_no_text_has_a_mask_and_gaps_are_filled_where_they_are():
    tokenizer = Tokenizer.train(["the cat sees the moon . "] * 9, 330)
    assert MASK_ID not in tokenizer.encode("<unk> [mask] \x01 the cat")
    torch.manual_seed(0)
    model = build(ENCODER | {"n_tokens": len(tokenizer), "n_decoder_layers": 0})
    gaps = fill_gaps(model, tokenizer, ["the", "sees the", ""], 2)
    tokens = [*tokenizer.encode("the"), MASK_ID, *tokenizer.encode("sees the"), MASK_ID]
    with torch.no_grad():
        p = model.eval()(torch.tensor([tokens]))[0].softmax(dim=1)
    for gap, place in zip(gaps, [len(tokenizer.encode("the")), len(tokens) - 1], strict=True):
        assert list(gap.values()) == pytest.approx(p[place].topk(2).values.tolist())
        assert list(gap) == tokenizer.show(p[place].topk(2).indices.tolist())


# --- what is learned from ---------------------------------------------------------------------------------------------


def test_no_character_to_validate_on_is_learned_from(monkeypatch):
    text = "ab" * 450 + "xy" * 50
    monkeypatch.setattr(lm, "toy_text", lambda: text)
    task = LanguageModelling("toy", None, 20, DECODER, 64, CPU)
    learned = {task.characters[i] for _ in range(30) for part in task.batch() for i in torch.cat([*part]).unique()}
    assert learned == {"a", "b"} and len(task.train) == 900
    torch.manual_seed(0)
    (window,), targets = task.batch()
    assert torch.equal(window[:, 1:], targets[:, :-1])
    with pytest.raises(UserError, match="--length 100: the shorter text has 100"):
        LanguageModelling("toy", None, 100, DECODER, 4, CPU)


def test_held_out_books_and_sentences_are_not_learned_from(tmp_path, monkeypatch):
    folder = tmp_path / "childrens_books"
    folder.mkdir()
    for number in NUMBERS:
        body = f"*** START OF THIS ***\nNumber {number}, it’s _here_.\n*** END OF THIS ***\nlicence"
        (folder / f"{number}_A-Title.txt").write_text(body if number % 2 else f"Number {number}.", encoding="utf-8")
    parts = load_books(tmp_path)
    assert [len(part) for part in parts] == [50, 2] and not set(NUMBERS) - {
        int(b.split()[1].strip(",.")) for p in parts for b in p
    }
    assert [plain_text(book) for book in parts[1]] == [f"number {HELD_OUT[0]} .", f"number {HELD_OUT[1]} , it's here ."]
    (folder / "11_A-Title.txt").unlink()
    monkeypatch.setattr(books, "download", lambda url, path, *rest: pytest.fail(url))
    with pytest.raises(pytest.fail.Exception, match="/11/pg11.txt"):
        load_books(tmp_path)

    seen, train = [], Tokenizer.train.__func__
    monkeypatch.setattr(
        Tokenizer, "train", classmethod(lambda cls, texts, *rest: train(cls, seen.extend(texts) or seen, *rest))
    )
    task = MaskedPretraining("toy", None, 320, 16, ENCODER, 4, CPU)
    learned, held_out = mlm.toy_books()
    assert not set(learned[0].splitlines()) & set(held_out[0].splitlines())
    assert task.tokenizer.decode(task.train.tolist()) == plain_text(learned[0])
    sentences = load_sentences("toy", None)
    assert set(seen) == {plain_text(learned[0]), *sentences["train"][0]}
    for name in ("validation", "test"):
        assert (
            not set(seen) & (set(sentences[name][0]) - set(sentences["train"][0]))
            and plain_text(held_out[0]) not in seen
        )


def test_pictures_to_test_on_are_not_looked_at_before_the_end():
    options = {"d_model": 8, "n_heads": 2, "d_ff": 8, "n_layers": 1, "tokenizer": "conv"}
    for split, looks in (("test", set()), ("validation", {"validation_accuracy"})):
        task = ImageClassification("toy", None, split, options, 16, CPU)
        assert task.validate(task.build()).keys() == looks
        assert f"{split}_accuracy" in task.evaluate(task.build())
        (images,), labels = task.batch()
        assert images.shape == (16, 3, 32, 32) and labels.shape == (16,)
        learned, measured = ({row.numpy().tobytes() for row in rows} for rows in (task.images, task.measured))
        assert not learned & measured


# --- measuring and writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count,length,stride", [(30, 8, 8), (30, 8, 3), (29, 8, 1), (6, 8, 2), (9, 8, 8)])
def test_each_token_counts_once_in_the_first_window_that_holds_it(count, length, stride):
    model, ids = decoder(), torch.randint(11, (count,), generator=torch.Generator().manual_seed(1))
    n_targets, longest = count - 1, min(length, count - 1)
    starts = sorted({min(start, n_targets - longest) for start in range(0, n_targets, stride)})
    losses = []
    for target in range(1, count):
        start = next(start for start in starts if start < target <= start + longest)
        with torch.no_grad():
            losses.append(-model(ids[None, start:target])[0, -1].log_softmax(dim=0)[ids[target]].item())
    assert text_loss(model, ids, length, stride) == pytest.approx(sum(losses) / n_targets, rel=1e-6)


def test_writing_with_kept_keys_equals_reading_all_again():
    """At temperature 0, beyond the model's length: there the last half is read anew."""
    model, prompt = decoder(), [3, 1, 4, 1, 5, 9, 2, 6, 5]
    expected, window = list(prompt), prompt[-4:]
    for _ in range(15):
        with torch.no_grad():
            expected.append(int(model(torch.tensor([window]))[0, -1].argmax()))
        window = [*window, expected[-1]] if len(window) < 8 else expected[-4:]
    assert [*prompt, *generate(model, prompt, 15, temperature=0)] == expected


# --- going on from a masked model -------------------------------------------------------------------------------------


def test_a_classifier_begins_with_all_that_the_masked_model_knows():
    torch.manual_seed(0)
    masked = build(ENCODER | {"n_tokens": 300, "n_decoder_layers": 0}).eval()
    model = from_masked_model(masked, 2, 0.5).eval()
    tokens, lengths = torch.tensor([[5, 6, 7, 0], [9, 8, 7, 6]]), torch.tensor([3, 4])
    hidden, _ = masked.encode(tokens, lengths)
    assert torch.equal(model.transformer.encode(tokens, lengths)[0], hidden)
    expected = model.head(torch.stack([hidden[0, :3].mean(dim=0), hidden[1].mean(dim=0)]))
    torch.testing.assert_close(model(tokens, lengths), expected)
    torch.testing.assert_close(sentence_logits(model, [[5, 6, 7], [9, 8, 7, 6]], CPU), expected)
    assert model.transformer.head.weight is model.transformer.embedding.weight
    del masked.encoder.layers[0].norm2
    with pytest.raises(RuntimeError, match="norm2"):
        from_masked_model(masked, 2, 0.5)


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


# --- the tasks as they are run ----------------------------------------------------------------------------------------


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


def test_an_encoder_learns_to_fill_gaps(tmp_path):
    flags = ["--max_steps", 150, "--save_every", 75, "--batch_size", 32, "--d_model", 32, "--d_ff", 64, "--dropout", 0]
    final = run_task("mlm", tmp_path, *flags)["final"]
    assert final["validation_accuracy"] > final["unigram_accuracy"] + 0.2
    assert final["validation_loss"] < final["unigram_loss"] - 0.5
    model, tokenizer = load_masked_model(tmp_path / "masked_lm.pth", CPU)
    assert len(tokenizer) == model.config.n_tokens and model.config.n_decoder_layers == 0


def test_a_classifier_learns_from_sentences(tmp_path, capsys):
    flags = ["--max_steps", 30, "--save_every", 30, "--runs", 1, "--batch_size", 400, "--lr", 0.01, "--dropout", 0]
    final = run_task("finetune", tmp_path, *flags)["final"]
    assert min(final["finetuned_accuracy"], final["scratch_accuracy"]) > 0.9
    path = tmp_path / "sentiment.pth"
    capsys.readouterr()
    command = ["--task", "sentiment", "--device", "cpu", "--model_path", str(path), "--out_dir", str(tmp_path / "out")]
    inference.main([*command, "--text", "the plot is a delight", "the plot is tedious", " "])
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()[:2]] == ["positive", "negative"]
    assert "nothing to read" in shown.err


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
    with pytest.raises(UserError, match="another task's model: it has no classes|holds another model"):
        load_sentence_classifier(tmp_path / "vit.pth", CPU)


def test_where_no_model_ships_yet_one_line_says_what_makes_it(complaint, tmp_path, monkeypatch):
    monkeypatch.setattr("chapter_08_transformer_vanilla.shipped.CHECKPOINTS", tmp_path)
    makers = {"lm": "lm", "sentiment": "finetune", "vit": "vit"}
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
