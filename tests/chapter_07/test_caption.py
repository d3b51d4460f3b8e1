"""Scenes and their sentences: what is said is what is painted, and what is tested was never shown.
场景与句子：说的就是画的，测试的组合从未出现在训练中。
"""

import pytest
import torch

from chapter_07_attention_mechanism.captioner import CELLS, Captioner
from chapter_07_attention_mechanism.dataset.scenes import (
    COLOURS,
    RELATIONS,
    SHAPES,
    cells_of,
    draw_scenes,
    held_out,
    paint,
)
from chapter_07_attention_mechanism.decoder import ATTENTIONS, DecoderConfig

GENERATOR = torch.Generator().manual_seed(0)
IMAGES, SCENES = draw_scenes(300, GENERATOR)
UNSEEN = draw_scenes(300, GENERATOR, unseen=True)[1]


def combinations(scene):
    first = scene.figures[0]
    return {(first.colour, first.shape, relation) for relation in scene.relations}


def test_no_test_combination_is_ever_trained_on():
    assert not set().union(*map(combinations, SCENES)) & {c for s in UNSEEN for c in combinations(s) if held_out(*c)}
    assert all(any(held_out(*c) for c in combinations(scene)) for scene in UNSEEN)
    shares = [held_out(c, s, r) for c in COLOURS for s in SHAPES for r in RELATIONS]
    assert 0.1 < sum(shares) / len(shares) < 0.25
    for option in (*COLOURS, *SHAPES, *RELATIONS):  # each part of a held-out combination is seen in others
        assert any(option in scene.sentence for scene in SCENES)


def test_sentences_say_where_things_are():
    for scene in SCENES:
        large, *others = scene.figures
        assert all(large.radius > 1.5 * other.radius for other in others)
        for other, relation in zip(others, scene.relations, strict=True):
            dx, dy = other.x - large.x, other.y - large.y
            expected = ("left of" if dx > 0 else "right of") if abs(dx) > abs(dy) else ("above" if dy > 0 else "below")
            assert relation == expected and f"{relation} a {other.colour} {other.shape}" in scene.sentence
        assert scene.sentence.startswith(f"a {large.colour} {large.shape} ")


def test_figures_have_their_colours_and_lie_inside():
    pictures = paint(SCENES, torch.Generator().manual_seed(1), side=64).float() / 255
    for scene, picture in zip(SCENES, pictures, strict=True):
        for figure in scene.figures:
            assert figure.radius < figure.x < 1 - figure.radius and figure.radius < figure.y < 1 - figure.radius
            if figure.shape != "ring":  # all others cover their middle
                pixel = picture[:, int(figure.y * 64), int(figure.x * 64)]
                assert (pixel - torch.tensor(COLOURS[figure.colour])).abs().max() < 0.25


def test_cells_surround_their_figure():
    figure = SCENES[0].figures[0]
    cells = cells_of(figure, CELLS)
    assert int(figure.y * CELLS) * CELLS + int(figure.x * CELLS) in cells and 1 < len(cells) < CELLS**2 / 2


@pytest.mark.parametrize("attention", ATTENTIONS[:-1])
def test_a_captioner_step_by_step_equals_the_whole(attention):
    model = Captioner(DecoderConfig(20, embedding=6, hidden=8, attention=attention, n_heads=2)).eval()
    tokens = torch.randint(4, 20, (3, 5))
    whole = model(IMAGES[:3], tokens)
    state, steps = model.encode(IMAGES[:3]), []
    for column in tokens.T:
        log_p, state = model.step(column, state)
        steps.append(log_p)
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, rtol=0, atol=1e-5)
