"""What the models have to beat: the rules do what they say.
模型要超过的基线：规则如其所述。
"""

import torch

from chapter_07_attention_mechanism.baselines import (
    date_by_rule,
    learn_dictionary,
    nearest_sentences,
    translate_by_words,
)
from chapter_07_attention_mechanism.dataset.scenes import draw_scenes


def test_a_rule_reads_plain_dates_and_no_others():
    for text in ("March 5, 2021", "5 Mar 2021", "2021年3月5日（星期五）", "3/5/2021", "Friday, March 5, 2021"):
        assert date_by_rule(text) == "2021-03-05", text
    assert date_by_rule("5.3.2021") == "2021-05-03"  # it takes the month to come first
    assert date_by_rule("二〇二一年三月五日") == "" == date_by_rule("")


def test_the_nearest_picture_of_a_known_one_is_itself():
    images, scenes = draw_scenes(20, torch.Generator().manual_seed(0))
    sentences = [scene.sentence for scene in scenes]
    assert nearest_sentences(images[5:9], images, sentences) == sentences[5:9]


def test_a_dictionary_is_learned_from_sentences_that_words_share():
    pairs = [("der hund", "the dog"), ("der mann", "the man"), ("ein hund", "a dog"), ("ein mann", "a man")]
    dictionary = learn_dictionary(pairs)
    assert dictionary == {"▁der": "▁the", "▁ein": "▁a", "▁hund": "▁dog", "▁mann": "▁man"}
    assert translate_by_words("der hund, ein mann fehlt", dictionary) == "the dog, a man fehlt"
