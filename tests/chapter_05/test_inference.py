"""Chapter 5 names any pictures, finds the ones that look alike, complains in one line.
第 5 章：给任意图片命名，找出相似的图片，出错时只说一行。
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from chapter_04_cnn_classic.model import ModelConfig
from chapter_04_cnn_classic.model import build as build_classic
from chapter_05_resnet_modern_cnn.src import inference
from chapter_05_resnet_modern_cnn.src.dataset import STL10_CLASSES, to_input
from chapter_05_resnet_modern_cnn.src.figures.inference import contact_sheet, neighbour_sheet
from chapter_05_resnet_modern_cnn.src.model import ResNetConfig, build
from chapter_05_resnet_modern_cnn.src.probes import similarity
from tests.chapter_04.test_inference import BAD, damaged, fill
from tests.utils.test_pictures import halves
from utils.checkpoint import load_model, round_to_half, save_model
from utils.cli import run
from utils.errors import UserError
from utils.pictures import read_picture

CPU = torch.device("cpu")


def untrained(path, side=96):
    """Save a small network that has learned nothing, but has opinions."""
    torch.manual_seed(0)
    config = ResNetConfig(width=4, stem="224", zero_init=False)
    model = build(vars(config))
    round_to_half(model)
    about = {"classes": STL10_CLASSES, "split": "official", "test_accuracy": 0.125, "test_count": 8}
    save_model(path, model, config, about | {"image_size": side})
    return path


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("model") / "tiny.pth")


def ask(place, model_path, out_dir, *flags):
    words = ["--image_path", place, "--model_path", model_path, "--out_dir", out_dir, "--device", "cpu", *flags]
    inference.main([str(word) for word in words])
    return json.loads((out_dir / "predictions.json").read_text(encoding="utf-8"))["final"]


def complaint(capsys, *argv):
    """Run the script as a user does, and return the one line that it ends with."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: inference.main(["--device", "cpu", *map(str, argv)]))
    shown = capsys.readouterr()
    assert stop.value.code == 2 and shown.out == ""
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize("side", [96, 40])
def test_answers_features_and_neighbours_are_the_networks_own(tmp_path, capsys, side):
    model_path, folder = untrained(tmp_path / "tiny.pth", side), fill(tmp_path / "pictures")
    (folder / ".hidden").write_text("no picture, and not looked at")
    (folder / "deeper").mkdir()
    final = ask(folder, model_path, tmp_path / "out")
    assert capsys.readouterr().err == ""
    assert (final["count"], final["named_count"], final["unreadable"]) == (6, 2, 0)

    model, _ = load_model(model_path, build, CPU)
    with np.load(tmp_path / "out/features.npz") as saved:
        assert saved.files == ["features", "names", "predictions"]
        features, names, predictions = (saved[key] for key in saved.files)
    assert features.shape == (6, 32) and features.dtype == np.float32
    assert names.tolist() == sorted(path.name for path in folder.iterdir() if path.suffix)
    assert predictions.tolist() == [answer["answer"] for answer in final["answers"]]
    with torch.no_grad():
        x = to_input(torch.stack([read_picture(folder / name, side) for name in names.tolist()]))
        pooled, p = model.features(x).mean(dim=(2, 3)), model(x).softmax(dim=1)
    torch.testing.assert_close(torch.from_numpy(features), pooled)
    unit = pooled.double() / pooled.double().norm(dim=1, keepdim=True)
    cosines = unit @ unit.T - 2 * torch.eye(6)
    for i, answer in enumerate(final["answers"]):
        assert answer["file"] == names[i]
        assert answer["top"] == pytest.approx({STL10_CLASSES[k]: p[i, k].item() for k in p[i].topk(5).indices})
        assert list(answer["top"].values()) == sorted(answer["top"].values(), reverse=True)
        expected = {names[k]: cosines[i, k].item() for k in cosines[i].topk(3).indices}
        assert {n["file"]: n["cosine"] for n in answer["neighbours"]} == pytest.approx(expected, abs=1e-5)
    for name in ("contact_sheet.png", "neighbours.png"):
        with Image.open(tmp_path / "out" / name) as figure:
            assert min(figure.size) > 200


def test_one_picture_in_many_formats_is_one_point(tmp_path, model_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = halves(mode="RGB")
    for mode in ("L", "P", "RGB", "RGBA"):
        picture.convert(mode).save(folder / f"{mode}.png")
    Image.fromarray(np.asarray(halves(mode="L")).astype(np.uint16) * 257).save(folder / "sixteen_bits.png")
    clear = picture.convert("RGBA")
    clear.paste((0, 0, 0, 0), (40, 0, 80, 60))  # what is clear becomes white, as that half is
    clear.save(folder / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn me clockwise to see me upright
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "lying.png", exif=exif)
    picture.convert("CMYK").save(folder / "print.jpg", quality=95)
    ask(folder, model_path, tmp_path / "out")
    with np.load(tmp_path / "out/features.npz") as saved:
        features = dict(zip(saved["names"].tolist(), saved["features"], strict=True))
    assert len(features) == 8
    for name, row in features.items():
        np.testing.assert_allclose(row, features["RGB.png"], rtol=0, atol=0.1 if name == "print.jpg" else 1e-6)


def test_a_damaged_picture_among_good_ones_is_left_out(tmp_path, model_path, monkeypatch, capsys):
    """Asked from another working folder, with paths relative to it."""
    folder = fill(tmp_path / "pictures")
    damaged(folder / "broken.png")
    (folder / "notes.txt").write_text("not a picture")
    monkeypatch.chdir(tmp_path)
    final = ask("pictures", model_path, Path("out"), "--features", "found/out.npz")
    shown = capsys.readouterr()
    broken, notes = shown.err.splitlines()
    assert broken.startswith("left out: ") and "broken.png" in broken
    assert notes.startswith("left out: ") and "notes.txt" in notes
    assert shown.out.count("%") == 6 * 5 + 1 and "broken" not in shown.out
    assert (final["count"], final["unreadable"]) == (6, 2)
    written = [line.removeprefix("wrote ") for line in shown.out.splitlines() if line.startswith("wrote ")]
    assert len(written) == 4 and all((tmp_path / name).is_file() for name in written)
    with np.load(tmp_path / "found/out.npz") as saved:
        assert len(saved["features"]) == 6


def test_a_single_picture_has_no_neighbours(tmp_path, model_path, capsys):
    halves().save(tmp_path / "cat.png")
    final = ask(tmp_path / "cat.png", model_path, tmp_path / "out")
    (answer,) = final["answers"]
    assert answer["named"] == "cat" and "neighbours" not in answer and "mean_cosine" not in final
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("contact_sheet.png", "features.npz", "predictions.json")
    }
    assert "similar" not in capsys.readouterr().out


def test_the_tables_are_aligned(tmp_path, model_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    halves().save(folder / "a.png")
    halves(60, 80).save(folder / "a_rather_long_name.png")
    Image.new("RGB", (9, 9), "red").save(folder / "truck.png")
    final = ask(folder, model_path, tmp_path / "out", "--neighbours", "1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[4] == f"right about {final['correct']} of the 1 pictures that are named after a class"
    assert lines[5] == "(on 8 test pictures of its data set this network is right 12.5% of the time)"
    assert lines[6].startswith("(it knows 10 classes and always names one of them"), "two files name no class"
    assert lines[7].endswith(f"on average: {final['mean_cosine']:.2f})")
    for line, answer in zip(lines[8:11], final["answers"], strict=True):
        (found,) = answer["neighbours"]
        assert line == f"{answer['file']:22}  {found['cosine']:.2f} {found['file']}"


@pytest.mark.parametrize("name", BAD)
def test_a_single_file_that_is_no_picture(tmp_path, model_path, capsys, name):
    BAD[name](tmp_path / name)
    flags = "--image_path", tmp_path / name, "--model_path", model_path, "--out_dir", tmp_path / "out"
    said = complaint(capsys, *flags)
    assert name in said and ("holds no files" in said or not (tmp_path / name).is_dir())


def test_a_folder_without_pictures(tmp_path, model_path, capsys):
    out_dir, folder = tmp_path / "out", tmp_path / "pictures"
    folder.mkdir()
    flags = "--image_path", folder, "--model_path", model_path, "--out_dir", out_dir
    (folder / ".DS_Store").write_bytes(b"")
    assert "holds no files" in complaint(capsys, *flags)
    (folder / "a.txt").write_text("a")
    (folder / "b.png").write_text("b")
    assert "none of the 2 files" in complaint(capsys, *flags)
    assert not any(out_dir.iterdir())


def test_a_model_that_is_none(tmp_path, capsys):
    missing, garbage, other = (tmp_path / name for name in ("missing.pth", "garbage.pth", "other.pth"))
    garbage.write_text("no model")
    config = ModelConfig(width=0.1)
    model = build_classic(vars(config))
    round_to_half(model)
    save_model(other, model, config, {})
    assert "missing.pth: no such file" in complaint(capsys, "--out_dir", tmp_path, "--model_path", missing)
    assert "garbage.pth is damaged" in complaint(capsys, "--out_dir", tmp_path, "--model_path", garbage)
    assert "another model" in complaint(capsys, "--out_dir", tmp_path, "--model_path", other)


def test_features_that_cannot_be_written(tmp_path, model_path, capsys):
    halves().save(tmp_path / "x.png")
    for place in (tmp_path, tmp_path / "x.png" / "out.npz"):
        flags = "--image_path", tmp_path / "x.png", "--model_path", model_path, "--out_dir", tmp_path / "out"
        assert "cannot be written" in complaint(capsys, *flags, "--features", place)
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (80, 60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.png"]


# --- neighbours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_neighbours_are_those_of_the_full_table(monkeypatch, rows):
    monkeypatch.setattr(similarity, "ROWS", rows)
    features = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    table = torch.nn.functional.cosine_similarity(features[:, None], features[None], dim=2)
    alone = table - 9 * torch.eye(7)
    for count in (1, 3, 6, 50):
        cosines, others = similarity.nearest(features, count)
        expected = alone.topk(min(count, 6))
        assert torch.equal(others, expected.indices)
        torch.testing.assert_close(cosines, expected.values, rtol=0, atol=1e-14)
    assert similarity.mean_cosine(features) == pytest.approx((table.sum().item() - 7) / 42, abs=1e-14)


def test_only_the_direction_counts_and_nothing_divides_by_zero():
    features = torch.tensor([[1.0, 1.0], [3.0, 3.0], [0.0, 2.0], [0.0, 0.0]])
    cosines, others = similarity.nearest(features, 2)
    assert others[:2, 0].tolist() == [1, 0] and cosines[:2, 0].tolist() == pytest.approx([1, 1])
    assert cosines.max() <= 1 and cosines[3].tolist() == [0, 0]
    assert cosines[0, 1].item() == pytest.approx(0.5**0.5)


def test_batches_see_what_one_batch_sees(monkeypatch, model_path):
    model, _ = load_model(model_path, build, CPU)
    images = torch.randint(0, 256, (5, 3, 96, 96), dtype=torch.uint8)
    features, p = inference.look(model, images, CPU)
    monkeypatch.setattr(inference, "BATCH", 2)
    parts = inference.look(model, images, CPU)
    torch.testing.assert_close(parts, (features, p))
    torch.testing.assert_close(p.sum(dim=1), torch.ones(5))


# --- figures ----------------------------------------------------------------------------------------------------------


def drawn_images(figure):
    """The pixels of each picture in a figure, in the order of drawing."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.get_images()]


def test_each_picture_stands_beside_its_neighbours():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    answers = [{"file": f"{i}.png"} for i in range(4)]
    cosines, others = torch.tensor([[0.9, 0.5], [0.9, 0.25]]), torch.tensor([[1, 3], [0, 2]])
    figure = neighbour_sheet(images, answers, cosines, others)
    shown = drawn_images(figure)
    assert len(shown) == 6
    for pixels, index in zip(shown, [0, 1, 3, 1, 0, 2], strict=True):
        assert np.array_equal(pixels, images[index].permute(1, 2, 0))
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["0.png", "0.90 1.png", "0.50 3.png", "1.png", "0.90 0.png", "0.25 2.png"]


def test_the_sheets_show_no_more_than_asked_for(tmp_path, model_path):
    folder = fill(tmp_path / "pictures")
    final = ask(folder, model_path, tmp_path / "out", "--sheet_limit", "2", "--neighbours", "9")
    assert final["count"] == 6 and all(len(answer["neighbours"]) == 5 for answer in final["answers"])
    figure = contact_sheet(torch.zeros(6, 3, 96, 96, dtype=torch.uint8), final["answers"])
    assert len(drawn_images(figure)) == 6 and len(figure.axes) == 12
    with Image.open(tmp_path / "out/contact_sheet.png") as sheet:
        assert sheet.size == (2 * (192 + 32) - 32 + 16, 192 + 170 - 24 + 16)


def test_a_features_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "out.dat"  # any suffix will do
    answers = [{"file": "图 1.png", "answer": "cat"}, {"file": "b.jpg", "answer": "ship"}]
    inference.write_features(path, torch.ones(2, 3), answers)
    with np.load(path) as saved:  # without pickled objects
        assert saved["names"].tolist() == ["图 1.png", "b.jpg"] and saved["predictions"].tolist() == ["cat", "ship"]
    with pytest.raises(UserError, match="cannot be written"):
        inference.write_features(path / "deeper.npz", torch.ones(2, 3), answers)
    assert [p.name for p in tmp_path.iterdir()] == ["out.dat"]
