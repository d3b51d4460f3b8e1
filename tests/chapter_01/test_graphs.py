"""Chapter 1's worked graphs agree by hand, by engine and by PyTorch, and their pictures come out on any machine.
第 1 章的示例计算图：手算、自制引擎与 PyTorch 三者一致，并且在任何机器上都能画出来。
"""

import json
import shutil
from itertools import combinations, pairwise

import numpy as np
import pytest

from chapter_01_tensor_autograd import autograd, graph_visualization
from chapter_01_tensor_autograd.graph_visualization import engine_graph, torch_graph
from chapter_01_tensor_autograd.graphs.graph_drawing import Arrow, Box, Graph, draw_graph, to_graphviz
from chapter_01_tensor_autograd.graphs.graph_layout import layered
from chapter_01_tensor_autograd.graphs.worked_graphs import (
    ENGINE,
    PYTORCH,
    at_random,
    differentiate,
    linear,
    network,
    scalar,
)

import matplotlib.image

GRAPHS = {"scalar": scalar(), "linear": linear(), "network": network()}
GRAPHS |= {f"random {name}": graph for name, graph in at_random(np.random.default_rng(3)).items()}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("library", [ENGINE, PYTORCH], ids=["engine", "torch"])
def test_by_hand_equals_both_libraries(name, library):
    found = differentiate(GRAPHS[name], library)
    for key, value in GRAPHS[name].by_hand.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-12, atol=1e-14)


def test_every_gradient_is_derived_by_hand():
    for graph in GRAPHS.values():
        assert {f"d{name}" for name in graph.inputs} <= graph.by_hand.keys()


def test_the_lesson_fits_a_terminal_and_its_differences_are_recorded(tmp_path, capsys):
    autograd.main(["--out_dir", str(tmp_path)])
    printed = capsys.readouterr().out.replace(str(tmp_path), "runs")
    assert "= 2 + 1 * 0.5 = 2.5" in printed and "dW4 = h3^T dz4 = [ 0.3968 -0.3968]" in printed
    assert "in the order f, s, p, y, x:" in printed and "H v = [-1.866]   engine: [-1.866]" in printed
    assert max(map(len, printed.splitlines())) <= 100
    final = json.loads((tmp_path / "autograd.json").read_text(encoding="utf-8"))["final"]
    differences = [value for name, value in final.items() if name.endswith("_difference")]
    assert len(differences) == 8 and final["largest_difference"] == max(differences) < 1e-13
    assert final["central_differences_apart"] < 1e-7


@pytest.mark.parametrize("name", ["scalar", "network"])
def test_both_engines_record_the_same_graph(name):
    ours, theirs = engine_graph(GRAPHS[name]), torch_graph(GRAPHS[name])
    own_steps = [key for key, box in theirs.boxes.items() if key not in ours.boxes]
    assert [theirs.boxes[key].title for key in own_steps] == ["LogSoftmaxBackward0"] * (name == "network")
    for key, box in ours.boxes.items():
        other = theirs.boxes[key]
        assert box.kind == other.kind
        np.testing.assert_allclose(box.value, other.value, rtol=1e-12)
        np.testing.assert_allclose(box.gradient, other.gradient, rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(box.gradient, differentiate(GRAPHS[name], ENGINE)[f"d{key}"])
        assert box.keeps == other.keeps or box.kind == "loss"
    assert len(theirs.arrows) == len(ours.arrows) + len(own_steps)
    shared = {(a.start, a.end, a.rule) for a in ours.arrows if a.end != "L"}
    assert shared <= {(a.start, a.end, a.rule) for a in theirs.arrows}
    kinds = [box.kind for box in ours.boxes.values()]
    assert (kinds.count("input"), kinds.count("parameter")) == {"scalar": (1, 1), "network": (1, 8)}[name]


def test_a_box_says_what_is_kept_for_the_backward_pass():
    keeps = {name: box.keeps for name, box in engine_graph(network()).boxes.items()}
    assert keeps | {"h1 W2": "h1, W2", "z2": "", "h2": "h2", "h3": "h3", "L": "z4", "W2": ""} == keeps


# ---- the layout -----------------------------------------------------------------------------------------------------


def random_graph(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 15))
    sizes = {f"box {i}": tuple(rng.uniform(25, 120, 2)) for i in range(count)}
    fan_in = {b: rng.choice(b, size=rng.integers(0, min(b, 4) + 1), replace=False) for b in range(1, count)}
    return sizes, [(f"box {a}", f"box {b}") for b, sources in fan_in.items() for a in sources]


@pytest.mark.parametrize("seed", range(25))
def test_boxes_stay_apart_and_arrows_run_down_around_them(seed):
    sizes, edges = random_graph(seed)
    layout = layered(sizes, edges)
    corners = np.array([[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for (x, y), (w, h) in rectangles(layout, sizes)])
    for a, b in combinations(corners, 2):
        assert (a[2:] <= b[:2] + 1e-9).any() or (b[2:] <= a[:2] + 1e-9).any()
    assert corners.min() >= -1e-9 and (corners[:, 2:] <= np.array([layout.width, layout.height]) + 1e-9).all()

    inside = corners + np.array([1, 1, -1, -1]) * 1e-6
    for (a, b), route in zip(edges, layout.routes, strict=True):
        assert layout.rows[a] < layout.rows[b]
        (x0, y0), (x1, y1) = layout.centres[a], layout.centres[b]
        assert abs(route[0][0] - x0) < sizes[a][0] / 2 and route[0][1] == y0 + sizes[a][1] / 2
        assert abs(route[-1][0] - x1) < sizes[b][0] / 2 and route[-1][1] == y1 - sizes[b][1] / 2
        for k, (start, end) in enumerate(pairwise(np.array(route))):
            assert end[1] >= start[1] - 1e-9 and (k % 2 or end[0] == start[0])
            t = np.linspace(0, 1, 50)[:, None]  # the curve that is drawn: upright at both of its ends
            points = start + (end - start) * np.hstack([3 * t**2 - 2 * t**3, 1.5 * t - 1.5 * t**2 + t**3])
            assert not ((points[:, None] > inside[:, :2]) & (points[:, None] < inside[:, 2:])).all(-1).any()


def rectangles(layout, sizes):
    return [(layout.centres[name], size) for name, size in sizes.items()]


def test_the_longest_way_is_a_straight_line():
    for graph in (engine_graph(network()), torch_graph(network())):
        layout = layered(dict.fromkeys(graph.boxes, (80, 30)), [(a.start, a.end) for a in graph.arrows])
        trunk = [name for name, box in graph.boxes.items() if box.kind != "parameter"]
        assert len({layout.centres[name][0] for name in trunk}) == 1


# ---- the pictures ---------------------------------------------------------------------------------------------------


def test_the_source_names_every_box_and_arrow_and_every_number():
    for graph in (engine_graph(network()), torch_graph(network())):
        source = to_graphviz(graph).source
        assert source.count(" -> ") == len(graph.arrows)
        assert all(f"<B>{box.title}</B>" in source for box in graph.boxes.values())
        shown = sum(a.size for box in graph.boxes.values() for a in (box.value, box.gradient) if a is not None)
        assert source.count('WIDTH="34"') == shown
    assert "[z1 &gt; 0]" not in source and "g · [z1 > 0]" in source  # a plain label, unlike the boxes, is not HTML


def test_a_box_without_numbers_can_be_drawn():
    graph = Graph("bare", {"a": Box("input", "a"), "b<": Box("loss", "b<")}, [Arrow("a", "b<")])
    assert "b&lt;" in to_graphviz(graph).source
    assert draw_graph(graph).get_size_inches().min() > 0


@pytest.mark.parametrize("dot", [False, True])
def test_a_missing_dot_changes_only_the_renderer(dot, tmp_path, monkeypatch):
    if dot and shutil.which("dot") is None:
        pytest.skip("Graphviz's dot is not installed")
    if not dot:
        monkeypatch.setattr(shutil, "which", lambda name: None)
    graph_visualization.main(["--out_dir", str(tmp_path)])
    assert {p.name for p in tmp_path.iterdir()} == {
        f"graph_{n}.{k}" for n in ("engine", "torch") for k in ("png", "gv")
    }
    for name in ("engine", "torch"):
        picture = matplotlib.image.imread(tmp_path / f"graph_{name}.png")
        assert min(picture.shape[:2]) > 500 and picture[..., :3].std() > 0.1
