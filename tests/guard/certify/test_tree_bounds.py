"""Bounds of tree models hold for every library; each tree's are exact, compared with trying every cell of it."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from support.tree_models import GRADE, NUMBER, SCALE, TABLE, TREES, YES, corners_and_splits

from medward.guard.certify import trees
from medward.guard.certify.bounds import Bounds
from medward.guard.certify.output_bounds import UNCERTAIN
from medward.guard.certify.tree_bounds import TreeBounds
from medward.guard.columns import encode_rows, learn_columns
from medward.guard.errors import MedwardError
from medward.guard.models import wrap
from medward.guard.models.onnx_model import load_onnx
from medward.guard.models.sklearn_model import load_estimator
from medward.guard.named_values import read_table
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.regression import Regression

RADII = (0.0, 0.02, 0.1, 0.3)
pytestmark = pytest.mark.filterwarnings("ignore")


def tree_spec(name, labels, threshold=None):
    if labels is NUMBER:
        task = Regression(tolerance=0.5, cut_points=(-0.5, 0.5))
    else:
        classes = tuple(map(str, np.unique(labels)))
        task = Classification(classes=classes, output="probabilities", threshold=threshold)
    return ModelSpec(name=name, modality="tabular", shape=(4,), task=task)


def bounded(estimator, spec, folder):
    written = wrap(estimator, spec=spec, sample=TABLE[:50]).export(folder)
    data = (folder / written.file).read_bytes()
    if written.file == "model.skops":
        model = load_estimator(data, spec, written.options)
        return model, Bounds.of_estimator(model)
    return load_onnx(data, spec, written.options), Bounds.of(data, spec, written.options)


def near_rows(rows, radius, rng):
    steps = rng.choice([-1.0, 0.0, 1.0], size=rows.shape)
    steps = np.where(rng.random((len(rows), 1)) < 0.5, steps, rng.uniform(-1, 1, size=rows.shape))
    return (rows + radius * SCALE * steps * (1 - 1e-6)).astype(np.float32)


@pytest.mark.parametrize("name", TREES)
def test_no_input_within_a_certified_radius_is_decided_otherwise(name, tmp_path):
    make, labels = TREES[name]
    spec = tree_spec(name, labels)
    estimator = make()
    estimator.fit(TABLE if "xgboost" in name else TABLE.astype(np.float64), labels)
    model, bounds = bounded(estimator, spec, tmp_path)
    own, rng = spec.decide(model.predict(TABLE).scores), np.random.default_rng(1)
    shares = []
    for radius in RADII:
        found = bounds.certain_decisions(TABLE, radius * SCALE)
        sure = found != UNCERTAIN
        assert np.array_equal(found[sure], own[sure])
        for _ in range(60 if radius else 1):
            near = near_rows(TABLE, radius, rng)
            assert np.array_equal(spec.decide(model.predict(near).scores)[sure], own[sure])
        shares.append(float(sure.mean()))
    assert shares[0] > 0.97
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < shares[1]
    again = Bounds.load(bounds.data, spec)
    assert np.array_equal(again.certain_decisions(TABLE, 0.1 * SCALE), bounds.certain_decisions(TABLE, 0.1 * SCALE))


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_an_operating_point_is_kept(threshold, tmp_path):
    spec = tree_spec("forest", YES, threshold)
    model, bounds = bounded(RandomForestClassifier(15, max_depth=5, random_state=0).fit(TABLE, YES), spec, tmp_path)
    own, rng = spec.decide(model.predict(TABLE).scores), np.random.default_rng(1)
    sure = bounds.certain_decisions(TABLE, 0.1 * SCALE) != UNCERTAIN
    assert 0.3 < sure.mean() < 1
    for _ in range(60):
        near = near_rows(TABLE, 0.1, rng)
        assert np.array_equal(spec.decide(model.predict(near).scores)[sure], own[sure])


@pytest.mark.parametrize("labels", [GRADE, NUMBER], ids=["classes", "number"])
def test_one_tree_is_bounded_exactly(labels, tmp_path):
    """Every cell of the tree that a box meets holds a point of the grid, so the grid's answers are all there are."""
    kind = DecisionTreeRegressor if labels is NUMBER else DecisionTreeClassifier
    spec = tree_spec("tree", labels)
    model, bounds = bounded(kind(max_depth=4, random_state=0).fit(TABLE, labels), spec, tmp_path)
    splits, changed = bounds.model.ensemble.splits(), 0
    for row in TABLE[:60]:
        grid = corners_and_splits(row, 0.3 * SCALE, splits)
        answers = model.predict(grid).scores
        if labels is GRADE and (np.diff(np.sort(answers, axis=1)[:, -2:]) < 1e-3).any():
            continue  # a leaf whose classes tie but for rounding is never certain
        decided = set(spec.decide(answers).tolist())
        found = bounds.certain_decisions(row[None], 0.3 * SCALE)[0]
        assert (found != UNCERTAIN) == (len(decided) == 1)
        changed += len(decided) > 1
        if labels is NUMBER:
            low, high = bounds.number_interval(row[None], 0.3 * SCALE)[0]
            assert low <= answers.min() <= low + 1e-3
            assert high - 1e-3 <= answers.max() <= high
    assert 5 < changed < 55


def test_a_forest_s_bounds_hold_what_its_cells_hold(tmp_path):
    spec = tree_spec("forest", NUMBER)
    estimator = TREES["forest-of-a-number"][0]().set_params(n_estimators=3, max_depth=3).fit(TABLE, NUMBER)
    model, bounds = bounded(estimator, spec, tmp_path)
    for row in TABLE[:30]:
        answers = model.predict(corners_and_splits(row, 0.2 * SCALE, bounds.model.ensemble.splits())).scores
        low, high = bounds.number_interval(row[None], 0.2 * SCALE)[0]
        assert low <= answers.min()
        assert answers.max() <= high


@pytest.mark.parametrize("wrong", ["one child", "inwards"])
def test_a_walk_that_leaves_a_branch_out_is_caught(wrong, monkeypatch, tmp_path):
    """The control: with only the child that the row itself takes, or a sum rounded inwards, something escapes."""
    spec = tree_spec("forest", NUMBER)
    model, bounds = bounded(TREES["forest-of-a-number"][0]().fit(TABLE, NUMBER), spec, tmp_path)
    radius = 0.2 if wrong == "one child" else 0.0
    if wrong == "one child":
        monkeypatch.setattr(
            TreeBounds, "_box", lambda self, rows, radius, own=TreeBounds._box: own(self, rows, radius * 0)
        )
    else:
        monkeypatch.setattr(trees, "rounding_factor", lambda terms: -1e-7)
    interval, rng, outside = bounds.number_interval(TABLE, radius * SCALE), np.random.default_rng(1), 0
    for _ in range(30):
        answers = model.predict(near_rows(TABLE, radius, rng)).scores[:, 0]
        outside += int(((answers < interval[:, 0]) | (answers > interval[:, 1])).sum())
    assert outside > 0


def test_several_trees_in_a_file_that_are_no_one_ensemble_are_refused(tmp_path):
    estimator = CalibratedClassifierCV(RandomForestClassifier(5, max_depth=3, random_state=0), cv=2).fit(TABLE, YES)
    with pytest.raises(MedwardError, match=r"behind trees cannot be bounded|tree ensembles, one can"):
        bounded(estimator, tree_spec("calibrated", YES), tmp_path)


KEPT = ("forest", "forest-of-three", "extra-trees", "forest-of-a-number", "tree", "boosting", "boosting-of-three")


@pytest.mark.parametrize("name", KEPT)
def test_an_estimator_that_a_bundle_keeps_is_bounded_as_it_is(name):
    make, labels = TREES[name]
    spec = tree_spec(name, labels)
    model = wrap(make().fit(TABLE, labels), spec=spec, sample=TABLE[:50])
    bounds = Bounds.of_estimator(model)
    own, rng = spec.decide(model.predict(TABLE).scores), np.random.default_rng(1)
    sure = bounds.certain_decisions(TABLE, 0.1 * SCALE) != UNCERTAIN
    assert 0.2 < sure.mean() < 1
    for _ in range(30):
        near = near_rows(TABLE, 0.1, rng)
        assert np.array_equal(spec.decide(model.predict(near).scores)[sure], own[sure])


def test_findings_of_a_forest_are_bounded_one_by_one():
    labels = np.stack([YES, GRADE == 2, NUMBER > 1], axis=1).astype(int)
    task = Multilabel(findings=("x", "y", "z"), output="probabilities", thresholds=(0.5, 0.3, 0.6))
    spec = ModelSpec(name="findings", modality="tabular", shape=(4,), task=task)
    forest = RandomForestClassifier(15, max_depth=5, random_state=0).fit(TABLE, labels)
    model = wrap(forest, spec=spec, sample=TABLE[:50])
    bounds, rng = Bounds.of_estimator(model), np.random.default_rng(1)
    own, sure = task.found(model.predict(TABLE).scores), bounds.certain_findings(TABLE, 0.1 * SCALE)
    assert (sure.any(axis=1) & ~sure.all(axis=1)).any()
    for _ in range(30):
        assert ((task.found(model.predict(near_rows(TABLE, 0.1, rng)).scores) == own) | ~sure).all()


def test_other_estimators_are_refused_by_name():
    model = wrap(BaggingClassifier(n_estimators=3).fit(TABLE, YES), spec=tree_spec("bag", YES), sample=TABLE[:50])
    with pytest.raises(MedwardError, match="BaggingClassifier has no sound bound here"):
        Bounds.of_estimator(model)


def gappy_table():
    table = TABLE.astype(np.float64)
    table[np.random.default_rng(3).random(table.shape) < 0.2] = np.nan
    return table


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm", "histogram", "tree"])
def test_missing_values_go_where_the_model_sends_them(kind, tmp_path):
    """A number that may be missing is two values of an encoded row; where the second says so, the first is not read."""
    table, (make, labels) = gappy_table(), TREES[kind]
    frame = pandas.DataFrame(table, columns=[f"c{k}" for k in range(4)])
    columns = learn_columns(read_table(frame))
    rows = encode_rows(frame, columns)
    assert rows.shape[1] == 8
    spec = replace(tree_spec(kind, labels), shape=(8,), columns=columns)
    estimator = make().fit(table.astype(np.float32), labels)
    written = (model := wrap(estimator, spec=spec, sample=rows[:80])).export(tmp_path)
    if written.file == "model.onnx":
        data = (tmp_path / written.file).read_bytes()
        model, bounds = load_onnx(data, spec, written.options), Bounds.of(data, spec, written.options)
    else:
        bounds = Bounds.of_estimator(model)
    radius = np.concatenate([0.1 * SCALE, np.zeros(4)])
    own, rng = spec.decide(model.predict(rows).scores), np.random.default_rng(1)
    sure = bounds.certain_decisions(rows, radius) != UNCERTAIN
    assert 0.2 < sure.mean() < 1
    for _ in range(30):
        near = (rows + radius * rng.choice([-1, 0, 1], size=rows.shape) * (1 - 1e-6)).astype(np.float32)
        assert np.array_equal(spec.decide(model.predict(near).scores)[sure], own[sure])
    hidden = bounds.certain_decisions(rows, np.concatenate([np.zeros(4), np.ones(4)])) != UNCERTAIN
    assert hidden.mean() < sure.mean()  # an attacker who may also hide values has more to choose from
    for _ in range(30):
        near = rows.copy()
        near[:, 4:] = rng.integers(0, 2, size=(len(rows), 4))
        assert np.array_equal(spec.decide(model.predict(near).scores)[hidden], own[hidden])


def test_a_split_that_a_change_in_single_precision_just_crosses_is_within_the_radius():
    """A row at the split, and the same row moved by the radius as attackers add: half a unit beyond it in truth."""
    rng, spec = np.random.default_rng(0), tree_spec("stump", YES)
    radius, crossed = float(np.float32(0.3)), 0
    below = rng.choice([8.0, 16.0, 32.0, 64.0], size=60) - rng.uniform(0, radius, size=60)  # the sum is coarser
    for value in below.astype(np.float32):
        rows = np.zeros((2, 4), np.float32)
        rows[:, 0] = value, np.nextafter(value, np.float32(np.inf))
        stump = DecisionTreeClassifier().fit(rows, [0, 1])
        moved = rows[:1].copy()
        moved[0, 0] += np.float32(radius)
        assert stump.predict(rows[:1]) != stump.predict(moved)
        bounds = Bounds.of_estimator(wrap(stump, spec=spec, sample=rows))
        assert bounds.certified_radius(moved, [radius]).tolist() == [0.0]
        crossed += float(moved[0, 0]) - float(value) > radius
    assert crossed > 5, "the control: what is tried lies beyond the radius by the rounding of the sum alone"
