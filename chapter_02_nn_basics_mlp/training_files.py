"""What a training of `mlp.py` leaves behind for the next: states to resume, and a network to ask.
`mlp.py` 的一次训练给下一次留下什么：可恢复的状态，以及可供提问的网络。
"""

from pathlib import Path

from chapter_02_nn_basics_mlp.measures import network_outputs
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from utils.checkpoint import probe_input, save_model
from utils.errors import UserError


def prepare_states(out_dir: Path, mode: str, resume: bool) -> None:
    """A new training forgets the states of the one before it; a resumed one needs some.

    Raises:
        UserError: there is nothing to resume.
    """
    found = list(out_dir.glob(f"state_{mode}_*.pth"))
    if resume and not found:
        raise UserError(f"{out_dir} holds no state of --mode {mode} to resume")
    if not resume:
        for path in found:
            path.unlink()


def save_network(path: Path, model: MLP, config: MLPConfig, about: dict) -> None:
    """Write a network with its output on a fixed input, by which anyone can check a copy of it."""
    x = probe_input(1, config.d_in).to(model.head.weight.device)
    save_model(path, model, config, about | {"probe": network_outputs(model, x)[0].tolist()})
