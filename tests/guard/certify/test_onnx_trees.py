"""Trees are read from ONNX files as onnxruntime runs them: every kind of test, aggregate and gap."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.bounded_networks import table_spec

from medward.guard.certify import onnx_trees
from medward.guard.certify.bounds import Bounds
from medward.guard.certify.trees import TableBox
from medward.guard.errors import MedwardError
from medward.guard.models.onnx_model import load_onnx
from medward.guard.tasks.regression import Regression

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE", "BRANCH_EQ", "BRANCH_NEQ")
WIDTH, TREES, DEPTH = 3, 4, 3
NUMBER = table_spec(Regression(tolerance=0.01), (WIDTH,))


def forest(mode, aggregate="SUM", seed=0, **changes):
    """Complete trees whose thresholds are small whole numbers, so that rows may equal them."""
    rng, inner, total = np.random.default_rng(seed), 2**DEPTH - 1, 2 ** (DEPTH + 1) - 1
    nodes = [(tree, node) for tree in range(TREES) for node in range(total)]
    leaf = [node >= inner for _, node in nodes]
    modes = ["LEAF" if stop else (rng.choice(MODES) if mode == "mixed" else mode) for stop in leaf]
    leaves = [each for each, stop in zip(nodes, leaf, strict=True) if stop]
    attributes = {
        "nodes_treeids": [tree for tree, _ in nodes],
        "nodes_nodeids": [node for _, node in nodes],
        "nodes_featureids": [int(each) for each in rng.integers(WIDTH, size=len(nodes))],
        "nodes_values": [float(each) for each in rng.integers(-2, 3, size=len(nodes))],
        "nodes_modes": [str(each) for each in modes],
        "nodes_truenodeids": [0 if stop else 2 * node + 1 for (_, node), stop in zip(nodes, leaf, strict=True)],
        "nodes_falsenodeids": [0 if stop else 2 * node + 2 for (_, node), stop in zip(nodes, leaf, strict=True)],
        "nodes_missing_value_tracks_true": [int(each) for each in rng.integers(2, size=len(nodes))],
        "target_treeids": [tree for tree, _ in leaves],
        "target_nodeids": [node for _, node in leaves],
        "target_ids": [0] * len(leaves),
        "target_weights": [float(each) for each in rng.normal(size=len(leaves))],
        "n_targets": 1,
        "base_values": [0.25],
        "aggregate_function": aggregate,
        **changes,
    }
    graph = helper.make_graph(
        [helper.make_node("TreeEnsembleRegressor", ["x"], ["scores"], domain="ai.onnx.ml", **attributes)],
        "forest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 1])],
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString()


def grid_rows():
    """Whole numbers, the numbers next to them, and halves."""
    rng = np.random.default_rng(1)
    rows = rng.integers(-3, 4, size=(400, WIDTH)).astype(np.float32)
    beside = np.nextafter(rows, rng.choice(np.float32([-9, 9]), size=rows.shape))
    return np.where(rng.random(rows.shape) < 0.3, beside, rows + rng.choice(np.float32([0, 0.5]), size=rows.shape))


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE"])
@pytest.mark.parametrize("mode", [*MODES, "mixed"])
def test_every_test_of_a_node_is_read_as_it_runs(mode, aggregate):
    for seed in range(5):
        data, rows = forest(mode, aggregate, seed), grid_rows()
        bounds, answers = Bounds.of(data, NUMBER), load_onnx(data, NUMBER, {}).predict(rows).scores
        exact = bounds.between(rows, 0.0)
        assert (exact.lower <= answers).all()
        assert (answers <= exact.upper).all()
        assert (exact.upper - exact.lower).max() < 1e-3
        wide = bounds.between(rows, 0.5)
        rng = np.random.default_rng(2)
        for _ in range(30):
            steps = rng.choice(np.float32([-0.5, 0.0, 0.5, 0.25]), size=rows.shape)
            near = np.where(np.abs((rows + steps).astype(np.float64) - rows) <= 0.5, rows + steps, rows)
            found = load_onnx(data, NUMBER, {}).predict(near).scores
            assert ((wide.lower <= found) & (found <= wide.upper)).all()


@pytest.mark.parametrize("mode", [*MODES, "mixed"])
def test_missing_values_go_where_they_run_to(mode):
    data, rows = forest(mode), grid_rows()
    gaps = np.random.default_rng(3).random(rows.shape) < 0.3
    ensemble, model = Bounds.of(data, NUMBER).model.ensemble, load_onnx(data, NUMBER, {})
    answers = model.session.run(["scores"], {"x": np.where(gaps, np.float32(np.nan), rows)})[0]
    lower, upper = ensemble.between(TableBox(lower=rows, upper=rows, missing=gaps, present=~gaps))
    assert (lower <= answers).all()
    assert (answers <= upper).all()
    assert (upper - lower).max() < 1e-3


def test_files_that_are_read_otherwise_are_refused():
    for changes, words in (
        ({"aggregate_function": "MAX"}, "aggregate_function MAX"),
        ({"post_transform": "PROBIT"}, "post_transform PROBIT"),
    ):
        with pytest.raises(MedwardError, match=words):
            Bounds.of(forest("BRANCH_LEQ", **changes), NUMBER)


def test_a_swapped_branch_is_caught(monkeypatch):
    """The control: trees whose tests are read the other way round do not give what the file gives."""
    monkeypatch.setitem(onnx_trees._TESTS, "BRANCH_LEQ", (True, False, False))
    with pytest.raises(MedwardError, match="random rows are answered otherwise"):
        Bounds.of(forest("BRANCH_LEQ"), NUMBER)


def test_sums_that_become_outputs_in_an_unknown_way_are_refused():
    bounds = Bounds.of(forest("BRANCH_LEQ"), NUMBER)
    assert Bounds.load(bounds.data, NUMBER).model.link == bounds.model.link
    with pytest.raises(MedwardError, match="link 'cube' is not known; write them anew"):
        Bounds.load(replace(bounds.model, link="cube").data, NUMBER)
