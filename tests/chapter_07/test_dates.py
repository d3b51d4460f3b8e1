"""Dates: what is written can be read back, and each character tells what it is said to tell.
日期数据：写出的能读回，每个字符所指的数字正确。
"""

import datetime
import re

import pytest
import torch

from chapter_07_attention_mechanism.dataset.dates import (
    DAY,
    HELD_OUT,
    MONTH,
    MONTHS,
    NUMERALS,
    SEEN,
    YEAR,
    all_dates,
    draw_examples,
    write,
)
from chapter_07_attention_mechanism.tasks.dates import Dates, date_vocabulary
from chapter_07_attention_mechanism.vocab import PAD_ID, UNK_ID

ALL = SEEN | HELD_OUT


def test_formats_are_written_as_people_write_them():
    d = datetime.date(2021, 3, 25)
    assert write(d, SEEN["en plain"]).source == "March 25, 2021"
    assert write(d, SEEN["en ordinal"]).source == "the 25th of March, 2021"
    assert write(datetime.date(1999, 12, 10), SEEN["zh numerals"]).source == "一九九九年十二月十日"
    assert write(datetime.date(2006, 1, 20), SEEN["zh numerals"]).source == "二〇〇六年一月二十日"
    assert write(d, HELD_OUT["zh weekday first"]).source == "星期四，2021年3月25日"
    assert write(datetime.date(2011, 11, 1), SEEN["en ordinal"]).source == "the 1st of November, 2011"
    assert write(datetime.date(2011, 11, 12), SEEN["en padded"]).source == "11/12/2011"


@pytest.mark.parametrize("name", ALL)
def test_characters_tell_what_they_are_said_to_tell(name):
    """Read the date back from nothing but the characters that tell it."""
    for d in all_dates("test")[::40]:
        example = write(d, ALL[name])
        assert example.target == d.isoformat() and len(example.tells) == len(example.source)
        for places in (YEAR, MONTH, DAY):
            told = "".join(
                c for c, tells in zip(example.source, example.tells, strict=True) if set(tells) & set(places)
            )
            number = sum(
                (MONTHS.index(month) + 1 for month in MONTHS if places == MONTH and told and month.startswith(told)), 0
            )
            if not number and re.search(f"[十{NUMERALS}]", told):
                tens, ten, ones = told.rpartition("十") if places != YEAR else ("", "", told)
                number = int("".join(str(NUMERALS.index(c)) for c in ones) or 0)
                number += 10 * (NUMERALS.index(tens) if tens else 1) if ten else 0
            assert (number or int(told)) == (d.year, d.month, d.day)[(YEAR, MONTH, DAY).index(places)]


def test_every_character_of_questions_and_answers_is_known():
    vocabulary, generator = date_vocabulary(), torch.Generator().manual_seed(0)
    for example in draw_examples(2000, generator, "test"):
        for text in (example.source, example.target):
            assert "".join(vocabulary.decode(vocabulary.encode(text))) == text


def test_what_becomes_unknown_in_training_tells_nothing():
    task = Dates({"embedding": 8, "hidden": 8, "attention": "additive"}, 500, torch.device("cpu"), test_count=10)
    torch.manual_seed(0)
    examples = draw_examples(500, torch.default_generator, "train")
    torch.manual_seed(0)
    (source, lengths, _), _ = task.batch()
    hidden = []
    for row, length, example in zip(source, lengths.tolist(), examples, strict=True):
        assert row[length:].eq(PAD_ID).all()
        for i, character in enumerate(example.source):
            assert row[i] == task.vocabulary.ids[character] or (row[i] == UNK_ID and not example.tells[i])
            hidden += [] if example.tells[i] else [bool(row[i] == UNK_ID)]
    assert 0.03 < sum(hidden) / len(hidden) < 0.07


def test_an_oracle_scores_1(monkeypatch):
    task = Dates({"embedding": 8, "hidden": 8, "attention": "additive"}, 5, torch.device("cpu"), test_count=10)
    right = [task.vocabulary.encode(e.target) for e in task.test]
    monkeypatch.setattr("chapter_07_attention_mechanism.tasks.dates.greedy", lambda *args: right)
    assert task.exact_match(task.build(), task.test) == 1 > task.exact_match(task.build(), task.held_out)


def test_no_test_date_is_trained_on_and_no_held_out_format_is_seen():
    dates = {part: set(all_dates(part)) for part in ("train", "validation", "test")}
    assert len(set().union(*dates.values())) == sum(map(len, dates.values())) == 36525
    assert all(0.09 < len(dates[part]) / 36525 < 0.11 for part in ("validation", "test"))
    assert not set(SEEN) & set(HELD_OUT)
    generator = torch.Generator().manual_seed(0)
    for part, days in dates.items():
        assert {e.target for e in draw_examples(1000, generator, part)} <= {d.isoformat() for d in days}
    task = Dates({"embedding": 8, "hidden": 8, "attention": "additive"}, 500, torch.device("cpu"), test_count=500)
    _, targets = task.batch()
    trained = {"".join(task.vocabulary.decode(row[:-1].tolist())) for row in targets}
    assert not trained & {e.target for e in task.test + task.held_out + task.validation} and len(trained) > 400


def test_the_same_seed_draws_the_same_dates():
    first, again = (draw_examples(50, torch.Generator().manual_seed(3), "train") for _ in range(2))
    assert first == again and len(set(first)) > 45
