"""Two kinds of file: a model to ship, and a training state to resume.
两种文件：用于发布的模型，和用于恢复的训练状态。

Both hold tensors and plain values alone and are read with `weights_only=True`, so loading one never runs code from it.
"""

import io
import math
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from utils.errors import UserError
from utils.file_io_util import atomic_write, check_archive
from utils.flags import check_flags
from utils.seed import rng_state, set_rng_state

SLACK = 10**7  # numbers that a model may need beside its weights: tables of positions and the like


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Round the parameters to what 16 bits can hold, in place. Evaluate after this: these are the weights that ship.

    Raises:
        UserError: a weight is NaN, or beyond 65,504: the training has diverged. Nothing has been rounded then.
    """
    halves = {name: parameter.half() for name, parameter in model.named_parameters()}
    _check_numbers(halves | dict(model.named_buffers()))
    for name, parameter in model.named_parameters():
        parameter.copy_(halves[name])


def save_model(path: Path, model: nn.Module, config: Any, about: dict) -> None:
    """Ship a rounded model: its weights, the flat dataclass `config` that rebuilds it, and plain facts about it."""
    halves, weights = {}, {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, nn.Parameter):
            half = halves.setdefault(id(tensor), tensor.detach().half())  # tied weights are stored once
            assert torch.equal(half.to(tensor.dtype), tensor), f"{name} was not rounded before it was measured"
            tensor = half
        weights[name.replace("_orig_mod.", "").removeprefix("module.")] = tensor  # compiled and DDP models' prefixes
    write_model(path, weights, config, about)


def write_model(path: Path, weights: dict, config: Any, about: dict) -> None:
    """Ship `weights` (name -> tensor or NumPy array) as they are: for models that are no `nn.Module`.

    Raises:
        UserError: one is no finite number. What was at `path` is still there.
    """
    _check_numbers(_plain(weights))
    _write(path, {"weights": weights, "config": asdict(config), "about": about})


def load_model(path: Path, build: Callable[[dict], nn.Module], device: torch.device) -> tuple[nn.Module, dict]:
    """Return the model that `build(config)` makes, its weights in float32, in eval mode, and the facts about it.

    Raises:
        UserError: the file is missing, damaged, unsafe, or another model's.
    """
    model, about = read_model(path, build)
    return model.to(device).eval(), about


def read_model(path: Path, build: Callable[[dict], Any]) -> tuple[Any, dict]:
    """Like `load_model`, for anything with a strict `load_state_dict`, left as `build` made it."""
    saved = _read(path, {"weights": dict, "config": dict, "about": dict})
    try:
        _check_size(build, saved["config"], saved["weights"])
        model = build(saved["config"])
        model.load_state_dict(saved["weights"])
    except (AttributeError, IndexError, KeyError, MemoryError, OverflowError, RuntimeError, TypeError, ValueError) as e:
        raise UserError(f"{path} holds another model than this script's: {e}".replace("\n", " ")) from e
    if not all(tensor.isfinite().all() for tensor in saved["weights"].values()):
        raise UserError(f"{path} holds weights that are not finite numbers")
    return model, saved["about"]


def probe_input(*shape: int) -> torch.Tensor:
    """Return the fixed input, from -1 to 1, on which a shipped model's output is recorded in `about["probe"]`."""
    return torch.linspace(-1, 1, math.prod(shape)).reshape(shape)


def save_state(path: Path, flags: dict, position: int, history: list[dict], parts: dict[str, Any]) -> None:
    """Save all that a training needs to go on: `position` is what is done, `parts` are what has a `state_dict`.

    Save where the next batch depends on nothing but the generators: between epochs, or, where each step draws its own
    batch, after any step.
    """
    state = {"flags": flags, "position": position, "history": history, "rng": rng_state()}
    _write(path, state | {name: part.state_dict() for name, part in parts.items()})


def load_state(path: Path, flags: dict, parts: dict[str, Any]) -> tuple[int, list[dict]]:
    """Restore `parts` and the random generators; return the position and history saved with them.

    Raises:
        UserError: the file is missing, damaged, unsafe, or from a run with other flags.
    """
    state = _read(path, {"flags": dict, "position": int, "history": list, "rng": dict} | dict.fromkeys(parts, dict))
    check_flags(path, state["flags"], flags)
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        set_rng_state(state["rng"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path} is of another version of this script: leave out --resume to start anew") from error
    return state["position"], state["history"]


def _write(path: Path, value: dict) -> None:
    content = io.BytesIO()
    torch.save(_plain(value), content)  # not into the file: on a full disk PyTorch's writer fails obscurely, or aborts
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())
        torch.load(temporary, map_location="cpu", weights_only=True)  # what cannot be read back replaces nothing


def _check_numbers(weights: dict[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise UserError(f"{name} holds numbers that are NaN or too large: train again with a lower --lr")


def _check_size(build: Callable[[dict], Any], config: dict, weights: dict[str, torch.Tensor]) -> None:
    """Build the model without memory for its weights, and compare their shapes with what the file holds.

    Raises:
        RuntimeError: they differ, or the config asks for many more weights than there are.
    """
    most = 4 * sum(tensor.numel() for tensor in weights.values()) + SLACK
    for value in config.values():  # a NumPy model's `build` knows no other device: its widths tell beforehand
        numbers = [n for n in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(n, int)]
        if max([*numbers, sum(a * b for a, b in pairwise(numbers))]) > most:
            raise RuntimeError("its config asks for far more weights than it holds")
    left = {"tensors": 4 * len(weights) + 1000, "numbers": most}

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        left["tensors"] -= 1
        left["numbers"] -= 0 if tensor is None else tensor.numel()
        if min(left.values()) < 0:
            raise RuntimeError("its config asks for far more weights than it holds")

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        with torch.device("meta"):
            skeleton = build(config)
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(skeleton, nn.Module):
        skeleton.load_state_dict({name: tensor.to("meta") for name, tensor in weights.items()})


def _plain(value: Any) -> Any:
    """Turn NumPy arrays, at any depth, into tensors, and NumPy numbers into Python's."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())  # a copy has no negative strides, which PyTorch lacks
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _read(path: Path, kinds: dict[str, type]) -> dict:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        check_archive(path)
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in a dozen ways, depending on where the damage is
        raise UserError(f"{path} is damaged, or holds more than tensors and plain values") from error
    if not isinstance(saved, dict) or not all(isinstance(saved.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"{path} is not the kind of file that this script reads: it should hold {', '.join(kinds)}")
    return saved
