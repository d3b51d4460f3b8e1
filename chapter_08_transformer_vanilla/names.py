"""First names to learn letter by letter: the Names Corpus, or a list that stands here.
逐字母学习的英文名字：Names Corpus 语料，或写在本文件里的一小份名单。
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from chapter_08_transformer_vanilla.tasks import IGNORED
from utils.errors import UserError
from utils.file_io_util import atomic_write, download

ALPHABET = ".abcdefghijklmnopqrstuvwxyz"  # the dot begins and ends each name
END = 0  # its number
LONGEST = 15  # letters of a name
URL = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/names.zip"
FILES = ["female.txt", "male.txt"]
LEAST = 7000  # names; files that are whole hold more
OFFLINE = "--dataset toy needs no download"
TOY = """
adam agnes alan alice alma amber amy andrea andrew angela anna annie anthony april arthur audrey barbara beatrice ben
benjamin bernard bertha betty beverly bill billy bob bonnie brenda brian bruce calvin carl carla carmen carol caroline
catherine cecil charles charlotte cheryl chester christine clara clarence claude clifford colleen connie craig crystal
curtis cynthia daisy dale dan daniel danny darlene david dawn dean deborah debra delia della dennis derek diana diane
don donald donna dora doris dorothy douglas duane dustin earl eddie edgar edith edna edward edwin eileen elaine eleanor
elizabeth ella ellen elmer elsie emily emma eric erica erin ernest esther ethel eugene eva evelyn felix fern flora
florence frances francis frank franklin fred gail gary gene george gerald geraldine gertrude gilbert gina gladys glen
gloria gordon grace greg gregory hannah harold harriet harry harvey hazel heather helen henry herbert herman hilda
holly howard hugh ida irene iris irma isaac ivan jack jacob james jamie jane janet janice jason jean jeff jennie
jennifer jerome jerry jesse jessica jill jim joan joanna joe joel john jon jordan joseph josephine joshua joyce juan
juanita judith judy julia julian julie june justin karen karl kate kathleen kathryn katie keith kelly ken kenneth kevin
kim kyle larry laura lauren laurie lawrence lee leo leon leona leonard leroy leslie lester lewis lillian linda lisa
lloyd lois loretta lori louis louise lucas lucille lucy luis luke lydia mabel mack mae marcia marcus margaret maria
marian marie marilyn marion marjorie mark marsha martha martin marvin mary matthew maureen maurice max maxine may
melanie melinda melissa melvin michael michelle mildred milton minnie miriam molly mona monica morris myra myrtle nancy
naomi natalie nathan neil nelson nicholas nicole nina nora norma norman olga oliver olivia opal oscar pamela patricia
paul paula pauline pearl peggy penny perry peter philip phyllis priscilla rachel ralph ramona raymond rebecca regina
renee rhonda richard rick rita robert roberta robin rodney roger roland ronald rosa rosalie rose rosemary roy ruby
russell ruth ryan sabrina sally sam samantha samuel sandra sara scott sean shannon sharon shaun sheila sherry shirley
sidney silvia simon sonia sophie stacy stanley stella stephen steven stuart sue susan suzanne sylvia tamara tanya tara
ted teresa terry thelma theodore thomas tiffany tim timothy tina todd tom tommy tony tracy travis troy valerie vanessa
vera verna vernon veronica victor victoria vincent viola violet virginia vivian wallace walter wanda warren wayne wendy
wesley wilbur willard william willie wilma winifred yolanda yvonne zachary zoe
"""


def load_names(dataset: str, root: Path) -> tuple[list[str], list[str]]:
    """Return names to learn from and names held out, in small letters a to z; no name is in both.

    Every tenth name of the sorted list is held out: both parts have their share of each initial.

    Args:
        dataset: "full": the Names Corpus (Kantrowitz and Ross, 1991-1994), in `root`/names; "toy": the list above.

    Raises:
        UserError: a file is missing and cannot be downloaded, or is damaged.
    """
    words = names_corpus(root / "names") if dataset == "full" else TOY.split()
    names = sorted({word.lower() for word in words if word.isascii() and word.isalpha() and len(word) <= LONGEST})
    return [name for i, name in enumerate(names) if i % 10], names[::10]


def names_corpus(folder: Path) -> list[str]:
    """Return the lines of female.txt and male.txt in the folder; what is missing is downloaded.

    Raises:
        UserError: as `load_names`.
    """
    paths = [folder / name for name in FILES]
    if not all(path.exists() for path in paths):
        archive = download(URL, folder / "names.zip", None, OFFLINE)
        try:
            with ZipFile(archive) as members:
                for path in paths:
                    with atomic_write(path) as temporary:
                        temporary.write_bytes(members.read(f"names/{path.name}"))
        except (BadZipFile, EOFError, KeyError, zlib.error) as error:
            raise UserError(f"{archive} is damaged or another file: delete it, and it will be fetched again") from error
    words = [line.strip() for path in paths for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    if len(words) < LEAST:
        raise UserError(f"{folder} holds {len(words)} names, not at least {LEAST}: are {' and '.join(FILES)} whole?")
    return words


def encode(name: str) -> list[int]:
    """anna -> [0, 1, 14, 14, 1, 0]: each token but the last is followed by the next one."""
    return [END, *map(ALPHABET.index, name), END]


def decode(tokens: Sequence[int]) -> str:
    return "".join(ALPHABET[token] for token in tokens if token != END)


def padded(batch: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets (B, T), int64, of encoded names: what follows each token, IGNORED behind the end."""
    shape = len(batch), max(map(len, batch)) - 1
    inputs, targets = np.full(shape, END), np.full(shape, IGNORED)
    for row, tokens in enumerate(batch):
        inputs[row, : len(tokens) - 1], targets[row, : len(tokens) - 1] = tokens[:-1], tokens[1:]
    return inputs, targets
