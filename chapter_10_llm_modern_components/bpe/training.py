"""Learn a tokenizer from documents, fast: each different chunk once, and only what a merge has changed anew.
从文档中快速学习分词器：每种片段只处理一次，每次合并后只重数有变化的部分。

Both are done by chapter 7's `learn_merges`, to which a byte is a character. It chooses as `learn_merges_naive` does.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from chapter_07_attention_mechanism.vocab import learn_merges
from chapter_10_llm_modern_components.bpe.split import byte_characters, chunks, gpt_pattern
from chapter_10_llm_modern_components.bpe.tokenizer import ByteTokenizer
from utils.errors import UserError


def train_tokenizer(
    documents: Iterable[str | bytes], vocab_size: int, special: Sequence[str] = (), pattern: str | None = None
) -> ByteTokenizer:
    """Return a tokenizer of at most `vocab_size` tokens: 256 bytes, merges, and the special ones at the end.

    It has fewer merges if no pair is left that stands twice.

    Raises:
        UserError: there is nothing to learn from, two special tokens have one name, or `vocab_size` has no room.
    """
    if "" in special or len(set(special)) < len(special):
        raise UserError("special tokens need different names, none of them empty")
    if vocab_size < 256 + len(special):
        raise UserError(f"a vocabulary of {vocab_size} has no room for 256 bytes and {len(special)} special tokens")
    pattern = gpt_pattern() if pattern is None else pattern
    compiled, counts = re.compile(pattern), Counter()
    for document in documents:
        counts.update(chunks(document, compiled))
    if not counts:
        raise UserError("the corpus is empty: there is nothing to learn from")
    words = Counter({byte_characters(chunk): count for chunk, count in counts.items()})
    ids, merges = {chr(byte): byte for byte in range(256)}, []
    for left, right in learn_merges(words, vocab_size - 256 - len(special)):
        merges.append((ids[left], ids[right]))
        ids[left + right] = len(ids)
    return ByteTokenizer(merges, special, pattern)


def merge_counts(tokenizer: ByteTokenizer, documents: Iterable[str | bytes]) -> list[int]:
    """Return how often each merge is made when these documents are encoded.

    A token was made each time that it stands in the code, and each time that a longer one was made of it.
    """
    made = Counter(i for document in documents for i in tokenizer.encode(document))
    for new, pair in reversed(list(enumerate(tokenizer.merges, 256))):
        for part in pair:
            made[part] += made[new]
    return [made[new] for new in range(256, 256 + len(tokenizer.merges))]
