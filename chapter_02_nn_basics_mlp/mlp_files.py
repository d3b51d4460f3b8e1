"""What a training of `mlp.py` leaves behind: states to resume, results, a figure, the network.
`mlp.py` 的一次训练留下什么：可恢复的状态、结果、图，以及网络。
"""

import argparse

from matplotlib.figure import Figure

from chapter_02_nn_basics_mlp.measures import answers
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from utils.checkpoint import probe_input, save_model
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results


def prepare_states(args: argparse.Namespace) -> None:
    """A new training forgets the states of the one before it; a resumed one needs some."""
    found = list(args.out_dir.glob(f"state_{args.mode}_*.pth"))
    if args.resume and not found:
        raise UserError(f"{args.out_dir} holds no state of --mode {args.mode} to resume")
    if not args.resume:
        for path in found:
            path.unlink()


def publish(args, name: str, final: dict, history: list[dict], per_seed: list[dict] | None, figure: Figure) -> None:
    """Write results and figure, and print what was measured."""
    write_results(args.out_dir / f"{name}.json", args, final, history, per_seed)
    save_figure(figure, args.out_dir / f"fit_{name}.png")
    for key, value in final.items():
        if not key.endswith("_std"):
            spread = f" ± {final[key + '_std']:.2g}" if f"{key}_std" in final else ""
            print(f"{key:30} {value:.4g}{spread}" if isinstance(value, float) else f"{key:30} {value}")
    print(f"written to {args.out_dir}")


def ship(args: argparse.Namespace, model: MLP, config: MLPConfig, final: dict, **about: object) -> None:
    """Write the first seed's network, with its output on a fixed input, by which anyone can check a copy of it."""
    probe = answers(model, probe_input(1, config.d_in).to(args.device))[0].tolist()
    about = final | {"mode": args.mode, "seed": args.seed, "probe": probe} | about
    save_model(args.out_dir / f"mlp_{args.mode}.pth", model, config, about)
