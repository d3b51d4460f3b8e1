"""Chapter 1 trains, survives being killed, and ships what its results file says.
第 1 章能训练、能经受强杀，随附的模型与结果文件一致。
"""

import gzip
import json
import struct
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from chapter_01_tensor_autograd import benchmark, dataset, fault_injection, inference, train, visualize
from chapter_01_tensor_autograd.engine import Tensor
from chapter_01_tensor_autograd.model import build
from tests.conftest import ROOT
from utils.checkpoint import probe_input, read_model
from utils.data import default_data_root
from utils.errors import UserError

CHAPTER = ROOT / "chapter_01_tensor_autograd"
HAS_DATA = (default_data_root() / "FashionMNIST" / "raw").is_dir()


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path",
    sorted([*(CHAPTER / "engine").glob("*.py"), CHAPTER / "nn.py", CHAPTER / "model.py"]),
    ids=lambda path: path.stem,
)
def test_the_engine_has_no_torch_inside(path):
    assert "torch" not in path.read_text(encoding="utf-8").replace("PyTorch", "")


@pytest.mark.parametrize("name", ["fashion_mnist", "spirals", "two_moons"])
def test_a_shipped_model_gives_its_recorded_output_and_has_its_recorded_results(name):
    model, about = read_model(CHAPTER / f"checkpoints/mlp_{name}.pth", build)
    d_in = model.layers[0].weight.shape[0]
    output = model(Tensor(probe_input(1, d_in).numpy())).data[0]
    np.testing.assert_allclose(output, about["probe"], rtol=1e-4, atol=1e-4)
    final = read(CHAPTER / f"results/train_{name}.json")["final"]
    assert {key: about[key] for key in final} == final
    assert final["test_count"] == (10_000 if name == "fashion_mnist" else 3_000)


@pytest.mark.parametrize("name", ["spirals", "two_moons"])
def test_a_shipped_toy_model_scores_what_was_recorded(name):
    model, about = read_model(CHAPTER / f"checkpoints/mlp_{name}.pth", build)
    _, (x, y), _ = train.load_data(
        name, "test", ROOT, seed=read(CHAPTER / f"results/train_{name}.json")["flags"]["seed"]
    )
    assert train.accuracy(model, x, y) == pytest.approx(about["test_accuracy"], abs=1 / 3000)


@pytest.mark.skipif(not HAS_DATA, reason="Fashion-MNIST is not here")
def test_the_shipped_fashion_model_scores_what_was_recorded():
    model, about = read_model(CHAPTER / "checkpoints/mlp_fashion_mnist.pth", build)
    images, labels = dataset.fashion_mnist(default_data_root(), train=False)
    accuracy = train.accuracy(model, dataset.normalise(images), labels)
    assert accuracy == pytest.approx(about["test_accuracy"], abs=2 / 10_000)  # other BLAS libraries round otherwise
    assert accuracy >= 0.89


def test_two_runs_of_one_seed_are_identical(tmp_path):
    for name in ("a", "b"):
        train.main(["--dataset", "two_moons", "--epochs", "3", "--out_dir", str(tmp_path / name)])
    a, b = (read(tmp_path / name / "train_two_moons.json") for name in ("a", "b"))
    assert a["history"] == b["history"]


def test_a_killed_training_resumes_to_the_last_bit(tmp_path, monkeypatch):
    """Those that are killed are processes; those that run to their ends, resumed and whole, need not be."""
    monkeypatch.setattr(
        fault_injection, "finish", lambda command, resume: train.main([*command[2:], *["--resume"] * resume])
    )
    fault_injection.main(["--kills", "2", "--epochs", "20", "--out_dir", str(tmp_path)])
    final = read(tmp_path / "faults.json")["final"]
    assert final["kills"] >= 1 and final["unreadable_states"] == 0
    assert final["identical_history"] and final["identical_weights"]
    assert final["resumed_loss"] == final["uninterrupted_loss"]


def test_resuming_with_other_flags_is_refused(tmp_path):
    arguments = ["--dataset", "spirals", "--epochs", "1", "--d_hidden", "8", "--out_dir", str(tmp_path)]
    train.main(arguments)
    with pytest.raises(UserError, match="--lr 0.002"):
        train.main([*arguments, "--lr", "0.1", "--resume"])


def test_a_diverging_training_stops_with_advice(tmp_path):
    with pytest.raises(UserError, match="lower --lr"), np.errstate(all="ignore"):
        train.main(["--dataset", "spirals", "--lr", "1e38", "--epochs", "3", "--out_dir", str(tmp_path)])


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@cache
def noise():
    """A packed file of 6,000 pictures: the same in all tests, for packing it takes a while."""
    return gzip.compress(idx(np.random.default_rng(0).integers(256, size=(6000, 28, 28), dtype=np.uint8)))


def write_fashion(folder, images=None, labels=None, packed=True):
    """Write both parts; what is given are arrays, or the very bytes of the file."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    images = noise() if images is None else images
    labels = (np.arange(6000) % 10).astype(np.uint8) if labels is None else labels
    for kind, content in {"images-idx3": images, "labels-idx1": labels}.items():
        if isinstance(content, np.ndarray):
            content = gzip.compress(idx(content)) if packed else idx(content)
        for part in ("train", "t10k"):
            (raw / f"{part}-{kind}-ubyte{'.gz' * packed}").write_bytes(content)


def test_fashion_mnist_is_read_from_plain_and_packed_files(tmp_path):
    images, labels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28), np.array([9, 0], np.uint8)
    for packed in (True, False):
        write_fashion(tmp_path / str(packed), images, labels, packed)
        x, y = dataset.fashion_mnist(tmp_path / str(packed), train=False)
        assert torch.equal(x, torch.from_numpy(images)) and y.tolist() == [9, 0] and y.dtype == torch.int64


LABELS = np.zeros(6000, np.uint8)
PACKED = gzip.compress(idx(LABELS), mtime=0)  # the same in each of the processes that test


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (None, LABELS[:5500], "6000 pictures, and .* 5500 labels"),
        (LABELS, np.zeros((6000, 28, 28), np.uint8), r"images-idx3-ubyte.gz holds numbers of shape \(6000,\)"),
        (np.zeros((6000, 32, 32), np.uint8), None, r"\(6000, 32, 32\), expected \('N', 28, 28\)"),
        (None, np.zeros((6000, 1), np.uint8), r"labels-idx1-ubyte.gz holds numbers of shape \(6000, 1\)"),
        (None, LABELS + 200, "the label 200: there are 10 classes"),
        (np.zeros((0, 28, 28), np.uint8), LABELS[:0], "0 pictures"),
        (np.zeros((5000, 28, 28), np.uint8), LABELS[:5000], "leaves out 5,000 pictures, and there are 5,000"),
        (np.zeros((60_000, 28, 28), np.uint8), np.zeros(60_000, np.uint8), "not Fashion-MNIST's"),
        (None, PACKED.replace(b"\n", b"\r\n")[:9] + b"\r\n" + PACKED[9:], "damaged"),  # sent in text mode
        (None, PACKED[:12] + bytes([PACKED[12] ^ 0xFF]) + PACKED[13:], "damaged"),
        (None, PACKED[:-12], "damaged"),
        (None, b"<html>404 Not Found</html>", "damaged"),
        (None, gzip.compress(b"<html>404 Not Found</html>", mtime=0), "does not begin like an IDX file"),
        (None, gzip.compress(bytes([0, 0, 8]), mtime=0), "damaged"),
        (None, gzip.compress(bytes([0, 0, 8, 255, 1]), mtime=0), "damaged"),
        (None, gzip.compress(bytes([0, 0, 8, 1, 255, 255, 255, 255, 1]), mtime=0), "damaged"),
        (None, b"", "damaged"),
    ],
)
def test_files_that_are_not_whole_or_do_not_fit_are_refused(images, labels, message, tmp_path):
    write_fashion(tmp_path, images, labels)
    with pytest.raises(UserError, match=message) as refused:
        train.main(["--split", "validation", "--data_root", str(tmp_path), "--out_dir", str(tmp_path / "out")])
    assert "\n" not in str(refused.value)


def test_missing_data_that_cannot_be_fetched_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "FASHION_URL", "http://127.0.0.1:9/")
    with pytest.raises(UserError, match=r"(?s)train-images-idx3-ubyte.*spirals"):
        train.main(["--data_root", str(tmp_path), "--out_dir", str(tmp_path)])
    assert not list(tmp_path.rglob("*.gz"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "F"])
def test_any_kind_of_picture_can_be_read(mode, tmp_path):
    path = tmp_path / ("picture.tif" if mode in ("CMYK", "F") else "picture.png")
    Image.new(mode, (1, 1) if mode == "L" else (90, 40)).save(path)
    picture = dataset.read_garment(path)
    assert picture.shape == (28, 28) and picture.dtype == torch.uint8


def test_the_same_picture_of_another_kind_is_read_alike(tmp_path):
    path = CHAPTER / "images" / "6_shirt.png"
    pixels = np.array(Image.open(path))
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "16 bits.png")
    Image.fromarray(pixels.astype(np.float32) / 255).save(tmp_path / "float.tif")
    Image.open(path).save(tmp_path / "exif.png", exif=b"Exif\0\0not a TIFF header")
    for other in tmp_path.iterdir():
        assert torch.equal(dataset.read_garment(other), dataset.read_garment(path)), other.name


def test_a_thin_strip_leaves_a_trace(tmp_path):
    pixels = np.zeros((101, 6000), np.uint8)
    pixels[1:] = 200
    Image.fromarray(pixels).save(tmp_path / "strip.png")
    assert dataset.read_garment(tmp_path / "strip.png").max() > 20


def test_a_garment_is_bright_on_black_whichever_way_it_was_drawn(tmp_path):
    drawing = np.full((60, 60), 250, np.uint8)
    drawing[20:40, 20:40] = 10
    for name, pixels in (("paper", drawing), ("screen", 255 - drawing)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    paper, screen = (dataset.read_garment(tmp_path / f"{name}.png") for name in ("paper", "screen"))
    assert torch.equal(paper, screen) and paper[14, 14] > 200 and paper[0, 0] < 50


def test_mistakes_in_inference_are_one_line_and_status_2(complaint, tmp_path):
    text, damaged = tmp_path / "notes.png", tmp_path / "damaged.pth"
    text.write_text("not a picture")
    damaged.write_bytes((CHAPTER / "checkpoints/mlp_spirals.pth").read_bytes()[:999])
    assert "notes.png is not a picture" in complaint(inference.main, "--image", text)
    assert "missing.png: no such file" in complaint(inference.main, "--image", tmp_path / "missing.png")
    assert "damaged.pth is damaged" in complaint(inference.main, "--model_path", damaged)


def test_a_model_measured_on_validation_data_can_be_asked(tmp_path, capsys):
    train.main(["--dataset", "two_moons", "--split", "validation", "--epochs", "1", "--out_dir", str(tmp_path)])
    inference.main(["--model_path", str(tmp_path / "mlp_two_moons.pth")])
    assert "validation inputs" in capsys.readouterr().out


def test_a_model_of_points_has_no_first_layer_to_draw(tmp_path):
    with pytest.raises(UserError, match="not trained on pictures"):
        visualize.main(["--model_path", str(CHAPTER / "checkpoints/mlp_spirals.pth"), "--out_dir", str(tmp_path)])


def test_inference_names_most_drawn_garments(capsys):
    inference.main([])
    lines = capsys.readouterr().out.splitlines()[:-1]
    hits = sum(line.split("_", 1)[1][:3] in line.split(".png")[1][:16].lower().replace("-", "_") for line in lines)
    assert len(lines) == 10 and hits >= 5


def test_the_benchmark_times_the_real_autograd_package():
    pytest.importorskip("autograd")
    package = benchmark.import_autograd()
    assert hasattr(package, "value_and_grad") and package.__file__ and "chapter_01" not in package.__file__


def test_labels_of_another_shape_have_no_accuracy():
    model = build({"widths": (2, 4, 3)})
    x, y = torch.zeros(6, 2), torch.arange(6) % 3
    assert train.accuracy(model, x, y) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match=r"labels \(6,\), not \(6, 1\)"):
        train.accuracy(model, x, y[:, None])


def test_weights_beyond_16_bits_ship_nowhere(tmp_path, monkeypatch):
    model = build({"widths": (2, 4, 3)})
    before = model.layers[0].weight.data.copy()
    model.layers[2].bias.data = np.array([1e5, 0, 0], np.float32)
    with pytest.raises(UserError, match="too large"):
        model.round_to_half()
    np.testing.assert_array_equal(model.layers[0].weight.data, before)
    model.layers[2].bias.data[0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        model.round_to_half()


def test_a_checkpoint_that_asks_for_a_gigantic_network_is_refused(tmp_path):
    saved = torch.load(CHAPTER / "checkpoints/mlp_spirals.pth", weights_only=True)
    for widths in ([2, 10**9, 3], [2] + [64] * 10**5 + [3], [10**6, 10**6]):
        saved["config"]["widths"] = tuple(widths)
        torch.save(saved, tmp_path / "large.pth")
        with pytest.raises(UserError, match="another model") as refused:
            inference.main(["--model_path", str(tmp_path / "large.pth")])
        assert "\n" not in str(refused.value)


def test_a_state_of_other_shapes_is_refused(tmp_path):
    train.main(["--dry_run", "--out_dir", str(tmp_path)])
    path = tmp_path / "state_spirals.pth"
    state = torch.load(path, weights_only=True)
    state["optimizer"]["first"][0] = torch.zeros(3)
    torch.save(state, path)
    with pytest.raises(UserError, match="without --resume|leave out --resume"):
        train.main(["--dry_run", "--out_dir", str(tmp_path), "--resume"])
