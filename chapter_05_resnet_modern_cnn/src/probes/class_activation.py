"""CAM, Grad-CAM and Grad-CAM++: which places of a picture speak for a class, as the maps of a layer tell it.
CAM、Grad-CAM 与 Grad-CAM++：从某一层的特征图看出，图片的哪些地方支持某个类别。
"""

import torch
from torch import Tensor, nn

from utils.evaluating import evaluating

Target = int | Tensor | None  # one class for the batch; one for each picture, (B,); or the most probable ones


@torch.no_grad()
def cam(model: nn.Module, x: Tensor, target: Target = None) -> Tensor:
    """Return the class activation maps (B, h, w) of pictures x (B, 3, H, W) (Zhou et al. 2016, equation 2):

        M_ij = sum over k of W_ck A^k_ij,

    for the last maps A (B, C, h, w) and the linear layer's weights W of class c. Their mean is the logit less its bias.

    Raises:
        ValueError: the model's head is not global average pooling and one linear layer, or the target names no class.
    """
    weights = [p for p in model.head.parameters() if p.ndim == 2]
    if not isinstance(model.head[0], nn.AdaptiveAvgPool2d) or len(weights) != 1:
        raise ValueError("CAM needs a head of global average pooling and one linear layer: use Grad-CAM")
    with evaluating(model):
        maps = model.features(x)  # (B, C, h, w)
        classes = class_of_each(model.head(maps), target)  # (B,)
    return torch.einsum("bkhw,bk->bhw", maps, weights[0][classes])


def grad_cam(model: nn.Module, x: Tensor, layer: str, target: Target = None) -> Tensor:
    """Return the maps (B, h, w) of pictures x (B, 3, H, W) at a layer (Selvaraju et al. 2017, equations 1 and 2):

        G_ij = ReLU(sum over k of a_k A^k_ij),    a_k = mean over i, j of g^k_ij,    g^k_ij = dS / dA^k_ij,

    for the layer's maps A (B, C, h, w) and the logit S of class c.

    Raises:
        ValueError: there is no such layer, it has no maps, or the target names no class.
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


@torch.inference_mode(False)  # inside a caller's inference_mode there would be no graph to differentiate
@torch.enable_grad()
def maps_and_gradient(model: nn.Module, x: Tensor, layer: str, target: Target = None) -> tuple[Tensor, Tensor]:
    """Return the maps A (B, C, h, w) that a layer puts out, and the derivative dS / dA of the logit S by each number.

    The layer is named as in `model.named_modules()`; "features" are the maps that a model's `head` gets.

    Raises:
        ValueError: there is no such layer, it has no maps, the target names no class, or the model itself was made in
            inference mode, and no gradient can pass it.
    """
    if any(p.is_inference() for p in model.parameters()):
        raise ValueError("the model was made in inference mode, where no gradients exist: make it outside")
    x = x.clone() if x.is_inference() else x
    caught = []

    def catch(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise ValueError(f"{layer} puts out no maps")
        caught.append(output.detach().requires_grad_())  # the derivatives are by this, and no graph lies before it
        return caught[-1].clone()  # what follows may be a ReLU in place, which would write over what we caught

    with evaluating(model):
        if layer == "features":
            logits = model.head(catch(model, (), model.features(x)))  # (B, n_classes)
        else:
            modules = dict(model.named_modules())
            if layer not in modules:
                raise ValueError(f"there is no layer {layer}")
            hook = modules[layer].register_forward_hook(catch)
            try:
                logits = model(x)
            finally:
                hook.remove()
    if len(caught) != 1:
        raise ValueError(f"{layer} is called {len(caught)} times, not once")
    # No picture's logit depends on another picture: the sum's derivative holds each one's own.
    score = logits.gather(1, class_of_each(logits, target)[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, caught)  # the parameters' .grad stays as it is
    return caught[0].detach(), gradient


def class_of_each(logits: Tensor, target: Target) -> Tensor:
    """Return the class asked about for each picture, (B,), where the logits are (B, n_classes).

    Raises:
        ValueError: the target is no class, or not one class for each picture.
    """
    if target is None:
        return logits.argmax(dim=1)
    classes = torch.as_tensor(target, device=logits.device)
    if classes.ndim and classes.shape != logits.shape[:1]:
        raise ValueError(f"a target of shape {tuple(classes.shape)} for logits {tuple(logits.shape)}")
    if not ((classes >= 0) & (classes < logits.shape[1])).all():
        raise ValueError(f"a target is a class from 0 to {logits.shape[1] - 1}, not {classes.tolist()}")
    return classes.expand(len(logits))
