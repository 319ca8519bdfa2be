"""Protecting models of every task: what the card says, what the guard answers, what an alarm leaves."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputClassifier
from starlette.testclient import TestClient

from medward.guard.bundle import folder as bundles
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import BudgetPolicy, Policy, ReleasePolicy
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.types import Level, Query
from medward.integrations.serving import load_app

rng = np.random.default_rng(0)
X = rng.normal(size=(700, 5)).astype(np.float32)
TABLE = (X[:, :3] + 0.5 * rng.normal(size=(700, 3)) > [0.5, 1.2, 0]).astype(int)
NUMBER = 100 + 10 * X[:, 0] + rng.normal(size=700)
CALM = Policy(on_error="withhold")
findings = MultiOutputClassifier(LogisticRegression()).fit(X[:300], TABLE[:300])
number = Ridge().fit(X[:300], NUMBER[:300])


def maps(batch):
    """(n, 2, 5), an output of no task that is known here."""
    return np.stack([batch, -batch], axis=1)


def ask(guard, rows, who=("clinic",)):
    return guard.answer(Query(principal=who, inputs=rows))


def test_findings_are_answered_as_sets_and_rounded_each_on_its_side(tmp_path):
    made = protect(
        findings, Split(X[300:], TABLE[300:]), CALM, tmp_path / "b", classes=("mass", "cyst", "scar"), sensitivity=0.9
    )
    task = made.card.spec.task
    assert isinstance(task, Multilabel)
    own = np.stack([each[:, 1] for each in findings.predict_proba(X[300:])], axis=1)
    reached = own >= task.thresholds
    assert all(reached[TABLE[300:, k] == 1, k].mean() >= 0.9 for k in range(3))
    again = bundles.load_bundle(tmp_path / "b")
    assert again.card.spec.task == task
    assert again.card.quality.findings["cyst"].sensitivity >= 0.9
    answer = ask(again.guard(ephemeral=True), X[300:340])
    shown = answer.labels >= 0
    assert shown.mean() > 0.8
    np.testing.assert_allclose(answer.scores[shown], own[:40][shown], atol=0.0101)
    table = np.array([[name in task.word(int(each)) for name in task.findings] for each in answer.labels[shown]])
    np.testing.assert_array_equal(table, reached[:40][shown])
    np.testing.assert_array_equal(answer.scores[shown] >= task.thresholds, table)


def test_a_budget_prices_findings_and_then_tells_the_set_alone(tmp_path):
    policy = Policy(on_error="withhold", budget=BudgetPolicy(total_bits=60, label_share=0.5, parents=0))
    made = protect(findings, Split(X[300:]), policy, tmp_path / "b", classes=("mass", "cyst", "scar"))
    guard, seen = made.guard(ephemeral=True), []
    for row in X[300:330]:
        seen.append(ask(guard, row[None]).levels[0])
    assert seen[0] is Level.ROUNDED
    assert Level.LABEL in seen
    assert seen[-1] is Level.WITHHELD
    # 3 findings at 2 decimals are 3 log2 101 bits, a set is 3
    assert seen.count(Level.ROUNDED) == 1
    assert 10 <= seen.count(Level.LABEL) <= 14


def test_a_number_is_answered_in_steps_within_its_cell(tmp_path):
    made = protect(
        number, Split(X[300:], NUMBER[300:]), CALM, tmp_path / "b", tolerance=4.0, cut_points=[90.0, 110.0], unit="mg"
    )
    assert made.card.quality.within > 0.5
    answer, own = ask(made.guard(ephemeral=True), X[300:340]), number.predict(X[300:340])
    shown = answer.labels >= 0
    assert np.abs(answer.scores[shown, 0] - own[shown]).max() <= 0.2001
    np.testing.assert_array_equal(answer.labels[shown], np.digitize(own, [90, 110])[shown])
    with TestClient(load_app(tmp_path / "b", state=tmp_path / "state", anonymous=True)) as client:
        said = client.post("/v1/predict", json={"inputs": X[300:302].tolist()}).json()
        assert set(said) == {"id", "model", "labels", "values", "unit", "levels"}
        assert said["unit"] == "mg"
        assert client.get("/openapi.json").json()["components"]["schemas"]["NumberPrediction"]


def test_an_opaque_output_leaves_whole_or_not_at_all(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="medward.data"):
        made = protect(maps, Split(X[300:]), CALM, tmp_path / "b", task="opaque")
    assert "answers leave at level full" in caplog.text
    assert made.policy.release.default is Level.FULL
    guard = made.guard(ephemeral=True)
    answer = ask(guard, X[300:310])
    assert set(answer.levels) <= {Level.FULL, Level.WITHHELD}
    whole = answer.labels >= 0
    np.testing.assert_array_equal(answer.scores[whole], maps(X[300:310])[whole])
    for row in rng.uniform(-9, 9, (80, 5)).astype(np.float32):
        ask(guard, row[None], ("thief",))
    last = ask(guard, X[300:301], ("thief",))
    assert last.levels == (Level.WITHHELD,)
    assert np.isnan(last.scores).all()
    with TestClient(load_app(tmp_path / "b", state=tmp_path / "s", anonymous=True, allow_code=True)) as client:
        said = client.post("/v1/predict", json={"inputs": X[300:301].tolist()}).json()
        assert said["shape"] == [2, 5]
        tensor = {"name": "inputs", "shape": [1, 5], "datatype": "FP32", "data": X[300].tolist()}
        asked = {"inputs": [tensor], "outputs": [{"name": "labels"}]}
        refused = client.post("/v2/models/model/infer", json=asked)
        assert refused.status_code == 422
        assert "this model gives scores, levels, and no labels" in refused.text


def test_a_level_that_the_task_lacks_is_refused_where_it_was_chosen(tmp_path):
    policy = Policy(on_error="withhold", release=ReleasePolicy(level="top"))
    with pytest.raises(
        MedwardError, match=r"release.level = .top.: a model that decides each finding .* full, rounded"
    ):
        protect(findings, Split(X[300:]), policy, tmp_path / "b", classes=("mass", "cyst", "scar"))


def test_a_tuned_threshold_is_the_operating_point(tmp_path):
    labels = (X[:, 0] + rng.normal(size=700) > 1.2).astype(int)
    tuned = TunedThresholdClassifierCV(LogisticRegression(), scoring="balanced_accuracy").fit(X[:300], labels[:300])
    made = protect(tuned, Split(X[300:]), CALM, tmp_path / "b")
    assert made.card.spec.threshold == pytest.approx(tuned.best_threshold_)
    assert made.card.model == "model.onnx"
    answer = ask(made.guard(ephemeral=True), X[300:360])
    shown = answer.labels >= 0
    np.testing.assert_array_equal(answer.labels[shown], tuned.predict(X[300:360])[shown])


def test_what_is_no_policy_or_query_is_one_sentence(tmp_path):
    with pytest.raises(MedwardError, match=r"^policy: expected a Policy, got dict; Policy\(on_error=\.\.\.\)"):
        protect(number, Split(X[300:]), {"on_error": "flag"}, tmp_path / "b", tolerance=4.0)
    guard = protect(number, Split(X[300:]), CALM, tmp_path / "b", tolerance=4.0).guard(ephemeral=True)
    with pytest.raises(MedwardError, match=r"^query: expected a Query, got ndarray"):
        guard.answer(X[:1])


def softmax(batch):
    """Three classes, one of which is right."""
    z = 4 * batch[:, :3]
    return z - z.max(axis=1, keepdims=True)


def test_one_hot_labels_make_no_findings_of_classes(tmp_path):
    labels = np.eye(3)[softmax(X[300:]).argmax(axis=1)]
    options = {"classes": list("abc"), "output": "logits"}
    with pytest.raises(MedwardError, match=r"exactly one 1, .*labels\.argmax\(axis=1\) for classes, or say --task mul"):
        protect(softmax, Split(X[300:], labels), CALM, tmp_path / "b", **options)
    made = protect(softmax, Split(X[300:], labels), CALM, tmp_path / "c", task="multilabel", **options)
    assert isinstance(made.card.spec.task, Multilabel)
    forest = LogisticRegression().fit(X[:300], labels_of(X[:300]))
    with pytest.raises(MedwardError, match="the model itself has the classes 0, 1, 2, one of which is right"):
        protect(forest, Split(X[300:], labels), CALM, tmp_path / "d")


def labels_of(rows):
    return softmax(rows).argmax(axis=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threshold": 0.2, "sensitivity": 0.9}, "both choose the operating point; give one"),
        ({"threshold": "0.2"}, "threshold: a number is needed, got '0.2'"),
        ({"sensitivity": "0.9"}, "sensitivity: must be above 0 and at most 1, got '0.9'"),
        ({"task": Multilabel}, "task: Multilabel is a class"),
    ],
)
def test_settings_that_contradict_or_are_no_numbers_are_one_sentence(tmp_path, options, says):
    with pytest.raises(MedwardError, match=says):
        protect(
            findings, Split(X[300:], TABLE[300:]), CALM, tmp_path / "b", classes=("mass", "cyst", "scar"), **options
        )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tolerance": "4"}, "tolerance: a number is needed, got '4'"),
        ({"tolerance": True}, "tolerance: a number is needed, got True"),
        ({"tolerance": 4.0, "cut_points": 90.0}, "cut_points: a list of numbers is needed, got 90.0"),
        ({"tolerance": 4.0, "cut_points": ["90"]}, "cut_points: a number is needed, got '90'"),
        ({"tolerance": 4.0, "output": "logits"}, "output: means nothing for a model of task regression"),
        ({"tolerance": 4.0, "classes": ["a", "b"]}, r"name the one quantity of a regression model, got \['a', 'b'\]"),
    ],
)
def test_settings_of_a_number_are_held_to_what_they_are(tmp_path, options, says):
    with pytest.raises(MedwardError, match=says):
        protect(number, Split(X[300:]), CALM, tmp_path / "b", **options)


def test_numbers_of_numpy_are_numbers(tmp_path):
    chosen = {"a": np.float32(0.25), "b": np.float64(0.5), "c": 0.5}
    made = protect(findings, Split(X[300:]), CALM, tmp_path / "b", classes=("a", "b", "c"), threshold=chosen)
    assert made.card.spec.task.thresholds == (0.25, 0.5, 0.5)


def test_a_policy_edited_to_a_level_that_the_task_lacks_is_not_sealed(tmp_path):
    made = protect(findings, Split(X[300:]), CALM, tmp_path / "b", classes=("mass", "cyst", "scar"))
    text = (made.path / "policy.toml").read_text()
    (made.path / "policy.toml").write_text(text.replace('level = "rounded"', 'level = "top"'))
    with pytest.raises(MedwardError, match="has the levels full, rounded, label, withheld"):
        bundles.seal_bundle(made.path)


def half(batch):
    """A probability that is 0.7 in single precision on every row."""
    return np.stack([np.full(len(batch), 0.3), np.full(len(batch), 0.7)], axis=1).astype(np.float32)


def test_in_full_a_client_reads_the_decision_in_double_precision_too(tmp_path):
    policy = Policy(on_error="withhold", release=ReleasePolicy(level="full"))
    made = protect(
        half, Split(X[300:]), policy, tmp_path / "b", classes=("no", "yes"), output="probabilities", threshold=0.7
    )
    answer = ask(made.guard(ephemeral=True), X[300:310])
    shown = answer.labels >= 0
    assert (answer.labels[shown] == 1).all()
    assert (answer.scores[shown, 1] >= 0.7).all()
    np.testing.assert_allclose(answer.scores[shown], half(X[300:310])[shown], atol=1e-7)


def test_single_findings_are_0_or_1(tmp_path):
    one = MultiOutputClassifier(LogisticRegression()).fit(X[:300], TABLE[:300, :1])
    with pytest.raises(MedwardError, match="holds 0 and 1, got 2"):
        protect(one, Split(X[300:], TABLE[300:, 0] + 1), CALM, tmp_path / "b", classes=("mass",), task="multilabel")
