"""The fidelity gate: each kind of model that would be served otherwise than it decides is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from medward.guard import models
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.models import fidelity, onnx_model
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs

SPEC = ModelSpec(name="m", modality="tabular", shape=(6,), task=Classification(classes=("a", "b"), output="logits"))
X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
TUMOURS, KIND = load_breast_cancer(return_X_y=True)


def wrapped(x, rows=X, **changes):
    task = {name: changes.pop(name) for name in ("classes", "output", "threshold") if name in changes}
    spec = replace(SPEC, shape=rows.shape[1:], task=replace(SPEC.task, **task), **changes)
    return models.wrap(x, spec=spec, sample=rows)


# --- the model's own predict ------------------------------------------------------------------------------------------


class Stubborn(LogisticRegression):
    """Decides by a rule of its own, whatever its probabilities say."""

    def predict(self, x):
        return np.where(self.predict_proba(x)[:, 1] >= 0.3, *self.classes_[::-1])


@pytest.mark.parametrize(
    "build",
    [
        lambda base: FixedThresholdClassifier(base, threshold=0.02),
        lambda base: TunedThresholdClassifierCV(base, scoring="recall"),
        lambda base: make_pipeline(StandardScaler(), Stubborn()),
        lambda base: make_pipeline(StandardScaler(), FixedThresholdClassifier(LogisticRegression(), threshold=0.9)),
    ],
)
def test_a_threshold_of_its_own_is_refused_with_how_many_decisions_it_moves(build):
    model = build(make_pipeline(StandardScaler(), LogisticRegression())).fit(TUMOURS[:300], KIND[:300])
    rows = TUMOURS[300:]
    moved = int((model.predict(rows[:256]) != model.predict_proba(rows[:256]).argmax(axis=1)).sum())
    assert moved
    with pytest.raises(MedwardError, match=f"{moved} of 256 decisions differ from the model's own predict"):
        wrapped(model, rows, output="probabilities")


def test_a_threshold_where_nothing_differs_is_no_reason_to_refuse():
    model = FixedThresholdClassifier(LogisticRegression(), threshold=0.5).fit(X, X[:, 0] > 0)
    wrapped(model, X, output="probabilities")


def test_float64_rows_that_float32_cannot_tell_apart_are_refused():
    table = 1e9 + np.arange(120.0)[:, None] * np.ones(6)  # neighbours are one and the same float32
    model = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=1).fit(table, np.arange(120) % 2)
    with pytest.raises(MedwardError, match=r"\d+ of 120 decisions differ from the model's own predict"):
        wrapped(model, table, output="probabilities")


def test_a_function_is_asked_with_the_rows_as_they_are():
    def last_digit(batch):
        odd = np.asarray(batch, np.float64)[:, 0] % 2
        return np.stack([3 - odd, 2 + odd], axis=1)

    table = 2.0**25 + np.arange(40.0)[:, None] * np.ones(6)
    with pytest.raises(MedwardError, match="decisions differ from the model's own predict"):
        wrapped(last_digit, table)
    wrapped(last_digit, np.arange(40.0)[:, None] * np.ones(6))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_ordinary_estimators_pass_on_float64_rows(seed):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(90, 4))
    labels = rng.integers(0, 3, 90)
    forest, boosted = RandomForestClassifier(3, random_state=0), HistGradientBoostingClassifier(max_iter=2)
    for estimator in (forest, boosted, LogisticRegression()):
        wrapped(estimator.fit(table, labels), table, classes=("a", "b", "c"), output="probabilities")


def test_the_rows_beyond_the_sample_count_too(tmp_path):
    """What `wrap` sees is the first 256 rows; `protect` compares all of them, on the file that is served."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(600, 4))
    model = LogisticRegression().fit(table[:, :4], table[:, 0] > 0)
    far = np.array([*table[:550], *(1e9 + np.arange(50.0)[:, None] * np.ones(4))])
    model.coef_, model.intercept_ = np.array([[1.0, 0, 0, 0]]), np.array([-(1e9 + 25.5)])
    with pytest.raises(MedwardError, match="of 600 decisions differ from the model's own predict"):
        protect(model, Split(far), Policy(on_error="flag"), tmp_path / "b")


def test_a_label_output_of_an_onnx_file_is_its_own_predict(tmp_path):
    def file(offset):
        weights = numpy_helper.from_array(np.eye(6, 2, dtype=np.float32), "w")
        shift = numpy_helper.from_array(np.array([0, offset], np.float32), "shift")
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w"], ["scores"]),
                helper.make_node("Add", ["scores", "shift"], ["moved"]),
                helper.make_node("ArgMax", ["moved"], ["label"], axis=1, keepdims=0),
            ],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
            [
                helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2]),
            ],
            [weights, shift],
        )
        path = tmp_path / f"{offset}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return str(path)

    wrapped(file(0))
    with pytest.raises(MedwardError, match="of 64 decisions differ from the model's own predict"):
        wrapped(file(3))


def test_svc_that_contradicts_its_probabilities_is_refused():
    rng = np.random.default_rng(3)
    table = rng.normal(size=(40, 2))
    labels = (table[:, 0] + rng.normal(size=40) > 0.5).astype(int)
    with pytest.warns(FutureWarning):
        model = SVC(probability=True, random_state=0).fit(table, labels)
    differ = int((model.predict(table) != model.predict_proba(table).argmax(axis=1)).sum())
    assert differ
    with pytest.raises(MedwardError, match=f"{differ} of 40 decisions differ"):
        wrapped(model, table, output="probabilities")


# --- the model's own names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("malignant", "benign"), ("MALIGNANT", "BENIGN "), ("malignant", "harmless")])
def test_the_models_own_names_cannot_be_put_in_another_order(names):
    model = LogisticRegression().fit(X, np.where(X[:, 0] > 0, "malignant", "benign"))
    with pytest.raises(MedwardError, match="calls its classes benign, malignant, in this order"):
        models.infer_spec(model, sample=X, classes=names)
    with pytest.raises(MedwardError, match="calls its classes benign, malignant, in this order"):
        wrapped(model, classes=names, output="probabilities")


@pytest.mark.parametrize(
    ("own", "names", "fine"),
    [
        ([0, 1], ("benign", "malignant"), True),
        ([0, 1], ("1", "2"), True),
        ([0, 1], ("1", "0"), False),
        (["benign", "malignant"], ("Benign", "Malignant"), True),
        (["benign", "malignant"], ("bénin", "malin"), True),
    ],
)
def test_new_names_are_welcome_and_the_same_in_another_order_are_not(own, names, fine):
    model = LogisticRegression().fit(X, np.array(own)[(X[:, 0] > 0).astype(int)])
    if fine:
        assert models.infer_spec(model, sample=X, classes=names).classes == names
    else:
        with pytest.raises(MedwardError, match="in another place"):
            models.infer_spec(model, sample=X, classes=names)


@pytest.mark.parametrize("names", [("effusion", "Effusion"), ("a", "a "), ("é", "é"), ("no finding", "no  finding")])
def test_class_names_that_print_alike_are_refused(names):
    with pytest.raises(MedwardError, match="tell apart"):
        models.infer_spec(nn.Linear(6, 2), sample=X, classes=names, output="logits")


# --- memory -----------------------------------------------------------------------------------------------------------


class InPlace(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(*layers, nn.Linear(6, 2))

    def forward(self, x):
        return self.net(x.sub_(0.5).div_(0.25))


def spoils(batch):
    scores = batch[:, :2].copy()
    batch[:] = 0
    return scores


@pytest.mark.parametrize(
    "build",
    [
        InPlace,
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 2)),
        lambda: spoils,
        lambda: make_pipeline(StandardScaler(copy=False), LogisticRegression()).fit(X.copy(), X[:, 0] > 0),
    ],
)
def test_a_model_that_works_in_place_is_served_as_it_decides_and_changes_nobodys_rows(build, tmp_path):
    rows = X.copy()
    x = build()
    model = wrapped(x, rows, output="probabilities" if hasattr(x, "predict_proba") else "logits")
    first = model.predict(rows).scores
    np.testing.assert_array_equal(rows, X)
    np.testing.assert_array_equal(model.predict(rows).scores, first)
    if isinstance(x, nn.Module):
        with torch.no_grad():
            np.testing.assert_allclose(x(torch.tensor(X)).numpy(), first, atol=1e-6)
    served = models.as_served(model)
    np.testing.assert_allclose(served.predict(rows).scores, first, atol=1e-5)
    np.testing.assert_array_equal(rows, X)


# --- one row, one answer ----------------------------------------------------------------------------------------------


class OverTheBatch(nn.Module):
    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.head = how, nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.how(x))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.calls = nn.Linear(6, 2), 0

    def forward(self, x):
        self.calls += 1
        return self.head(x) + self.calls


ONE_ROW = {
    "mean over the batch": lambda: OverTheBatch(lambda x: x - x.mean(0, keepdim=True)),
    "largest of the batch": lambda: OverTheBatch(lambda x: x / x.abs().max()),
    "attention over the batch": lambda: OverTheBatch(lambda x: torch.softmax(x @ x.T, 1) @ x),
    "position in the batch": lambda: OverTheBatch(lambda x: x * torch.arange(len(x))[:, None]),
    "neighbour in the batch": lambda: OverTheBatch(lambda x: x + x.roll(1, 0)),
    "batch norm without statistics": lambda: nn.Sequential(
        nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 2)
    ),
    "dropout that stays on": lambda: OverTheBatch(lambda x: nn.functional.dropout(x, 0.5, training=True)),
    "a count of its calls": Counting,
}


@pytest.mark.parametrize("name", ONE_ROW)
def test_an_answer_that_depends_on_more_than_its_row_is_refused(name):
    with pytest.raises(MedwardError, match=r"the same rows asked|each row must be answered"):
        wrapped(ONE_ROW[name]())


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(6), nn.LayerNorm(6), nn.Dropout(0.5), nn.Identity()])
def test_an_answer_of_its_row_alone_passes_though_the_module_was_left_in_training_mode(layer):
    wrapped(nn.Sequential(layer, nn.Linear(6, 2)).train())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 3))
def test_any_weight_on_the_other_rows_that_moves_a_score_is_noticed(seed, weight):
    rng = np.random.default_rng(seed)
    rows, mix = rng.normal(size=(30, 6)).astype(np.float32), rng.normal(size=(6, 2))
    with pytest.raises(MedwardError, match="the same rows asked"):
        wrapped(lambda batch: (batch - weight * batch.mean(axis=0)) @ mix, rows)


def test_the_gate_needs_the_same_number_of_rows():
    class Loses:
        spec = SPEC

        def predict(self, inputs):
            return Outputs(inputs[: max(1, len(inputs) - 1), :2])

        def own_decisions(self, rows):
            return None

    with pytest.raises(MedwardError, match="64 inputs gave 63 rows of scores"):
        fidelity.check_fidelity(Loses(), X, X)


def test_decisions_that_move_by_less_than_scores_usually_round_are_refused_too():
    def at_a_low_threshold(batch):
        p = 0.001 / (1 + np.exp(-batch[:, 0])) + 0.001 * (batch[:, 1].mean() > 0)
        return np.stack([1 - p, p], axis=1)

    def large_logits(batch):
        z = 500 + 0.4 * batch[:, 0] + 0.4 * np.sign(batch[:, 1].mean())
        return np.stack([np.full(len(batch), 500.0), z], axis=1)

    with pytest.raises(MedwardError, match="the same rows asked alone"):
        wrapped(at_a_low_threshold, output="probabilities", threshold=0.00125)
    with pytest.raises(MedwardError, match="the same rows asked alone"):
        wrapped(large_logits)


def test_a_function_that_takes_float32_only_is_accepted_on_float64_rows():
    net = nn.Linear(6, 2)

    def scores(batch):
        with torch.no_grad():
            return net(torch.from_numpy(batch)).numpy()

    wrapped(scores, X.astype(np.float64))


def test_a_file_that_breaks_ties_otherwise_than_its_module_is_refused(tmp_path):
    class Votes(nn.Module):
        """Twenty members with a vote each; ten to ten is a tie, which rounding breaks."""

        def __init__(self):
            super().__init__()
            self.cuts = nn.Parameter(torch.linspace(-1, 1, 20), requires_grad=False)

        def forward(self, x):
            p = ((x[:, :1] > self.cuts).float() * (1 / 20)).sum(1)
            p = p + 1e-7 * (1 if torch.compiler.is_compiling() else -1)
            return torch.stack([1 - p, p], 1)

    rows = np.random.default_rng(0).uniform(-1, 1, size=(400, 6)).astype(np.float32)
    said = {"classes": ["a", "b"], "output": "probabilities"}
    with pytest.raises(MedwardError, match=r"of \d+ decisions differ from the model's own, where its scores tie"):
        protect(Votes(), Split(rows), Policy(on_error="flag"), tmp_path / "b", **said)


def test_the_words_of_a_refusal_name_float32_where_that_is_the_cause():
    table = 1e9 + np.arange(120.0)[:, None] * np.ones(6)
    model = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=1).fit(table, np.arange(120) % 2)
    with pytest.raises(MedwardError, match=r"one and the same in float32.* leave out the steps that scale numbers"):
        wrapped(model, table, output="probabilities")
    strict = FixedThresholdClassifier(LogisticRegression(), threshold=0.9).fit(X, X[:, 0] > 0)
    with pytest.raises(MedwardError, match="a threshold of its own"):
        wrapped(strict, X.astype(np.float64), output="probabilities")


@pytest.mark.parametrize(
    ("labels", "classes", "scores", "places"),
    [
        ([1, 2, 2, 1], ("1", "2", "3", "4"), [1, 2, 2, 1], [1, 2, 2, 1]),  # grades, and places of classes
        ([1, 2, 2, 1], ("1", "2", "3", "4"), [0, 1, 1, 0], [0, 1, 1, 0]),  # grades as names
        ([0, 1, 1, 0], ("1", "0"), [0, 1, 1, 0], [1, 0, 0, 1]),  # names in another order are never read as places
        ([7, 9, 9, 7], ("a", "b"), [0, 1, 1, 1], [0, 1, 1, -1]),  # another vocabulary
    ],
)
def test_labels_of_a_file_are_read_as_what_they_stand_for(labels, classes, scores, places):
    spec = ModelSpec(name="m", modality="tabular", shape=(2,), task=Classification(classes=classes, output="logits"))
    found = onnx_model.class_indices(np.array(labels), np.eye(len(classes))[scores], spec)
    assert found.tolist() == places
