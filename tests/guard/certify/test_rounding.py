"""What the bounds assume of floating point: measured of the runtime, and against orders chosen to do the most harm."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support.bounded_networks import Network, table_spec

from medward.guard.certify.bounds import Bounds
from medward.guard.certify.rounding import (
    SIGMOID_ERROR,
    SOFTMAX_ERROR,
    moved_box,
    rounded_down,
    rounded_up,
    rounding_factor,
)
from medward.guard.models.onnx_model import open_session
from medward.guard.tasks.regression import Regression

NUMBER = Regression(tolerance=0.1)


def runtime(operator, values, **attributes):
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return open_session(model.SerializeToString(), "one").run(None, {"x": values})[0].astype(np.float64)


def true_values(operator, wide):
    return np.tanh(wide) if operator == "Tanh" else 1 / (1 + np.exp(-wide))


@pytest.mark.parametrize("operator", ["Sigmoid", "Tanh"])
def test_the_runtime_s_own_functions_err_by_less_than_a_quarter_of_what_is_allowed(operator):
    rng = np.random.default_rng(0)
    values = np.concatenate([np.linspace(-30, 30, 10**6), rng.normal(size=10**5) * 10.0 ** rng.integers(-6, 2, 10**5)])
    given = values.astype(np.float32).reshape(-1, 10)
    error = np.abs(runtime(operator, given) - true_values(operator, given.astype(np.float64)))
    assert 0 < error.max() < SIGMOID_ERROR / 4


def test_the_runtime_s_softmax_errs_by_less_than_half_of_what_is_allowed():
    rng = np.random.default_rng(0)
    for classes in (2, 5, 32):
        given = (rng.normal(size=(20_000, classes)) * rng.uniform(0.01, 16, size=(20_000, 1))).astype(np.float32)
        wide = given.astype(np.float64)
        likely = np.exp(wide - wide.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        error = np.abs(runtime("Softmax", given, axis=1) / likely - 1)[likely > 1e-37]
        assert 0 < error.max() < SOFTMAX_ERROR / 2


def test_rounding_goes_the_way_it_says():
    values = np.random.default_rng(0).normal(size=10_000) * 10.0 ** np.random.default_rng(1).integers(-20, 20, 10_000)
    up, down = rounded_up(values).astype(np.float64), rounded_down(values).astype(np.float64)
    assert (down <= values).all()
    assert (values <= up).all()
    assert (up > down).any()
    exact = np.float32([0.5, -2.0, 0.0])
    assert np.array_equal(rounded_up(exact), exact)
    assert np.array_equal(rounded_down(exact), exact)


def test_the_factor_grows_with_the_sum():
    assert 0 < rounding_factor(1) < rounding_factor(1000) < 4 * 1033 * 2.0**-24


def in_order(products, bias):
    total = np.float32(bias)
    for each in products:
        total = np.float32(total + each)
    return float(total)


def harmful_orders(products):
    """Orders of a sum in single precision: as it is, by size either way, all of one sign first, in turns."""
    by_size = np.argsort(np.abs(products))
    positive, negative = products[products >= 0], products[products < 0]
    yield products
    yield products[by_size]
    yield products[by_size[::-1]]
    yield np.concatenate([np.sort(positive)[::-1], np.sort(negative)])
    yield np.concatenate([np.sort(negative), np.sort(positive)[::-1]])
    yield np.concatenate([np.sort(positive), np.sort(negative)[::-1]])


@pytest.mark.parametrize("width", [3, 40, 600])
def test_no_order_of_summation_leaves_the_bounds(width):
    differ = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        row = (rng.normal(size=width) * 10.0 ** rng.integers(-2, 3, width)).astype(np.float32)
        net = Network((width,), seed)
        weight = (rng.normal(size=(width, 1)) * 10.0 ** rng.integers(-2, 3, (width, 1))).astype(np.float32)
        weight[-1] = np.float32(-float(weight[:-1, 0] @ row[:-1]) / float(row[-1]))  # so that nearly all of it cancels
        bias = rng.normal(size=1).astype(np.float32)
        data = net.add("Gemm", net.constant(weight), net.constant(bias)).data()
        found = Bounds.of(data, table_spec(NUMBER, (width,))).between(row[None], 0.0)
        products = row * weight[:, 0]
        totals = [in_order(order, bias[0]) for order in harmful_orders(products)]
        exact = math.fsum([*(float(a) * float(b) for a, b in zip(row, weight[:, 0], strict=True)), float(bias[0])])
        assert found.lower[0, 0] <= min([*totals, exact])
        assert max([*totals, exact]) <= found.upper[0, 0]
        differ += max(totals) > min(totals)
    assert differ > 10


def test_an_input_at_the_very_edge_of_the_ball_is_inside():
    """A radius is rounded up, and the nearest numbers to row -+ radius are bounds of all that lie between."""
    net = Network((1,))
    data = net.add("MatMul", net.constant(np.ones((1, 1)))).data()
    bounds = Bounds.of(data, table_spec(NUMBER, (1,)))
    rng = np.random.default_rng(0)
    for row in rng.normal(size=200).astype(np.float32):
        radius = float(rng.uniform(1e-3, 0.1))
        edge = np.float32(float(row) + radius)
        if abs(float(edge) - float(row)) > radius:
            edge = np.nextafter(edge, row)
        assert bounds.between(row[None, None], radius).upper[0, 0] >= edge


FINITE = {"allow_nan": False, "allow_infinity": False, "width": 32}


@settings(max_examples=400)
@given(
    x=st.floats(-1e6, 1e6, **FINITE),
    radius=st.floats(0, 1e3, **FINITE),
    share=st.sampled_from([-1.0, 1.0, 0.5, -0.999]),
)
def test_what_a_change_made_in_single_precision_came_from_is_within_the_box(x, radius, share):
    """The sum may lie half a unit in the last place beyond the radius, and where that is larger, a whole one."""
    given_row, around = np.float32([[x]]), np.float32([radius])
    moved = given_row + (around * np.float32(share)).astype(np.float32)
    lower, upper = moved_box(moved, around)
    assert (lower <= given_row).all()
    assert (given_row <= upper).all()
    reach = max(2 * radius, radius * (1 + 1e-5) + 2e-6 * abs(float(moved[0, 0])))
    assert (np.abs(np.concatenate([lower, upper]).astype(np.float64) - moved) <= 3 * reach).all(), "and not far beyond"
    assert [each.tolist() for each in moved_box(given_row, np.float32([0]))] == [given_row.tolist()] * 2


def test_a_graph_of_bounds_begins_with_that_box():
    """Without room for the addition's own rounding there are rows beside it: the control."""
    rng = np.random.default_rng(0)
    rows = np.abs(rng.normal(0, 100, size=(20000, 1))).astype(np.float32) + 1
    radius = np.float32(0.3)
    moved = (rows + radius).astype(np.float32)
    plain = (moved - radius).astype(np.float32)
    assert (plain > rows).any(), "the box by the radius alone misses some"
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    bounds = Bounds.of(model.SerializeToString(), table_spec(NUMBER, (1,)))
    found = bounds.number_interval(moved, float(radius))
    assert (found[:, :1] <= rows).all()
    assert (found[:, 1:] >= rows).all()
    assert (found[:, 1] - found[:, 0] < 2 * radius + 1e-3).all()
