"""Draw the theory's pictures, and what is inside trained models: of translation, of Shakespeare, of pictures.
画出理论部分的插图，以及训练好的模型（翻译、莎士比亚、图像）的内部。

    python chapter_08_transformer_vanilla/visualize.py --parts theory    # no model needed: 40 s
    python chapter_08_transformer_vanilla/visualize.py --text "Ein Hund rennt durch den tiefen Schnee."    # 1 min
    python chapter_08_transformer_vanilla/visualize.py --parts heads rollout --pair zh-en --text "我喜欢学习。"
    python chapter_08_transformer_vanilla/visualize.py --parts lm_heads lm_copying lm_lens lm_race vit    # 20 s

Parts: theory; of a translator heads, roles (what each head is for), rollout, alignment, training; of the language model
lm_heads, lm_copying (induction heads), lm_lens, lm_race (loss against time, beside chapter 6's); of the Vision
Transformer vit (attention over pictures).
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_03_optimization_regularization.training import probabilities
from chapter_04_cnn_classic.answers import describe
from chapter_04_cnn_classic.dataset import to_input
from chapter_04_cnn_classic.pictures import read_folder
from chapter_06_rnn_lstm_seq.dataset import encode
from chapter_06_rnn_lstm_seq.generation import known_part
from chapter_07_attention_mechanism.answering import Answer, whole_words
from chapter_07_attention_mechanism.figures.ribbons import ribbons
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS
from chapter_08_transformer_vanilla import norm_placement
from chapter_08_transformer_vanilla.attention_analysis import attention_received, rollout
from chapter_08_transformer_vanilla.dataset import load_pairs
from chapter_08_transformer_vanilla.figures import (
    circuits,
    families,
    inside,
    learning,
    positions,
    structure,
    trained,
    uses,
)
from chapter_08_transformer_vanilla.head_survey import specialists, survey_heads
from chapter_08_transformer_vanilla.lm_analysis import logit_lens, repeated_texts, report_copying, survey_copying
from chapter_08_transformer_vanilla.shipped import (
    SHIPPED_PAIRS,
    UNTRAINED,
    load_language_model,
    load_translator,
    load_vit,
)
from chapter_08_transformer_vanilla.translating import encode_source, write
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results

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
LINE = "The king is dead"  # what the language model reads, unless --text says otherwise
RATE = 1e-3  # of the one step of Adam
RECURRENT = CHAPTER.parent / "chapter_06_rnn_lstm_seq" / "results" / "char_lm_lstm.json"
DRAWINGS = CHAPTER.parent / "chapter_04_cnn_classic" / "data" / "custom_imgs"
N_PICTURES, LONGEST = 4, 60  # that are drawn: pictures, characters
TINY = {"model_path": UNTRAINED, "history": UNTRAINED, "dataset": "toy", "sentences": 3, "layers": 2, "seeds": 1}
TINY |= {"repeated": 4, "texts": 2}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to draw")
    parser.add_argument(
        "--pair",
        default="de-en",
        choices=SHIPPED_PAIRS,
        help="the translator: from which language into which; one of --model_path brings its own",
    )
    parser.add_argument("--text", help="what heads, rollout, alignment, lm_heads and lm_lens read; None: examples")
    parser.add_argument("--images", type=Path, default=DRAWINGS, help="a folder of pictures, or one picture (vit)")
    parser.add_argument(
        "--model_path",
        type=Path,
        help="of the parts drawn; None: those that ship; untrained: tiny random ones",
    )
    parser.add_argument(
        "--history", type=Path, help="results for training or lm_race; None: the shipped ones; untrained: made up"
    )
    parser.add_argument("--dataset", default="full", choices=["full", "toy"], help="whose validation part roles reads")
    parser.add_argument("--sentences", type=positive, default=200, help="validation pairs that roles reads")
    parser.add_argument("--repeated", type=positive, default=60, help="characters that lm_copying's texts repeat")
    parser.add_argument("--texts", type=positive, default=32, help="random texts that lm_copying reads")
    parser.add_argument("--layers", type=positive, default=12, help="layers of the untrained models in theory")
    parser.add_argument("--seeds", type=positive, default=3, help="untrained models of each kind in theory")
    args = begin(parser, argv, dry_run=TINY)
    for part in dict.fromkeys(args.parts):
        for path in PARTS[part](args):
            print(f"wrote {path}")


def theory(args: argparse.Namespace) -> list[Path]:
    """The pictures of the README's theory; nothing in them was trained."""
    gradients, changes, final = norm_placement.measure_norms(args.layers, args.seeds, RATE)
    path = args.out_dir / "theory.json"
    write_results(path, args, final)
    drawn = {
        "clocks": positions.clocks(),
        "steps": structure.steps(),
        "layer": structure.layer(),
        "shift": positions.shift(),
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
    source = encode_source(translator.tokenizer, args.text or EXAMPLES[translator.pair])
    answer = write(translator.model, [source], args.device, beam=5)[0]
    inputs = [torch.tensor([ids], device=args.device) for ids in (source, [BOS_ID, *answer])]
    maps = translator.model.attention_maps(inputs[0], None, inputs[1])
    return maps, *(translator.tokenizer.show(ids[0].tolist()) for ids in inputs)


def aligned_words(args: argparse.Namespace) -> list[Path]:
    """Sentences, their translations below, and ribbons between words: where cross-attention looked, all heads' mean."""
    translator = load_translator(args.pair, args.model_path, args.device)
    panels = []
    for found in translator([args.text] if args.text else ALIGNED[translator.pair], args.device, beam=5):
        words = whole_words(Answer(found.source, found.pieces, found.weights, [], ended=True))
        panels.append((words.source, words.pieces, words.weights))
    return [save_figure(ribbons(panels), args.out_dir / f"alignment_{translator.pair}.png")]


def roles(args: argparse.Namespace) -> list[Path]:
    """What each head looks at, over validation pairs whose references are given."""
    translator = load_translator(args.pair, args.model_path, args.device)
    pairs = load_pairs(translator.pair, args.dataset, args.data_root)[1][: args.sentences]
    found = survey_heads(translator, pairs, args.device)
    path = args.out_dir / f"roles_{translator.pair}.json"
    write_results(path, args, {"count": len(pairs), "split": "validation"} | specialists(found))
    return [path, save_figure(trained.roles(found), args.out_dir / f"roles_{translator.pair}.png")]


def training(args: argparse.Namespace) -> list[Path]:
    """Loss, BLEU and rate over the training of the pair."""
    rows = [{"step": i, "train_loss": 3 / i, "validation_loss": 2.0, "lr": 0.01 / i} for i in (1, 2)]
    run = {"history": rows, "flags": {"pair": args.pair}}
    if args.history != UNTRAINED:
        path = args.history or CHAPTER / "results" / f"translate_{args.pair.replace('-', '_')}.json"
        run = read_run(path, f"chapter_08_transformer_vanilla/train.py --pair {args.pair}", "train_loss")
    return [save_figure(trained.training(run["history"]), args.out_dir / f"training_{run['flags']['pair']}.png")]


def read_run(path: Path, maker: str, figure: str) -> dict:
    """Return a training's results, whose history has a certain figure.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        run["machine"], run["flags"], run["final"], run["history"][-1][figure]  # all that is asked for later
    except (OSError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read; {maker} writes it") from error
    return run


def lm_text(args: argparse.Namespace, characters: str) -> tuple[str, torch.Tensor]:
    """Return what of the text the language model knows, and its tokens (T,)."""
    text, unknown = known_part(args.text or LINE, characters)
    if not 2 <= len(text) <= LONGEST:
        raise UserError(
            f"--text: of what the plays have, 2 to {LONGEST} characters fit into a picture, not {len(text)}"
        )
    if unknown:
        print(f"left out, since the plays do not have them: {' '.join(map(repr, unknown[:10]))}", file=sys.stderr)
    return text, encode(text, characters).to(args.device)


def lm_heads(args: argparse.Namespace) -> list[Path]:
    """Every head of every layer of the language model while it reads."""
    model, characters = load_language_model(args.model_path, args.device)
    text, tokens = lm_text(args, characters)
    names = inside.visible(text)
    figure = trained.all_heads([layer[0] for layer in model.attention_maps(tokens[None])["decoder"]], names, names)
    return [save_figure(figure, args.out_dir / "lm_heads.png")]


def lm_copying(args: argparse.Namespace) -> list[Path]:
    """Random characters, and the same again: which heads copy, and what is lost without them."""
    model, characters = load_language_model(args.model_path, args.device)
    generator = torch.Generator().manual_seed(args.seed)
    found = survey_copying(model, repeated_texts(args.texts, args.repeated, len(characters), generator).to(args.device))
    path = args.out_dir / "lm_copying.json"
    write_results(path, args, report_copying(found))
    return [path, save_figure(inside.copying(found), args.out_dir / "lm_copying.png")]


def lm_lens(args: argparse.Namespace) -> list[Path]:
    """What the head would say after each layer of the language model."""
    model, characters = load_language_model(args.model_path, args.device)
    text, tokens = lm_text(args, characters)
    figure = inside.lens(logit_lens(model, tokens).cpu(), text, characters)
    return [save_figure(figure, args.out_dir / "lm_lens.png")]


def lm_race(args: argparse.Namespace) -> list[Path]:
    """Loss against time, ours and the recurrent network's."""
    run = {"history": [{"seconds": 60.0 * i, "val_loss": 3 / i} for i in (1, 2)], "machine": "none, 1 threads"}
    run["final"] = {"val_loss": 1.5, "train_seconds": 120.0, "ngram_loss": 2.0}
    if args.history != UNTRAINED:
        path = args.history or CHAPTER / "results" / "lm_shakespeare.json"
        run = read_run(path, "chapter_08_transformer_vanilla/train.py --task lm", "val_loss")
    runs = {"Transformer": run, "LSTM, chapter 6": read_run(RECURRENT, "chapter_06_rnn_lstm_seq/train.py", "val_loss")}
    return [save_figure(inside.race(runs), args.out_dir / "lm_race.png")]


def vit(args: argparse.Namespace) -> list[Path]:
    """Where in pictures the Vision Transformer looks: in each layer, and through all of them."""
    model, classes = load_vit(args.model_path, args.device)
    paths, images, _ = read_folder(args.images)
    paths, images = paths[:N_PICTURES], images[:N_PICTURES].to(args.device)
    p = probabilities(model, images, to_input=to_input).cpu()  # (B, K)
    said = [describe(path, row, classes) for path, row in zip(paths, p, strict=True)]
    maps = model.attention_maps(to_input(images))
    looks = [*(weights.mean(dim=1) for weights in maps), rollout(maps)]  # (B, T, T) each
    shares = torch.stack([attention_received(look, model.class_token is not None) for look in looks], dim=1)
    across = model.config.image_size // model.config.patch_size
    shares = shares.unflatten(2, (across, across))  # (B, L + 1, N) -> (B, L + 1, n, n)
    figure = inside.patch_attention(images, shares, [f"{answer['answer']} {answer['p']:.0%}" for answer in said])
    return [save_figure(figure, args.out_dir / "vit.png")]


PARTS = {
    "theory": theory,
    "heads": heads,
    "roles": roles,
    "rollout": rolled,
    "alignment": aligned_words,
    "training": training,
    "lm_heads": lm_heads,
    "lm_copying": lm_copying,
    "lm_lens": lm_lens,
    "lm_race": lm_race,
    "vit": vit,
}


if __name__ == "__main__":
    run(main)
