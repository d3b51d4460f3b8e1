"""The masks that the demo explains are the ones it draws.
演示中解释的掩码与画出的一致。
"""

import pytest
import torch

from chapter_07_attention_mechanism import masks_demo
from chapter_07_attention_mechanism.attention import masked_softmax
from utils.errors import UserError


def test_every_mask_is_explained_and_does_what_it_says():
    masks = masks_demo.make_masks(n_words=3, length=4, window=1)
    assert masks.keys() == masks_demo.EXPLAINED.keys()
    weights = {name: masked_softmax(torch.zeros(4, 4), mask) for name, mask in masks.items()}
    assert weights["no mask"].eq(0.25).all()
    assert weights["padding"][:, 3].eq(0).all() and weights["causal"].triu(1).eq(0).all()
    both = weights["causal and padding"]
    assert both[3].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0]) and both[0].tolist() == [1, 0, 0, 0]
    assert weights["window"][0].tolist() == [0.5, 0.5, 0, 0] == weights["causal window"][1].tolist()
    assert weights["fully masked"][1].eq(0).all() and weights["fully masked"].isfinite().all()
    far = weights["distance penalty"][0]
    assert (far > 0).all() and far[0] / far[1] == pytest.approx(torch.e)


def test_what_is_forbidden_is_printed_as_a_dot():
    mask = torch.tensor([[True, False], [True, True]])
    lines = masks_demo.table(["a", "b"], mask, masked_softmax(torch.zeros(2, 2), mask))
    assert [line.split() for line in lines] == [["a", "b"], ["a", "1.00", "·"], ["b", "0.50", "0.50"]]


@pytest.mark.parametrize("flags", [["--sentence", " "], ["--sentence", "w " * 13], ["--padding", "12"]])
def test_sentences_that_do_not_fit_are_refused(flags):
    with pytest.raises(UserError, match="1 to 12 places"):
        masks_demo.main(["--dry_run", *flags])
