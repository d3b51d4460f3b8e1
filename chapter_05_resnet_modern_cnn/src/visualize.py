"""See what a shortcut does: to slopes, to gradients, to what each layer can tell apart, to the loss around the weights.
看见捷径的作用：对斜率、对梯度、对每一层能分辨的东西，以及对权重周围的损失曲面。

    python chapter_05_resnet_modern_cnn/src/visualize.py --parts shattered highways    # untrained networks: 30 s
    python chapter_05_resnet_modern_cnn/src/visualize.py    # and the shipped ones, where they and STL-10 are: 8 min
    python chapter_05_resnet_modern_cnn/src/visualize.py --dataset cifar10 --resnet deep.pth --plainnet plain.pth

The last command is for two networks that degradation.py has trained and put into its folder networks/.

shattered: the input goes straight from one drawn picture to another, and the slope of a logit is taken on the way, as
in Balduzzi et al. 2017. The networks are degradation.py's, untrained, of 20 and 56 layers, as they come from He's
initialisation, on maps of 16, 8 and 4 pixels a side. BatchNorm's statistics are those of 128 drawn pictures and stay
fixed on the way: each slope depends on its own place alone. Numbers are of 64 bits. In a plain network of 56 layers
the rounding of 32 grows until half of a slope is made of it.

highways: the norm of the loss's gradient at each convolution of such networks.
features: the maps of a picture by depth, and from which layer on the means of the classes tell them apart.
surface: the loss around two trained networks (Li et al. 2018), with each batch's own statistics. Its time, about
3 min a network of 18 layers on 2 CPU cores, grows with --surface_pictures and with the square of --points.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn
from tqdm import tqdm

from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_03_optimization_regularization.training import probabilities, score
from chapter_04_cnn_classic import dataset as classic
from chapter_05_resnet_modern_cnn.src import dataset, model
from chapter_05_resnet_modern_cnn.src.figures import visualize as figures
from chapter_05_resnet_modern_cnn.src.networks import cifar_resnet
from chapter_05_resnet_modern_cnn.src.probes import signals
from utils.checkpoint import load_model
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser
from utils.data import batches
from utils.device import autocast
from utils.errors import UserError
from utils.loss_surface import loss_surface, random_directions
from utils.pictures import read_picture
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.shapes import CLASSES, shapes
from utils.spread import mean_and_std

from matplotlib.figure import Figure

CHAPTER = Path(__file__).resolve().parents[1]
PARTS = ["shattered", "highways", "features", "surface"]
TRAINED = {"features", "surface"}  # need weights and a data set
SMALL = {"width": 4, "stem": "224", "zero_init": False}  # what --dry_run asks: no weights needed
PAIR = (5, 18)  # the line goes from this drawn picture to that: a star, a heart
STATISTICS = 128  # drawn pictures whose means and variances BatchNorm has on the line
PROBE = 64  # drawn pictures on which gradients are measured
BATCH = 128

Found = tuple[dict, dict[str, Figure]]  # numbers, and figures by the names of their files


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    there = all(path is None or path.exists() for path in (args.resnet, args.plainnet))
    parts = args.parts or [part for part in PARTS if there or part not in TRAINED]
    work = {"shattered": shattered, "highways": highways}
    if TRAINED & set(parts):  # what is missing is missed before anything is computed
        networks, abouts = read_networks(args)
        try:
            data = read_pictures(networks, abouts, args)
        except UserError as error:
            raise UserError(f"{error}; --parts shattered highways need no data") from error
        work |= {name: partial(part, networks, data) for name, part in (("features", features), ("surface", surface))}

    final, drawn = {}, {}
    for name in [part for part in PARTS if part in parts]:
        final[name], found = work[name](args)
        drawn |= found
    written = [save_figure(figure, args.out_dir / f"{name}.png") for name, figure in drawn.items()]
    write_results(args.out_dir / "visualize.json", args, final)
    report(final)
    print("\n".join(f"wrote {path}" for path in [*written, args.out_dir / "visualize.json"]))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    checkpoints, airplane = CHAPTER / "checkpoints", CHAPTER / "images" / "airplane.png"
    resnet, plainnet = (checkpoints / f"{name}18_stl10.pth" for name in ("resnet", "plainnet"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="what to draw; None: all whose weights are there")
    parser.add_argument("--depths", type=positive, nargs="+", default=[20, 56], help="untrained layers: 6n + 2")
    parser.add_argument("--runs", type=positive, default=3, help="untrained networks of a kind, seeds from --seed on")
    parser.add_argument("--line_points", type=positive, default=256, help="places on the line between two pictures")
    parser.add_argument("--resnet", type=Path, default=resnet, help="a trained network with shortcuts")
    parser.add_argument("--plainnet", type=Path, default=plainnet, help="one without")
    parser.add_argument("--dataset", default="stl10", choices=dataset.DATASETS, help="what both were trained on")
    parser.add_argument("--pictures", type=positive, default=4000, help="at most so many make the classes' means")
    parser.add_argument("--image_path", type=Path, default=airplane, help="a picture whose maps to draw")
    parser.add_argument("--points", type=positive, default=15, help="points along each side of a surface: odd")
    parser.add_argument("--surface_pictures", type=positive, default=256, help="training pictures in its loss")
    parser.add_argument("--amp", default="auto", choices=["auto", "off", "bf16"], help="bfloat16, in trained networks")
    tiny = {"depths": [8, 14], "runs": 2, "line_points": 24, "resnet": None, "plainnet": None, "dataset": "shapes"}
    args = begin(parser, argv, tiny | {"pictures": 40, "points": 3, "surface_pictures": 20, "amp": "off"})
    for depth in args.depths:
        if depth < 8 or depth % 6 != 2:
            raise UserError(f"--depths {depth}: these networks have 6n + 2 layers, such as 20 or 56")
    if args.line_points < 16:
        raise UserError(f"--line_points {args.line_points}: it takes at least 16 to compare neighbours")
    if args.surface_pictures % BATCH == 1:
        raise UserError(f"--surface_pictures {args.surface_pictures}: of {BATCH} at a time one is left over, alone")
    if args.points < 3 or args.points % 2 == 0:
        raise UserError(f"--points {args.points}: 3, 5, ... have one in the middle, where the network itself is")
    return args


def read_networks(args: argparse.Namespace) -> tuple[list[nn.Module], list[dict]]:
    """Return both networks, and what is known of them.

    Raises:
        UserError: a file is missing or damaged, or the two networks cannot be compared.
    """
    read = []
    for path, residual in ((args.resnet, True), (args.plainnet, False)):
        small = model.build(SMALL | {"residual": residual}).to(args.device).eval()
        read.append(load_model(path, rebuild, args.device) if path else (small, {}))
    networks, abouts = map(list, zip(*read, strict=True))
    if type(networks[0]) is not type(networks[1]):
        raise UserError(f"{args.resnet} and {args.plainnet} are of different families: compare two of one")
    if [network.config.residual for network in networks] != [True, False]:
        raise UserError("--resnet takes a network with shortcuts, --plainnet one without")
    return [network.to(memory_format=torch.channels_last) for network in networks], abouts


def rebuild(config: dict) -> nn.Module:
    """Rebuild the network that a checkpoint of model_train.py or of degradation.py describes."""
    return (model if "zero_init" in config else cifar_resnet).build(config)


def read_pictures(networks: list[nn.Module], abouts: list[dict], args: argparse.Namespace) -> tuple:
    """Return (pictures, labels) to train on and to measure on, and what turns pictures into inputs."""
    split = abouts[0].get("split", "test")
    if isinstance(networks[0], model.ResNet):
        side = abouts[0].get("image_size", dataset.SIDE)
        sets = dataset.load(args.dataset, split, args.data_root, args.pictures)[:2]
        return *sets, lambda images: dataset.to_input(dataset.resize(images, side))
    if args.dataset not in classic.DATASETS:
        raise UserError(f"--dataset {args.dataset}: degradation.py's networks know {' and '.join(classic.DATASETS)}")
    return *classic.load(args.dataset, split, args.data_root, args.pictures)[:2], classic.to_input


# ---- untrained networks ----------------------------------------------------------------------------------------------


def untrained_network(kind: str, depth: int, seed: int) -> cifar_resnet.CifarResNet:
    """Return one of degradation.py's networks; kinds differ in the additions alone, not in the weights."""
    set_seed(seed)
    return cifar_resnet.build(cifar_resnet.KINDS[kind] | {"depth": depth, "stem": "96"})


def shattered(args: argparse.Namespace) -> Found:
    """Follow every logit's slope from one picture to another."""
    images = shapes(STATISTICS)[0]
    x = classic.to_input(images).double()  # (STATISTICS, 3, 32, 32)
    start, end = (x[i] for i in PAIR)
    lags, seeds = args.line_points // 8, range(args.seed, args.seed + args.runs)
    final, curves = {}, {}
    for depth in sorted(set(args.depths)):
        for kind in ("plain", "residual"):
            name, found = f"{kind}_{depth}", []
            for seed in tqdm(seeds, f"slopes, {kind} {depth}", unit="network", disable=None):
                network = signals.with_statistics(untrained_network(kind, depth, seed).double(), x)
                found.append(signals.slopes(network, start, end, args.line_points))  # (points, 10)
            likeness = [signals.autocorrelation(slopes, lags) for slopes in found]
            average = torch.stack(likeness).mean(dim=0).tolist()
            final[name] = mean_and_std("slope_deviation", [slopes.std(dim=0).mean().item() for slopes in found])
            final[name] |= mean_and_std("lag_1", [curve[1].item() for curve in likeness])
            turns = [(slopes[1:] * slopes[:-1] < 0).double().mean().item() for slopes in found]  # of sign
            final[name] |= mean_and_std("turns", turns)
            below = (lag / (args.line_points - 1) for lag, value in enumerate(average) if value < 0.5)
            final[name] |= {"half_at": next(below, None), "autocorrelation": rounded(average)}  # half_at: a step in t
            curves[name] = {"slopes": found[0][:, 0], "likeness": likeness}
    final |= {"line_points": args.line_points, "runs": args.runs, "logits": len(CLASSES)}
    return final, {"shattered": figures.shattered(images[PAIR[0]], images[PAIR[1]], curves)}


def highways(args: argparse.Namespace) -> Found:
    """Measure the gradient at every convolution."""
    images, y = shapes(PROBE)
    x, final, curves = classic.to_input(images), {}, {}
    for depth in sorted(set(args.depths)):
        for kind in cifar_resnet.KINDS:
            name, found = f"{kind}_{depth}", []
            for seed in range(args.seed, args.seed + args.runs):
                _, gradients, _ = signals.norms_by_layer(untrained_network(kind, depth, seed), x, y)
                found.append([norm / gradients[-2] for norm in gradients[:-1]])  # without the linear layer's
            average = signals.geometric_mean(found)
            final[name] = mean_and_std("first_gradient_over_last", [curve[0] for curve in found]) | {
                "growth_per_layer": average[0] ** (1 / (depth - 2)),  # from the last convolution to the first
                "gradient_over_last": average,
            }
            curves[name] = found
    return final | {"runs": args.runs, "count": PROBE}, {"gradient_highways": figures.highways(curves)}


# ---- trained networks ------------------------------------------------------------------------------------------------


def features(networks: list[nn.Module], data: tuple, args: argparse.Namespace) -> Found:
    """Ask after every block which class's mean is nearest, and draw the strongest maps after every stage."""
    (images, labels), (held_out, answers), to_input = data
    images, labels = images[: args.pictures], labels[: args.pictures]
    picture = read_picture(args.image_path, held_out.shape[-1])
    final, maps, curves = {"train_count": len(labels), "count": len(answers)}, {}, {}
    for network in networks:
        name = title(network)
        train, test = (pooled(network, pictures, to_input, args) for pictures in (images, held_out))
        depths = signals.maps_by_depth(network, to_input(picture[None].to(args.device)))
        layers = [count for count, _ in depths.values()]
        accuracies = [signals.nearest_mean_accuracy(train[at], labels, test[at], answers) for at in depths]
        own = score(probabilities(network, held_out.to(args.device), args.amp, to_input=to_input).cpu(), answers)[0]
        final[key_of(network)] = {"layers": layers, "nearest_mean_accuracy": accuracies, "accuracy": own}
        stages = [("stem", "stem"), *((s, f"{s}.{len(getattr(network, s)) - 1}") for s in network.stage_names)]
        maps[name] = {stage: depths[last][1][0] for stage, last in stages}  # (C, h, w)
        curves[name] = (layers, accuracies, own)
    drawn = {"feature_maps": figures.maps(picture, maps), "class_by_depth": figures.readable(curves, labels)}
    return final, drawn


@torch.no_grad()
def pooled(
    network: nn.Module, images: Tensor, to_input: Callable[[Tensor], Tensor], args: argparse.Namespace
) -> dict[str, Tensor]:
    """Return by depth the mean of each channel's map, (N, C), for pictures (N, 3, H, W), uint8."""
    parts = []
    for part in tqdm(images.split(BATCH), f"maps, {title(network)}", unit="batch", disable=None):
        with autocast(args.device, args.amp):
            found = signals.maps_by_depth(network, to_input(part.to(args.device)))
        parts.append({name: maps.float().mean(dim=(2, 3)).cpu() for name, (_, maps) in found.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def surface(networks: list[nn.Module], data: tuple, args: argparse.Namespace) -> Found:
    """Measure the loss on a square around each network's weights."""
    (images, labels), _, to_input = data
    shown = (t[: args.surface_pictures].to(args.device) for t in (images, labels))
    examples = [(to_input(x), y) for x, y in batches(*shown, batch_size=BATCH)]
    axis = torch.linspace(-1, 1, args.points)
    chance, middle = len(labels.unique()), args.points // 2
    final, surfaces = {"axis": rounded(axis.tolist()), "count": sum(len(y) for _, y in examples)}, {}
    for network in networks:
        with tqdm(total=args.points**2, desc=f"surface, {title(network)}", unit="point", disable=None) as bar:

            def loss(logits: Tensor, y: Tensor, bar: tqdm = bar) -> Tensor:
                bar.update(1 / len(examples))
                return cross_entropy(logits.float(), y)

            directions = random_directions(network, seed=args.seed)
            with autocast(args.device, args.amp):
                found = loss_surface(network, examples, directions, [axis, axis], loss)
        final[key_of(network)] = {
            "loss_at_centre": found[middle, middle].item(),
            "loss_greatest": found.max().item(),
            "share_better_than_guessing": (found.exp() < chance).double().mean().item(),
            "loss": [rounded(row) for row in found.tolist()],
        }
        surfaces[title(network)] = found
    return final, {"loss_surface": figures.surfaces(axis, surfaces)}


def key_of(network: nn.Module) -> str:
    return "resnet" if network.config.residual else "plainnet"


def title(network: nn.Module) -> str:
    return f"{'residual' if network.config.residual else 'plain'}, {network.config.depth} layers"


def rounded(values: list[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def report(final: dict) -> None:
    """Print of each part and network the numbers that are no lists."""
    for part, numbers in final.items():
        print(part)
        for name, row in numbers.items():
            if isinstance(row, dict):
                words = [f"{key} {value:.3g}" for key, value in row.items() if isinstance(value, (int, float))]
                print(f"  {name:14} {', '.join(words)}")


if __name__ == "__main__":
    run(main)
