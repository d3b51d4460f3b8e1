"""The tasks of a Transformer's halves: what is hidden, what is learned from, what is measured, what is passed on.
只用编码器或只用解码器的任务：遮住什么、从什么学、测什么、传下去什么。
"""

import pytest
import torch

from chapter_07_attention_mechanism.vocab import SPECIAL
from chapter_08_transformer_vanilla import books
from chapter_08_transformer_vanilla.books import HELD_OUT, NUMBERS, load_books, plain_text
from chapter_08_transformer_vanilla.classifier import from_masked_model, sentence_logits
from chapter_08_transformer_vanilla.masking import (
    MASK_ID,
    MaskedTransformer,
    fill_gaps,
    hide_gaps,
    mask_tokens,
    unmask,
)
from chapter_08_transformer_vanilla.sentences import load_sentences
from chapter_08_transformer_vanilla.shipped import build
from chapter_08_transformer_vanilla.tasks import lm, mlm
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


# --- hiding tokens ----------------------------------------------------------------------------------------------------


def test_fifteen_percent_are_guessed_of_which_most_are_hidden():
    torch.manual_seed(0)
    tokens = torch.randint(len(SPECIAL), 1000, (500, 400))
    shown, places, truth = mask_tokens(tokens, 1000)
    chosen = torch.zeros_like(tokens, dtype=torch.bool).scatter(1, places, True)
    assert torch.equal(tokens.gather(1, places), truth) and torch.equal(shown[~chosen], tokens[~chosen])
    assert chosen.sum(dim=1).unique().tolist() == [60], "none twice"
    assert torch.corrcoef(chosen.double()).triu(1).abs().max() < 0.3, "each row has its own"
    masked, same = (shown == MASK_ID)[chosen], (shown == tokens)[chosen]
    other = shown[chosen][~masked & ~same]
    expected = {0.8: masked, 0.1 + 0.1 / 996: same, 0.1 - 0.1 / 996: ~masked & ~same}
    for share, found in expected.items():
        assert found.double().mean().item() == pytest.approx(
            share, abs=4 * (share * (1 - share) / found.numel()) ** 0.5
        )
    assert other.min() >= len(SPECIAL) and other.max() == 999 and len(other.unique()) > 900


def test_only_the_positions_chosen_are_rated():
    torch.manual_seed(0)
    config = ENCODER | {"n_tokens": 50, "n_decoder_layers": 0}
    whole = build(config).double()
    model = MaskedTransformer(whole.config).double()
    model.load_state_dict(whole.state_dict())
    tokens, chosen = torch.randint(50, (3, 9)), torch.rand(3, 9).topk(4).indices
    expected = torch.stack([row[places] for row, places in zip(whole(tokens), chosen, strict=True)])
    torch.testing.assert_close(model(tokens, chosen), expected, rtol=0, atol=1e-12)


def test_no_text_has_a_mask_and_gaps_are_filled_where_they_are():
    tokenizer = Tokenizer.train(["the cat sees the moon . "] * 9, 330)
    assert MASK_ID not in tokenizer.encode("<unk> [mask] \x01 the cat")
    torch.manual_seed(0)
    model = build(ENCODER | {"n_tokens": len(tokenizer), "n_decoder_layers": 0})
    tokens = [*tokenizer.encode("the"), MASK_ID, *tokenizer.encode("sees the"), MASK_ID]
    assert hide_gaps(tokenizer, ["the", "sees the", ""]) == tokens
    gaps = fill_gaps(model, tokenizer, tokens, 2)
    with torch.no_grad():
        p = model.eval()(torch.tensor([tokens]))[0, :, len(SPECIAL) :].softmax(dim=1)  # special pieces stand nowhere
    for gap, position in zip(gaps, [len(tokenizer.encode("the")), len(tokens) - 1], strict=True):
        assert list(gap.values()) == pytest.approx(p[position].topk(2).values.tolist())
        assert list(gap) == tokenizer.show((p[position].topk(2).indices + len(SPECIAL)).tolist())


def test_gaps_are_filled_by_chance_with_what_texts_have():
    torch.manual_seed(0)
    model = build(ENCODER | {"n_tokens": 50, "n_decoder_layers": 0})
    with torch.no_grad():
        model.head.weight[: len(SPECIAL)] *= 100  # would be likeliest, or least likely
    texts = [[MASK_ID] * 4, [MASK_ID, 7, MASK_ID, MASK_ID, MASK_ID]]
    seeds = [torch.Generator().manual_seed(0) for _ in range(3)]
    drawn = [[*unmask(model, texts[i], 3, generator=seed)] for i, seed in zip((0, 1, 1), seeds, strict=True)]
    for text, steps in zip(texts, drawn[:2], strict=True):
        assert [step.count(MASK_ID) for step in steps] == [1, 0] and min(steps[-1]) >= len(SPECIAL)
        assert all(a == b for step in steps for a, b in zip(text, step, strict=True) if a != MASK_ID)
    assert drawn[1] == drawn[2] and not [*unmask(model, [9, 7], 1)]


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
    parts = load_books(tmp_path, "")
    assert [len(part) for part in parts] == [50, 2] and not set(NUMBERS) - {
        int(b.split()[1].strip(",.")) for p in parts for b in p
    }
    assert [plain_text(book) for book in parts[1]] == [f"number {HELD_OUT[0]} .", f"number {HELD_OUT[1]} , it's here ."]
    (folder / "11_A-Title.txt").unlink()
    monkeypatch.setattr(books, "download", lambda url, path, *rest: pytest.fail(url))
    with pytest.raises(pytest.fail.Exception, match="/11/pg11.txt"):
        load_books(tmp_path, "")

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


def test_quick_looks_are_at_windows_from_everywhere(monkeypatch):
    monkeypatch.setattr(lm, "toy_text", lambda: "ab" * 450 + "a" * 50 + "xy" * 25)
    monkeypatch.setattr(lm, "N_VALIDATED", 2)
    monkeypatch.setattr(mlm, "N_VALIDATED", 4)
    torch.manual_seed(0)
    task = LanguageModelling("toy", None, 10, DECODER, 4, CPU)
    model = task.build()
    looks = [text_loss(model, task.validation[start : start + 11], 10, 10) for start in (0, 40, 80)]
    assert task.validate(model)["val_loss"] == pytest.approx(sum(looks) / 3, rel=1e-6)
    task = MaskedPretraining("toy", None, 320, 16, ENCODER, 4, CPU)
    model, (shown, chosen, truth) = task.build(), task.held_out
    every = len(shown) // 4
    assert every > 1 and len(shown) >= 8
    logits = model.eval()(shown[::every], chosen[::every]).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, truth[::every].flatten()).item()
    assert task.validate(model)["validation_loss"] == pytest.approx(expected, rel=1e-5)


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
