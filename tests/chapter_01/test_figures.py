"""What chapter 1's figures pick out is what their captions say.
第 1 章的图挑出来的，正是图注所说的。
"""

import numpy as np

from chapter_01_tensor_autograd.custom_op import largest_nearby
from chapter_01_tensor_autograd.visualize import clearest_units


def test_smooth_units_are_found_among_noise_and_each_kind_once():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    stripes, blob = np.sin(columns / 3), np.exp(-((rows - 8) ** 2 + (columns - 20) ** 2) / 30)
    weight = rng.standard_normal((784, 12))
    for unit, picture in ((3, stripes), (5, -2 * stripes), (8, blob)):
        weight[:, unit] = 30 * picture.ravel() / np.linalg.norm(picture)
    weight[:, 10] = 1e-3 * rows.ravel()  # smooth, but as good as nothing
    found = clearest_units(weight, 2)
    assert 8 in found and len({3, 5} & set(found)) == 1


def test_the_largest_error_nearby_is_drawn_and_nothing_where_there_is_none():
    errors = np.array([0.0, 0.0, 1e-3, 0.0, 0.0, np.nan, np.nan])
    drawn = largest_nearby(errors, reach=1)
    assert drawn[:5].tolist() == [1e-9, 1e-3, 1e-3, 1e-3, 1e-9] and np.isnan(drawn[5:]).all()
