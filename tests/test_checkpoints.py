"""Files of weights come back as they were written, and whatever else is found in their place is refused.
权重文件读回来与写入时一致；位置上若是别的东西，一律拒绝。
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import ROOT
from utils.checkpoint import load_model, load_state, read_model, round_to_half, save_model, save_state, write_model
from utils.errors import UserError
from utils.file_io_util import atomic_write
from utils.seed import set_seed
from utils.timer import Timer

CPU = torch.device("cpu")
SHIPPED = sorted(p for p in ROOT.glob("chapter_*/**/*.pth") if "runs" not in p.parts)


@dataclass
class Config:
    d_in: int = 4
    d_out: int = 3


def build(config):
    return nn.Linear(config["d_in"], config["d_out"])


class Tied(nn.Module):
    """One matrix looks words up and scores them."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


@pytest.fixture
def shipped(tmp_path):
    """The path of a saved model, and the model."""
    model = build({"d_in": 4, "d_out": 3})
    round_to_half(model)
    save_model(tmp_path / "model.pth", model, Config(), {"classes": ["a", "b"], "accuracy": np.float64(0.5)})
    return tmp_path / "model.pth", model


def test_a_shipped_model_comes_back(shipped):
    path, model = shipped
    loaded, about = load_model(path, build, CPU)
    assert about == {"classes": ["a", "b"], "accuracy": 0.5} and type(about["accuracy"]) is float
    assert not loaded.training and loaded.weight.dtype == torch.float32
    assert torch.equal(loaded.weight, model.weight) and torch.equal(loaded.bias, model.bias)
    stored = torch.load(path, weights_only=True)
    assert stored["config"] == {"d_in": 4, "d_out": 3} and stored["weights"]["weight"].dtype == torch.float16


def test_a_model_that_was_not_rounded_is_not_shipped(tmp_path):
    with pytest.raises(AssertionError, match="not rounded"):
        save_model(tmp_path / "model.pth", nn.Linear(4, 3), Config(), {})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e5])
def test_weights_that_16_bits_cannot_hold_are_not_shipped(tmp_path, number):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        model[0].weight[1, 2] = number
    before = model[0].bias.clone()
    with pytest.raises(UserError, match="0.weight.*--lr"):
        round_to_half(model)
    assert torch.equal(model[0].bias, before), "it was rounded half"
    model[0].weight.data.zero_()
    model[1].running_var[0] = torch.nan
    with pytest.raises(UserError, match="running_var"):
        round_to_half(model)
    with pytest.raises(UserError, match="w holds"):
        write_model(tmp_path / "m.pth", {"w": np.array([1.0, np.nan])}, Config(), {})
    assert not any(tmp_path.iterdir())


class Tower(nn.Module):
    """As deep and wide as its config says, with a table that is not stored."""

    def __init__(self, depth, width, positions=4):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.register_buffer("positions", torch.zeros(positions, width), persistent=False)


@pytest.mark.parametrize(
    "asked",
    [{"depth": 10**9}, {"width": 10**6}, {"width": 2**62}, {"positions": 10**12}, {"depth": -1}, {"width": 10**400}],
    ids=str,
)
def test_a_gigantic_model_is_refused_before_it_is_built(tmp_path, asked):
    weights = Tower(2, 8).state_dict()
    content = {"weights": weights, "config": {"depth": 2, "width": 8} | asked, "about": {}}
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(UserError, match="m.pth holds another model") as error:
        read_model(tmp_path / "m.pth", lambda config: Tower(**config))
    assert "\n" not in str(error.value)


def test_a_numpy_model_of_gigantic_widths_is_refused_before_it_is_built(tmp_path):
    def build(config):
        raise AssertionError("too late")

    for widths in ([2, 10**9, 2], [2, 10**5, 10**5, 2]):
        torch.save({"weights": {"w": torch.zeros(9)}, "config": {"widths": widths}, "about": {}}, tmp_path / "m.pth")
        with pytest.raises(UserError, match="far more weights"):
            read_model(tmp_path / "m.pth", build)


def test_a_file_that_unpacks_to_gigabytes_is_refused_unread(tmp_path):
    packed, lying = tmp_path / "packed.pth", tmp_path / "lying.pth"
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    torch.save({"weights": {"w": torch.zeros(1000)}, "config": {}, "about": {}}, lying)
    with ZipFile(lying) as archive:
        size = next(m.file_size for m in archive.infolist() if m.filename.endswith("data/0"))
    content, declared = lying.read_bytes(), struct.pack("<II", size, size)
    at = content.rindex(declared)  # in the table of contents, at the end
    lying.write_bytes(content[:at] + struct.pack("<II", 4_000_000_000, 4_000_000_000) + content[at + 8 :])
    for path in (packed, lying):
        with pytest.raises(UserError, match="damaged"):
            read_model(path, build)


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    model = Tied()
    round_to_half(model)
    save_model(tmp_path / "tied.pth", model, Config(), {})
    weights = torch.load(tmp_path / "tied.pth", weights_only=True)["weights"]
    assert weights["embedding.weight"].data_ptr() == weights["head.weight"].data_ptr()
    loaded, _ = load_model(tmp_path / "tied.pth", lambda config: Tied(), CPU)
    assert loaded.head.weight is loaded.embedding.weight and torch.equal(loaded.head.weight, model.head.weight)


def test_wrappers_leave_no_trace(shipped):
    path, model = shipped
    parallel, compiled = nn.Module(), nn.Module()  # with the names that DistributedDataParallel and torch.compile give
    parallel.module, compiled._orig_mod = compiled, model
    save_model(path, parallel, Config(), {})
    assert torch.equal(load_model(path, build, CPU)[0].weight, model.weight)


class Halves:
    """A model of NumPy arrays, as strict as an nn.Module."""

    def load_state_dict(self, weights):
        self.arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        if self.arrays.keys() != {"w", "b"}:
            raise KeyError("w and b are needed")


def test_a_model_of_numpy_arrays_comes_back(tmp_path):
    w = np.arange(6.0).reshape(2, 3)[:, ::-1]
    write_model(tmp_path / "m.pth", {"w": w, "b": np.array(2.0)}, Config(), {"history": [{"loss": np.float32(0.25)}]})
    model, about = read_model(tmp_path / "m.pth", lambda config: Halves())
    np.testing.assert_array_equal(model.arrays["w"], w)
    assert model.arrays["b"].shape == () and about == {"history": [{"loss": 0.25}]}


def test_another_models_file_is_refused(shipped, tmp_path):
    path, _ = shipped
    for other in (lambda c: nn.Linear(9, 9), lambda c: Tied(), lambda c: Config(**c, more=1), lambda c: Halves()):
        with pytest.raises(UserError, match="another model") as error:
            read_model(path, other)
        assert "\n" not in str(error.value)
    dead = {"weight": torch.full((3, 4), torch.nan), "bias": torch.zeros(3)}
    torch.save({"weights": dead, "config": {"d_in": 4, "d_out": 3}, "about": {}}, path)
    with pytest.raises(UserError, match="not finite"):
        read_model(path, build)
    with pytest.raises(UserError, match="no such file"):
        read_model(tmp_path / "nothing.pth", build)


def test_a_damaged_file_is_refused_wherever_the_damage_is(shipped):
    path, model = shipped
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 97)]
    weight_at = whole.index(model.weight.detach().half().numpy().tobytes())
    damaged.append(whole[:weight_at] + bytes([whole[weight_at] ^ 1]) + whole[weight_at + 1 :])  # one bit
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            load_model(path, build, CPU)


def test_a_file_cannot_run_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return (tmp_path / "touched").touch, ()

    torch.save({"weights": {}, "config": Attack(), "about": {}}, tmp_path / "attack.pth")
    with pytest.raises(UserError):
        load_model(tmp_path / "attack.pth", build, CPU)
    assert not (tmp_path / "touched").exists()


def test_a_failed_save_leaves_the_old_file(shipped, monkeypatch):
    path, model = shipped
    before = path.read_bytes()
    with pytest.raises(Exception, match="(?i)weights.?only"):  # it can be written, but not read back safely
        save_model(path, model, Config(), {"path": path})

    def full_disk(file, content):
        with open(file, "wb") as half:
            half.write(content[: len(content) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError):
        save_model(path, model, Config(), {})
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_atomic_write_is_seen_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "text.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert not path.exists() and temporary.parent == path.parent and temporary.suffix == ".txt"
    assert path.read_text() == "new"
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("newer, but")
        raise KeyboardInterrupt
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_a_training_state_goes_on_where_it_was(tmp_path):
    def parts():
        model = nn.Linear(3, 2)
        return {"model": model, "optimizer": torch.optim.Adam(model.parameters()), "timer": Timer()}

    def step(parts):
        parts["optimizer"].zero_grad()
        parts["model"](torch.randn(5, 3)).pow(2).sum().backward()
        parts["optimizer"].step()

    flags, history, first, second = {"lr": 0.1, "widths": [4, 2]}, [{"epoch": 1, "loss": 0.5}], parts(), parts()
    first["timer"].load_state_dict({"seconds": 100.0})
    step(first)
    save_state(tmp_path / "state.pth", flags, 1, history, first)
    step(first)
    set_seed(99)
    assert load_state(tmp_path / "state.pth", flags, second) == (1, history)
    step(second)
    assert torch.equal(first["model"].weight, second["model"].weight)
    assert second["timer"].seconds >= 100

    with pytest.raises(UserError, match="--lr 0.1"):
        load_state(tmp_path / "state.pth", flags | {"lr": 0.2}, second)
    with pytest.raises(UserError, match="should hold"):
        load_state(tmp_path / "state.pth", flags, second | {"schedule": second["optimizer"]})
    other = nn.Linear(3, 2)
    for part in (nn.Linear(5, 5), torch.optim.Adam([other.bias])):
        name = "model" if isinstance(part, nn.Module) else "optimizer"
        with pytest.raises(UserError, match="another version"):
            load_state(tmp_path / "state.pth", flags, second | {name: part})
    with pytest.raises(UserError, match="another version.*--dropout"):
        load_state(tmp_path / "state.pth", flags | {"dropout": 0.0}, second)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_shipped_file_is_whole_and_plain(path):
    saved = torch.load(path, map_location="cpu", weights_only=True)
    assert saved.keys() == {"weights", "config", "about"} and saved["weights"]
    assert all(tensor.isfinite().all() for tensor in saved["weights"].values())
    assert not any(isinstance(value, (dict, torch.Tensor)) for value in saved["config"].values()), "a config is flat"
