"""Labels, quality and operating points of findings and numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score, roc_auc_score

from medward.guard.data.labels import read_labels, task_labels
from medward.guard.data.operating_point import at_sensitivity, sensitive_threshold
from medward.guard.data.task_quality import task_quality
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, packed_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport

NAMES = ("mass", "effusion", "nodule")
FINDINGS = Multilabel(findings=NAMES, output="logits", thresholds=(0.5, 0.2, 0.5))
REPORT = WrittenReport(findings=("effusion", "cardiomegaly", "pneumothorax"))
NUMBER = Regression(tolerance=5.0, cut_points=(100.0,), quantity="glucose", unit="mg/dl")
TWO = Classification(classes=("no", "yes"), output="probabilities")
rng = np.random.default_rng(0)


def spec(task):
    return ModelSpec(name="m", modality="tabular", shape=(3,), task=task)


def scored(n=400, skill=1.5):
    truth = rng.random((n, 3)) < [0.3, 0.1, 0.5]
    return truth, (skill * (2 * truth - 1) + rng.normal(size=(n, 3))).astype(np.float32)


def given_labels(column, task):
    numbers, names = read_labels(column, len(column), "labels")
    return task_labels(names, numbers, task)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_table_of_findings_becomes_sets_and_numbers_stay_numbers():
    table = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    for column in (table, table.astype(bool), table.astype(float)):
        assert given_labels(column, FINDINGS).tolist() == [0b101, 0, 0b010]
    assert given_labels(
        np.array([1, 0]), dataclasses.replace(FINDINGS, findings=("mass",), thresholds=(0.5,))
    ).tolist() == [1, 0]
    assert given_labels(np.array([80, 120]), NUMBER).tolist() == [80.0, 120.0]
    assert given_labels(np.array([80.5, 120]), NUMBER).dtype == np.float64
    assert given_labels(np.array([1, 0]), Opaque()) is None


def test_right_reports_and_tables_of_their_findings_are_the_same_labels():
    table = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    texts = ["Pleural effusion and a possible pneumothorax.", "No effusion.", "The heart is enlarged. No effusion."]
    for column in (table, np.array(texts), np.array(texts, object)):
        assert given_labels(column, REPORT).tolist() == [0b101, 0, 0b010]
    own = REPORT.decide(REPORT.read(texts, "m"))
    assert own[0] == 0b100_101
    assert REPORT.found_sets(np.append(own, -1)).tolist() == [0b101, 0, 0b010, -1]


@pytest.mark.parametrize(
    ("column", "task", "says"),
    [
        (np.array([1, 0]), FINDINGS, r"3 findings needs a table of 0 and 1 of shape \(n, 3\)"),
        (np.array(["mass", "mass"]), FINDINGS, "needs a table of 0 and 1"),
        (np.array([[1, 0], [0, 1]]), FINDINGS, "has 2 columns, the model has 3 findings: mass, effusion, nodule"),
        (np.array([[1, -1, 0], [0, 1, 0]]), FINDINGS, "holds 0 and 1, got -1; decide what uncertain"),
        (np.array([[1, np.nan, 0], [0, 1, 0]]), FINDINGS, "holds 0 and 1, got nan"),
        (np.array(["high", "low"]), NUMBER, "a regression model needs numbers, got names"),
        (np.array(["Pleural effusion.", "nan"]), REPORT, "'nan' is no report; leave such rows out"),
        (np.array(["Pleural effusion.", " "]), REPORT, "' ' is no report"),
        (
            np.array(["normal", "abnormal"]),
            REPORT,
            "no text of 2 says that any of effusion, cardiomegaly",
        ),
        (np.array([1, 0]), REPORT, r"3 findings needs a table of 0 and 1 of shape \(n, 3\)"),
        (np.array([0.5, 1.25, 0.75]), TWO, "got 0.5; a model that gives such numbers is a regression model"),
    ],
)
def test_labels_of_another_task_are_refused(column, task, says):
    with pytest.raises(MedwardError, match=says):
        given_labels(column, task)


# --- quality ----------------------------------------------------------------------------------------------------------


def test_findings_are_told_one_by_one():
    truth, scores = scored()
    found = task_quality(spec(FINDINGS), scores, packed_findings(truth))
    for column, name in enumerate(NAMES):
        assert found.findings[name].auc == pytest.approx(roc_auc_score(truth[:, column], scores[:, column]))
        decided = FINDINGS.found(scores)[:, column]
        assert found.findings[name].sensitivity == pytest.approx(decided[truth[:, column]].mean())
        assert found.findings[name].specificity == pytest.approx(1 - decided[~truth[:, column]].mean())
        assert name in str(found)
    assert found.doubt == ""


def test_findings_at_chance_are_told_and_exchanged_ones_refused():
    truth, scores = scored(skill=0.0)
    assert "about as chance does" in task_quality(spec(FINDINGS), scores, packed_findings(truth)).doubt
    truth, scores = scored()
    with pytest.raises(MedwardError, match=r"scores called 'mass' are lower .* AUC 0\.0"):
        task_quality(spec(FINDINGS), -scores, packed_findings(truth))


def test_reports_are_told_by_the_findings_that_they_name():
    truth = rng.random((200, 3)) < 0.4
    said = truth * rng.choice([1.0, 2.0], size=(200, 3))
    said[:20, 0] = 2 - said[:20, 0]
    found = task_quality(spec(REPORT), said.astype(np.float32), packed_findings(truth))
    named = said > 0
    for column, name in enumerate(REPORT.findings):
        has = truth[:, column]
        assert found.findings[name].sensitivity == pytest.approx(named[has, column].mean())
        assert found.findings[name].specificity == pytest.approx((~named)[~has, column].mean())
    assert found.findings["effusion"].sensitivity < 1 == found.findings["cardiomegaly"].sensitivity
    exchanged = packed_findings(~truth)
    with pytest.raises(MedwardError, match="classes: the scores called 'effusion' are lower where the labels say it"):
        task_quality(spec(REPORT), said.astype(np.float32), exchanged)


def test_a_finding_that_no_row_has_is_no_reason_to_refuse():
    truth, scores = scored()
    truth[:, 1] = False
    found = task_quality(spec(FINDINGS), scores, packed_findings(truth))
    assert found.findings["effusion"].auc is None
    assert "effusion none or all have it" in str(found)


def test_numbers_are_told_by_their_error():
    truth = rng.normal(100, 20, 300)
    values = (truth + rng.normal(0, 4, 300))[:, None]
    found = task_quality(spec(NUMBER), values, truth)
    assert found.error == pytest.approx(np.abs(values[:, 0] - truth).mean())
    assert found.explained == pytest.approx(r2_score(truth, values[:, 0]))
    near = (np.abs(values[:, 0] - truth) <= 5) & ((values[:, 0] >= 100) == (truth >= 100))
    assert found.within == pytest.approx(near.mean())
    assert found.doubt == ""
    assert "no better than the mean" in task_quality(spec(NUMBER), rng.permutation(values) * 3, truth).doubt


def test_opaque_outputs_have_no_quality():
    assert task_quality(spec(Opaque()), np.zeros((3, 2)), np.array([0, 1, 0])) is None


# --- operating points -------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.floats(0.01, 1.0), st.integers(0, 2**32), st.booleans())
def test_the_threshold_is_the_highest_that_reaches_the_sensitivity(positives, others, sensitivity, seed, coarse):
    draw = np.random.default_rng(seed)
    likely = draw.uniform(0.01, 1, positives + others)
    likely = np.round(likely, 1) + 0.01 if coarse else likely
    likely = np.clip(likely, 0, 1)
    truth = np.arange(len(likely)) < positives
    point = sensitive_threshold(likely, truth, sensitivity)
    assert 0 < point < 1
    assert (likely[truth] >= point).mean() >= sensitivity - 1e-9
    higher = np.unique(likely[likely >= point])
    if len(higher) > 1:  # the next one up would miss it
        assert (likely[truth] >= higher[1]).mean() < sensitivity


def test_every_finding_gets_its_own_operating_point():
    truth, scores = scored(1000)
    chosen = at_sensitivity(FINDINGS, scores, packed_findings(truth), 0.9)
    reached = chosen.found(scores)
    for column in range(3):
        assert reached[truth[:, column], column].mean() >= 0.9
        assert reached[truth[:, column], column].mean() < 0.93
    assert len(set(chosen.thresholds)) == 3


@pytest.mark.parametrize(
    ("task", "labels", "sensitivity", "says"),
    [
        (TWO, None, 0.9, "needs labels"),
        (TWO, np.array([0, 0]), 0.9, "no labelled row has the finding"),
        (TWO, np.array([0, 1]), 1.5, "above 0 and at most 1, got 1.5"),
        (Classification(classes=tuple("abc"), output="logits"), np.array([0, 1]), 0.9, "for two classes or several"),
        (NUMBER, np.array([0.0, 1.0]), 0.9, "for two classes or several findings, and this model gives glucose"),
    ],
)
def test_where_no_operating_point_can_be_chosen_that_is_one_sentence(task, labels, sensitivity, says):
    scores = np.array([[0.9, 0.1], [0.4, 0.6]])
    with pytest.raises(MedwardError, match=says):
        at_sensitivity(task, scores, labels, sensitivity)
