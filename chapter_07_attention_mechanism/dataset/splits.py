"""To train, to choose by, or to test: which part of a generated data set an item belongs to.
用于训练、选配方还是测试：生成的数据中每一项属于哪一部分。
"""

from zlib import crc32


def part_of(item: str) -> str:
    """Return "test" for one item in ten, "validation" for another one, and "train" for the rest; always the same."""
    return {0: "test", 1: "validation"}.get(crc32(f"test {item}".encode()) % 10, "train")
