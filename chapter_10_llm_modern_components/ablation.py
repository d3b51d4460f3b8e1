"""From GPT-2's block to today's, one part at a time, each arm with equally many operations to spend.
从 GPT-2 的块到今天的块：一次换一个部件，每种配置的运算量预算相同。

    python chapter_10_llm_modern_components/ablation.py    # 2 h 20 min on 1 CPU core
    python chapter_10_llm_modern_components/ablation.py --resume    # after an interruption, to the same numbers
    python chapter_10_llm_modern_components/ablation.py --processes 2    # half as long, if there are two cores

Each arm of the chain has what the one before it has, and one part more, so an effect is that of a part in this order; a
part may help more or less elsewhere. An arm whose tokens cost fewer operations reads more of them. All read the
children's books in 1,024 tokens and are measured in bits per byte of held-out books. Each arm's learning rate is chosen
by as many shorter trainings as any other's, on a book of the training part that none of them reads.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chapter_10_llm_modern_components.figures.arms import draw_arms
from chapter_10_llm_modern_components.pretraining.small_training import (
    MEASURED,
    Setting,
    Source,
    Trainings,
    step_operations,
)
from utils.cli import add_amp_flag, add_data_flag, add_output_flags, amount, begin, positive, run, script_parser, share
from utils.errors import UserError
from utils.file_io_util import write_json
from utils.plotting import save_figure
from utils.rate_search import best_rate, search_rates
from utils.results import write_results
from utils.spread import over_seeds
from utils.tables import aligned

TUNING_SEED = 500_009  # between a measured training's seed and that of the trials
TIMED = 10  # steps that tell how fast this machine is, for --minutes
OURS = "no_biases"  # the chain's last arm


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    source = Source(args.corpus, args.data_root, args.vocab_size, args.length, args.device, args.amp)
    trainings = Trainings(source, args.out_dir / "ablation_state.pth", args.flags, args.processes, args.resume)
    budget = choose_budget(trainings, args)
    rates, final = choose_rates(trainings, budget, args)
    plan = [(arm, seed) for seed in range(args.seed, args.seed + args.runs) for arm in arms(args)]
    rows = trainings([setting(arm, rates[arm], budget, seed, args) for arm, seed in plan])
    per_seed = [{"arm": arm} | plain(row) for (arm, _), row in zip(plan, rows, strict=True)]
    final |= summarise(per_seed) | {"budget": budget, "trainings": len(trainings.rows)}
    final["split"] = f"held-out documents, {MEASURED} windows of {args.length} tokens at most"
    final["train_seconds"] = sum(row["train_seconds"] for row in trainings.rows)
    write_results(args.out_dir / "ablation.json", args, final, per_seed=per_seed)
    save_figure(draw_arms(per_seed), args.out_dir / "ablation.png")
    print(*table(final), sep="\n")
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument(
        "--corpus", default="stories", choices=["stories", "code", "toy"], help="books, Python's library, made-up lines"
    )
    parser.add_argument("--budget", type=amount, default=1.6e13, help="operations of each training")
    parser.add_argument(
        "--minutes",
        type=amount,
        default=0.0,
        help="choose the budget so that the first arm takes so long here; 0: --budget",
    )
    parser.add_argument("--runs", type=positive, default=2, help="trainings of each arm, with seeds from --seed on")
    parser.add_argument("--adamw_lr", type=amount, nargs="+", default=[2e-3, 4e-3, 8e-3], help="rates to begin with")
    parser.add_argument("--muon_lr", type=amount, nargs="+", default=[4e-3, 8e-3, 16e-3], help="the same for Muon")
    parser.add_argument(
        "--trial_share", type=share, default=0.15, help="part of the budget that a trial of a rate takes"
    )
    parser.add_argument("--vocab_size", type=positive, default=1024, help="tokens, 256 of which are the bytes")
    parser.add_argument("--d_model", type=positive, default=128, help="numbers that stand for a token in every layer")
    parser.add_argument("--n_layers", type=positive, default=4, help="layers of every arm")
    parser.add_argument("--n_heads", type=positive, default=8, help="heads of the queries; shared keys have a quarter")
    parser.add_argument("--length", type=positive, default=128, help="tokens of a window")
    parser.add_argument("--batch_size", type=positive, default=16, help="windows a step")
    parser.add_argument("--weight_decay", type=amount, default=0.1, help="of weights, not of biases and norms")
    parser.add_argument("--processes", type=positive, default=1, help="trainings at a time, one a core")
    add_amp_flag(parser, "off")
    parser.add_argument("--resume", action="store_true", help="continue in --out_dir; what is finished there is kept")
    tiny = {"corpus": "toy", "budget": 1e7, "minutes": 1e-4, "runs": 2, "adamw_lr": [4e-3, 8e-3], "vocab_size": 260}
    tiny |= {"muon_lr": [8e-3, 16e-3], "d_model": 16, "n_layers": 1, "n_heads": 4, "length": 8, "batch_size": 2}
    args = begin(parser, argv, dry_run=tiny)
    if args.vocab_size < 256:
        raise UserError(f"--vocab_size {args.vocab_size} has no room for the 256 bytes")
    if args.n_heads % 4 or args.d_model % args.n_heads:
        raise UserError(f"--n_heads {args.n_heads} is to be a multiple of 4 that divides --d_model {args.d_model}")
    return args


# --- the arms ---------------------------------------------------------------------------------------------------------


def arms(args: argparse.Namespace) -> dict[str, dict]:
    """Return each arm's config: the chain, each of whose arms adds one part, and what differs from its last."""
    d = args.d_model
    base = {"n_tokens": args.vocab_size, "d_model": d, "n_layers": args.n_layers, "n_heads": args.n_heads}
    base |= {"max_length": args.length, "d_ff": 4 * d, "norm": "layer", "positions": "learned", "activation": "gelu"}
    base |= {"bias": True, "n_kv_heads": args.n_heads, "qk_norm": False, "tied": True}
    chain = {
        "gpt2": {},
        "rms_norm": {"norm": "rms"},
        "rope": {"positions": "rope"},
        "swiglu": {"activation": "swiglu", "d_ff": 8 * d // 3 // 8 * 8},
        "gqa": {"n_kv_heads": args.n_heads // 4},
        "qk_norm": {"qk_norm": True},
        OURS: {"bias": False},
    }
    found, so_far = {}, base
    for arm, change in chain.items():
        found[arm] = so_far = so_far | change
    return found | {"untied": so_far | {"tied": False}, "muon": so_far}


def optimizer(arm: str) -> str:
    return "muon" if arm == "muon" else "adamw"


def setting(arm: str, lr: float, budget: float, seed: int, args: argparse.Namespace, split="held_out") -> Setting:
    """Return the training of an arm: as many steps as cost the budget."""
    one = Setting(arms(args)[arm], lr, 0, args.batch_size, seed, optimizer(arm), args.weight_decay, split=split)
    steps = max(1, round(budget / step_operations(one, args.length)))
    return one._replace(n_tokens=steps * args.batch_size * args.length)


def choose_budget(trainings: Trainings, args: argparse.Namespace) -> float:
    """Return the operations of each training; with --minutes so many that the first arm takes as long on this machine.

    What was measured before an interruption stays, in budget.json.
    """
    if not args.minutes:
        return args.budget
    path = args.out_dir / "budget.json"
    if args.resume and path.exists():
        return float(path.read_text(encoding="utf-8"))
    steps = [1, 1 + TIMED]  # the first training finds caches cold, and measures its loss as well
    settings = [Setting(arms(args)["gpt2"], 0.0, n * args.batch_size * args.length, args.batch_size, 0) for n in steps]
    for some in settings:
        trainings.timed(some)
    short, long = (trainings.timed(some) for some in settings)
    budget = args.minutes * 60 * step_operations(settings[0], args.length) * TIMED / max(long - short, 1e-3)
    write_json(path, budget)
    return budget


def choose_rates(trainings: Trainings, budget: float, args: argparse.Namespace) -> tuple[dict[str, float], dict]:
    """Return each arm's best rate, and all that was tried, equally often for each."""
    grids = {arm: args.muon_lr if optimizer(arm) == "muon" else args.adamw_lr for arm in arms(args)}

    def trial(arm: str, lr: float) -> Setting:
        return setting(arm, lr, args.trial_share * budget, args.seed + TUNING_SEED, args, "validation")

    trainings([trial(arm, lr) for arm, grid in grids.items() for lr in grid], "rates")
    found = search_rates(lambda arm, lr: -trainings([trial(arm, lr)])[0]["loss"], grids, ratio=2, reach=2)
    rates = {arm: best_rate(scores) for arm, scores in found.items()}
    final = {f"{arm}_lr": lr for arm, lr in rates.items()}
    return rates, final | {f"{arm}_tuning": [[lr, -score] for lr, score in found[arm].items()] for arm in found}


# --- what came out ----------------------------------------------------------------------------------------------------


def plain(row: dict) -> dict:
    """Return a row as it goes into the results."""
    facts = {name: row["setting"][name] for name in ("seed", "lr", "optimizer")}
    return facts | {name: value for name, value in row.items() if name != "setting"}


def summarise(per_seed: list[dict]) -> dict:
    """Return means and spreads over the seeds of each arm, and of how many bits a byte its part saves.

    The saving is against the arm before it on the same seed; of arms outside the chain, against the chain's last.
    """
    names = list(dict.fromkeys(row["arm"] for row in per_seed))
    before = {b: a for a, b in pairwise(names[: names.index(OURS) + 1])} | {"untied": OURS, "muon": OURS}
    bits = {(row["arm"], row["seed"]): row["bits_per_byte"] for row in per_seed}
    final: dict = {}
    for arm in names:
        rows = [row for row in per_seed if row["arm"] == arm]
        columns = ("bits_per_byte", "loss", "train_seconds")
        final |= {f"{arm}_{name}": value for name, value in over_seeds(rows, columns).items()}
        final |= {f"{arm}_{name}": rows[0][name] for name in ("parameters", "steps", "operations")}
        if arm in before:
            saved = [{"saved": bits[before[arm], row["seed"]] - row["bits_per_byte"]} for row in rows]
            final |= {f"{arm}_{name}": value for name, value in over_seeds(saved).items()}
    return final


def table(final: dict) -> list[str]:
    """Return the lines of a table, an arm a line."""
    rows = [["arm", "parameters", "steps", "bits a byte", "saved", "seconds"]]
    for arm in (name.removesuffix("_bits_per_byte") for name in final if name.endswith("_bits_per_byte")):
        shown = [f"{final[f'{arm}_bits_per_byte']:.4f} ± {final[f'{arm}_bits_per_byte_std']:.4f}"]
        shown.append(
            f"{final[f'{arm}_saved']:+.4f} ± {final[f'{arm}_saved_std']:.4f}" if f"{arm}_saved" in final else ""
        )
        counts = f"{final[f'{arm}_parameters']:,}", f"{final[f'{arm}_steps']:,}"
        rows.append([arm, *counts, *shown, f"{final[f'{arm}_train_seconds']:.0f}"])
    return aligned(rows, "<>")


if __name__ == "__main__":
    run(main)
