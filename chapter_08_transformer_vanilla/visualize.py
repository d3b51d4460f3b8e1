"""Draw the theory's pictures, and a trained translator: all heads, their roles, rollout, alignments, its training.
画出理论部分的插图，以及训练好的翻译模型的内部：所有的头、各头的分工、注意力展开、词对齐与训练曲线。

    python chapter_08_transformer_vanilla/visualize.py --parts theory    # no model needed: 40 s
    python chapter_08_transformer_vanilla/visualize.py --text "Ein Hund rennt durch den tiefen Schnee."    # 1 min
    python chapter_08_transformer_vanilla/visualize.py --parts heads rollout --pair zh-en --text "我喜欢学习。"
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_07_attention_mechanism.answering import Answer, whole_words
from chapter_07_attention_mechanism.figures.ribbons import ribbons
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS
from chapter_08_transformer_vanilla import norm_placement
from chapter_08_transformer_vanilla.attention_analysis import rollout
from chapter_08_transformer_vanilla.dataset import PAIRS, load_pairs
from chapter_08_transformer_vanilla.figures import circuits, families, learning, places, structure, trained, uses
from chapter_08_transformer_vanilla.head_survey import specialists, survey_heads
from chapter_08_transformer_vanilla.shipped import UNTRAINED, load_translator
from chapter_08_transformer_vanilla.translating import encode_source, write
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results
from utils.spread import mean_and_std

CHAPTER = Path(__file__).resolve().parent
EXAMPLES = {
    "de-en": "Ein Hund rennt durch den tiefen Schnee.",
    "en-de": "A dog runs through the deep snow.",
    "zh-en": "我喜欢学习。",
}
ALIGNED = {  # sentences whose words come in another order than in the translation
    "de-en": ["Im Schnee rennt ein brauner Hund.", "Zwei Kinder wollen im Park einen Drachen steigen lassen."],
    "en-de": ["A brown dog runs in the snow.", "Two children want to fly a kite in the park."],
    "zh-en": ["我昨天在学校见到了他。", "你什么时候回来？"],
}
RATE = 1e-3  # of the one step of Adam
TINY = {"model_path": UNTRAINED, "history": UNTRAINED, "dataset": "toy", "sentences": 3, "layers": 2, "seeds": 1}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to draw")
    parser.add_argument("--pair", default="de-en", choices=PAIRS, help="the translator: from which language into which")
    parser.add_argument("--text", help="the sentence in heads, rollout and alignment; None: examples")
    parser.add_argument("--model_path", type=Path, help="None: the one that ships; untrained: a tiny random one")
    parser.add_argument("--history", type=Path, help="a training's results; None: the shipped ones; untrained: made up")
    parser.add_argument("--dataset", default="full", choices=["full", "toy"], help="whose validation part roles reads")
    parser.add_argument("--sentences", type=positive, default=200, help="validation pairs that roles reads")
    parser.add_argument("--layers", type=positive, default=12, help="layers of the untrained models in theory")
    parser.add_argument("--seeds", type=positive, default=3, help="untrained models of each kind in theory")
    args = begin(parser, argv, dry_run=TINY)
    for part in dict.fromkeys(args.parts):
        for path in PARTS[part](args):
            print(f"wrote {path}")


def theory(args: argparse.Namespace) -> list[Path]:
    """The pictures of the README's theory; nothing in them was trained."""
    gradients, changes, final = measure_norms(args.layers, args.seeds)
    path = args.out_dir / "theory.json"
    write_results(path, args, final)
    drawn = {
        "clocks": places.clocks(),
        "steps": structure.steps(),
        "layer": structure.layer(),
        "shift": places.shift(),
        "norms": learning.norms(gradients, changes, RATE),
        "model": structure.model(),
        "forcing": learning.forcing(),
        "smoothing": learning.smoothing(),
        "schedules": learning.schedules(),
        "pieces": learning.pieces(),
        "cache": structure.cache(),
        "lengths": learning.lengths(),
        "tying": learning.tying(),
        **families.pictures(),
        **uses.pictures(),
        **circuits.pictures(),
    }
    return [path, *(save_figure(figure, args.out_dir / f"{name}.png") for name, figure in drawn.items())]


def measure_norms(n_layers: int, n_seeds: int) -> tuple[dict, dict, dict]:
    """Return gradients by place, changes by depth (means over seeds), and what to report; see `learning.norms`."""
    depths = [2**k for k in range((n_layers - 1).bit_length() + 1)]  # up to the first power of two from n_layers on
    gradients, changes, final = {}, {}, {"layers": n_layers, "seeds": n_seeds, "rate": RATE}
    for norm in ("pre", "post"):
        changes[norm] = {}
        for name, branches in ((norm, True), (f"{norm}_straight", False)):
            rows = [norm_placement.stream_gradients(norm, n_layers, 64, s, branches) for s in range(n_seeds)]
            gradients[name] = torch.tensor(rows).mean(dim=0).tolist()
            final |= mean_and_std(f"{name}_gradient_ratio", [row[0] / row[-1] for row in rows])
            final[f"{name}_gradients"] = gradients[name]
        for depth in depths:
            for name, rate in (("change", RATE), ("small_change", RATE / 100)):
                found = [norm_placement.first_step_change(norm, depth, rate, seed=seed) for seed in range(n_seeds)]
                final |= mean_and_std(f"{norm}_{name}_{depth}", found)
            changes[norm][depth] = final[f"{norm}_change_{depth}"]
    return gradients, changes, final


def heads(args: argparse.Namespace) -> list[Path]:
    """Every head of every layer while one sentence is translated."""
    maps, source, target = look(args)
    writes = [f"→ {piece}" for piece in [*target[1:], EOS]]
    names = {"encoder": (source, source), "decoder": (target, target), "cross": (writes, source)}
    written = []
    for name, (rows, columns) in names.items():
        figure = trained.all_heads([layer[0] for layer in maps[name]], rows, columns)
        written.append(save_figure(figure, args.out_dir / f"heads_{name}.png"))
    return written


def rolled(args: argparse.Namespace) -> list[Path]:
    """Attention rollout through the encoder."""
    maps, source, _ = look(args)
    last, total = maps["encoder"][-1][0].mean(dim=0), rollout(maps["encoder"])[0]  # (T, T), (T, T)
    return [save_figure(trained.rolled_out(last, total, source), args.out_dir / "rollout.png")]


def look(args: argparse.Namespace) -> tuple[dict[str, list[torch.Tensor]], list[str], list[str]]:
    """Translate the sentence; return all weights, the pieces that were read, and those that stood before each step."""
    translator = load_translator(args.pair, args.model_path, args.device)
    source = encode_source(translator.tokenizer, args.text or EXAMPLES[args.pair])
    answer = write(translator.model, [source], args.device, beam=5)[0]
    inputs = [torch.tensor([ids], device=args.device) for ids in (source, [BOS_ID, *answer])]
    maps = translator.model.attention_maps(inputs[0], None, inputs[1])
    return maps, *(translator.tokenizer.show(ids[0].tolist()) for ids in inputs)


def aligned_words(args: argparse.Namespace) -> list[Path]:
    """Sentences, their translations below, and ribbons between words: where cross-attention looked, all heads' mean."""
    translator = load_translator(args.pair, args.model_path, args.device)
    panels = []
    for found in translator([args.text] if args.text else ALIGNED[args.pair], args.device, beam=5):
        words = whole_words(Answer(found.source, found.pieces, found.weights, [], ended=True))
        panels.append((words.source, words.pieces, words.weights))
    return [save_figure(ribbons(panels), args.out_dir / f"alignment_{args.pair}.png")]


def roles(args: argparse.Namespace) -> list[Path]:
    """What each head looks at, over validation pairs whose references are given."""
    translator = load_translator(args.pair, args.model_path, args.device)
    pairs = load_pairs(args.pair, args.dataset, args.data_root)[1][: args.sentences]
    found = survey_heads(translator, pairs, args.device)
    path = args.out_dir / f"roles_{args.pair}.json"
    write_results(path, args, {"count": len(pairs), "split": "validation"} | specialists(found))
    return [path, save_figure(trained.roles(found), args.out_dir / f"roles_{args.pair}.png")]


def training(args: argparse.Namespace) -> list[Path]:
    """Loss, BLEU and rate over the training of the pair."""
    name = f"translate_{args.pair.replace('-', '_')}"
    path = args.history or CHAPTER / "results" / f"{name}.json"
    if path == UNTRAINED:
        history = [{"step": i, "train_loss": 3 / i, "validation_loss": 2.0, "lr": 0.01 / i} for i in (1, 2)]
    else:
        try:
            history = json.loads(path.read_text(encoding="utf-8"))["history"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            advice = f"chapter_08_transformer_vanilla/train.py --pair {args.pair} writes it"
            raise UserError(f"{path} cannot be read; {advice}") from error
    return [save_figure(trained.training(history), args.out_dir / f"training_{args.pair}.png")]


PARTS = {
    "theory": theory,
    "heads": heads,
    "roles": roles,
    "rollout": rolled,
    "alignment": aligned_words,
    "training": training,
}


if __name__ == "__main__":
    run(main)
