"""The READMEs tell the truth.
README 中的内容真实无误。

A measured figure in a README is a link to the results file that holds it, the link's title saying where:
`[97.3 %](results/train.json "final.test_accuracy")`. A function is a link to its file: [`spirals`](dataset.py).
"""

import ast
import importlib
import json
import re
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

ENGLISH = [*ROOT.glob("README.md"), *ROOT.glob("utils/README.md"), *sorted(ROOT.glob("chapter_*/README.md"))]
ENGLISH += sorted(ROOT.glob("chapter_*/appendix.md"))
READMES = ENGLISH + [p.with_suffix(".zh-CN.md") for p in ENGLISH]

UNITS = {"": 1, "%": 100, "points": 100, "个百分点": 100, "ms": 1000, "s": 1, "min": 1 / 60, "MB": 1e-6, "×": 1}
NUMBER = r"-?\d[\d,]*(?:\.(?P<decimals>\d+))?(?:e(?P<exponent>-?\d+))?"
FIGURE = re.compile(
    rf"\[\**(?P<shown>{NUMBER}) ?(?P<unit>%|points|个百分点|ms|s|min|MB|×)?\**\]"
    r'\((?P<path>[^()\s]+) "(?P<place>[^"]+)"\)'
)
TITLED = re.compile(r'\]\([^()\s]+\.json\s+"')
FUNCTION = re.compile(r"\[`(\w+)`\]\(([^()\s]+\.py)\)")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^()\s]+)\)")
LINK = re.compile(r"\]\((?!http|mailto|#)([^()\s#]+)")
PYTHON = re.compile(r"^```python\n([\s\S]*?)^```", re.MULTILINE)
CODE = re.compile(r"^```[\s\S]*?^```", re.MULTILINE)
COMMENT = re.compile(r" +# .*$", re.MULTILINE)
SAME_IN_BOTH = {
    "headings": re.compile(r"^#+ ", re.MULTILINE),
    "commands": re.compile(r"^```(?:bash|python)\n[\s\S]*?^```", re.MULTILINE),
    "formulas": re.compile(r"^\$\$[\s\S]*?^\$\$", re.MULTILINE),
    "pictures": PICTURE,
    "figures": FIGURE,
    "functions": FUNCTION,
}


@cache
def read(path: Path) -> dict:
    """A results file, read once however many figures come from it."""
    return json.loads(path.read_text(encoding="utf-8"))


def look_up(path: Path, place: str) -> float:
    """The number at `place`, such as "final.test_accuracy" or "history.0.train_loss", in a results file."""
    value = read(path)
    for key in place.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


@pytest.mark.parametrize("readme", READMES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_figures_are_those_of_their_results_files(readme):
    text = CODE.sub("", readme.read_text(encoding="utf-8"))
    figures = list(FIGURE.finditer(text))
    assert len(figures) == len(TITLED.findall(text)), "a link to a results file is not of the form that can be checked"
    for figure in figures:
        measured = look_up(readme.parent / figure["path"], figure["place"]) * UNITS[figure["unit"] or ""]
        last_digit = 10.0 ** (int(figure["exponent"] or 0) - len(figure["decimals"] or ""))
        shown = float(figure["shown"].replace(",", ""))
        assert abs(shown - measured) <= 0.5001 * last_digit, f"{figure[0]} is measured {measured}"


@pytest.mark.parametrize("readme", READMES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_functions_pictures_and_links_exist(readme):
    text = CODE.sub("", readme.read_text(encoding="utf-8"))
    for name, path in FUNCTION.findall(text):
        code = (readme.parent / path).read_text(encoding="utf-8")
        assert re.search(rf"^\s*(def|class) {name}\b", code, re.MULTILINE), f"{path} defines no {name}"
    for target in LINK.findall(re.sub(r"(?<!\[)`[^`\n]*`", "", text)):
        assert (readme.parent / target).exists(), f"{target} is missing"


@pytest.mark.parametrize("readme", READMES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_in_code_blocks_find_what_they_name(readme):
    for block in PYTHON.findall(readme.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and re.match(r"chapter_\d|utils", node.module):
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{node.module} has no {', '.join(missing)}"


@pytest.mark.parametrize("readme", ENGLISH, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_both_languages_are_in_step(readme):
    texts = (p.read_text(encoding="utf-8") for p in (readme, readme.with_suffix(".zh-CN.md")))
    english, chinese = (COMMENT.sub("", text) for text in texts)  # comments in code are translated
    chinese = chinese.replace("个百分点](", "points](")  # the one unit that is a word
    for kind, pattern in SAME_IN_BOTH.items():
        assert pattern.findall(english) == pattern.findall(chinese), f"the languages differ in their {kind}"


@pytest.mark.parametrize("readme", READMES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_inline_formulas_follow_a_space(readme):
    """GitHub shows a formula raw whose first $ stands right behind a Chinese character or punctuation mark."""
    text = CODE.sub("", readme.read_text(encoding="utf-8"))
    formulas = re.finditer(r"(?<!\$)\$[^$\n]+\$(?!\$)", re.sub(r"`[^`\n]*`", "``", text))
    assert not [f[0] for f in formulas if ord(f.string[max(f.start() - 1, 0)]) > 127]


@pytest.mark.parametrize("readme", READMES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_emphasis_ends_where_markdown_can_see_it(readme):
    """A closing * between a punctuation mark and a letter closes nothing: both stars are shown."""
    text = re.sub(r"`[^`\n]*`|\*\*", "", CODE.sub("", readme.read_text(encoding="utf-8")))
    emphases = re.finditer(r"\*(?=\S)[^*\n]+\*", text)
    assert not [e[0] for e in emphases if e[0][-2] in "：，。？！；）”" and text[e.end() : e.end() + 1].isalnum()]
