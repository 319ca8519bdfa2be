"""Models fitted on tables by name, and boosted trees: what a bundle serves is what the model itself says."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.clinical import INPUTS, NUMBERS, OPEN, PIPELINES, kept, records, sepsis_table, unconvertible
from xgboost import XGBClassifier, XGBRegressor

from medward.guard.bundle.folder import load_bundle
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Query

TABLE, LATER = sepsis_table(), sepsis_table(seed=1)
SICK = (TABLE["sepsis"] == "yes").astype(int).to_numpy()
FEW = {"n_estimators": 15, "random_state": 0, "n_jobs": 1}
CLASSIFIERS = {
    "xgboost": lambda: XGBClassifier(**FEW),
    "lightgbm": lambda: LGBMClassifier(**FEW, verbose=-1),
    "catboost": lambda: CatBoostClassifier(
        iterations=15, verbose=0, random_seed=0, thread_count=1, allow_writing_files=False
    ),
}
REGRESSORS = {
    "xgboost": lambda: XGBRegressor(**FEW),
    "lightgbm": lambda: LGBMRegressor(**FEW, verbose=-1),
    "catboost": lambda: CatBoostRegressor(
        iterations=15, verbose=0, random_seed=0, thread_count=1, allow_writing_files=False
    ),
}


def served(bundle, rows):
    """What the guard of a bundle, read back from its folder, answers to named rows."""
    return load_bundle(bundle.path).guard(ephemeral=True).answer(Query(principal=("clinic",), inputs=rows)).scores


@pytest.mark.parametrize("kind", sorted(PIPELINES))
def test_a_pipeline_on_a_dataframe_is_served_as_onnx(kind, tmp_path):
    model = PIPELINES[kind]().fit(TABLE[[*INPUTS[:5]]], TABLE["sepsis"])
    made = protect(model, TABLE, OPEN, tmp_path / "b", target="sepsis", patient="mrn")
    assert (made.card.model, made.card.target, made.card.patient) == ("model.onnx", "sepsis", "mrn")
    assert [each.name for each in made.model.spec.columns] == INPUTS[:5]
    own = model.predict_proba(LATER[INPUTS[:5]])
    np.testing.assert_allclose(served(made, records(LATER[INPUTS[:5]])), own, atol=1e-5)
    np.testing.assert_allclose(served(made, LATER[INPUTS[:5][::-1]]), own, atol=1e-5)
    assert np.ptp(own[:, 0]) > 0.3


def test_what_onnx_cannot_follow_is_kept_for_scikit_learn_and_that_is_said(tmp_path, caplog):
    model = unconvertible().fit(TABLE[INPUTS[:5]], TABLE["sepsis"])
    with caplog.at_level("INFO", "medward.data"):
        made = protect(model, TABLE, OPEN, tmp_path / "b", target="sepsis")
    assert made.card.model == "model.skops"
    assert "the serving host needs pandas too" in caplog.text
    assert "left out, for the model does not take them: mrn, smoker" in caplog.text
    own = model.predict_proba(LATER[INPUTS[:5]])
    np.testing.assert_allclose(served(made, records(LATER[INPUTS[:5]])), own, atol=1e-6)


@pytest.mark.parametrize("library", sorted(CLASSIFIERS))
@pytest.mark.parametrize("form", ["frame", "array", "pipeline"])
def test_boosted_trees_are_served_with_gaps(library, form, tmp_path):
    columns = INPUTS[:5] if form == "pipeline" else NUMBERS
    model = CLASSIFIERS[library]()
    if form == "pipeline":
        model = make_pipeline(kept(), model).fit(TABLE[columns], SICK)
    else:
        rows = TABLE[columns].to_numpy(np.float32) if form == "array" else TABLE[columns]
        model.fit(rows, SICK)
    given = TABLE[[*columns, "sepsis"]].assign(sepsis=SICK)
    made = protect(model, given, OPEN, tmp_path / "b", target="sepsis")
    assert made.card.model == "model.onnx"
    later = LATER[columns]
    own = model.predict_proba(later.to_numpy(np.float32) if form == "array" else later)
    np.testing.assert_allclose(served(made, records(later)), own, atol=1e-5)
    assert later.isna().any(axis=None)


@pytest.mark.parametrize("library", sorted(REGRESSORS))
def test_boosted_regressors_are_served_with_gaps(library, tmp_path):
    stay = 2.0 * TABLE["age"] / 10 + TABLE["creatinine"]
    model = REGRESSORS[library]().fit(TABLE[NUMBERS], stay)
    made = protect(model, TABLE[NUMBERS].assign(stay=stay), OPEN, tmp_path / "b", target="stay", tolerance=0.5)
    own = model.predict(LATER[NUMBERS])
    np.testing.assert_allclose(served(made, records(LATER[NUMBERS]))[:, 0], own, rtol=1e-5)


def test_trees_finer_than_single_precision_are_refused_with_what_differs(tmp_path):
    """Thresholds between values that are one in float32, as far as the rows go: 1 + k * 1e-9."""
    rng = np.random.default_rng(0)
    fine = pd.DataFrame({"a": 1 + rng.permutation(400) * 1e-9, "b": rng.normal(size=400)})
    truth = (fine["a"] > fine["a"].median()).astype(int)
    model = LGBMClassifier(**FEW, verbose=-1).fit(fine, truth)
    with pytest.raises(MedwardError, match=r"decisions differ from the model's own predict .* float64"):
        protect(model, fine, OPEN, tmp_path / "b")
    single = fine.assign(a=fine["a"].rank()).astype(np.float32)
    model = LGBMClassifier(**FEW, verbose=-1).fit(single, truth)
    assert protect(model, single, OPEN, tmp_path / "b").card.model == "model.onnx"


def test_a_boosted_file_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    from medward.guard.models import boosted_graph, sklearn_graph

    other = XGBClassifier(n_estimators=2, random_state=0).fit(TABLE[NUMBERS], SICK)
    monkeypatch.setattr(sklearn_graph, "boosted_graph", lambda _: boosted_graph.boosted_graph(other))
    model = XGBClassifier(**FEW).fit(TABLE[NUMBERS], SICK)
    with pytest.raises(MedwardError, match=r"served as ONNX only, and model.onnx: scores differ .* by 0\.\d+, bound"):
        protect(model, TABLE[NUMBERS], OPEN, tmp_path / "b")
    whole = TABLE[NUMBERS].fillna(0).to_numpy("float32")
    scaled = make_pipeline(StandardScaler(), XGBClassifier(**FEW)).fit(whole, SICK)
    with pytest.raises(MedwardError, match="leave out the steps before it that scale numbers"):
        protect(scaled, Split(whole), OPEN, tmp_path / "b")


def test_categories_inside_catboost_are_refused(tmp_path):
    table = TABLE[["age", "ward"]]
    model = CatBoostClassifier(iterations=3, verbose=0, cat_features=["ward"], allow_writing_files=False)
    with pytest.raises(MedwardError, match="CatBoostClassifier has categorical features, which its ONNX form lacks"):
        protect(model.fit(table, SICK), table, OPEN, tmp_path / "b")


@pytest.mark.parametrize("build", [LGBMClassifier, lambda **few: XGBClassifier(**few, enable_categorical=True)])
@pytest.mark.parametrize("codes", [(1, 3, 7), ("a", "b", "c")])
def test_boosted_trees_on_categories_of_pandas_are_refused(build, codes, tmp_path):
    """Their codes 0, 1, 2 were served as if they were the values 1, 3, 7."""
    table = TABLE[["creatinine"]].assign(code=pd.Categorical(np.array(codes)[TABLE["age"] % 3]))
    model = build(**FEW).fit(table, SICK)
    with pytest.raises(MedwardError, match="fitted on columns of the category type of pandas"):
        protect(model, table, OPEN, tmp_path / "b")
    plain = TABLE[["creatinine"]].assign(code=TABLE["age"] % 3).astype(np.float32)
    model = build(**FEW).fit(plain, SICK)
    made = protect(model, plain, OPEN, tmp_path / "b")
    np.testing.assert_allclose(served(made, plain), model.predict_proba(plain), atol=1e-5)


def test_a_plain_table_changes_nothing_but_names(tmp_path):
    frame, truth = load_breast_cancer(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(frame, truth)
    named = protect(model, frame.assign(malignant=truth), OPEN, tmp_path / "a", target="malignant")
    plain = protect(model, Split(frame.to_numpy(), truth.to_numpy()), OPEN, tmp_path / "b")
    np.testing.assert_array_equal(served(named, frame), served(plain, frame.to_numpy()))
    assert plain.model.spec.columns == ()
    assert [each.name for each in named.model.spec.columns] == list(frame.columns)
    assert named.card.data_digest == plain.card.data_digest
    np.testing.assert_array_equal(named.model.spec.check(frame), plain.model.spec.check(frame.to_numpy()))


def test_an_array_model_takes_gaps_and_no_texts(tmp_path):
    model = HistGradientBoostingClassifier(max_iter=10).fit(TABLE[NUMBERS].to_numpy(), SICK)
    made = protect(model, TABLE[NUMBERS], OPEN, tmp_path / "b")
    own = model.predict_proba(LATER[NUMBERS].to_numpy())
    np.testing.assert_allclose(served(made, LATER[NUMBERS]), own, atol=1e-5)
    for columns, says in [
        (["age", "creatinine", "sex"], "column 'sex' holds categories, and the model was fitted on an array"),
        (["age", "creatinine"], "was fitted on 3 features, .* the table has 2 columns"),
    ]:
        with pytest.raises(MedwardError, match=says):
            protect(model, TABLE[columns], OPEN, tmp_path / "c")


def test_other_models_take_numbers_only(tmp_path):
    def score(rows):
        return np.stack([rows[:, 0], 1 - rows[:, 0]], axis=1)

    words = {"classes": ["a", "b"], "output": "probabilities"}
    with pytest.raises(MedwardError, match="column 'lactate level' has gaps or texts, and this kind of model takes"):
        protect(score, TABLE[NUMBERS], OPEN, tmp_path / "b", **words)


@pytest.mark.data
def test_a_forest_of_real_heartbeats_keeps_its_columns(tmp_path):
    path = Path(os.environ["MEDWARD_DATA"]) / "fetal_ctg" / "fetal_health.csv"
    frame = pd.read_csv(path).drop_duplicates().astype(np.float32)
    model = RandomForestClassifier(25, random_state=0).fit(frame.iloc[::2, :-1], frame.iloc[::2, -1].astype(int))
    rest = frame.iloc[1::2].astype({frame.columns[-1]: int})
    made = protect(model, rest, OPEN, tmp_path / "b", target=frame.columns[-1])
    own = model.predict_proba(rest.iloc[:, :-1])
    np.testing.assert_allclose(served(made, rest.iloc[:50, :-1]), own[:50], atol=1e-5)
    assert made.card.quality.accuracy > 0.85
