"""CAM, Grad-CAM and Grad-CAM++: which places of a picture speak for a class, as the maps of a layer tell it.
CAM、Grad-CAM 与 Grad-CAM++：从某一层的特征图看出，图片的哪些地方支持某个类别。

    python chapter_05_resnet_modern_cnn/src/cam.py    # the shipped ResNet-18 about a drawn airplane: 5 s
    python chapter_05_resnet_modern_cnn/src/cam.py --image_path my_photos --classes cat dog --layers layer3 layer4

With several pictures there is an overview of them as well.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from chapter_04_cnn_classic.figures.canvas import save_pictures
from chapter_04_cnn_classic.pictures import read_folder
from chapter_05_resnet_modern_cnn.src.dataset import SIDE, STL10_CLASSES, to_input
from chapter_05_resnet_modern_cnn.src.figures import cam as figures
from chapter_05_resnet_modern_cnn.src.model import ResNet, build
from utils.checkpoint import load_model
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.pictures import read_picture
from utils.results import write_results

Target = int | Tensor | None  # one class for the batch; one for each picture, (B,); or the most probable ones
CHAPTER = Path(__file__).resolve().parents[1]
SMALL = {"width": 4, "stem": "224"}  # what --dry_run asks: no weights needed


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    shipped = CHAPTER / "checkpoints" / "resnet18_stl10.pth"
    airplane = CHAPTER / "images" / "airplane.png"
    parser.add_argument("--model_path", type=Path, default=shipped, help="a trained model")
    parser.add_argument("--image_path", type=Path, default=airplane, help="a picture, or a folder of pictures")
    parser.add_argument("--classes", nargs="+", default=[], help="classes to ask about beside the predicted one")
    parser.add_argument("--layers", nargs="+", default=ResNet.stage_names, help="any layers, such as layer4.0.conv1")
    parser.add_argument("--limit", type=positive, default=40, help="pictures at most")
    tiny = {"model_path": None, "image_path": CHAPTER / "images", "classes": ["cat"], "layers": ["layer3"], "limit": 2}
    args = begin(parser, argv, dry_run=tiny)

    untrained = build(SMALL).to(args.device).eval(), {"classes": STL10_CLASSES}
    model, about = load_model(args.model_path, build, args.device) if args.model_path else untrained
    classes = about["classes"]
    if unknown := [name for name in args.classes if name not in classes]:
        raise UserError(f"--classes {' '.join(unknown)}: this network knows {', '.join(classes)}")
    paths, images, unreadable = read_folder(args.image_path, about.get("image_size", SIDE))

    folder, views, rows = args.out_dir / "cam_vis", {}, []
    for path, image in tqdm(list(zip(paths, images, strict=True))[: args.limit], unit="picture", disable=None):
        x = to_input(image[None].to(args.device))  # (1, 3, H, W)
        with torch.no_grad():
            logits = model(x)[0].cpu()  # (n_classes,)
        asked = list(dict.fromkeys([int(logits.argmax()), *map(classes.index, args.classes)]))
        maps = explain(model, x, asked, args.layers)
        heats = {place: heat_map(found, (figures.SIDE, figures.SIDE)) for place, found in maps.items()}
        answers = describe(model, logits, asked, classes, maps, heats)
        rows.append({"file": path.name, "answer": answers[0]["class"], "classes": answers})
        titles = [f"{answer['class']} ({answer['p']:.1%})" for answer in answers]
        grids = {layer: "{} × {}".format(*found.shape[1:]) for (_, layer), found in maps.items()}
        views[path] = figures.View(path.name, read_picture(path, figures.SIDE), titles, heats, grids)

    stems = ["overview", *(path.stem for path in views)]
    names = [path.stem if stems.count(path.stem) == 1 else path.name for path in views]  # a.jpg may lie beside a.png
    drawn = {name: figures.explanation(view) for name, view in zip(names, views.values(), strict=True)}
    if len(views) > 1:
        drawn["overview"] = figures.overview(list(views.values()))
    written = [save_pictures(figure, folder / f"{name}.png") for name, figure in drawn.items()]
    write_results(folder / "cam.json", args, {"count": len(rows), "unreadable": unreadable, "pictures": rows})
    show(rows)
    print("\n".join(f"wrote {path}" for path in [*written, folder / "cam.json"]))


# ---- the three methods ----------------------------------------------------------------------------------------------


@torch.no_grad()
def cam(model: nn.Module, x: Tensor, target: Target = None) -> Tensor:
    """Return the class activation maps (B, h, w) of pictures x (B, 3, H, W) (Zhou et al. 2016, equation 2):

        M_ij = sum over k of W_ck A^k_ij,

    for the last maps A (B, C, h, w) and the linear layer's weights W of class c. Their mean is the logit less its bias.

    Raises:
        ValueError: the model's head is not global average pooling and one linear layer.
    """
    weights = [p for p in model.head.parameters() if p.ndim == 2]
    if not isinstance(model.head[0], nn.AdaptiveAvgPool2d) or len(weights) != 1:
        raise ValueError("CAM needs a head of global average pooling and one linear layer: use Grad-CAM")
    with _at_rest(model):
        maps = model.features(x)  # (B, C, h, w)
        classes = _classes(model.head(maps), target)  # (B,)
    return torch.einsum("bkhw,bk->bhw", maps, weights[0][classes])


def grad_cam(model: nn.Module, x: Tensor, layer: str, target: Target = None) -> Tensor:
    """Return the maps (B, h, w) of pictures x (B, 3, H, W) at a layer (Selvaraju et al. 2017, equations 1 and 2):

        G_ij = ReLU(sum over k of a_k A^k_ij),    a_k = mean over i, j of g^k_ij,    g^k_ij = dS / dA^k_ij,

    for the layer's maps A (B, C, h, w) and the logit S of class c.

    Raises:
        ValueError: there is no such layer, or it has no maps.
    """
    maps, gradient = maps_and_gradient(model, x, layer, target)
    weights = gradient.mean(dim=(2, 3))  # (B, C)
    return torch.einsum("bkhw,bk->bhw", maps, weights).relu()


def grad_cam_plus_plus(model: nn.Module, x: Tensor, layer: str, target: Target = None, eps: float = 1e-6) -> Tensor:
    """Return the maps (B, h, w) of pictures x (B, 3, H, W) at a layer (Chattopadhay et al. 2018, equation 19):

        G_ij = ReLU(sum over k of w_k A^k_ij),    w_k = sum over i, j of alpha^k_ij ReLU(g^k_ij),
        alpha^k_ij = (g^k_ij)^2 / (2 (g^k_ij)^2 + (g^k_ij)^3 * sum over a, b of A^k_ab + eps).

    The maps should not be negative: v2's are between its blocks, and there a denominator may come close to 0. `eps` is
    that of the package pytorch-grad-cam. Derivatives of 0.0007 get half of their alpha, smaller ones next to nothing.

    Raises:
        ValueError: as `grad_cam`.
    """
    maps, gradient = maps_and_gradient(model, x, layer, target)
    square = gradient.square()
    alpha = square / (2 * square + square * gradient * maps.sum(dim=(2, 3), keepdim=True) + eps)  # (B, C, h, w)
    weights = (alpha * gradient.relu()).sum(dim=(2, 3))  # (B, C)
    return torch.einsum("bkhw,bk->bhw", maps, weights).relu()


@torch.enable_grad()
def maps_and_gradient(model: nn.Module, x: Tensor, layer: str, target: Target = None) -> tuple[Tensor, Tensor]:
    """Return the maps A (B, C, h, w) that a layer puts out, and the derivative dS / dA of the logit S by each number.

    The layer is named as in `model.named_modules()`; "features" are the maps that a model's `head` gets.
    """
    kept = []

    def keep(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise ValueError(f"{layer} puts out no maps")
        kept.append(output.detach().requires_grad_())  # the derivatives are by this, and no graph lies before it
        return kept[-1].clone()  # what follows may be a ReLU in place, which would write over what we keep

    with _at_rest(model):
        if layer == "features":
            logits = model.head(keep(model, (), model.features(x)))  # (B, n_classes)
        else:
            modules = dict(model.named_modules())
            if layer not in modules:
                raise ValueError(f"there is no layer {layer}")
            hook = modules[layer].register_forward_hook(keep)
            try:
                logits = model(x)
            finally:
                hook.remove()
    if len(kept) != 1:
        raise ValueError(f"{layer} is called {len(kept)} times, not once")
    score = logits.gather(1, _classes(logits, target)[:, None]).sum()  # no picture's logit depends on another picture
    (gradient,) = torch.autograd.grad(score, kept)  # the parameters' .grad stays as it is
    return kept[0].detach(), gradient


def heat_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Make maps (B, h, w) fit for the eye: negatives cut, enlarged to (B, *size), each from 0 at its least to 1.

    Enlarging rounds peaks off, so the maps are stretched once more after it. One that is the same everywhere is all 0.
    放大会把峰值抹低，所以放大之后再拉伸一次。处处相同的图全为 0。
    """
    enlarged = F.interpolate(_stretch(maps.relu())[:, None], size, mode="bilinear")  # (B, 1, H, W)
    return _stretch(enlarged[:, 0])


def _stretch(maps: Tensor) -> Tensor:
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)


def _classes(logits: Tensor, target: Target) -> Tensor:
    """Return the class asked about for each picture: (B,)."""
    if target is None:
        return logits.argmax(dim=1)
    return torch.as_tensor(target, device=logits.device).expand(len(logits))


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Run a model in eval mode, where each picture is judged on its own, and leave every layer as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


# ---- what the script says -------------------------------------------------------------------------------------------


def explain(model: ResNet, x: Tensor, asked: list[int], layers: list[str]) -> dict[tuple[str, str], Tensor]:
    """Return, by method and layer, what the maps of one picture (1, 3, H, W) say of each class asked about: (K, h, w).

    Raises:
        UserError: a layer is not there, or has no maps.
    """
    x, target = x.expand(len(asked), -1, -1, -1), torch.tensor(asked)
    maps = {("CAM", "features"): cam(model, x, target)}
    for layer in dict.fromkeys(layers):
        try:
            maps["Grad-CAM", layer] = grad_cam(model, x, layer, target)
        except ValueError as error:
            stages = ", ".join(model.stage_names)
            raise UserError(f"--layers: {error}; there are {stages}, parts of them, and features") from error
        maps["Grad-CAM++", layer] = grad_cam_plus_plus(model, x, layer, target)
    return {place: found.cpu() for place, found in maps.items()}


def describe(
    model: ResNet, logits: Tensor, asked: list[int], classes: list[str], maps: dict, heats: dict
) -> list[dict]:
    """Return each class's probability, its logit as CAM accounts for it, and each map in figures.

    Of a map: its largest value; where the heat is largest, across and down, and on how much of the picture it is above
    one half, all in fractions of the picture.
    """
    p, bias, answers = logits.softmax(dim=0), model.fc.bias.detach().cpu(), []
    for i, k in enumerate(asked):
        answer = {"class": classes[k], "p": p[k].item(), "logit": logits[k].item()}
        answer |= {"cam_mean": maps["CAM", "features"][i].mean().item(), "bias": bias[k].item(), "maps": {}}
        for (method, layer), heat in heats.items():
            down, across = divmod(int(heat[i].argmax()), heat.shape[2])
            answer["maps"][f"{method} {layer}"] = {
                "largest": maps[method, layer][i].max().item(),
                "peak": [(across + 0.5) / heat.shape[2], (down + 0.5) / heat.shape[1]],
                "area": (heat[i] > 0.5).float().mean().item(),
            }
        answers.append(answer)
    return answers


def show(rows: list[dict]) -> None:
    """Print each picture's classes, the sum that makes up each logit, and where CAM is hottest."""
    width = max(len(row["file"]) for row in rows)
    word = max(len(answer["class"]) for row in rows for answer in row["classes"])
    print(f"{'file':{width}}  {'class':{word}}  {'p':>6}   logit = mean of CAM + bias    hottest, across and down")
    for row in rows:
        for a in row["classes"]:
            across, down = a["maps"]["CAM features"]["peak"]
            account = f"{a['logit']:7.2f} = {a['cam_mean']:11.2f} {'-+'[a['bias'] >= 0]} {abs(a['bias']):.2f}"
            print(f"{row['file']:{width}}  {a['class']:{word}}  {a['p']:6.1%} {account}    {across:.0%}, {down:.0%}")


if __name__ == "__main__":
    run(main)
