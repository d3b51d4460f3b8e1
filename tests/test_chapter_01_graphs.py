"""Chapter 1's worked graphs agree by hand, by engine and by PyTorch, and their pictures come out on any machine.
第 1 章的示例计算图：手算、自制引擎与 PyTorch 三者一致，并且在任何机器上都能画出来。
"""

import json
import shutil

import matplotlib.image
import numpy as np
import pytest

from chapter_01_tensor_autograd import autograd, graph_visualization
from chapter_01_tensor_autograd.graph_visualization import Vertex, engine_graph, layout, to_dot, torch_graph
from chapter_01_tensor_autograd.worked_graphs import ENGINE, PYTORCH, at_random, differentiate, linear, network, scalar

GRAPHS = {"scalar": scalar(), "linear": linear(), "network": network()}
GRAPHS |= {f"random {name}": graph for name, graph in at_random(np.random.default_rng(3)).items()}
DIAMOND = {
    0: Vertex("input", ["x"]),
    1: Vertex("parameter", ["w"]),
    2: Vertex("operation", ["a"], [0, 1]),
    3: Vertex("operation", ["b"], [0]),
    4: Vertex("operation", ["c"], [2]),
    5: Vertex("loss", ["d"], [3, 4, 1]),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("library", [ENGINE, PYTORCH], ids=["engine", "torch"])
def test_by_hand_equals_both_libraries(name, library):
    found = differentiate(GRAPHS[name], library)
    for key, value in GRAPHS[name].by_hand.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-12, atol=1e-14)


def test_every_gradient_is_derived_by_hand():
    for graph in GRAPHS.values():
        assert {f"d{name}" for name in graph.inputs} <= graph.by_hand.keys()


def test_the_script_shows_its_work_and_writes_its_differences(tmp_path, capsys):
    autograd.main(["--out_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "dx = 2 + 0.5 = 2.5" in printed and "dW4 = h3^T dz4" in printed
    final = json.loads((tmp_path / "autograd.json").read_text(encoding="utf-8"))["final"]
    assert final["largest_difference"] == max(final.values()) < 1e-14


def test_both_engines_record_the_same_graph():
    ours, theirs = engine_graph(), torch_graph()
    for kind, count in {"input": 1, "parameter": 8, "loss": 1}.items():
        assert [v.kind for v in ours.values()].count(kind) == [v.kind for v in theirs.values()].count(kind) == count
    values = [sorted(v.lines[1] for v in graph.values() if len(v.lines) > 1) for graph in (ours, theirs)]
    assert values[0] == values[1]


@pytest.mark.parametrize("graph", [engine_graph(), torch_graph(), DIAMOND], ids=["engine", "torch", "diamond"])
def test_the_layout_keeps_boxes_apart_and_arrows_downwards(graph):
    places = layout(graph)
    assert len(set(places.values())) == len(graph)
    assert all(places[source][1] < places[key][1] for key, vertex in graph.items() for source in vertex.inputs)


def test_the_source_names_every_node_and_edge():
    source = to_dot(DIAMOND).source
    assert source.count("->") == sum(len(v.inputs) for v in DIAMOND.values())
    assert all(f"label={vertex.lines[0]}" in source for vertex in DIAMOND.values())


@pytest.mark.parametrize("dot", [False, True])
def test_a_missing_dot_changes_only_the_renderer(dot, tmp_path, monkeypatch):
    if dot and shutil.which("dot") is None:
        pytest.skip("Graphviz's dot is not installed")
    if not dot:
        monkeypatch.setattr(shutil, "which", lambda name: None)
    graph_visualization.main(["--out_dir", str(tmp_path)])
    assert {p.name for p in tmp_path.iterdir()} == {
        f"graph_{n}.{kind}" for n in ("engine", "torch") for kind in ("png", "gv")
    }
    assert matplotlib.image.imread(tmp_path / "graph_engine.png").std() > 0.05  # something is drawn
