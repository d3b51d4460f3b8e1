"""Figures: what is drawn is what was measured, animations stay small, and missing files are named.
图：画出的就是测得的，动画文件不大，缺失的文件会被指明。
"""

import json

import pytest
import torch
from PIL import Image

from chapter_07_attention_mechanism import visualize
from chapter_07_attention_mechanism.dataset.scenes import draw_scenes
from chapter_07_attention_mechanism.figures import attention, lookup, structure
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


def test_a_film_has_a_picture_for_each_word_and_is_small(tmp_path):
    images, scenes = draw_scenes(3, torch.Generator().manual_seed(0))
    films = [(image, scene.sentence.split(), torch.rand(20, 64)) for image, scene in zip(images, scenes, strict=True)]
    path = attention.film(films, tmp_path / "film.gif")
    with Image.open(path) as film:
        assert film.n_frames >= max(len(words) for _, words, _ in films)
    assert path.stat().st_size < 3_000_000


def test_an_alignment_has_a_row_for_each_piece_written_and_stops_at_60():
    figure = attention.alignment(["a"] * 100, ["b"] * 70, torch.rand(70, 100))
    assert figure.axes[0].images[0].get_array().shape == (60, 60)
    figure = attention.alignment(["$x$", " "], ["\\frac"], torch.rand(1, 2))
    figure.canvas.draw()  # no text is taken for a formula
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["$x$", "␣"]


def test_scaling_keeps_the_weights_alike_at_every_width():
    _, largest = lookup.scaling([4, 64, 1024])
    assert largest["raw"] == sorted(largest["raw"]) and largest["raw"][-1] > 0.9
    assert max(largest["scaled"]) - min(largest["scaled"]) < 0.05
