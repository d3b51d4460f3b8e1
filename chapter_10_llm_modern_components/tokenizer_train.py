"""Learn a byte-level tokenizer, and see what it learned: first merges, longest words, sentences cut to pieces.
训练一个字节级分词器，并看看它学到了什么：最先的合并、最长的单词、被切开的句子。

    python chapter_10_llm_modern_components/tokenizer_train.py    # on children's books: half a minute
    python chapter_10_llm_modern_components/tokenizer_train.py --corpus code    # on your Python's standard library
    python chapter_10_llm_modern_components/tokenizer_train.py --corpus toy --vocab_size 400    # no download: seconds
    python chapter_10_llm_modern_components/tokenizer_train.py --naive_kb 200    # with the naive way beside it: minutes
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chapter_07_attention_mechanism.vocab import GLUE
from chapter_10_llm_modern_components.bpe import (
    ByteTokenizer,
    chunks,
    learn_merges_naive,
    merge_counts,
    merge_steps,
    train_tokenizer,
)
from chapter_10_llm_modern_components.pretraining import SPECIAL, cut, load_corpus, n_bytes, paragraphs
from utils.cli import add_data_flag, add_output_flags, amount, begin, natural, positive, run, script_parser
from utils.errors import UserError
from utils.results import write_results
from utils.tables import aligned, final_lines

TINY = {"corpus": "toy", "vocab_size": 300, "naive_kb": 2, "megabytes": 0.005}
SHOWN = 12  # merges and tokens in a list
ELSEWHERE = [
    "Hello, world! It's 3.14159.",
    "你好，世界！",
    "naïve café 😀",
]  # none of these languages may be the corpus's


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    corpus = paragraphs(args.file) if args.file else load_corpus(args.corpus, args.data_root)
    learned = cut(corpus.train, int(args.megabytes * 1e6))
    tokenizer, seconds = timed(lambda: train_tokenizer(learned, args.vocab_size, args.special))
    if not tokenizer.merges:
        raise UserError("no merge was learned: the corpus repeats nothing, or --vocab_size leaves no room")
    if len(tokenizer) < args.vocab_size:
        print(f"only {len(tokenizer)} tokens: no other pair stands twice in the corpus")

    counts = merge_counts(tokenizer, learned)
    final = {
        "vocab_size": len(tokenizer),
        "train_bytes": n_bytes(learned),
        "train_documents": len(learned),
        "train_seconds": seconds,
        **measure(tokenizer, corpus.held_out),
        **(compare_with_naive(learned, args.vocab_size, args.special, args.naive_kb) if args.naive_kb else {}),
    }
    show(tokenizer, counts, corpus.held_out[0])
    name = "file" if args.file else args.corpus
    tokenizer.save(args.out_dir / f"merges_{name}.json")
    write_results(args.out_dir / f"tokenizer_{name}.json", args, final, history(tokenizer, counts))
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}: merges_{name}.json, and what was measured in tokenizer_{name}.json")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument(
        "--corpus",
        default="stories",
        choices=["stories", "code", "toy"],
        help="stories: children's books; code: the standard library of this Python; toy: made up here",
    )
    parser.add_argument("--file", type=Path, default=None, help="a text of your own instead of a corpus")
    parser.add_argument("--megabytes", type=amount, default=10.0, help="how much of the corpus is learned from")
    parser.add_argument("--vocab_size", type=positive, default=4096, help="tokens: bytes, merges, special ones")
    parser.add_argument("--special", nargs="*", default=SPECIAL, help="names of tokens that no text is encoded to")
    parser.add_argument("--naive_kb", type=natural, default=0, help="kB to learn from the naive way too; 0: do not")
    return parser


def timed(work: Callable) -> tuple:
    """Return what the work returns, and its processor seconds, which other programs do not add to."""
    start = time.process_time()
    done = work()
    return done, time.process_time() - start


def measure(tokenizer: ByteTokenizer, documents: list[str]) -> dict[str, float]:
    """Encode held-out documents: how much text is in a token, and how much is encoded in a second."""
    ids, seconds = timed(lambda: [tokenizer.encode(document) for document in documents])
    if not all(tokenizer.decode(part) == document for part, document in zip(ids, documents, strict=True)):
        raise RuntimeError("a document did not come back as it was")
    size, tokens = n_bytes(documents), sum(map(len, ids))
    return {
        "held_out_documents": len(documents),
        "held_out_bytes": size,
        "held_out_tokens": tokens,
        "bytes_per_token": size / tokens,
        "encode_mb_per_second": size / 1e6 / max(seconds, 1e-9),
    }


def compare_with_naive(documents: list[str], vocab_size: int, special: list[str], kb: int) -> dict[str, float]:
    """Learn from the first kilobytes both ways; the merges have to be the same."""
    text = cut(documents, 1000 * kb)
    fast, seconds = timed(lambda: train_tokenizer(text, vocab_size, special))
    words = [chunk.encode() for document in text for chunk in chunks(document, fast.compiled)]
    merges, naive_seconds = timed(lambda: learn_merges_naive(words, vocab_size - 256 - len(special)))
    if merges != fast.merges:
        raise RuntimeError("the naive way learned other merges")
    return {f"merges_{kb}kb": len(merges), f"train_seconds_{kb}kb": seconds, f"naive_seconds_{kb}kb": naive_seconds}


def show(tokenizer: ByteTokenizer, counts: list[int], document: str) -> None:
    """Print the first merges, the longest words, the longest one growing, and pieces of text between bars."""
    names = tokenizer.show(range(len(tokenizer)))
    rows = [
        (256 + i, f"{names[a]} + {names[b]}", names[256 + i], f"{count:,}")
        for i, ((a, b), count) in enumerate(zip(tokenizer.merges[:SHOWN], counts, strict=False))
    ]
    print(*aligned([("token", "merge", "gives", "times"), *rows], "><<>"), sep="\n")
    longest = sorted(range(256, 256 + len(counts)), key=lambda i: len(tokenizer.tokens[i]), reverse=True)
    longest = [i for i in longest if names[i].strip(GLUE).isalpha()] or longest  # words, where there are any
    print("\nlongest words:", "  ".join(names[i] for i in longest[:SHOWN]))
    for ids in merge_steps(tokenizer.tokens[longest[0]], tokenizer.merges):
        print("  " + "|".join(tokenizer.show(ids)))
    print("\npieces of text:")
    middle = document[len(document) // 2 :].split("\n\n")  # from a paragraph of its own, where there are some
    for text in [middle[min(1, len(middle) - 1)][:200], *ELSEWHERE]:
        ids = tokenizer.encode(text)
        print(f"  {'|'.join(tokenizer.show(ids))}  ({len(text.encode())} bytes, {len(ids)} tokens)")
    print()


def history(tokenizer: ByteTokenizer, counts: list[int]) -> list[dict]:
    """Return about ten merges for each doubling of their rank, with how often each was made."""
    ranks = sorted({round(2 ** (i / 10)) for i in range(200)} & set(range(1, len(counts) + 1)))
    names = tokenizer.show(range(256, 256 + len(counts)))
    return [{"merge": rank, "token": names[rank - 1], "count": counts[rank - 1]} for rank in ranks]


if __name__ == "__main__":
    run(main)
