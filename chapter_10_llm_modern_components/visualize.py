"""Draw the pictures of the theory, count what a model has and does, and draw what the tokenizers learned.
画出理论部分的插图，数出模型的参数与运算，并画出分词器学到的合并。

    python chapter_10_llm_modern_components/visualize.py --parts theory    # about 30 seconds
    python chapter_10_llm_modern_components/visualize.py --parts tokens    # from results/tokenizer_*.json
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chapter_10_llm_modern_components.bpe import train_tokenizer
from chapter_10_llm_modern_components.dial import dial
from chapter_10_llm_modern_components.figures import choosing, costs, counting, growth, parts, places, structure
from chapter_10_llm_modern_components.figures.counting import counts
from chapter_10_llm_modern_components.figures.merges import draw_merge_counts, draw_merge_steps
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.scaling.memory import kept_bytes, kept_numbers, state_bytes
from utils.cli import add_output_flags, begin, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results

N_TOKENS, DEPTH = 4096, 5  # of the model that pretrain.py trains if no flag says otherwise
RESULTS = Path(__file__).resolve().parent / "results"
LENGTH = 512  # tokens of a text; one looks back at half as many on average


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to draw")
    parser.add_argument("--results_dir", type=Path, default=RESULTS, help="where tokenizer_train.py's results lie")
    args = begin(parser, argv, dry_run={})
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


PARTS = {"theory": theory, "tokens": tokens}


if __name__ == "__main__":
    run(main)
