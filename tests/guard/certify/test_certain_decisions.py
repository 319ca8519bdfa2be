"""A decision that is certain is that of every input within the radius, for every task and operating point."""

import numpy as np
import pytest
from onnx import numpy_helper
from support.bounded_networks import TABLE, Network, inputs_within, table_spec, three_classes

from medward.guard.certify.bounds import Bounds
from medward.guard.certify.output_bounds import UNCERTAIN, OutputBounds, certain_decisions
from medward.guard.errors import MedwardError
from medward.guard.models.onnx_model import load_onnx
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression

RADII = (0.02, 0.05, 0.1, 0.2, 0.4)
FINDINGS = {"findings": ("x", "y", "z"), "thresholds": (0.5, 0.2, 0.9)}


def two(output, threshold=None, *, one_column=False):
    return Classification(classes=("no", "yes"), output=output, threshold=threshold, one_column=one_column)


def ends_in(operator=None, **attributes):
    return lambda net: net.add(operator, **attributes) if operator else net


TASKS = {
    "classes": (three_classes(), 3, ends_in()),
    "probabilities": (three_classes("probabilities"), 3, ends_in("Softmax", axis=1)),
    "two classes": (two("logits"), 2, ends_in()),
    "operating point of logits": (two("logits", 0.3), 2, ends_in()),
    "operating point of probabilities": (two("probabilities", 0.3), 2, ends_in("Softmax", axis=1)),
    "far operating point": (two("probabilities", 0.97), 2, ends_in("Softmax", axis=1)),
    "one logit": (two("logits", one_column=True), 1, ends_in()),
    "one logit at an operating point": (two("logits", 0.6, one_column=True), 1, ends_in()),
    "one probability": (two("probabilities", one_column=True), 1, ends_in("Sigmoid")),
    "one probability at an operating point": (two("probabilities", 0.2, one_column=True), 1, ends_in("Sigmoid")),
    "findings by logits": (Multilabel(output="logits", **FINDINGS), 3, ends_in()),
    "findings by probabilities": (Multilabel(output="probabilities", **FINDINGS), 3, ends_in("Sigmoid")),
    "number in cells": (Regression(tolerance=0.5, cut_points=(-0.3, 0.4)), 1, ends_in()),
    "number in tolerances": (Regression(tolerance=1.5), 1, ends_in()),
    "scores that were moved": (three_classes(), 3, ends_in("LeakyRelu", alpha=0.3)),
}


def subject(name, seed=0, scale=2.0):
    task, width, end = TASKS[name]
    net = Network(TABLE, seed).gemm(6, 16).add("Relu")
    net.add("Gemm", net.random(width, 16, scale=scale / 4), net.random(width, scale=0.1), transB=1)
    data, spec = end(net).data(), table_spec(task)
    return load_onnx(data, spec, {"scores": "scores"}), Bounds.of(data, spec, {"scores": "scores"})


def table_rows(n=200, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *TABLE)).astype(np.float32)


@pytest.mark.parametrize("name", TASKS)
def test_no_input_within_a_certified_radius_is_decided_otherwise(name):
    model, bounds = subject(name)
    spec, inputs = bounds.spec, table_rows()
    own = spec.decide(model.predict(inputs).scores)
    reached = bounds.certified_radius(inputs, RADII)
    assert 0 < (reached > 0).mean() <= 1
    assert (reached < max(RADII)).any()
    rng = np.random.default_rng(1)
    for radius in RADII:
        held = reached >= radius
        assert np.array_equal(bounds.certain_decisions(inputs, radius)[held], own[held])
        for _ in range(40):
            near = inputs_within(inputs, radius, spec, rng)
            assert np.array_equal(spec.decide(model.predict(near).scores)[held], own[held])


@pytest.mark.parametrize("name", TASKS)
def test_what_is_certain_is_what_the_model_decides_without_a_change(name):
    model, bounds = subject(name)
    inputs = table_rows()
    found, own = bounds.certain_decisions(inputs, 0.0), bounds.spec.decide(model.predict(inputs).scores)
    sure = found != UNCERTAIN
    assert sure.mean() > 0.95
    assert np.array_equal(found[sure], own[sure])


def test_bounds_that_say_too_much_are_caught():
    """The control: with bounds of a tenth of the radius some input within it is decided otherwise."""
    model, bounds = subject("classes")
    inputs = table_rows()
    held = bounds.certain_decisions(inputs, 0.04) != UNCERTAIN
    own, changed = bounds.spec.decide(model.predict(inputs).scores), 0
    rng = np.random.default_rng(1)
    for _ in range(40):
        near = inputs_within(inputs, 0.4, bounds.spec, rng)
        changed += int((bounds.spec.decide(model.predict(near).scores) != own)[held].sum())
    assert changed > 0


def test_each_finding_has_a_radius_of_its_own():
    model, bounds = subject("findings by logits")
    inputs = table_rows()
    each, whole = bounds.certified_finding_radius(inputs, RADII), bounds.certified_radius(inputs, RADII)
    assert each.shape == (len(inputs), 3)
    assert np.array_equal(each.min(axis=1), whole)
    assert (each.max(axis=1) > whole).any()
    rng, task = np.random.default_rng(1), bounds.spec.task
    own = task.found(model.predict(inputs).scores)
    for radius in RADII:
        near = inputs_within(inputs, radius, bounds.spec, rng)
        changed = task.found(model.predict(near).scores) != own
        assert not (changed & (each >= radius)).any()


def test_a_number_stays_within_its_interval():
    model, bounds = subject("number in cells")
    inputs, rng = table_rows(), np.random.default_rng(1)
    interval = bounds.number_interval(inputs, 0.1)
    assert interval.shape == (len(inputs), 2)
    for _ in range(50):
        found = model.predict(inputs_within(inputs, 0.1, bounds.spec, rng)).scores[:, 0]
        assert ((interval[:, 0] <= found) & (found <= interval[:, 1])).all()


def test_a_linear_model_s_radius_is_exact():
    """Two classes by one logit w x + b: the decision holds within |w x + b| / (sum of |w|), and no further."""
    net = Network(TABLE, 3)
    data = net.gemm(6, 1).data()
    bounds = Bounds.of(data, table_spec(two("logits", one_column=True)))
    inputs, weight, bias = table_rows(), *(np.float64(numpy_helper.to_array(each)) for each in net.weights)
    exact = np.abs(inputs @ weight.T + bias)[:, 0] / np.abs(weight).sum()
    for share, certain in ((0.999, True), (1.001, False)):
        for row, radius in zip(inputs[:40], exact[:40] * share, strict=True):
            assert (bounds.certain_decisions(row[None], radius)[0] != UNCERTAIN) == certain


def test_folding_the_last_layer_is_tighter():
    data = Network(TABLE, 0).gemm(6, 16).add("Relu").gemm(16, 3).data()
    bounds, inputs = Bounds.of(data, table_spec()), table_rows()
    folded = bounds.between(inputs, 0.2)
    apart = Bounds.of(data, table_spec(Multilabel(output="logits", **FINDINGS))).between(inputs, 0.2)
    assert folded.differences
    assert not apart.differences
    plain = OutputBounds(lower=apart.lower, upper=apart.upper)
    held = [certain_decisions(each, bounds.spec) != UNCERTAIN for each in (folded, plain)]
    assert held[0].mean() > held[1].mean() + 0.02
    assert not (held[1] & ~held[0]).any()


def test_many_classes_are_bounded_by_their_scores():
    classes = Classification(classes=tuple(f"c{k}" for k in range(40)), output="probabilities")
    data = Network(TABLE, 0).gemm(6, 16).add("Relu").gemm(16, 40).add("Softmax", axis=1).data()
    spec, inputs, rng = table_spec(classes), table_rows(), np.random.default_rng(1)
    model, bounds = load_onnx(data, spec, {"scores": "scores"}), Bounds.of(data, spec, {"scores": "scores"})
    found = bounds.certain_decisions(inputs, 0.01)
    assert not bounds.between(inputs, 0.01).differences
    assert 0.2 < (found != UNCERTAIN).mean() < 1
    for _ in range(40):
        near = spec.decide(model.predict(inputs_within(inputs, 0.01, spec, rng)).scores)
        assert ((near == found) | (found == UNCERTAIN)).all()


def test_one_column_may_have_no_axis_of_its_own():
    net = Network(TABLE, 3).gemm(6, 1)
    data = net.add("Squeeze", net.constant([1])).data()
    bounds = Bounds.of(data, table_spec(two("logits", one_column=True)), {"scores": "scores"})
    assert set(bounds.certain_decisions(table_rows(), 0.05).tolist()) == {UNCERTAIN, 0, 1}


def test_bounds_that_are_no_numbers_make_nothing_certain():
    for wrong in (np.nan, np.inf, -np.inf):
        ends = np.array([[0.5, 0.1, wrong], [1.0, 0.2, 0.1]], np.float32)
        bounds = OutputBounds(lower=ends, upper=ends)
        assert certain_decisions(bounds, table_spec()).tolist() == [UNCERTAIN, 0]


@pytest.mark.parametrize("name", TASKS)
def test_no_task_is_certain_of_what_is_no_number_or_has_no_end(name):
    task, width, _ = TASKS[name]
    for low, high in ((np.nan, np.nan), (-np.inf, np.inf), (-1e38, 1e38)):
        bounds = OutputBounds(lower=np.full((1, width), low, np.float32), upper=np.full((1, width), high, np.float32))
        assert certain_decisions(bounds, table_spec(task)).tolist() == [UNCERTAIN]


def test_ties_are_decided_as_the_task_decides_them():
    ends = np.array([[0.5, 0.5, 0.1], [0.1, 0.5, 0.5]], np.float32)
    assert certain_decisions(OutputBounds(lower=ends, upper=ends), table_spec()).tolist() == [0, 1]


def test_what_is_no_radius_is_refused():
    bounds = subject("classes")[1]
    for wrong in (-0.1, np.nan, np.inf, np.ones(5)):
        with pytest.raises(MedwardError, match="radius: must be one finite number"):
            bounds.certain_decisions(table_rows(), wrong)
    for radii in ((), (0.0, 0.1)):
        with pytest.raises(MedwardError, match="radii: needs one or more positive numbers"):
            bounds.certified_radius(table_rows(), radii)


def test_what_a_task_does_not_have_is_refused():
    bounds = subject("classes")[1]
    with pytest.raises(MedwardError, match="findings are a multilabel model's"):
        bounds.certified_finding_radius(table_rows(), RADII)
    with pytest.raises(MedwardError, match="numbers are a regression model's"):
        bounds.number_interval(table_rows(), 0.1)
    data = Network(TABLE).gemm(6, 3).data()
    with pytest.raises(MedwardError, match="nothing can be certified"):
        Bounds.of(data, table_spec(Opaque()))
    with pytest.raises(MedwardError, match="ends in Softmax"):
        Bounds.of(Network(TABLE).gemm(6, 3).add("Softmax", axis=1).data(), table_spec())
