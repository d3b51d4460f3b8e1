"""Figures: what is drawn is what was measured, animations stay small, and missing files are named.
图：画出的就是测得的，动画文件不大，缺失的文件会被指明。
"""

import datetime
import json

import pytest
import torch
from PIL import Image

from chapter_07_attention_mechanism import visualize
from chapter_07_attention_mechanism.dataset.dates import SEEN, write
from chapter_07_attention_mechanism.dataset.scenes import draw_scenes
from chapter_07_attention_mechanism.figures import attention, lookup, ribbons, structure, writing
from utils.errors import UserError


def test_a_missing_model_or_result_is_named(tmp_path):
    for part, name in (("dates", "dates.pth"), ("training", "dates.json")):
        flags = ["--parts", part, "--checkpoints", str(tmp_path), "--results", str(tmp_path)]
        with pytest.raises(UserError, match=f"{name}.*train.py --task dates"):
            visualize.main([*flags, "--device", "cpu", "--out_dir", str(tmp_path)])
    (tmp_path / "dates.json").write_text("{")
    with pytest.raises(UserError, match="dates.json cannot be read"):
        visualize.main(["--parts", "training", "--results", str(tmp_path), "--out_dir", str(tmp_path)])


def test_the_entropy_is_that_of_the_first_seed(tmp_path, monkeypatch):
    rows = [{"step": 1, "attention": "additive", "seed": seed, "attention_entropy": 2.0 + seed} for seed in (0, 1)]
    for task in ("dates", "translate", "caption"):
        (tmp_path / f"{task}.json").write_text(json.dumps({"history": rows, "final": {}}))
    drawn = {}

    def remember(histories):
        drawn.update(histories)
        return structure.cost([4])

    monkeypatch.setattr(attention, "entropy_over_training", remember)
    visualize.main(["--parts", "training", "--results", str(tmp_path), "--out_dir", str(tmp_path)])
    assert drawn == dict.fromkeys(("dates", "translate", "caption"), rows[:1])


def test_a_gif_has_a_picture_for_each_word_and_is_small(tmp_path):
    images, scenes = draw_scenes(3, torch.Generator().manual_seed(0))
    films = [(image, scene.sentence.split(), torch.rand(20, 64)) for image, scene in zip(images, scenes, strict=True)]
    path = attention.save_gif(films, tmp_path / "film.gif")
    with Image.open(path) as film:
        assert film.n_frames >= max(len(words) for _, words, _ in films)
    assert path.stat().st_size < 3_000_000


def test_an_alignment_has_a_row_for_each_piece_written_and_stops_at_60():
    [axes] = attention.alignments([(["a"] * 100, ["b"] * 70, torch.rand(70, 100), None)]).axes
    assert axes.images[0].get_array().shape == (60, 60)
    figure = attention.alignments([(["$x$", " "], ["\\frac"], torch.rand(1, 2), None)])
    figure.canvas.draw()  # no text is taken for a formula
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["$x$", "␣"]
    assert attention.shorten(["a" * 20, "b" * 500]) == ["a" * 20, "b" * 19 + "…"]
    assert attention.alignments([(["b" * 500], ["c"], torch.rand(1, 1), None)]).get_figheight() < 4


def test_places_that_are_known_are_outlined():
    example = write(datetime.date(2021, 3, 25), SEEN["en plain"])
    known = writing.places_that_tell(example)
    assert known.shape == (10, 14) and known[0].nonzero().tolist() == [[10]] and known[4].sum() == 0
    assert known[5].nonzero().flatten().tolist() == [0, 1, 2, 3, 4]  # March tells 0 and 3
    weights = torch.rand(10, 14)
    figure = attention.alignments([(list(example.source), list(example.target), weights, k) for k in (known, None)])
    outlined = [{(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in axes.patches} for axes in figure.axes]
    assert outlined == [set(map(tuple, known.nonzero().tolist())), set()]


def test_ribbons_lead_from_what_was_looked_at_to_what_was_written():
    weights = torch.tensor([[0.9, 0.07, 0.03], [0.0, 0.0, 1.0]])
    figure = ribbons.ribbons([(["ein", "alter", "Hund"], ["a", "dog"], weights)])
    [axes] = figure.axes
    places = {text.get_text(): text.get_position() for text in axes.texts}
    drawn = [(*line.get_xdata()[[0, -1]], line.get_linewidth()) for line in axes.lines]
    expected = [("ein", "a", 0.9), ("alter", "a", 0.07), ("Hund", "dog", 1.0)]  # 0.03 is too little to be drawn
    expected = [pytest.approx((places[read][0], places[written][0], 7 * w)) for read, written, w in expected]
    assert drawn == expected
    assert places["ein"][0] < places["alter"][0] < places["Hund"][0] and places["ein"][1] > places["a"][1]
    assert -0.5 <= min(x for x, _ in places.values()) and max(x for x, _ in places.values()) <= 0.5


def test_trained_models_figures_are_drawn_from_tiny_ones(tmp_path):
    parts = {"cover": ["cover.png"], "dates": ["dates.png"], "translate": ["translate.png", "bleu_by_length.png"]}
    parts |= {"sort": ["heads_sort.png", "heads_reverse.png", "sort_by_length.png"]}
    visualize.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path), "--parts", *parts])
    for name in sum(parts.values(), []):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 300 and len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_scaling_keeps_the_weights_alike_at_every_width():
    _, largest = lookup.scaling([4, 64, 1024])
    assert largest["raw"] == sorted(largest["raw"]) and largest["raw"][-1] > 0.9
    assert max(largest["scaled"]) - min(largest["scaled"]) < 0.05
