"""Multi30k: 31,014 descriptions of photographs in German, English and French, and 1,000 more to test on.
Multi30k：31,014 条照片描述（德、英、法三语），另有 1,000 条用于测试。
"""

from pathlib import Path

from utils.errors import UserError
from utils.file_io_util import download

URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
MD5 = {  # of the unpacked files
    "train.de": "d3b4bc1671cfb805267f97f16884beba",
    "train.en": "053a34ece7c904dbc8c7361799afbe4c",
    "train.fr": "849ec62eac03bcc3335f8bac00a4045a",
    "val.de": "9f139b15d9d11936dea7af2904e57d8c",
    "val.en": "2234730e7925354b766681b029b347ec",
    "val.fr": "5c6267b6b147feb0fd6a826d01b7a53a",
    "test_2016_flickr.de": "cde61d7401b116652ee84099c7858ca3",
    "test_2016_flickr.en": "2022a6c31e2418047a0511333d55ed42",
    "test_2016_flickr.fr": "091159ae517b43efa0faaa650c49923b",
}


def multi30k(root: Path, split: str, languages: tuple[str, str], offline: str = "") -> list[tuple[str, str]]:
    """Return the pairs of sentences of a split: "train" (29,000), "val" (1,014) or "test_2016_flickr" (1,000).

    Looks for `root`/multi30k/<split>.<language>, then for the same with .gz, then downloads it (Elliott et al. 2016).

    Raises:
        UserError: a file is missing and cannot be downloaded, or is not the official one.
    """
    sides = []
    for language in languages:
        name = f"{split}.{language}"
        path = root / "multi30k" / name
        packed = path.with_name(f"{name}.gz")
        url = packed.absolute().as_uri() if packed.exists() else f"{URL}{name}.gz"
        download(url, path, MD5[name], offline, gzipped=True)
        sides.append(path.read_text(encoding="utf-8").splitlines())
    if len(sides[0]) != len(sides[1]):
        raise UserError(f"{root / 'multi30k'}: {split} has {len(sides[0])} and {len(sides[1])} lines, not as many each")
    return list(zip(*sides, strict=True))
