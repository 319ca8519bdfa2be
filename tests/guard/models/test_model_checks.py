from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medward.guard.errors import MedwardError
from medward.guard.models import checks
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs

LOGITS = ModelSpec(
    name="m", modality="tabular", shape=(2,), task=Classification(classes=("a", "b", "c"), output="logits")
)
PROBABILITIES = replace(LOGITS, task=replace(LOGITS.task, output="probabilities"))
matrices = hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-30, 30))


def softmax(s):
    e = np.exp(s - s.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@given(matrices)
def test_softmax_is_probabilities_and_never_logits(s):
    checks.check_scores(softmax(s), PROBABILITIES)
    with pytest.raises(MedwardError, match="claims logits"):
        checks.check_scores(softmax(s), LOGITS)


@given(matrices)
def test_the_same_scores_are_never_accepted_as_both(s):
    refused = 0
    for spec in (LOGITS, PROBABILITIES):
        try:
            checks.check_scores(s, spec)
        except MedwardError:
            refused += 1
    assert refused == 1


@given(matrices.filter(lambda s: np.abs(s).max() > 1.01))
def test_values_above_one_are_not_probabilities(s):
    with pytest.raises(MedwardError, match="claims probabilities"):
        checks.check_scores(s, PROBABILITIES)


def test_a_sigmoid_per_class_is_not_a_distribution():
    with pytest.raises(MedwardError, match=r"a row sums to 1\.5"):
        checks.check_scores(np.full((2, 3), 0.5), PROBABILITIES)


def test_one_odd_row_is_enough_on_every_later_call():
    rows = np.full((4, 3), 1 / 3)
    checks.checked_outputs(rows, None, PROBABILITIES)
    rows[2, 0] = 0.5
    with pytest.raises(MedwardError, match="sums to"):
        checks.checked_outputs(rows, None, PROBABILITIES)
    rows[2, 0] = np.nan
    with pytest.raises(MedwardError):
        checks.checked_outputs(rows, None, PROBABILITIES)


@pytest.mark.parametrize("scores", [np.zeros((4, 2)), np.zeros((1, 4, 3)), None])
def test_wrong_shapes_are_named(scores):
    with pytest.raises(MedwardError, match=r"expected .*\(n, 3\)"):
        checks.check_scores(scores, LOGITS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_on_the_sample_are_finite(bad):
    with pytest.raises(MedwardError, match="finite"):
        checks.check_scores(np.full((2, 3), bad), LOGITS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (1, 2, 3)}, "shape of tabular"),
        ({"modality": "image"}, "shape of image"),
        ({"classes": ("a",)}, "two or more"),
        ({"classes": ("a", "a", "b")}, "tell apart"),
        ({"low": 1.0, "high": 1.0}, "low must be below high"),
        ({"low": float("-inf")}, "finite"),
    ],
)
def test_a_contradictory_spec_is_refused(change, message):
    checks.check_spec(LOGITS)
    rest = {name: value for name, value in change.items() if name != "classes"}
    spec = replace(LOGITS, task=replace(LOGITS.task, classes=change.get("classes", LOGITS.classes)), **rest)
    with pytest.raises(MedwardError, match=message):
        checks.check_spec(spec)


def test_agreement_states_the_measured_difference():
    a = Outputs(np.zeros((2, 3)), np.ones((2, 4)))
    checks.check_agreement(a, Outputs(a.scores + 9e-6, a.features), "f")
    with pytest.raises(MedwardError, match=r"f: scores differ from the model's own by 0\.002"):
        checks.check_agreement(a, Outputs(a.scores + 2e-3, a.features), "f")
    with pytest.raises(MedwardError, match="features differ"):
        checks.check_agreement(a, Outputs(a.scores, a.features + 1e-3), "f")
    with pytest.raises(MedwardError, match="nan"):
        checks.check_agreement(a, Outputs(a.scores * np.nan, a.features), "f")


@given(st.integers(1, 20), st.integers(1, 8), st.booleans())
def test_in_batches_changes_nothing(n, size, pad):
    rows = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    sizes = []

    def forward(batch):
        sizes.append(len(batch))
        return [batch + 1, batch[:, :1]]

    first, second = checks.in_batches(forward, rows, size, pad=pad)
    np.testing.assert_array_equal(first, rows + 1)
    np.testing.assert_array_equal(second, rows[:, :1])
    assert set(sizes) == {size} if pad else max(sizes) <= size
