"""Tasks on the letters of a word: turn it round, change its look, shorten it, replace and count its letters.
围绕单词字母的任务：倒写、改变写法、缩短、替换字母、数字母。
"""

from collections import Counter

from chapter_10_llm_modern_components.tasks.family import LETTERS, Family, pick, quoted, word_to_spell


class Reverse(Family):
    """ "stone" -> "enots" """

    phrasings = {
        "word": (
            'Reverse "{0}".',
            'Write "{0}" backwards.',
            'Spell "{0}" from its last letter to its first.',
            'What is "{0}" the other way round?',
        )
    }

    def draw(self, kind, generator):
        return (word_to_spell(generator),)

    def solve(self, kind, word):
        return quoted(word[::-1])


class Style(Family):
    """ "stone" -> "STONE", "Stone" or "s-t-o-n-e" """

    phrasings = {
        "upper": ('Write "{0}" in upper case.', 'Say "{0}". Answer in upper case.', 'Put "{0}" in capital letters.'),
        "title": (
            'Write "{0}" with a capital letter.',
            'Say "{0}". Begin with a capital letter.',
            'Make the first letter of "{0}" a capital.',
        ),
        "dashes": (
            'Write "{0}" with a dash between any two letters.',
            'Say "{0}". Put dashes between the letters.',
            'Spell "{0}" with dashes.',
        ),
    }

    def draw(self, kind, generator):
        return (word_to_spell(generator),)

    def solve(self, kind, word):
        return quoted({"upper": word.upper(), "title": word.capitalize(), "dashes": "-".join(word)}[kind])


class Shorten(Family):
    """ "stone" -> "tone" or "ston" """

    phrasings = {
        "first": ('Drop the first letter of "{0}".', 'Write "{0}" without its first letter.', 'Behead "{0}".'),
        "last": ('Drop the last letter of "{0}".', 'Write "{0}" without its last letter.', 'Cut the end off "{0}".'),
    }

    def draw(self, kind, generator):
        return (word_to_spell(generator),)

    def solve(self, kind, word):
        return quoted(word[1:] if kind == "first" else word[:-1])


class Replace(Family):
    """ "banana", a, o -> "bonono" """

    phrasings = {
        "letter": (
            'Replace each "{1}" in "{0}" by "{2}".',
            'Write "{0}" with "{2}" in place of "{1}".',
            'In "{0}" change every "{1}" to "{2}".',
        )
    }

    def draw(self, kind, generator):
        word = word_to_spell(generator)
        old = pick(word, generator)
        return word, old, pick(LETTERS.replace(old, ""), generator)

    def solve(self, kind, word, old, new):
        return quoted(word.replace(old, new))


class CountLetters(Family):
    """ "banana" -> "b1 a3 n2" """

    phrasings = {
        "each": (
            'How often does each letter stand in "{0}"?',
            'Count the letters of "{0}".',
            'Say of each letter of "{0}" how often it comes.',
        )
    }

    def draw(self, kind, generator):
        few = "".join(pick(LETTERS, generator) for _ in range(4))  # of so few letters some come more than once
        return (word_to_spell(generator, few),)

    def solve(self, kind, word):
        return quoted(" ".join(f"{letter}{count}" for letter, count in Counter(word).items()))
