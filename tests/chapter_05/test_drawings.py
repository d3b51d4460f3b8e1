"""Chapter 5's drawn pictures: light and blur do what they say, and what ships is what the script draws.
第 5 章的绘图：光影和模糊名副其实，随附的图片就是脚本画出来的。
"""

import numpy as np
import pytest
from PIL import Image

from chapter_04_cnn_classic.figures.drawing import limb, oval
from chapter_05_resnet_modern_cnn.src import draw_images
from chapter_05_resnet_modern_cnn.src.dataset import STL10_CLASSES
from chapter_05_resnet_modern_cnn.src.figures.painting import Layer, blur, paint, slope, thickness
from chapter_05_resnet_modern_cnn.src.figures.scenes import SCENES
from tests.conftest import ROOT

SHIPPED = ROOT / "chapter_05_resnet_modern_cnn/images"
GREY = [(0, "#808080"), (100, "#808080")]
LOWER_HALF = [(-1, 50), (101, 50), (101, 101), (-1, 101)]


def painted(layers, side=40):
    return np.array(paint(GREY, layers, side, np.random.default_rng(0))).astype(int)


def test_thickness_of_discs_and_strips():
    assert thickness(oval(30, 60, 8, 8)) == pytest.approx(8, rel=0.01)
    assert thickness(limb((0, 0, 2), (300, 400, 2))) == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("reach", [0, 1, 3, 8])
def test_a_blurred_dot_is_a_bell_of_the_width_asked_for(reach):
    dot = np.zeros((81, 81, 1))
    dot[40, 40] = 1
    wide = blur(dot, reach, 0)
    across, place = wide[40, :, 0], np.arange(81) - 40
    assert across.sum() == pytest.approx(1) and np.count_nonzero(wide.sum(axis=1).round(12)) == 1
    assert (across * place**2).sum() == pytest.approx(reach * (reach + 1))  # three means of 2 reach + 1 elements
    np.testing.assert_allclose(across, across[::-1], atol=1e-12)
    np.testing.assert_allclose(blur(dot, 0, reach)[..., 0], wide[..., 0].T, atol=1e-12)


def test_blur_keeps_what_is_even_up_to_the_border():
    np.testing.assert_allclose(blur(np.full((9, 12, 3), 0.7), 4, 5), 0.7, rtol=1e-12)


def test_slope_is_that_of_a_plane():
    y, x = np.mgrid[:6, :7].astype(float)
    rise = slope((2 * y + 3 * x)[..., None])
    np.testing.assert_allclose(rise[1:, 1:], 0.86 * 2 + 0.51 * 3)


def test_colours_and_opacity_without_light():
    picture = painted([Layer([(LOWER_HALF, "#ff0000"), (LOWER_HALF, "#00ff0080")])])
    assert (picture[:20] == 128).all()
    assert np.abs(picture[20:] - [127, 128, 0]).max() <= 1  # half transparent green on red


def test_light_comes_from_the_upper_left():
    flat, lit = (painted([Layer([(oval(50, 50, 30, 30), "#a0a0a0")], relief=r)])[..., 0] for r in (0, 1))
    assert (flat[14:26, 14:26] == 160).all()
    diagonal = lit[np.arange(12, 28), np.arange(12, 28)]
    assert diagonal[0] > 170 and diagonal[-1] < 150 and (np.diff(diagonal) <= 0).all()
    assert lit[20, 20] == 160 and lit[0, 0] == 128


def test_a_shape_darkens_what_it_lies_on_but_not_another_layer():
    base, disc = (LOWER_HALF, "#c0c0c0"), (oval(50, 75, 15, 15), "#c0c0c0")
    one = painted([Layer([base, disc], relief=1)])
    two = painted([Layer([base], relief=1), Layer([disc], relief=1)])
    beside = 30, 27  # just outside the disc, on its right
    assert one[beside][0] < two[beside][0] - 6 and one[30, 20, 0] == two[30, 20, 0]


def test_gloss_and_fur():
    disc = [(oval(50, 50, 40, 40), "#606060")]
    plain, glossy, furry = (
        painted([Layer(disc, relief=1, **how)])[..., 0] for how in ({}, {"gloss": 0.5}, {"fur": 0.1})
    )
    assert glossy.max() > plain.max() + 60 and (glossy >= plain).all()
    middle = np.s_[17:23, 17:23]
    assert plain[middle].std() < 1.5 < furry[middle].std()


def test_what_is_out_of_focus_has_soft_edges():
    sharp, soft = (painted([Layer([(LOWER_HALF, "#ffffff")], blur=b)])[:, 20, 0] for b in (0, 5))
    assert np.count_nonzero((sharp > 128) & (sharp < 255)) == 0
    assert np.count_nonzero((soft > 128) & (soft < 255)) >= 6 and (np.diff(soft) >= 0).all()


def test_shapes_outside_the_picture_are_left_out():
    far = [(oval(150, 50, 9, 9), "#ff0000"), (oval(50, -40, 9, 9), "#ff0000")]
    assert (painted([Layer(far, relief=1)]) == 128).all()


def test_ten_pictures_are_drawn_one_for_each_class(tmp_path):
    assert list(SCENES) == STL10_CLASSES
    draw_images.main(["--out_dir", str(tmp_path), "--side", "24"])
    pictures = {path.stem: np.array(Image.open(path).convert("RGB")) for path in tmp_path.iterdir()}
    assert sorted(pictures) == STL10_CLASSES
    assert all(picture.shape == (24, 24, 3) and picture.std() > 20 for picture in pictures.values())


def test_a_picture_follows_from_its_seed():
    pictures = [np.asarray(draw_images.paint_scene("ship", 24, seed)) for seed in (0, 0, 1)]
    assert np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])


def test_the_shipped_pictures_are_the_scripts():
    shipped = sorted(SHIPPED.iterdir())
    assert [path.name for path in shipped] == [f"{name}.png" for name in STL10_CLASSES]
    for path in shipped:
        with Image.open(path) as picture:
            assert picture.size == (192, 192) and path.stat().st_size < 30_000
            if path.stem in ("airplane", "monkey"):
                again = draw_images.paint_scene(path.stem, 192)  # before it is reduced to 256 colours
                assert np.abs(np.subtract(picture.convert("RGB"), again, dtype=float)).mean() < 2
