"""How good a language model is, in bits for each byte of text, and how much of the machine its training uses.
语言模型有多好：每字节文本用多少比特；训练用上了机器算力的几成。

A loss per token depends on how long the tokens are. Bits per byte do not, so that models with different tokenizers, an
n-gram model of bytes and a program that compresses files can be compared: all of them tell the same text.
"""

import ast
import lzma
import math
import re
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.baselines.ngram import KneserNey
from chapter_08_transformer_vanilla.tasks.lm import text_loss
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.generation import Sampler, generate
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.pretraining.data import END_OF_TEXT, utf8
from utils.timer import Timer

LINES = 10  # of a sample of code


def bits_per_byte(model: LanguageModel, tokenizer: ByteTokenizer, documents: Sequence[str], length: int) -> float:
    """Return -log2 p of the documents, from first to last token, divided by their bytes.

    A document is read in windows of `length` tokens, one every length / 2: each token is guessed from at least so many
    before it, or from the document's whole beginning; the first from the end of the last text.
    """
    end, device, nats, n_bytes = tokenizer.special[END_OF_TEXT], model.head.weight.device, 0.0, 0
    for document in documents:
        ids = torch.tensor([end, *tokenizer.encode(document)], device=device)
        if len(ids) > 1:  # an empty document has nothing to guess
            nats += text_loss(model, ids, length, max(1, length // 2)) * (len(ids) - 1)
        n_bytes += len(utf8(document))
    return nats / math.log(2) / n_bytes


def perplexity(bits: float, tokenizer: ByteTokenizer, documents: Sequence[str]) -> float:
    """Return what so many bits a byte of these documents are as a perplexity: among how many tokens a guess is made."""
    n_tokens = sum(len(tokenizer.encode(document)) for document in documents)
    return 2 ** (bits * sum(len(utf8(document)) for document in documents) / n_tokens)


def mean_loss(model: LanguageModel, texts: Sequence[Tensor], length: int) -> float:
    """Return the loss (nats a token) on the tokens (N,) of all texts but the first of each, in the same windows."""
    losses = [text_loss(model, ids, length, max(1, length // 2)) * (len(ids) - 1) for ids in texts]
    return sum(losses) / sum(len(ids) - 1 for ids in texts)


def ngram_bits_per_byte(learned: bytes, validation: bytes, text: bytes, orders: Sequence[int]) -> tuple[float, int]:
    """Return the same of chapter 6's n-gram model of bytes, and its order, that which does best on `validation`.

    The text goes on where `learned` ends. Bytes that occur nowhere are no part of the alphabet, so that longer n-grams
    fit into 64 bits; orders that do not are left out. The other bytes count as seen once at least: else the first é
    would be impossible.
    """
    parts = [torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in (learned, validation, text)]
    kinds, ids = torch.unique(torch.cat(parts), return_inverse=True)
    before, between, after = ids.split([len(part) for part in parts])
    found = []
    for order in [n for n in orders if len(kinds) ** n < 2**63] or [7]:
        model = KneserNey(torch.cat([torch.arange(len(kinds)), before]), len(kinds), order)
        found.append((model.loss(between, before), model.loss(after, before) / math.log(2), order))
    return min(found)[1:]


def xz_bits_per_byte(learned: bytes, text: bytes) -> float:
    """Return by how many bits a byte of `text` makes the archive of `learned` longer; xz looks back 64 MiB."""
    alone, both = (len(lzma.compress(data, preset=9)) if data else 0 for data in (learned, learned + text))
    return 8 * (both - alone) / len(text)


def baselines(
    learned: Sequence[str], validation: Sequence[str], held_out: Sequence[str], orders: Sequence[int]
) -> dict[str, float]:
    """Return what those programs reach on the held-out documents that know no model like ours."""
    before, between, text = (b"".join(map(utf8, documents)) for documents in (learned, validation, held_out))
    bits, order = ngram_bits_per_byte(before, between, text, orders)
    return {
        "bits_per_byte_ngram": bits,
        "ngram_order": order,
        "bits_per_byte_xz": xz_bits_per_byte(b"", text),
        "bits_per_byte_xz_primed": xz_bits_per_byte(before, text),
    }


def sample_text(
    model: LanguageModel, tokenizer: ByteTokenizer, prompt: str, n_tokens: int, temperature: float, seed: int
) -> str:
    """Return the prompt and how the model goes on, up to the end that it sets or to `n_tokens` more."""
    generator, end = torch.Generator().manual_seed(seed), tokenizer.special[END_OF_TEXT]
    steps = generate(model, [tokenizer.encode(prompt)], n_tokens, Sampler(temperature), generator, [end])
    return prompt + tokenizer.decode([token for [token] in steps if token != end])


def functions(documents: Sequence[str], count: int) -> list[str]:
    """Return evenly spaced pieces of source code, `count` of them if there are so many; each begins with a function."""
    starts = [(document, found.start()) for document in documents for found in re.finditer("^def ", document, re.M)]
    chosen = [starts[i * len(starts) // count] for i in range(count)] if count < len(starts) else starts
    return ["".join(document[start:].splitlines(keepends=True)[:LINES]) for document, start in chosen]


def parses(text: str) -> bool:
    """Tell whether a text's first ten lines, behind empty ones, are Python; of a long function that may be no."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" and the like
            ast.parse("".join(text.lstrip("\n").splitlines(keepends=True)[:LINES]))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def peak_speed(device: torch.device, amp: str, rounds: int = 8) -> float:
    """Return the operations a second of a large matrix product, the best of some: what a training cannot exceed."""
    size = 8192 if device.type == "cuda" else 1024
    x = torch.randn(size, size, device=device, dtype=torch.bfloat16 if amp == "bf16" else torch.float32)
    seconds = []
    for _ in range(rounds):
        timer = Timer()
        y = x @ x
        y[0, 0].item()  # waits for it
        seconds.append(timer.seconds)
    return 2 * size**3 / min(seconds)
