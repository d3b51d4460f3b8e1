"""Chapter 2's networks train, survive being killed, and ship what their results files say.
第 2 章的网络能训练、能经受强杀，随附的模型与结果文件一致。
"""

import gzip
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from chapter_01_tensor_autograd.dataset import fashion_mnist, normalise
from chapter_02_nn_basics_mlp import engine_mlp, inference, mlp, problems
from chapter_02_nn_basics_mlp.dataset import load
from chapter_02_nn_basics_mlp.losses import mse
from chapter_02_nn_basics_mlp.measures import accuracy, network_outputs, rmse, two_view_probabilities
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig, build
from chapter_02_nn_basics_mlp.problems import PROBLEMS
from chapter_02_nn_basics_mlp.recipes import BEST_RATES, MODES, chosen_mode
from tests.conftest import ROOT
from utils.checkpoint import load_model, probe_input
from utils.data import default_data_root
from utils.errors import UserError
from utils.seed import set_seed

CHAPTER = ROOT / "chapter_02_nn_basics_mlp"
CPU = torch.device("cpu")
HAS_DATA = (default_data_root() / "FashionMNIST" / "raw").is_dir()
TINY = ["--device", "cpu", "--epochs", "3", "--d_hidden", "8", "--seeds", "2"]
RUNS = {  # a tiny training of each kind
    "standard": ["--mode", "standard", *TINY],
    "2d_surface": ["--mode", "2d_surface", *TINY],
    "extrapolate": ["--mode", "extrapolate", *TINY],
    "classify": ["--mode", "classify", *TINY, "--dataset", "shapes", "--train_size", "200", "--dropout", "0.2"],
    "standard_engine": ["--mode", "standard", "--engine", *TINY],
}


needs_classifier = pytest.mark.skipif(
    not (CHAPTER / "models/mlp_classify.pth").exists(), reason="no Fashion-MNIST classifier has been published yet"
)


@pytest.fixture(autouse=True)
def _threads_stay():
    """The scripts choose how many threads they want; other tests want theirs back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def shipped(mode):
    return load_model(CHAPTER / f"models/mlp_{mode}.pth", build, CPU)


def results(name):
    return read(CHAPTER / f"results/{name}.json")


# --- what ships -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [*PROBLEMS, pytest.param("classify", marks=needs_classifier)])
def test_a_shipped_model_gives_its_recorded_output_and_has_its_recorded_results(mode):
    model, about = shipped(mode)
    d_in = model.hidden[0].linear.weight.shape[1]
    torch.testing.assert_close(
        network_outputs(model, probe_input(1, d_in))[0], torch.tensor(about["probe"]), rtol=0, atol=1e-4
    )
    recorded = results(mode)
    assert {key: about[key] for key in recorded["final"]} == recorded["final"] and about["mode"] == mode
    seeds = [row["seed"] for row in recorded["per_seed"]]
    assert len(seeds) == 3 and about["seed"] == seeds[0], "the first seed ships, not the luckiest"


@pytest.mark.parametrize("mode", ["standard", "2d_surface"])
def test_a_shipped_fit_is_as_good_as_recorded_and_nearly_as_good_as_the_noise_allows(mode):
    model, about = shipped(mode)
    x, y = load(f"{PROBLEMS[mode].name}_test")
    error = rmse(network_outputs(model, x), y)
    assert error == pytest.approx(about["shipped_test_rmse"], abs=1e-5)
    final = results(mode)["final"]
    assert error == pytest.approx(results(mode)["per_seed"][0]["test_rmse"], abs=1e-5)
    assert final["noise_rmse"] == pytest.approx(rmse(PROBLEMS[mode].target(x), y), abs=1e-6)
    assert final["test_rmse"] < 1.2 * final["noise_rmse"] and final["truth_rmse"] < 0.1 * final["mean_rmse"]
    assert final["test_count"] == len(y)


def test_the_shipped_snake_is_as_good_as_recorded_and_the_only_one_to_beat_the_mean():
    model, about = shipped("extrapolate")
    for place, part in (("inside", "test"), ("outside", "outside")):
        x, y = load(f"periodic_{part}")
        assert rmse(network_outputs(model, x), y) == pytest.approx(about[f"shipped_rmse_{place}"], abs=1e-4)
    recorded = results("extrapolate")
    final, first = recorded["final"], recorded["per_seed"][0]
    assert about["shipped_rmse_outside"] == first["snake_rmse_outside"]
    assert final["gain_over_relu"] >= 5 and final["gain_over_tanh"] >= 3
    assert final["snake_rmse_outside"] < final["mean_rmse_outside"] < final["tanh_rmse_outside"]
    assert all(final[f"{name}_rmse_inside"] < 1.3 * final["noise_rmse"] for name in BEST_RATES), "all fit what they saw"


@needs_classifier
def test_the_shipped_classifier_reaches_its_target_and_beats_the_linear_one():
    _, about = shipped("classify")
    recorded = results("classify")
    final, rows = recorded["final"], recorded["per_seed"]
    assert recorded["flags"]["dataset"] == "fashion_mnist" and final["split"] == "test"
    assert final["test_count"] == 10_000 and final["test_accuracy"] >= 0.915 and final["test_accuracy_std"] < 0.004
    assert final["test_accuracy"] > final["softmax_test_accuracy"] + 0.05 > 0.85
    assert final["test_accuracy"] == pytest.approx(np.mean([row["test_accuracy"] for row in rows]))
    assert about["shipped_accuracy"] == final["shipped_accuracy"] == rows[0]["test_accuracy"]
    assert final["train_seconds"] < 300 and len(about["classes"]) == 10


@needs_classifier
@pytest.mark.skipif(not HAS_DATA, reason="Fashion-MNIST is not here")
def test_the_shipped_classifier_scores_what_was_recorded():
    model, about = shipped("classify")
    images, labels = fashion_mnist(default_data_root(), train=False)
    right = accuracy(two_view_probabilities(model, normalise(images)), labels)
    assert right == pytest.approx(about["shipped_accuracy"], abs=3 / 10_000)  # other BLAS libraries round otherwise


def test_the_engines_training_was_pytorchs():
    final = results("standard_engine")["final"]
    assert final["largest_prediction_difference"] < 1e-10 and final["largest_loss_difference"] < 1e-12
    assert final["engine_test_rmse"] == pytest.approx(final["torch_test_rmse"], abs=1e-10)


def test_no_test_point_was_seen_in_training():
    for problem in PROBLEMS.values():
        seen = {tuple(point) for point in load(f"{problem.name}_train")[0].tolist()}
        for part in ["test", "outside"] if problem.name == "periodic" else ["test"]:
            assert not seen & {tuple(point) for point in load(f"{problem.name}_{part}")[0].tolist()}


# --- training ---------------------------------------------------------------------------------------------------------


def test_the_curve_is_learned(tmp_path):
    mlp.main(["--seeds", "1", "--epochs", "120", "--out_dir", str(tmp_path)])
    final = read(tmp_path / "standard.json")["final"]
    assert final["test_rmse"] < 0.2 and final["truth_rmse"] < 0.12 and final["mean_rmse"] > 0.7


def test_shapes_are_learned_better_than_by_a_linear_model(tmp_path):
    arguments = ["--mode", "classify", "--dataset", "shapes", "--train_size", "4000", "--seeds", "1", "--epochs", "10"]
    mlp.main([*arguments, "--d_hidden", "128", "--batch_size", "128", "--shift", "0", "--out_dir", str(tmp_path)])
    final = read(tmp_path / "classify.json")["final"]
    assert final["test_count"] == 1000
    assert final["test_accuracy"] > 0.2 and final["test_accuracy"] > final["softmax_test_accuracy"] + 0.05


def test_the_engine_trains_as_pytorch_does(tmp_path):
    mlp.main(["--engine", "--epochs", "20", "--activation", "relu", "--out_dir", str(tmp_path)])
    final = read(tmp_path / "standard_engine.json")["final"]
    assert final["largest_prediction_difference"] < 1e-11 and final["largest_loss_difference"] < 1e-13
    assert final["engine_test_rmse"] < 0.4


@pytest.mark.parametrize("activation", engine_mlp.ACTIVATIONS)
def test_a_twin_has_the_outputs_and_gradients_of_its_model(activation):
    set_seed(0)
    model = MLP(MLPConfig(d_in=2, d_hidden=5, n_hidden=3, activation=activation)).double()
    twin = engine_mlp.EngineMLP(model, activation)
    x, y = torch.randn(7, 2, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)
    torch.testing.assert_close(twin.predict(x), model(x).detach(), rtol=1e-13, atol=1e-13)
    mse(model(x), y).backward()
    engine_mlp.engine_mse(twin(x), y).backward()
    layers = [*(layer.linear for layer in model.hidden), model.head]
    for ours, theirs in zip(twin.layers[::2], layers, strict=True):
        torch.testing.assert_close(torch.from_numpy(ours.weight.grad.data).T, theirs.weight.grad, rtol=0, atol=1e-13)
        torch.testing.assert_close(torch.from_numpy(ours.bias.grad.data), theirs.bias.grad, rtol=0, atol=1e-13)


def test_the_mode_is_found_among_the_words_of_a_command():
    assert chosen_mode([]) == chosen_mode(["--seeds", "2"]) == "standard"
    assert (
        chosen_mode(["--mode", "classify", "--dry_run"])
        == chosen_mode(["--seed", "1", "--mode=classify"])
        == "classify"
    )
    assert chosen_mode(["--mode", "standard", "--mode", "2d_surface"]) == "2d_surface"  # the last one holds
    for words in (["--mode"], ["--mode", "cubes"], ["--mode="]):
        with pytest.raises(UserError, match="standard, 2d_surface, extrapolate, classify"):
            chosen_mode(words)


def test_the_learning_rate_rises_and_falls():
    assert mlp.lr_factor(0, 0.1) == 0 and mlp.lr_factor(1, 0.1) == pytest.approx(0)
    assert mlp.lr_factor(0.05, 0.1) == pytest.approx(0.5, abs=0.01) and mlp.lr_factor(0.5, 0.1) == pytest.approx(0.5)
    assert mlp.lr_factor(0, 0) == 1
    falling = [mlp.lr_factor(0.1 + 0.01 * i, 0.1) for i in range(90)]
    assert falling == sorted(falling, reverse=True)


def test_pictures_are_mirrored_and_moved():
    set_seed(0)
    x = normalise(torch.randint(256, (200, 28, 28), dtype=torch.uint8))
    mirrored = x.view(-1, 28, 28).flip(2).flatten(1)
    assert torch.equal(problems.jitter(x, flip=0.0, shift=0), x)
    out = problems.jitter(x, flip=0.5, shift=0)
    turned = (out == mirrored).all(dim=1)
    assert ((out == x).all(dim=1) ^ turned).all() and 60 < turned.sum() < 140

    black = normalise(torch.zeros(1, 28, 28))
    out = problems.jitter(x, flip=0.0, shift=1).view(-1, 28, 28)
    found = set()
    for picture, moved in zip(x.view(-1, 28, 28), out, strict=True):
        frame = torch.nn.functional.pad(picture, [1] * 4, value=black[0, 0].item())
        places = [(i, j) for i in range(3) for j in range(3) if torch.equal(frame[i : i + 28, j : j + 28], moved)]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) == 9


def fake_fashion(folder, count, part):
    """Write pictures that all differ: the first two pixels of picture i spell i."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
    labels = (np.arange(count) % 10).astype(np.uint8)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (raw / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))


def rows(x):
    """The pictures as what can be looked up."""
    return {row.tobytes() for row in x.numpy()}


def test_the_validation_split_is_cut_from_training_and_leaves_the_test_set_alone(tmp_path):
    fake_fashion(tmp_path, 6000, "train")  # there is no test set here: reading it would be an error
    train, held_out, classes = problems.pictures("fashion_mnist", "validation", tmp_path, 0)
    assert train[0].shape == (1000, 784) and held_out[0].shape == (5000, 784) and len(classes) == 10
    assert not rows(train[0]) & rows(held_out[0])
    assert held_out[1].tolist() == [i % 10 for i in range(1000, 6000)]


def test_the_splits_of_the_shapes_share_no_picture():
    train, test, classes = problems.pictures("shapes", "test", ROOT, 400)
    _, validation, _ = problems.pictures("shapes", "validation", ROOT, 400)
    parts = [rows(x) for x, _ in (train, test, validation)]
    assert [len(part) for part in parts] == [400, 100, 100] and len(classes) == 10
    assert not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])


# --- interruptions ----------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def identical(a, b):
    """Two saved states or models hold the same, but for the time they took."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[k], b[k]) for k in a if "seconds" not in str(k))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def same_run(first, second, name):
    for path in sorted(first.glob("*.pth")):
        a, b = (torch.load(folder / path.name, weights_only=True) for folder in (first, second))
        a.pop("timer", None), b.pop("timer", None)
        assert identical(a, b), path.name
    a, b = read(first / f"{name}.json"), read(second / f"{name}.json")
    return identical({k: a[k] for k in ("history", "final", "flags")}, {k: b[k] for k in ("history", "final", "flags")})


@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_training_resumes_to_the_last_bit(name, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    monkeypatch.setattr(mlp, "save_figure", lambda figure, path: path)  # drawing takes longer than all else here
    mlp.main([*RUNS[name], "--out_dir", str(whole)])
    saves, save = [], mlp.save_state

    def save_and_die(*args):
        save(*args)
        saves.append(args[0].name)
        if len(saves) in (2, 5):  # within the first network's training, and then within the second's
            raise Killed

    monkeypatch.setattr(mlp, "save_state", save_and_die)
    arguments = [*RUNS[name], "--out_dir", str(killed)]
    for more in ([], ["--resume"]):
        with pytest.raises(Killed):
            mlp.main([*arguments, *more])
    assert not (killed / f"{name}.json").exists()
    mlp.main([*arguments, "--resume"])
    networks = {"classify": 4, "extrapolate": 6}.get(name, 2)
    assert len(saves) == 3 * networks, "no epoch was trained twice"
    assert same_run(whole, killed, name)
    mlp.main([*arguments, "--resume"])  # there is nothing left to do
    assert len(saves) == 3 * networks and same_run(whole, killed, name)


def test_a_training_killed_with_sigkill_resumes_to_the_last_bit(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, str(CHAPTER / "mlp.py"), "--seeds", "2", "--epochs", "60", "--d_hidden", "32"]
    process = subprocess.Popen([*command, "--out_dir", str(killed)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "state_standard_1.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() != 0, "the training ended before it could be killed"
    assert not (killed / "standard.json").exists()
    monkeypatch.setattr(mlp, "save_figure", lambda figure, path: path)
    mlp.main([*command[2:], "--out_dir", str(killed), "--resume"])
    mlp.main([*command[2:], "--out_dir", str(whole)])
    assert same_run(whole, killed, "standard")


def test_a_new_training_forgets_old_states_and_other_flags_are_refused(tmp_path):
    arguments = [*RUNS["standard"], "--out_dir", str(tmp_path)]
    with pytest.raises(UserError, match="no state"):
        mlp.main([*arguments, "--resume"])
    mlp.main(arguments)
    with pytest.raises(UserError, match="--lr 0.01"):
        mlp.main([*arguments, "--lr", "0.1", "--resume"])
    mlp.main([*arguments, "--seeds", "1"])
    assert [p.name for p in tmp_path.glob("state_*")] == ["state_standard_0.pth"]


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_mistakes_in_training_say_what_to_do(tmp_path):
    out = ["--out_dir", str(tmp_path)]
    for arguments, message in (
        (["--mode", "cubes"], "standard, 2d_surface, extrapolate, classify"),
        (["--engine", "--mode", "classify"], "--mode standard"),
        (["--engine", "--activation", "snake"], "relu and tanh"),
        (["--rates", "0.1"], "--mode extrapolate"),
        (["--lr", "1e30", "--epochs", "3"], "lower --lr"),
        ([*RUNS["classify"], "--batch_size", "199"], "--batch_size"),
    ):
        with pytest.raises(UserError, match=message):
            mlp.main([*arguments, *out])


def test_a_dry_run_of_every_mode_needs_no_data_and_writes_all_files(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.file_io_util.urlopen", None)
    for mode in MODES:
        mlp.main(["--mode", mode, "--dry_run", "--out_dir", str(tmp_path), "--data_root", str(tmp_path / "none")])
        assert {f"{mode}.json", f"fit_{mode}.png", f"mlp_{mode}.pth"} <= {p.name for p in tmp_path.iterdir()}
        inference.main(["--model_path", str(tmp_path / f"mlp_{mode}.pth"), "--out_dir", str(tmp_path)])


def test_mistakes_are_one_line_and_status_2(complaint, tmp_path):
    text, words, damaged, wide = (tmp_path / name for name in ("notes.png", "words.csv", "damaged.pth", "wide.csv"))
    text.write_text("not a picture")
    words.write_text("x\n1.0\ntwo\n")
    wide.write_text("1,2\n")
    damaged.write_bytes((CHAPTER / "models/mlp_standard.pth").read_bytes()[:999])
    assert "--mode cubes" in complaint(mlp.main, "--mode", "cubes")
    assert "words.csv, line 3" in complaint(inference.main, "--csv", words)
    mlp.main([*RUNS["classify"], "--out_dir", str(tmp_path)])
    for arguments, message in (
        (["--mode", "cubes"], "standard, 2d_surface, extrapolate, classify"),
        (["--model_path", tmp_path / "mlp_classify.pth", "--image", text], "is not a picture"),
        (["--csv", wide], "2 numbers where 1 should be"),
        (["--csv", tmp_path / "missing.csv"], "cannot be read"),
        (["--mode", "2d_surface", "--point", "1", "2", "3"], "2 coordinates"),
        (["--point", "nan"], "finite"),
        (["--model_path", damaged], "damaged"),
        (["--model_path", ROOT / "chapter_01_tensor_autograd/checkpoints/mlp_spirals.pth"], "another model"),
    ):
        with pytest.raises(UserError, match=message):
            inference.main(list(map(str, arguments)))


# --- inference --------------------------------------------------------------------------------------------------------


def test_inference_answers_for_points_lists_and_files(tmp_path, capsys):
    points = [[0.3, -0.2], [1.5, 0.0]]
    file = tmp_path / "points.csv"
    file.write_text("x1,x2\n0.3,-0.2\n1.5,0\n")
    inference.main(["--mode", "2d_surface", "--point", "0.3", "-0.2", "1.5", "0", "--out_dir", str(tmp_path)])
    typed = capsys.readouterr().out
    inference.main(["--mode", "2d_surface", "--csv", str(file), "--out_dir", str(tmp_path)])
    assert capsys.readouterr().out == typed

    header, *rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert header == "x1,x2,prediction,truth,error"
    table = torch.tensor([[float(cell) for cell in row.split(",")] for row in rows])
    expected = network_outputs(shipped("2d_surface")[0], torch.tensor(points))
    truth = PROBLEMS["2d_surface"].target(torch.tensor(points))
    torch.testing.assert_close(
        table, torch.cat([torch.tensor(points), expected, truth, expected - truth], dim=1), rtol=1e-4, atol=1e-5
    )
    assert table[:, 4].abs().max() < 0.1


def test_inference_warns_of_points_outside_the_training_range(tmp_path, capsys):
    inference.main(["--mode", "extrapolate", "--point", "5.9", "-6.1", "--out_dir", str(tmp_path)])
    inside, outside = capsys.readouterr().out.splitlines()[1:3]
    assert "outside" not in inside and outside.endswith("outside the training range")


def test_pictures_of_one_name_and_of_chinese_names_can_be_told_apart(tmp_path, capsys):
    mlp.main([*RUNS["classify"], "--out_dir", str(tmp_path)])
    drawn = ROOT / "chapter_01_tensor_autograd" / "images" / "6_shirt.png"
    paths = [tmp_path / folder / "衬衫.png" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(drawn.read_bytes())
    capsys.readouterr()
    model = ["--model_path", str(tmp_path / "mlp_classify.pth"), "--out_dir", str(tmp_path)]
    inference.main([*model, "--image", *map(str, paths)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [str(path) for path in paths]
    inference.main([*model, "--image", str(paths[0]), str(drawn)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("衬衫.png ") and lines[1].startswith("6_shirt.png ")
    assert lines[0].index("%") + 2 == lines[1].index("%")  # two wide characters stand for four places


@needs_classifier
def test_inference_names_most_drawn_garments(capsys):
    inference.main(["--mode", "classify"])
    lines = capsys.readouterr().out.splitlines()[:-1]
    hits = sum(line.split("_", 1)[1][:3] in line.split(".png")[1][:16].lower().replace("-", "_") for line in lines)
    assert len(lines) == 10 and hits >= 5
