"""Draw the pictures of the theory, count what a model has and does, and draw what tokenizers and a model learned.
画出理论部分的插图，数出模型的参数与运算，并画出分词器和模型学到的东西。

    python chapter_10_llm_modern_components/visualize.py --parts theory    # about 30 seconds
    python chapter_10_llm_modern_components/visualize.py --parts tokens    # from results/tokenizer_*.json
    python chapter_10_llm_modern_components/visualize.py --parts model    # of the model that ships: about a minute
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from chapter_10_llm_modern_components.bpe import train_tokenizer
from chapter_10_llm_modern_components.figures import (
    choosing,
    costs,
    counting,
    growth,
    parts,
    places,
    structure,
    trained,
)
from chapter_10_llm_modern_components.figures.counting import counts
from chapter_10_llm_modern_components.figures.merges import draw_merge_counts, draw_merge_steps
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.model_analysis import (
    attention_maps,
    bits_by_position,
    by_context,
    copying_heads,
    cut_windows,
    even_first_weight,
    first_token_weights,
    followers,
    nearest_words,
)
from chapter_10_llm_modern_components.pretraining import dial, load_corpus
from chapter_10_llm_modern_components.scaling.memory import kept_bytes, kept_numbers, state_bytes
from chapter_10_llm_modern_components.shipped import CHECKPOINTS, UNTRAINED, Writer, load_learner
from utils.cli import add_data_flag, add_output_flags, begin, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results

from matplotlib.figure import Figure

N_TOKENS, DEPTH = 4096, 5  # of the model that pretrain.py trains if no flag says otherwise
RESULTS = Path(__file__).resolve().parent / "results"
LENGTH = 512  # tokens of a text; one looks back at half as many on average
N_MAPPED = 32  # windows in which it is looked at what heads look at
N_REPEATED, HALF = 8, 64  # texts of random tokens that come twice, and tokens that come again
WORDS = ["two", "red", "king", "mother", "horse", "he", "said", "went"]
SENTENCE = "The fox Timandra sang, and the wolf danced. Then the fox Timandra laughed."
PARAGRAPH = """\
There was once a miller who had a mill by a river, and in the mill lived a mouse that could count. Every evening, when
the last cart had rolled away, the mouse came out and counted the sacks, and what it had counted it told the cat. "There
are twenty sacks," said the mouse, "and this morning there were twenty-one." The cat, who did not care for numbers,
yawned and looked at the river. But the next evening there were nineteen sacks, and on the third there were only
eighteen, and then even the cat began to wonder. "Tonight," said the cat, "we shall not sleep. You will sit on the
beam, and I shall lie behind the door." So they waited until the moon stood over the mill, and when the clock in the
village had struck twelve, they heard somebody come slowly up the steps.
"""


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to draw")
    what = "where the results of tokenizer_train.py and pretrain.py lie"
    parser.add_argument("--results_dir", type=Path, default=RESULTS, help=what)
    parser.add_argument("--model_path", type=Path, help="a model of pretrain.py; None: the one that ships")
    what = "what model is tried on: the held-out books, a built-in paragraph, or auto: the books if they are there"
    parser.add_argument("--text", default="auto", choices=["auto", "books", "paragraph"], help=what)
    add_data_flag(parser)
    args = begin(parser, argv, dry_run={"model_path": UNTRAINED, "text": "paragraph"})
    for part in dict.fromkeys(args.parts):
        for path in PARTS[part](args):
            print(f"wrote {path}")


def theory(args: argparse.Namespace) -> list[Path]:
    """The pictures of the README's theory, and its counts; nothing was trained."""
    sizes = dial(DEPTH)
    batch_tokens = sizes.pop("batch_size") * LENGTH
    del sizes["lr"]
    model = LanguageModel(ModelConfig(N_TOKENS, **sizes))
    path, final = args.out_dir / "theory.json", counts(model, LENGTH // 2)
    final |= {"batch_tokens": batch_tokens, "state_bytes": sum(state_bytes(model).values())}
    final |= kept_bytes(model.config, batch_tokens)
    write_results(path, args, final | {f"{name}_numbers": count for name, count in kept_numbers(model.config).items()})
    drawn = {
        "model": structure.matrices(model),
        "blocks": structure.blocks(),
        "merges": draw_merge_steps(train_tokenizer(["banana bandana"], 256 + 3), " bandana"),
        "norms": parts.norms(),
        "gates": parts.gates(),
        "hands": places.hands(),
        "bounded": places.bounded(),
        "experts": parts.experts(),
        "counting": counting.counting(model),
        "filters": choosing.filters(),
        "speculation": choosing.speculation(),
        "memory": costs.memory(model.config, final["parameters"], batch_tokens),
        "spikes": costs.spikes(),
        "parallel": costs.parallel(),
        "one_step": growth.one_step(),
        "valley": growth.valley(),
        "passes": growth.passes(),
    }
    return [path, *(save_figure(figure, args.out_dir / f"{name}.png") for name, figure in drawn.items())]


def tokens(args: argparse.Namespace) -> list[Path]:
    """How often each merge is made in books and in code; where results are missing, a line says what makes them.

    Raises:
        UserError: a file is there, but is not such results.
    """
    histories = {}
    for label, corpus in (("children's books", "stories"), ("Python", "code")):
        path, made_by = args.results_dir / f"tokenizer_{corpus}.json", f"tokenizer_train.py --corpus {corpus}"
        if not path.exists():
            print(f"{path} is not there: chapter_10_llm_modern_components/{made_by} makes it, see --results_dir")
            return []
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["history"]
            histories[label] = [{name: row[name] for name in ("merge", "token", "count")} for row in rows]
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise UserError(f"{path} holds no results of {made_by}") from error
    return [save_figure(draw_merge_counts(histories), args.out_dir / "merge_counts.png")]


def model(args: argparse.Namespace) -> list[Path]:
    """What a pre-trained model looks at, its words' neighbours, and how it learned, with what was measured.

    Where the model that ships or its training's results are missing, a line says what makes them.
    """
    source = args.model_path or CHECKPOINTS / "stories.pth"
    if args.model_path is None and not source.exists():
        print(f"{source} is not there: chapter_10_llm_modern_components/pretrain.py makes it")
        return []
    training = read_training(args.results_dir / f"pretrain_{source.stem}.json")
    writer = load_learner(source, args.device)
    documents = held_out_text(args.text, args.data_root)
    texts = [torch.tensor(writer.tokenizer.encode(document), device=args.device) for document in documents]
    windows = cut_windows(texts, min(LENGTH, writer.model.config.max_length))  # (N, T + 1)
    sizes = torch.tensor([len(token) for token in writer.visible_tokens()], device=args.device)
    rows = by_context(bits_by_position(writer.model, windows), sizes[windows[:, 1:]])
    final = {"windows": len(windows), "window": windows.shape[1] - 1, "documents": len(documents), "by_context": rows}
    final |= {"bits_per_byte_first": rows[0]["bits_per_byte"], "bits_per_byte_last": rows[-1]["bits_per_byte"]}
    figure, looked_at = looks(writer, windows, args.seed)
    final |= looked_at
    files = [args.out_dir / "model.json", save_figure(figure, args.out_dir / "looking.png")]
    write_results(files[0], args, final)
    if training:
        drawn = trained.learning(training["history"], training["final"], rows)
        files.append(save_figure(drawn, args.out_dir / "learning.png"))
    return files


def looks(writer: Writer, windows: Tensor, seed: int) -> tuple[Figure, dict]:
    """Return the picture of the heads and of the token table, and what it shows; windows are (N, T + 1)."""
    model, tokenizer = writer.model, writer.tokenizer
    every = max(1, len(windows) // N_MAPPED)
    first = first_token_weights(model, windows[::every][:N_MAPPED, :-1]).cpu()  # (L, H)
    even = even_first_weight(windows.shape[1] - 1)
    copying = copying_heads(model, N_REPEATED, HALF, torch.Generator().manual_seed(seed)).cpu()  # (L, H)
    neighbours = nearest_words(model.embedding.weight.cpu(), tokenizer, WORDS, count=5)
    found = {"first_weights": first.tolist(), "first_weight_even": even, "first_weight_mean": first.mean().item()}
    found |= {"heads": first.numel(), "heads_mostly_on_first": int((first > 0.5).sum())}
    found |= {"copying_weights": copying.tolist()}
    for name, weights in (("first", first), ("copying", copying)):
        layer, head = divmod(int(weights.argmax()), weights.shape[1])
        found |= {f"{name}_weight_max": weights.max().item(), f"{name}_head": f"{layer + 1}.{head + 1}"}
    found["copying_weight_even"] = sum(1 / n for n in range(HALF + 1, 2 * HALF + 1)) / HALF
    found["neighbours"] = [{"word": word, "near": dict(near)} for word, near in neighbours.items()]
    ids = torch.tensor(tokenizer.encode(SENTENCE))
    weights = attention_maps(model, ids[None].to(windows.device))[layer][0, head].cpu()  # (T, T), of what copies most
    shown = found["copying_head"], weights, followers(ids), tokenizer.show(ids.tolist())
    return trained.looking(first, even, shown, neighbours), found


def held_out_text(choice: str, root: Path) -> list[str]:
    """Return the documents that a model is tried on; "auto" are the books if any have been downloaded.

    Raises:
        UserError: a book is missing and cannot be downloaded.
    """
    if choice == "paragraph" or (choice == "auto" and not (root / "childrens_books").exists()):
        return [PARAGRAPH.replace("\n", " ").strip() + "\n"]
    return load_corpus("stories", root).held_out


def read_training(path: Path) -> dict | None:
    """Return pretrain.py's results; None, and a line, if there are none.

    Raises:
        UserError: the file is there, but holds something else.
    """
    if not path.exists():
        print(f"{path} is not there: chapter_10_llm_modern_components/pretrain.py makes it")
        return None
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        names = {"bits_per_byte", "bits_per_byte_ngram", "bits_per_byte_xz_primed", "epochs", "ngram_order"}
        columns = {"step", "train_bits_per_byte", "validation_bits_per_byte"}
        if names <= results["final"].keys() and all(columns <= row.keys() for row in results["history"] or [{}]):
            return results
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no results of pretrain.py") from error
    raise UserError(f"{path} holds no results of pretrain.py")


PARTS = {"theory": theory, "tokens": tokens, "model": model}


if __name__ == "__main__":
    run(main)
