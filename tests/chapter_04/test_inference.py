"""Chapter 4 reads any picture file, names what is on it, complains in one line, and draws its own ten pictures.
第 4 章：读取任意图片文件并给出类别，出错时只说一行，还会自己画十张图。
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from chapter_04_cnn_classic import draw_images, inference
from chapter_04_cnn_classic.answers import class_in_name
from chapter_04_cnn_classic.dataset import CIFAR10_CLASSES, to_input
from chapter_04_cnn_classic.figures import drawing
from chapter_04_cnn_classic.figures import inference as figures
from chapter_04_cnn_classic.model import MODELS, ModelConfig, build
from chapter_04_cnn_classic.pictures import read_folder
from tests.conftest import ROOT
from tests.utils.test_pictures import halves
from utils.checkpoint import round_to_half, save_model
from utils.cli import run
from utils.pictures import read_picture

CHAPTER = ROOT / "chapter_04_cnn_classic"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """A small network that has learned nothing, but has opinions."""
    torch.manual_seed(0)
    config = ModelConfig(width=0.1)
    model = build(vars(config))
    round_to_half(model)
    path = tmp_path_factory.mktemp("model") / "tiny.pth"
    about = {"classes": CIFAR10_CLASSES, "split": "test", "test_accuracy": 0.125, "test_count": 8}
    save_model(path, model, config, about)
    return path


def damaged(path):
    """The first half of a good file."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD = {
    "text.png": lambda path: path.write_text("this is not a picture\n"),
    "half.jpg": damaged,
    "folder.png": lambda path: path.mkdir(),
    "missing.png": lambda path: None,
}


# --- inference --------------------------------------------------------------------------------------------------------


def ask(folder, model_path, out_dir, *flags):
    inference.main(
        [
            "--device",
            "cpu",
            "--img_dir",
            str(folder),
            "--model_path",
            str(model_path),
            "--out_dir",
            str(out_dir),
            *flags,
        ]
    )
    return json.loads((out_dir / "predictions.json").read_text(encoding="utf-8"))["final"]


def complaint(capsys, *argv):
    """Run the script as a user does, and return the one line that it ends with."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: inference.main(["--device", "cpu", *map(str, argv)]))
    shown = capsys.readouterr()
    assert stop.value.code == 2 and shown.out == ""
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    return shown.err


def fill(folder):
    """Pictures of all awkward kinds, and the two that are easy."""
    folder.mkdir()
    halves().save(folder / "cat.png")
    halves(200, 90).save(folder / "My dog, 2024 ($5).jpg")
    Image.new("RGB", (1, 1), "green").save(folder / "one_pixel.png")
    Image.fromarray(np.full((50, 40), 40_000, np.uint16)).save(folder / "sixteen_bits.png")
    halves(mode="CMYK").save(folder / "print.jpg")
    halves(10_000, 40).save(folder / "wide_$x_frog.png")
    return folder


def test_awkward_pictures_get_the_networks_own_answers(tmp_path, model_path, capsys):
    folder = fill(tmp_path / "pictures")
    (folder / ".hidden").write_text("no picture, and not looked at")
    (folder / "deeper").mkdir()
    final = ask(folder, model_path, tmp_path / "out")
    assert capsys.readouterr().err == ""
    assert (final["count"], final["named_count"], final["unreadable"]) == (6, 3, 0)
    model = build({"width": 0.1})
    model.load_state_dict(torch.load(model_path, weights_only=True)["weights"])
    for answer in final["answers"]:
        with torch.no_grad():
            p = model.eval()(to_input(read_picture(folder / answer["file"], 32)[None])).softmax(dim=1)[0]
        expected = {CIFAR10_CLASSES[i]: p[i].item() for i in p.argsort(descending=True)[:5].tolist()}
        assert list(answer["top"]) == list(expected) and answer["answer"] == next(iter(expected))
        assert list(answer["top"].values()) == pytest.approx(list(expected.values()), abs=1e-6)
    for name in ("contact_sheet.png", "feature_maps.png"):
        with Image.open(tmp_path / "out" / name) as figure:
            assert min(figure.size) > 200


def test_a_damaged_picture_among_good_ones_is_left_out(tmp_path, model_path, monkeypatch, capsys):
    """Asked from another working folder, with paths relative to it."""
    folder = fill(tmp_path / "pictures")
    damaged(folder / "broken.png")
    (folder / "notes.txt").write_text("not a picture")
    monkeypatch.chdir(tmp_path)
    final = ask("pictures", model_path, Path("out"))
    shown = capsys.readouterr()
    broken, notes = shown.err.splitlines()
    assert broken.startswith("left out: ") and "broken.png" in broken
    assert notes.startswith("left out: ") and "notes.txt" in notes
    assert shown.out.count("%") == 6 * 5 + 1 and "broken" not in shown.out
    assert (final["count"], final["unreadable"]) == (6, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_names_that_are_not_utf_8_and_names_that_are_long(tmp_path, model_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = [b"caf\xe9 cat.png", "\u732b".encode() * 80 + b".png", b"\xff\xfe.png"]
    for name in names:
        halves().save(tmp_path / "x.png")
        os.rename(tmp_path / "x.png", os.fsencode(folder) + b"/" + name)
    final = ask(folder, model_path, tmp_path / "out")
    files = {answer["file"]: answer["named"] for answer in final["answers"]}
    assert files == {"caf\ufffd cat.png": "cat", "\u732b" * 80 + ".png": None, "\ufffd\ufffd.png": None}
    assert "caf\ufffd cat.png" in capsys.readouterr().out


@pytest.mark.parametrize("name", BAD)
def test_a_single_file_that_is_no_picture(tmp_path, model_path, capsys, name):
    BAD[name](tmp_path / name)
    if (tmp_path / name).is_dir():
        assert "holds no files" in complaint(capsys, "--img_dir", tmp_path / name, "--model_path", model_path)
    else:
        assert name in complaint(capsys, "--img_dir", tmp_path / name, "--model_path", model_path)


def test_a_folder_without_pictures(tmp_path, model_path, capsys):
    out_dir, folder = tmp_path / "out", tmp_path / "pictures"
    folder.mkdir()
    flags = "--img_dir", folder, "--model_path", model_path, "--out_dir", out_dir
    assert "holds no files" in complaint(capsys, *flags)
    (folder / ".DS_Store").write_bytes(b"")
    assert "holds no files" in complaint(capsys, *flags)
    (folder / "a.txt").write_text("a")
    (folder / "b.png").write_text("b")
    assert "none of the 2 files" in complaint(capsys, *flags)
    assert not any(out_dir.iterdir())


def test_a_model_that_is_none(tmp_path, capsys):
    missing, garbage = tmp_path / "missing.pth", tmp_path / "garbage.pth"
    garbage.write_text("no model")
    assert "missing.pth: no such file" in complaint(capsys, "--model_path", missing)
    assert "garbage.pth is damaged" in complaint(capsys, "--model_path", garbage)
    other = ROOT / "chapter_03_optimization_regularization/checkpoints/cnn_fashion_mnist.pth"
    if other.exists():
        assert "another model" in complaint(capsys, "--model_path", other)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[("cat", "cat"), ("07_Cat", "cat"), ("red-truck (2)", "truck"), ("SHIP2024", "ship")],
        *[("cat_and_dog", None), ("firetruck", None), ("dogs", None), ("IMG_1234", None), ("", None)],
    ],
)
def test_the_class_that_a_files_name_tells(name, expected):
    assert class_in_name(name, CIFAR10_CLASSES) == expected


def test_the_table_is_aligned_and_honest_for_one_picture_or_many(tmp_path, model_path, capsys):
    halves().save(tmp_path / "unknown.png")
    (only,) = ask(tmp_path / "unknown.png", model_path, tmp_path / "out")["answers"]
    assert only["file"] == "unknown.png" and only["named"] is None
    answer = only["answer"]
    other = next(name for name in CIFAR10_CLASSES if name != answer)
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = {f"a_{answer}.png": "right", f"b_{other}.png": "wrong", "no_class_in_this_long_name.png": "?"}
    for name in names:
        halves().save(folder / name)
    capsys.readouterr()
    final = ask(folder, model_path, tmp_path / "out")
    assert (final["correct"], final["named_count"], final["count"]) == (1, 2, 3)
    header, *rows = capsys.readouterr().out.splitlines()
    for row, (name, verdict) in zip(rows, names.items(), strict=False):
        assert row.startswith(f"{name} ") and row[header.index("the five") - 7 :].startswith(f"{verdict} ")
    assert len({len(row) for row in rows[:3]}) == 1 and len({row.index("%") for row in rows[:3]}) == 1
    assert rows[3] == "right about 1 of the 2 pictures that are named after a class"
    assert rows[4] == "(on 8 test pictures of its data set this network is right 12.5% of the time)"


def test_the_sheet_shows_no_more_than_asked_for(tmp_path, model_path):
    folder = fill(tmp_path / "pictures")
    final = ask(folder, model_path, tmp_path / "out", "--sheet_limit", "2")
    assert final["count"] == 6
    _, images, _ = read_folder(folder)
    figure = figures.contact_sheet(images, images, final["answers"])
    assert len(figure.axes) == 3 * 6  # a picture, its pixels, its bars
    with Image.open(tmp_path / "out/contact_sheet.png") as sheet:
        assert sheet.size == (722, 309)


@pytest.mark.parametrize("name", MODELS)
def test_feature_maps_of_every_network(name):
    model = build({"model": name, "width": 0.5}).eval()
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    stages = inference.stage_maps(model, image, CPU)
    figure = figures.feature_maps(image, "x.png", stages, most=3)
    picture, *maps = (axes.images[0].get_array() for axes in figure.axes)
    assert torch.equal(torch.as_tensor(np.array(picture)), image.permute(1, 2, 0))
    strongest, x = [], to_input(image[None])
    with torch.no_grad():
        for stage in model.stages:
            x = stage(x)
            strongest += [x.max().item()]
    assert len(maps) == 3 * len(model.stages) and [float(m.max()) for m in maps[::3]] == pytest.approx(strongest)
    titles = [text.get_text() for text in figure.texts]
    assert titles[0] == "x.png" and [title.split(":")[0] for title in titles[1:]] == [
        f"stage {name}" for name in model.stage_names
    ]


# --- the drawn pictures -----------------------------------------------------------------------------------------------


def area(polygon):
    x, y = np.array(polygon).T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def test_outlines_are_what_their_names_say():
    points = [(10, 10), (50, 5), (90, 40), (40, 80)]
    assert drawing.smooth(*points, steps=5)[::5] == points
    assert area(drawing.oval(50, 50, 20, 10, tilt=30)) == pytest.approx(np.pi * 200, rel=0.01)
    assert max(x for x, _ in drawing.oval(50, 50, 20, 10)) == 70
    assert area(drawing.limb((20, 30, 4), (60, 60, 4))) == pytest.approx(4 * 50 + np.pi * 4, rel=0.01)
    ((turned, _),) = drawing.turn([([(90, 50)], "red")], 90)
    assert turned[0] == pytest.approx((50, 90))
    assert drawing.mirror(drawing.mirror(points)) == points


def test_shapes_cover_what_lies_below():
    lower = [(0, 50), (100, 50), (100, 100), (0, 100)]
    picture = np.array(drawing.draw([(0, "#000000"), (100, "#000000")], [(lower, "#ff0000"), (lower, "#00ff0080")], 20))
    assert (picture[:7] == 0).all()  # shrinking rings a little beside an edge
    assert np.abs(picture[13:].astype(int) - [127, 128, 0]).max() <= 1  # half transparent green on red
    fade = np.array(drawing.draw([(0, "#000000"), (100, "#ffffff")], [], 50)).astype(int)
    assert (np.diff(fade[:, 0, 0]) > 0).all() and (fade == fade[:, :1, :1]).all()


def test_ten_pictures_are_drawn_one_for_each_class(tmp_path):
    draw_images.main(["--out_dir", str(tmp_path), "--side", "40"])
    assert sorted(path.stem for path in tmp_path.iterdir()) == CIFAR10_CLASSES
    pictures = [np.array(Image.open(path)) for path in sorted(tmp_path.iterdir())]
    assert all(picture.shape == (40, 40, 3) and picture.std() > 20 for picture in pictures)


def test_the_shipped_pictures_are_the_scripts():
    shipped = sorted((CHAPTER / "data/custom_imgs").iterdir())
    assert [path.name for path in shipped] == [f"{name}.png" for name in CIFAR10_CLASSES]
    for path in shipped:
        with Image.open(path) as picture:
            assert picture.size == (256, 256) and path.stat().st_size < 50_000
            if path.stem in ("cat", "ship"):
                again = drawing.draw(*draw_images.SCENES[path.stem], 256)
                assert np.abs(np.subtract(picture, again, dtype=float)).mean() < 0.1
