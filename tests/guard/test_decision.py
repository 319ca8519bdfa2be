"""What a threshold is, what it decides, and scores moved to it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import at_threshold, decisions, kept_side, positive_odds, threshold_odds
from medward.guard.types import Outputs

SPEC = ModelSpec(
    name="triage",
    modality="tabular",
    shape=(2,),
    task=Classification(classes=("no effusion", "effusion"), output="probabilities"),
)
THRESHOLDS = st.floats(1e-6, 1 - 1e-6)
LOGITS = hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.just(2)), elements=st.floats(-100, 100, width=32))


@pytest.mark.parametrize(
    ("threshold", "classes", "said"),
    [
        (0.0, 2, "above 0 and below 1, got 0.0"),
        (1.0, 2, "above 0 and below 1, got 1.0"),
        (-0.1, 2, "got -0.1"),
        (float("nan"), 2, "got nan"),
        (float("inf"), 2, "got inf"),
        (True, 2, "got True"),
        ("0.02", 2, "got '0.02'"),
        (0.02, 3, "two classes, the second of them positive, got 3"),
    ],
)
def test_anything_but_an_operating_point_of_two_classes_is_refused_in_one_sentence(threshold, classes, said):
    with pytest.raises(MedwardError) as refusal:
        dataclasses.replace(
            SPEC, task=dataclasses.replace(SPEC.task, classes=tuple("abc"[:classes]), threshold=threshold)
        )
    assert str(refusal.value).startswith("threshold: ")
    assert said in str(refusal.value)
    assert "leave it out" in str(refusal.value)


@pytest.mark.parametrize("threshold", [0.02, np.float32(0.25), np.float64(0.5), 5e-324, math.nextafter(1.0, 0.0)])
def test_every_probability_between_is_taken_as_a_float(threshold):
    assert type(dataclasses.replace(SPEC, task=dataclasses.replace(SPEC.task, threshold=threshold)).threshold) is float


def test_the_rule_is_said_in_words():
    rule = dataclasses.replace(SPEC, task=dataclasses.replace(SPEC.task, threshold=0.02)).rule
    assert rule == "decides effusion when its probability is at least 0.02, else no effusion"
    assert SPEC.rule == "decides the class with the largest score"


@given(LOGITS)
def test_without_a_threshold_the_first_largest_class_is_decided_and_nothing_is_moved(scores):
    outputs = Outputs(scores)
    for spec in (SPEC, dataclasses.replace(SPEC, task=dataclasses.replace(SPEC.task, output="logits"))):
        assert (spec.decide(scores) == scores.argmax(axis=1)).all()
        assert spec.judged(outputs).scores is scores


@given(hnp.arrays(np.float64, 8, elements=st.floats(0, 1)), THRESHOLDS)
def test_probabilities_are_compared_with_the_threshold_itself(positive, threshold):
    positive = np.append(positive, threshold)
    spec = dataclasses.replace(SPEC, task=dataclasses.replace(SPEC.task, threshold=threshold))
    assert (spec.decide(np.stack([1 - positive, positive], axis=1)) == (positive >= threshold)).all()
    assert spec.decide(np.array([[1 - threshold, threshold]])) == 1


@given(LOGITS, THRESHOLDS)
def test_logits_decide_as_their_softmax_does(scores, threshold):
    likely = 1 / (1 + np.exp(np.clip(scores[:, 0].astype(float) - scores[:, 1], -700, 700)))
    clear = np.abs(likely - threshold) > 1e-9
    assert (decisions(scores, "logits", threshold)[clear] == (likely >= threshold)[clear]).all()


def test_logits_are_compared_in_double_precision():
    scores = np.array([[16777216.0, 16777218.0]], np.float32)  # whose difference float32 holds, and the border not
    assert decisions(scores, "logits", 1 / (1 + math.exp(-2 - 1e-9))) == 0
    assert decisions(scores, "logits", 1 / (1 + math.exp(-2 + 1e-9))) == 1


@given(LOGITS, THRESHOLDS, st.sampled_from(["logits", "probabilities"]))
def test_the_largest_of_moved_scores_is_the_decision(scores, threshold, output):
    if output == "probabilities":
        positive = np.append(np.abs(scores[:, 0]) / 100, threshold)
        scores = np.stack([1 - positive, positive], axis=1)
    moved = at_threshold(scores, output, threshold)
    assert (moved.argmax(axis=1) == decisions(scores, output, threshold)).all()
    assert np.isfinite(moved).all()
    spec = dataclasses.replace(SPEC, task=dataclasses.replace(SPEC.task, output=output, threshold=threshold))
    np.testing.assert_array_equal(spec.judged(Outputs(scores)).scores, moved)


def test_moved_scores_are_as_far_apart_as_the_log_odds_are_from_the_threshold():
    scores = np.array([[0.0, 1.0], [3.0, -2.0]])
    moved = at_threshold(scores, "logits", 0.02)
    np.testing.assert_allclose(moved[:, 1] - moved[:, 0], [1.0 - math.log(0.02 / 0.98), -5.0 - math.log(0.02 / 0.98)])
    assert np.isnan(at_threshold(np.full((1, 2), np.nan), "probabilities", 0.02)).all()


@given(THRESHOLDS)
def test_log_odds_of_a_threshold_are_those_of_a_probability_as_large(threshold):
    odds = positive_odds(np.array([[1 - threshold, threshold]]), "probabilities")
    assert odds[0] == pytest.approx(threshold_odds(threshold), abs=1e-9)


@given(hnp.arrays(np.float64, 8, elements=st.floats(0, 1)), hnp.arrays(bool, 8), THRESHOLDS)
def test_probabilities_move_no_farther_than_across_the_threshold(likely, positive, threshold):
    kept = kept_side(likely, positive, threshold)
    assert ((kept >= threshold) == positive).all()
    right = (likely >= threshold) == positive
    assert (kept[right] == likely[right]).all()
    assume(not right.all())
    assert np.abs(kept[~right] - threshold).max() <= np.spacing(threshold)


def test_single_precision_meets_a_threshold_as_libraries_compare_it():
    seven_tenths = np.array([[0.3, 0.7]], np.float32)
    assert (seven_tenths[:, 1] >= 0.7).all()
    assert decisions(seven_tenths, "probabilities", 0.7).tolist() == [1]
    assert decisions(seven_tenths.astype(np.float64), "probabilities", 0.7).tolist() == [0]
