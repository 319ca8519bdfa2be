from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import nn

from medward.guard import models
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

SPEC = ModelSpec(name="m", modality="tabular", shape=(3,), task=Classification(classes=("a", "b"), output="logits"))
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


def test_importing_loads_no_model_library():
    libraries = {"torch", "sklearn", "onnxruntime", "onnx", "transformers"}
    code = f"import sys, guard.models; print(sorted({libraries} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("x", "claim"),
    [
        (nn.Linear(3, 2), "probabilities"),
        (nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=1)), "logits"),
        (LogisticRegression().fit(X, Y), "logits"),
        (lambda batch: batch[:, :2], "probabilities"),
        (lambda batch: np.full((len(batch), 2), 0.5), "logits"),
    ],
)
def test_a_wrong_claim_is_refused_and_the_right_one_is_not(x, claim):
    other = "logits" if claim == "probabilities" else "probabilities"
    assert models.wrap(x, spec=replace(SPEC, task=replace(SPEC.task, output=other)), sample=X).spec.output == other
    with pytest.raises(MedwardError, match=f"spec claims {claim}"):
        models.wrap(x, spec=replace(SPEC, task=replace(SPEC.task, output=claim)), sample=X)


def test_the_number_of_classes_must_fit():
    with pytest.raises(MedwardError, match=r"\(n, 3\), got \(40, 2\)"):
        models.wrap(nn.Linear(3, 2), spec=replace(SPEC, task=replace(SPEC.task, classes=("a", "b", "c"))), sample=X)


def test_a_model_that_loses_rows_is_refused():
    with pytest.raises(MedwardError, match="40 inputs gave 39 rows"):
        models.wrap(lambda batch: batch[1:, :2], spec=SPEC, sample=X)


def test_the_sample_must_fit_the_spec():
    with pytest.raises(MedwardError, match="expected shape"):
        models.wrap(nn.Linear(3, 2), spec=SPEC, sample=X[:, :2])


def test_a_failing_model_is_one_sentence():
    with pytest.raises(MedwardError, match="m: the model fails on the sample: RuntimeError"):
        models.wrap(nn.Linear(5, 2), spec=SPEC, sample=X)


@pytest.mark.parametrize("x", [3, None, "model.pt", "model.pkl", object()])
def test_what_cannot_be_wrapped_is_named(x):
    with pytest.raises(MedwardError, match=r"no torch module|expected a path"):
        models.wrap(x, spec=SPEC, sample=X)


def test_a_classifier_without_probabilities_is_refused():
    with pytest.raises(MedwardError, match="LinearSVC has no predict_proba; wrap it in CalibratedClassifierCV"):
        models.wrap(
            LinearSVC().fit(X, Y), spec=replace(SPEC, task=replace(SPEC.task, output="probabilities")), sample=X
        )


def test_infer_scikit_learn_needs_nothing():
    spec = models.infer_spec(LogisticRegression().fit(X, np.where(Y, "sick", "well")), sample=X, name="n")
    assert spec == ModelSpec(
        name="n", modality="tabular", shape=(3,), task=Classification(classes=("sick", "well"), output="probabilities")
    )


def test_infer_never_guesses_logits_or_probabilities():
    with pytest.raises(MedwardError, match="say what its scores are"):
        models.infer_spec(nn.Linear(3, 2), sample=X, classes=("a", "b"))
    with pytest.raises(MedwardError, match="name the classes in score order"):
        models.infer_spec(nn.Linear(3, 2), sample=X, output="logits")
    spec = models.infer_spec(nn.Linear(3, 2), sample=X, output="logits", classes=["a", "b"], low=-9, high=9)
    assert spec == replace(SPEC, name="model", low=-9, high=9)


def test_a_bare_string_of_class_names_is_refused():
    with pytest.raises(MedwardError, match="classes"):
        models.infer_spec(nn.Linear(3, 2), sample=X, output="logits", classes="ab")


def test_infer_images_by_their_axes():
    images = np.zeros((2, 1, 4, 4), np.float32)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    assert models.infer_spec(net, sample=images, output="logits", classes=["a", "b"]).modality == "image"
