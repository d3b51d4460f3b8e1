"""Two kinds of file: a model to ship, and a training state to resume.
两种文件：用于发布的模型，和用于恢复的训练状态。

Both hold tensors and plain values alone and are read with `weights_only=True`, so loading one never runs code from it.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from torch import nn

from utils.errors import UserError
from utils.file_io_util import atomic_write
from utils.seed import rng_state, set_rng_state


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Round the parameters to what 16 bits can hold, in place. Evaluate after this: these are the weights that ship."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half())


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
    """Ship `weights` (name -> tensor or NumPy array) as they are: for models that are no `nn.Module`."""
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
        model = build(saved["config"])
        model.load_state_dict(saved["weights"])
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{path} holds another model than this script's: {error}".replace("\n", " ")) from error
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
    changed = [f"--{name} {value}" for name, value in state["flags"].items() if flags.get(name) != value]
    if changed:
        raise UserError(f"{path} was made with {' '.join(changed)}: repeat that, or start anew without --resume")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    set_rng_state(state["rng"])
    return state["position"], state["history"]


def _write(path: Path, value: dict) -> None:
    with atomic_write(path) as temporary:
        torch.save(_plain(value), temporary)
        torch.load(temporary, map_location="cpu", weights_only=True)  # what cannot be read back replaces nothing


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
        with ZipFile(path) as archive:  # PyTorch does not look at the checksums that it writes
            if archive.testzip():
                raise OSError("a checksum is wrong")
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in a dozen ways, depending on where the damage is
        raise UserError(f"{path} is damaged, or holds more than tensors and plain values") from error
    if not isinstance(saved, dict) or not all(isinstance(saved.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"{path} is not the kind of file that this script reads: it should hold {', '.join(kinds)}")
    return saved
