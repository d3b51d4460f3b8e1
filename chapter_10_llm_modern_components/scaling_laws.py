"""Small trainings that foretell a larger one: the best learning rate, the best size, and the loss it will reach.
用许多小型训练预测一个更大的训练：最佳学习率、最佳大小，以及将达到的损失。

    python chapter_10_llm_modern_components/scaling_laws.py    # 60 min on 2 CPU cores
    python chapter_10_llm_modern_components/scaling_laws.py --processes 1    # one at a time: 1 h 50 min on one
    python chapter_10_llm_modern_components/scaling_laws.py --resume    # after an interruption, with any --processes

All models read the bytes of the children's books, have three layers and differ in width. First the learning rate is
searched for at each width, in the ordinary parametrisation and in the maximal update one, in short trainings. What is
best in the smallest model's training of the smallest budget then serves all others. Each budget of operations is spent
on small models and many bytes, on large models and few, and what lies in between. A law is fitted to three quarters of
these trainings and asked for the others. Its forecast for a training with four times the largest budget is written to
prediction.json before that begins. Last, a model reads the same few bytes again and again. Rates are chosen on a book
of the training part that nobody reads; all other losses are of the held-out books.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from chapter_10_llm_modern_components.figures.laws import draw_laws
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.pretraining.small_training import MEASURED, Setting, Source, Trainings
from chapter_10_llm_modern_components.scaling import (
    Law,
    Parabola,
    bootstrap_laws,
    effective_tokens,
    fit_law,
    fit_parabola,
    fit_repetition,
    interval,
    power_law,
    r_squared,
    training_operations,
)
from utils.cli import add_amp_flag, add_data_flag, add_output_flags, amount, begin, positive, run, script_parser
from utils.errors import UserError
from utils.file_io_util import write_json
from utils.plotting import save_figure
from utils.rate_search import best_rate, search_rates
from utils.results import write_results
from utils.tables import final_lines

D_HEAD = 16
UNSEEN = 4  # one training in so many is not used to fit
TUNING_SEED = 500_009  # between the seeds of the search for rates and of what follows


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    source = Source(args.corpus, args.data_root, 256, args.length, args.device, args.amp)
    trainings = Trainings(source, args.out_dir / "scaling_laws_state.pth", args.flags, args.processes, args.resume)
    final = transfer(trainings, args)
    lr, tried = choose_rate(trainings, args)
    final |= tried
    plan = [(c, w) for c in args.budgets for w in args.widths if fits(c, w, args)]
    rows = trainings([budget_setting(c, w, lr, args) for c, w in plan], "budgets")
    grid = [
        row | {"budget": c, "unseen": i % UNSEEN == UNSEEN - 1}
        for i, ((c, _), row) in enumerate(zip(plan, rows, strict=True))
    ]
    law, laws, facts = fit(grid, args)
    valleys, sizes = best_sizes(grid, law)
    final |= facts | sizes
    largest, wanted = predict(law, laws, lr, args)
    repeats = [repeat_setting(passes, lr, args) for passes in args.passes]
    measured, *repeated = trainings([largest, *repeats], "forecast and repetition")
    final |= check(wanted, measured) | repetition(law, repeated, args)
    final |= {"trainings": len(trainings.rows)}
    final["split"] = f"held-out documents, {MEASURED} windows of {args.length} bytes at most"
    final |= {"train_seconds": sum(row["train_seconds"] for row in trainings.rows)}
    history = [plain(row) for row in (*grid, measured, *repeated)]
    write_results(args.out_dir / "scaling_laws.json", args, final, history)
    figure = draw_laws(final, grid, valleys, law, measured, repeated)
    save_figure(figure, args.out_dir / "scaling_laws.png")
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument(
        "--corpus", default="stories", choices=["stories", "code", "toy"], help="books, Python's library, made-up lines"
    )
    parser.add_argument("--widths", type=positive, nargs="+", default=[32, 48, 64, 96, 128, 192], help="of the models")
    parser.add_argument(
        "--budgets", type=amount, nargs="+", default=[1.5e12, 3e12, 6e12, 12e12], help="operations of a training"
    )
    parser.add_argument("--growth", type=amount, default=4.0, help="how many times the largest budget is foretold")
    parser.add_argument(
        "--rate_widths", type=positive, nargs="+", default=[32, 64, 128, 256], help="to search rates at"
    )
    parser.add_argument(
        "--lr", type=amount, nargs="+", default=[2e-3, 4e-3, 8e-3, 16e-3, 32e-3, 64e-3], help="rates to begin with"
    )
    parser.add_argument(
        "--rate_tokens", type=positive, default=300_000, help="bytes of a training that compares rates by width"
    )
    parser.add_argument("--passes", type=positive, nargs="+", default=[1, 4, 16, 64], help="over the same bytes")
    parser.add_argument("--repeat_tokens", type=positive, default=4_000_000, help="bytes read in each of these")
    parser.add_argument("--repeat_width", type=positive, default=64, help="width of the model that repeats")
    parser.add_argument("--min_steps", type=positive, default=100, help="models that a budget gives fewer are left out")
    parser.add_argument("--rounds", type=positive, default=200, help="fits to trainings drawn anew, for the intervals")
    parser.add_argument("--n_layers", type=positive, default=3, help="layers of every model")
    parser.add_argument("--length", type=positive, default=128, help="bytes of a window")
    parser.add_argument("--batch_size", type=positive, default=16, help="windows a step")
    parser.add_argument("--processes", type=positive, default=2, help="trainings at a time, one a core")
    add_amp_flag(parser, "off")
    parser.add_argument("--resume", action="store_true", help="continue in --out_dir; what is finished there is kept")
    tiny = {"corpus": "toy", "widths": [16, 32, 48], "budgets": [1e7, 2e7, 3e7], "growth": 1.5, "rate_widths": [16, 32]}
    tiny |= {"lr": [4e-3, 8e-3], "rate_tokens": 64, "passes": [1, 2], "repeat_tokens": 128, "repeat_width": 16}
    tiny |= {"min_steps": 1, "rounds": 2, "n_layers": 1, "length": 16, "batch_size": 2, "processes": 1}
    args = begin(parser, argv, dry_run=tiny)
    for width in {*args.widths, *args.rate_widths, args.repeat_width}:
        if width % D_HEAD:
            raise UserError(f"a width of {width} is no multiple of {D_HEAD}, the width of a head")
    for name in ("budgets", "widths", "rate_widths", "passes"):
        setattr(args, name, sorted(set(getattr(args, name))))
    return args


def config(width: int, args: argparse.Namespace) -> dict:
    sizes = {"d_model": width, "n_heads": width // D_HEAD, "d_ff": 8 * width // 3 // 8 * 8}
    return {"n_tokens": 256, "n_layers": args.n_layers, "max_length": args.length} | sizes


def operations(width: int, args: argparse.Namespace) -> int:
    """Return what a byte costs a model of this width in training."""
    return training_operations(LanguageModel(ModelConfig(**config(width, args))), args.length)


def fits(budget: float, width: int, args: argparse.Namespace) -> bool:
    """Tell whether a budget gives a model of this width enough steps."""
    return budget / operations(width, args) >= args.min_steps * args.batch_size * args.length


# --- the learning rate ------------------------------------------------------------------------------------------------


def transfer(trainings: Trainings, args: argparse.Namespace) -> dict:
    """Return for each width and parametrisation the best rate, all that was tried, and what the base's rate costs."""
    base = args.rate_widths[0]

    def setting(arm: str, lr: float) -> Setting:
        parametrisation, width = arm.rsplit("_", 1)
        base_width = base if parametrisation == "mup" and int(width) > base else 0  # at the base both are the same
        common = args.rate_tokens, args.batch_size, args.seed + TUNING_SEED
        return Setting(config(int(width), args), lr, *common, base_width=base_width, split="validation")

    arms = [f"{kind}_{width}" for width in args.rate_widths for kind in ("ordinary", "mup")]
    found = tune(trainings, setting, arms, args.lr)
    rates = {arm: best_rate(scores) for arm, scores in found.items()}
    final = {f"{arm}_lr": rate for arm, rate in rates.items()}
    for arm, scores in found.items():
        final[f"{arm}_tuning"] = [[rate, -score] for rate, score in scores.items()]
        score = scores[rates[f"mup_{base}"]]
        if math.isfinite(score):
            final[f"{arm}_transfer_loss"] = scores[rates[arm]] - score
    return final


def choose_rate(trainings: Trainings, args: argparse.Namespace) -> tuple[float, dict]:
    """Return the rate with which the smallest model does best on the smallest budget, and all that was tried.

    Longer trainings want lower rates than those that `transfer` compares.
    """
    width, budget = args.rate_widths[0], args.budgets[0]

    def setting(_: str, lr: float) -> Setting:
        return budget_setting(budget, width, lr, args)._replace(seed=args.seed + TUNING_SEED, split="validation")

    scores = tune(trainings, setting, [""], args.lr)[""]
    return best_rate(scores), {"lr": best_rate(scores), "lr_tuning": [[rate, -score] for rate, score in scores.items()]}


def tune(
    trainings: Trainings, setting: Callable[[str, float], Setting], arms: list[str], rates: list[float]
) -> dict[str, dict[float, float]]:
    """Return for each arm the scores, minus the loss, of the rates that were tried; as many for each."""
    trainings([setting(arm, lr) for arm in arms for lr in rates], "rates")
    grids = {arm: rates for arm in arms}
    return search_rates(lambda arm, lr: -trainings([setting(arm, lr)])[0]["loss"], grids, ratio=2, reach=2)


# --- budgets ----------------------------------------------------------------------------------------------------------


def budget_setting(budget: float, width: int, lr: float, args: argparse.Namespace) -> Setting:
    """Return the training of a model of this width that costs this budget."""
    n_tokens = round(budget / operations(width, args))
    base = args.rate_widths[0]
    return Setting(config(width, args), lr, n_tokens, args.batch_size, args.seed, base_width=base)


def columns(rows: list[dict]) -> tuple[list, list, list]:
    return [row["parameters"] for row in rows], [row["tokens"] for row in rows], [row["loss"] for row in rows]


def fit(grid: list[dict], args: argparse.Namespace) -> tuple[Law, list[Law], dict]:
    """Return the law, laws fitted to trainings drawn anew, and how well it tells the trainings that it did not see."""
    if failed := [row["parameters"] for row in grid if not math.isfinite(row["loss"])]:
        raise UserError(f"models of {failed} parameters diverged at this rate: begin with lower ones, --lr")
    used, unseen = ([row for row in grid if row["unseen"] is part] for part in (False, True))
    try:
        law = fit_law(*columns(used))
    except ValueError as error:
        raise UserError(f"{error}: give more --widths or --budgets") from error
    laws = bootstrap_laws(*columns(used), args.rounds, np.random.default_rng(args.seed))
    n, d, loss = (np.array(column) for column in columns(unseen))
    facts = {"fitted_trainings": len(used), "unseen_trainings": len(unseen), "r_squared": r_squared(law(n, d), loss)}
    facts["unseen_largest_error"] = float(np.abs(law(n, d) / loss - 1).max())
    for name in Law._fields:
        low, high = interval([getattr(some, name) for some in laws])
        facts |= {name: getattr(law, name), f"{name}_low": low, f"{name}_high": high}
    exponents = [some.beta / (some.alpha + some.beta) for some in (law, *laws)]
    facts["law_exponent"] = exponents[0]  # of the best size as a power of the budget
    facts["law_exponent_low"], facts["law_exponent_high"] = interval(exponents[1:])
    return law, laws, facts


def best_sizes(grid: list[dict], law: Law) -> tuple[dict[float, Parabola], dict]:
    """Return a parabola for each budget whose losses show a valley, and how its bottom moves with the budget."""
    valleys: dict[float, Parabola] = {}
    by_law = []
    for budget in dict.fromkeys(row["budget"] for row in grid):
        rows = [row for row in grid if row["budget"] == budget]
        with suppress(ValueError):  # there may be no valley, and the law may have no best size
            valleys[budget] = fit_parabola([row["parameters"] for row in rows], [row["loss"] for row in rows])
            by_law.append([budget, law.compute_optimal(budget)[0]])
    facts = {"best_sizes": [[budget, valley.best, valley.lowest] for budget, valley in valleys.items()]}
    facts["law_best_sizes"] = by_law
    if len(valleys) > 1:
        facts["isoflop_exponent"] = power_law(list(valleys), [valley.best for valley in valleys.values()])[1]
    return valleys, facts


# --- the forecast -----------------------------------------------------------------------------------------------------


def predict(law: Law, laws: list[Law], lr: float, args: argparse.Namespace) -> tuple[Setting, dict]:
    """Choose the best width for the largest budget times `growth`, and write its loss to prediction.json.

    A prediction that is there already from before an interruption stays.
    """
    budget, path = args.growth * max(args.budgets), args.out_dir / "prediction.json"
    if args.resume and path.exists():
        wanted = json.loads(path.read_text(encoding="utf-8"))
        return budget_setting(budget, wanted["width"], lr, args), wanted
    candidates = []
    for width in range(min(args.widths), 2 * max(args.widths) + 1, D_HEAD):
        n = sum(p.numel() for p in LanguageModel(ModelConfig(**config(width, args))).parameters())
        d = budget / operations(width, args)
        candidates.append((law(n, d), width, n, d))
    loss, width, n, d = min(candidates)
    low, high = interval([some(n, d) for some in laws])
    wanted = {"width": width, "parameters": n, "tokens": d, "loss": loss, "loss_low": low, "loss_high": high}
    write_json(path, wanted)
    return budget_setting(budget, width, lr, args), wanted


def check(wanted: dict, measured: dict) -> dict:
    """Return the forecast beside what came."""
    facts = {f"predicted_{name}": value for name, value in wanted.items()}
    error = abs(wanted["loss"] / measured["loss"] - 1)
    return facts | {"measured_loss": measured["loss"], "prediction_error": error}


# --- repeated data ----------------------------------------------------------------------------------------------------


def repeat_setting(passes: int, lr: float, args: argparse.Namespace) -> Setting:
    """Return the training that reads a part of the corpus so many times."""
    common = config(args.repeat_width, args), lr, args.repeat_tokens, args.batch_size, args.seed
    return Setting(*common, base_width=args.rate_widths[0], unique=args.repeat_tokens // passes)


def repetition(law: Law, rows: list[dict], args: argparse.Namespace) -> dict:
    """Return each loss, and how many passes repetition is worth at most."""
    n, total, loss = columns(rows)
    unique = [min(row["setting"]["unique"] // args.length * args.length, row["tokens"]) for row in rows]
    scale = loss[0] / law(n[0], effective_tokens(unique[0], total[0], 1.0))  # the law may be a little off at this size
    r_star = fit_repetition(law, n, unique, total, [value / scale for value in loss])
    return {"r_star": r_star} | {f"passes_{p}_loss": value for p, value in zip(args.passes, loss, strict=True)}


def plain(row: dict) -> dict:
    """Return a row as it goes into the results: the setting's values beside what was measured."""
    setting = row["setting"]
    facts = {name: setting[name] for name in ("lr", "seed", "unique")} | {"width": setting["config"]["d_model"]}
    return facts | {name: value for name, value in row.items() if name != "setting"}


if __name__ == "__main__":
    run(main)
