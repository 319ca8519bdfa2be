"""Certified trees keep their bounds, certify what the same trees without room do not, and stand in a model's place."""

import json
import logging
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from medward.guard.certificate import PER_ANSWER, certificate_sentence
from medward.guard.certify.bounds import Bounds
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden.folder import harden
from medward.guard.harden.trees.boosting import BoostingSettings, boosted_trees
from medward.guard.harden.trees.method import CertifiedTrees
from medward.guard.harden.trees.tree_file import tree_file
from medward.guard.models.onnx_model import load_onnx
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.integrations.cli import main

FEW = BoostingSettings(rounds=30)
METHOD = CertifiedTrees(boosting=FEW)
CODE = """
import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

held = np.load("data.npz")
model = RandomForestClassifier(5, random_state=0).fit(held["train_inputs"], held["train_labels"])
"""
COMMAND = ("harden", "site_forest_for_harden:model", "--data", "data.npz", "--method", "certified")
COMMAND += ("--architecture", "trees", "-o", "out")


def patients(n, seed):
    """Three states that two columns tell apart with room to spare, and a third one, though wide, by next to nothing."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    x = rng.normal(size=(n, 5))
    x[:, 0] += 5 * (y == 1)
    x[:, 1] += 5 * (y == 2)
    x[:, 2] = np.where(rng.random(n) < 0.1, 5 * rng.normal(size=n), 0.01 * y)
    return Split(x.astype(np.float32), y)


def spec_of(output="probabilities", threshold=None, classes=("well", "ill", "worse")):
    task = Classification(classes=classes, output=output, threshold=threshold)
    return ModelSpec(name="trees", modality="tabular", shape=(5,), task=task)


def trained(room, output="probabilities"):
    split = patients(400, 0)
    radius = 0.25 * split.inputs.std(axis=0).astype(np.float64)
    data = tree_file(boosted_trees(split.inputs, split.labels, room * radius, FEW, classes=3), 5, output)
    return load_onnx(data, spec_of(output), {}), Bounds.of(data, spec_of(output), {}), radius


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_rows_are_decided_alike_within_their_bounds_and_not_far_beyond(output):
    model, bounds, radius = trained(1, output)
    test, rng = patients(300, 1), np.random.default_rng(0)
    own = model.spec.decide(model.predict(test.inputs).scores)
    assert (own == test.labels).mean() > 0.9
    certain = bounds.certain_decisions(test.inputs, radius)
    assert (certain[certain >= 0] == own[certain >= 0]).all()
    assert (certain >= 0).mean() > 0.8
    for reach, changes in ((1, False), (12, True)):
        changed = np.zeros(len(own), bool)
        for _ in range(200):
            near = test.inputs + 0.999 * reach * rng.uniform(-1, 1, test.inputs.shape) * radius
            changed |= model.spec.decide(model.predict(near.astype(np.float32)).scores) != own
        assert changed[certain >= 0].any() == changes


def test_the_control_the_same_trees_without_room_certify_less():
    test = patients(300, 1)
    shares = []
    for room in (0, 1):
        _, bounds, radius = trained(room)
        shares.append((bounds.certain_decisions(test.inputs, radius) >= 0).mean())
    assert shares[0] < shares[1] - 0.1


def test_an_operating_point_is_trained_at():
    split, rng = patients(400, 0), np.random.default_rng(3)
    y = (rng.random(400) < 0.5).astype(np.int64)  # nothing can be known, so every row is of the likelier class
    found = []
    for border in (-2.0, 0.0, 2.0):
        trees = boosted_trees(split.inputs, y, np.ones(5), FEW, classes=2, border=border)
        scores = load_onnx(tree_file(trees, 5, "logits"), spec_of("logits", classes=("well", "ill")), {})
        gap = np.diff(scores.predict(split.inputs).scores, axis=1)
        found.append(np.median(gap) - border)
    assert max(map(abs, found)) < 0.8


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    forest = RandomForestClassifier(20, random_state=0).fit(patients(400, 0).inputs, patients(400, 0).labels)
    out = tmp_path_factory.mktemp("trees") / "hardened"
    data = {"train": patients(400, 0), "selection": patients(200, 1)}
    return out, forest, harden(forest, data, out, METHOD, classes=("well", "ill", "worse"))


def test_columns_that_the_model_was_not_fitted_on_are_left_out_and_said(tmp_path, caplog):
    rows = patients(300, 0)
    names = list("abcde")
    forest = RandomForestClassifier(5, random_state=0).fit(pd.DataFrame(rows.inputs, columns=names), rows.labels)
    file = pd.DataFrame(rows.inputs, columns=names).assign(mrn=range(300), state=rows.labels)
    with caplog.at_level(logging.INFO, "medward.data"):
        harden(forest, file, tmp_path / "out", METHOD, classes=("well", "ill", "worse"), target="state")
    assert "left out, for the model does not take them: mrn" in caplog.text


def test_a_radius_meant_for_images_is_told_of_a_table(made, tmp_path, caplog):
    data = {"train": patients(60, 0), "selection": patients(60, 1)}
    harden(made[1], data, tmp_path / "out", METHOD, classes=("well", "ill", "worse"))
    assert "is a share of each column's standard deviation" not in caplog.text
    harden(made[1], data, tmp_path / "low", replace(METHOD, epsilon=4 / 255), classes=("well", "ill", "worse"))
    assert "epsilon = 0.0157 is a share of each column's standard deviation" in caplog.text


def test_trees_stand_in_a_forests_place_and_the_certificate_says_so(made):
    out, forest, (certificate, chosen_on) = made
    assert {each.name for each in out.iterdir()} == {"model.onnx", "original.onnx", "certificate.json"}
    assert chosen_on == 'figures are measured on the 200 rows of "selection"'
    assert certificate.guarantee == PER_ANSWER
    assert certificate.settings["architecture"] == "trees"
    assert any("in the place of the model given" in note for note in certificate.notes)
    before, after = certificate.before, certificate.after
    assert before.certified < after.certified <= after.per_input <= after.universal <= after.clean
    assert [each.radius for each in certificate.certified_shares] == [0.125, 0.25, 0.5]
    assert (certificate.changes, certificate.best_epoch) == ("random", None)
    said = certificate_sentence(certificate)
    assert "under the worst of a few random changes, each the same for all rows, no attack:" in said
    assert "under one change for all rows" not in said
    rows = patients(100, 2).inputs
    original = load_onnx((out / "original.onnx").read_bytes(), spec_of(), {"scores": "probabilities"})
    assert original.predict(rows).scores == pytest.approx(forest.predict_proba(rows), abs=1e-5)
    assert json.loads((out / "certificate.json").read_text())["files"].keys() == {"model.onnx", "original.onnx"}


def test_without_rows_apart_nothing_is_said_of_before(made, tmp_path):
    certificate, told = harden(made[1], {"train": patients(200, 0)}, tmp_path / "out", METHOD)
    assert "are set apart" in told
    assert certificate.before is None
    assert {each.before for each in certificate.certified_shares} == {None}
    assert any("figures before are not stated" in note for note in certificate.notes)


def test_what_trees_cannot_stand_for_is_refused_before_anything_is_trained(made, tmp_path):
    train = patients(100, 0)
    images = Split(train.inputs.reshape(100, 1, 5, 1), train.labels)
    with pytest.raises(MedwardError, match="trees need rows of finite numbers"):
        harden(made[1], {"train": images}, tmp_path / "a", METHOD, low=-99, high=99)
    number = RandomForestRegressor(5, random_state=0).fit(train.inputs, train.inputs[:, 0])
    rows = Split(train.inputs, train.inputs[:, 0].astype(np.float64))
    with pytest.raises(MedwardError, match="the model has the task regression; give a classifier"):
        harden(number, {"train": rows}, tmp_path / "b", METHOD, task="regression", tolerance=0.1)
    with pytest.raises(MedwardError, match="margin: must be a finite number above 0, got 0"):
        harden(made[1], {"train": train}, tmp_path / "c", replace(METHOD, margin=0.0))
    with pytest.raises(MedwardError, match="clean: must be a share from 0 to below 1, got 1"):
        harden(made[1], {"train": train}, tmp_path / "c", replace(METHOD, boosting=replace(FEW, clean=1.0)))
    with pytest.raises(MedwardError, match=r"only torch modules .*--architecture trees trains trees in its place"):
        harden(made[1], {"train": train}, tmp_path / "d", "certified")
    assert not list(tmp_path.iterdir())


def test_the_command_trains_them_when_asked(tmp_path, monkeypatch, capsys):
    train, other = patients(120, 0), patients(60, 1)
    np.savez(
        tmp_path / "data.npz",
        train_inputs=train.inputs,
        train_labels=train.labels,
        selection_inputs=other.inputs,
        selection_labels=other.labels,
    )
    (tmp_path / "site_forest_for_harden.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main([*COMMAND, *words])
        return done.value.code, capsys.readouterr()

    code, printed = run("--epochs", "5")
    assert code == 0, printed.err
    assert "decisions certified within 0.25" in printed.out
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["settings"]["rounds"] == 5
    code, printed = run("--rate", "0.1")
    assert code == 3
    assert "--rate, --no-augment: are of networks" in printed.err
