from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from medward.guard import models
from medward.guard.errors import MedwardError
from medward.guard.models import sklearn_model, skops_file
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
SPEC = ModelSpec(
    name="m", modality="tabular", shape=(3,), task=Classification(classes=("a", "b"), output="probabilities")
)


class Planted:
    """Runs a command wherever it is built, if anyone builds it."""

    def __reduce__(self):
        return os.system, ("touch planted",)


class Own(ClassifierMixin, BaseEstimator):
    """A user's classifier: skl2onnx has no converter, skops must not trust it."""

    def fit(self, x, y):
        self.classes_, self.n_features_in_ = np.unique(y), x.shape[1]
        return self

    def predict_proba(self, x):
        p = 1 / (1 + np.exp(-x[:, 0]))
        return np.stack([1 - p, p], axis=1)


def test_hist_gradient_boosting_goes_to_skops_and_says_why(tmp_path):
    model = models.wrap(HistGradientBoostingClassifier(max_iter=2).fit(X, Y), spec=SPEC, sample=X)
    exported = model.export(tmp_path)
    assert exported.file == "model.skops"
    assert "skl2onnx cannot convert" in exported.options["not_onnx_because"]


def test_a_graph_that_disagrees_falls_back_to_skops(tmp_path, monkeypatch):
    real = sklearn_model.estimator_to_onnx
    other = LogisticRegression().fit(X, 1 - Y)
    monkeypatch.setattr(sklearn_model, "estimator_to_onnx", lambda _, *rest, **named: real(other, *rest, **named))
    model = models.wrap(LogisticRegression().fit(X, Y), spec=SPEC, sample=X)
    exported = model.export(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.skops"]
    assert "scores differ from the model's own by" in exported.options["not_onnx_because"]


def test_nested_trees_survive_skops():
    vote = VotingClassifier(
        [("f", RandomForestClassifier(3)), ("h", HistGradientBoostingClassifier(max_iter=2))], voting="soft"
    ).fit(X, Y)
    again = skops_file.load_skops(skops_file.dump_skops(vote))
    np.testing.assert_array_equal(again.predict_proba(X), vote.predict_proba(X))


@pytest.mark.parametrize(
    "build",
    [
        lambda: make_pipeline(FunctionTransformer(os.system), LogisticRegression()),
        lambda: make_pipeline(FunctionTransformer(subprocess.getoutput), LogisticRegression()),
        lambda: Planted(),
    ],
)
def test_a_planted_type_is_refused_by_name_and_never_built(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = skops.io.dumps(build())
    with pytest.raises(MedwardError, match=r"not trusted: .*(system|getoutput|Planted)"):
        skops_file.load_skops(data)
    assert not list(tmp_path.iterdir())


def test_a_users_own_class_is_refused_at_export_with_a_remedy(tmp_path):
    model = models.wrap(Own().fit(X, Y), spec=SPEC, sample=X)
    with pytest.raises(MedwardError, match=r"not trusted: .*Own; use scikit-learn's own estimators"):
        model.export(tmp_path)


def test_numpy_functions_are_not_trusted_wholesale():
    data = skops.io.dumps(make_pipeline(FunctionTransformer(np.save), LogisticRegression()))
    with pytest.raises(MedwardError, match="not trusted"):
        skops_file.load_skops(data)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("left", 10_000, "points outside"), ("feature_idx", 3, "points outside"), ("right", 0, "points back")],
)
def test_a_tree_that_points_outside_itself_or_back_is_refused(column, value, message):
    model = HistGradientBoostingClassifier(max_iter=1).fit(X, Y)
    skops_file.load_skops(skops.io.dumps(model))
    nodes = model._predictors[0][0].nodes
    nodes[column][nodes["is_leaf"] == 0] = value
    with pytest.raises(MedwardError, match=message):
        skops_file.load_skops(skops.io.dumps(model))


def test_a_skops_file_is_wrapped_without_pickle(tmp_path):
    path = tmp_path / "mine.skops"
    estimator = LogisticRegression().fit(X, Y)
    path.write_bytes(skops_file.dump_skops(estimator))
    model = models.wrap(path, spec=models.infer_spec(path, sample=X), sample=X)
    np.testing.assert_array_equal(model.predict(X).scores, estimator.predict_proba(X))


def test_garbage_is_one_sentence():
    with pytest.raises(MedwardError, match=r"model\.skops: cannot be read"):
        skops_file.load_skops(b"not a zip")


def test_another_scikit_learn_is_refused():
    data = skops_file.dump_skops(LogisticRegression().fit(X, Y))
    with pytest.raises(MedwardError, match=r"written by scikit-learn 0\.9\.0"):
        models.load_model("model.skops", data, spec=SPEC, options={"scikit-learn": "0.9.0"}, allow_code=False)


def test_fitted_width_must_fit_the_spec():
    estimator = LogisticRegression().fit(X, Y)
    with pytest.raises(MedwardError, match="fitted on 3 features"):
        models.wrap(estimator, spec=replace(SPEC, shape=(4,)), sample=np.zeros((2, 4)))


def test_images_are_flattened_for_scikit_learn(tmp_path):
    images = np.random.default_rng(1).random((30, 1, 4, 4), dtype=np.float32)
    estimator = LogisticRegression().fit(images.reshape(30, -1), Y[:30])
    spec = replace(SPEC, modality="image", shape=(1, 4, 4), low=0, high=1)
    model = models.wrap(estimator, spec=spec, sample=images)
    exported = model.export(tmp_path)
    data = (tmp_path / exported.file).read_bytes()
    written = models.load_model(exported.file, data, spec=spec, options=exported.options, allow_code=False)
    np.testing.assert_allclose(written.predict(images).scores, model.predict(images).scores, atol=1e-5)


def test_feature_names_do_not_warn():
    estimator = LogisticRegression().fit(X, Y)
    estimator.feature_names_in_ = np.array(["age", "bmi", "ldl"], dtype=object)
    models.wrap(estimator, spec=SPEC, sample=X)


def test_unfitted_is_one_sentence():
    with pytest.raises(MedwardError, match="NotFittedError"):
        models.wrap(LogisticRegression(), spec=SPEC, sample=X)
