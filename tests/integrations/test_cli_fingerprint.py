"""From a bundle to a fingerprint, its inputs asked elsewhere, and what the answers show: by the command line alone."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medward.attacks.ownership.fingerprint import Fingerprint
from medward.attacks.ownership.fingerprint_file import load_fingerprint, save_fingerprint
from medward.attacks.ownership.suspects import suspect_answers, write_inputs
from medward.guard.columns import Column
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.regression import Regression
from medward.integrations.cli import main

CODE = """
import numpy as np
from sklearn.tree import DecisionTreeClassifier


def rows(seed, n):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    truth = x[:, 0] * x[:, 1] + x[:, 2] > 0
    return x, np.where(rng.random(n) < 0.2, ~truth, truth).astype(int)


def tree(inputs, labels, seed):
    return DecisionTreeClassifier(max_features=2, random_state=seed).fit(inputs, labels)


own = tree(*rows(0, 200), 1)
independent = tree(*rows(0, 200), 2)
asked = np.random.default_rng(3).normal(size=(6000, 5)).astype(np.float32)
clone = tree(asked, own.predict(asked), 4)
number = 7
"""
SHORT = ("--choosing", "2", "--null", "2", "--inputs", "40", "--candidates", "600")
QUICK = ("--choosing", "4", "--null", "9", "--inputs", "60", "--candidates", "1500")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with models by name, data, a bundle and its fingerprint."""
    folder = tmp_path_factory.mktemp("ownership")
    (folder / "site_models_for_fingerprint.py").write_text(CODE)
    spaces = {}
    exec(CODE, spaces)
    parts = {name: spaces["rows"](seed, n) for name, seed, n in (("train", 0, 200), ("holdout", 5, 300))}
    arrays = {
        f"{name}_{what}": each
        for name, pair in parts.items()
        for what, each in zip(("inputs", "labels"), pair, strict=True)
    }
    np.savez(folder / "data.npz", **arrays)
    np.savez(folder / "unlabelled.npz", holdout_inputs=parts["holdout"][0])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ("--data", "data.npz", "--split", "holdout", "-o", "bundle", "--on-error", "withhold")
        assert run("protect", "site_models_for_fingerprint:own", *words) == 0
        recipe = ("--recipe", "site_models_for_fingerprint:tree")
        assert run("fingerprint", "bundle", "--data", "data.npz", "-o", "print.npz", *recipe, *QUICK) == 0
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


@pytest.fixture
def at_desk(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    capsys.readouterr()
    return desk


@pytest.mark.slow
def test_a_clone_is_evidence_and_an_independent_model_of_the_same_recipe_is_not(at_desk, capsys):
    compare = ("compare", "print.npz", "--alpha", "0.1")
    assert run(*compare, "site_models_for_fingerprint:clone") == 1
    said = capsys.readouterr().out
    assert "Evidence, never proof" in said
    assert "p = 0.1, by 9 of them" in said
    assert run(*compare, "site_models_for_fingerprint:independent") == 0
    assert "No evidence" in capsys.readouterr().out


def test_default_alpha_says_that_nine_models_support_no_evidence(at_desk, capsys):
    assert run("compare", "print.npz", "site_models_for_fingerprint:clone") == 2
    said = capsys.readouterr().out
    assert "Cannot tell" in said
    assert "19 are needed" in said


def test_a_suspect_elsewhere_is_asked_by_files(at_desk, capsys, tmp_path):
    ask = tmp_path / "ask"
    assert run("compare", "print.npz", "--inputs", str(ask)) == 0
    assert f"medward compare print.npz {ask}" in capsys.readouterr().out
    own = load_fingerprint(at_desk / "print.npz").own
    lines = (ask / "answers.csv").read_text().splitlines()
    (ask / "answers.csv").write_text("\n".join([lines[0], *(f"{a}{b}" for a, b in zip(lines[1:], own, strict=True))]))
    assert run("compare", "print.npz", str(ask), "--alpha", "0.1") == 1


@pytest.mark.slow
def test_what_a_fingerprint_can_show_is_said_when_it_is_made(at_desk, capsys, tmp_path):
    out = str(tmp_path / "second.npz")
    assert run("fingerprint", "bundle", "--data", "data.npz", "-o", out, *SHORT) == 0
    said = capsys.readouterr().out
    assert "clones of the owner's would clearly be evidence at 0.05" in said
    assert "--recipe" in said  # it was not given
    assert "keep the file secret" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fingerprint", "bundle", "--data", "data.npz", "-o", "print.npz"), "is there already"),
        (("fingerprint", "bundle", "--data", "data.npz", "-o", "print.txt"), "call it print.npz"),
        (("fingerprint", "bundle", "--data", "data.npz", "-o", "none/print.npz"), "no such folder"),
        (("fingerprint", "bundle", "--data", "unlabelled.npz", "-o", "new.npz"), 'needs a split "train"'),
        (("fingerprint", "bundle", "--data", "data.npz", "-o", "new.npz", "--recipe", "nowhere:f"), "nowhere"),
        (("compare", "print.npz"), "give a SUSPECT"),
        (("compare", "print.npz", "x", "--inputs", "y"), "give a SUSPECT"),
        (("compare", "data.npz", "x"), "is no fingerprint"),
        (("compare", "none.npz", "x"), "no such file"),
        (("compare", "changed.npz", "x"), "was changed"),
        (("compare", "print.npz", "none.csv"), "no such file of answers"),
        (("compare", "print.npz", "site_models_for_fingerprint:number"), "int is no"),
        (("compare", "print.npz", "bundle", "--alpha", "2"), "alpha: must be above 0"),
    ],
)
def test_mistakes_are_one_sentence(at_desk, capsys, words, said):
    if "changed.npz" in words:
        with np.load(at_desk / "print.npz") as archive:
            arrays = dict(archive)
        np.savez(at_desk / "changed.npz", **{**arrays, "own": 1 - arrays["own"]})
    assert run(*words) == 3
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def pictures(task, channels=3):
    """A fingerprint of images without a model behind it."""
    spec = ModelSpec(name="p", modality="image", shape=(channels, 8, 9), task=task, low=-1.0, high=1.0)
    inputs = np.asarray(-1 + np.random.default_rng(0).integers(256, size=(6, *spec.shape)) / 255 * 2, np.float32)
    own = np.arange(6) % 2
    return Fingerprint(
        spec=spec,
        bundle="0" * 64,
        inputs=inputs,
        own=own,
        ways=np.zeros(6, int),
        way_names=("one",),
        null=np.stack([own, 1 - own]),
        null_names=("a", "b"),
        null_sorts=np.zeros(2, int),
        clones=own[None],
        clone_ways=np.zeros(1, int),
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_written_as_files_that_hold_exactly_what_is_asked(tmp_path, channels):
    found = pictures(Classification(classes=("a", "b"), output="logits"), channels)
    write_inputs(found, tmp_path / "ask")
    for place in range(6):
        pixels = np.asarray(Image.open(tmp_path / "ask" / "images" / f"{place:04d}.png"))
        back = -1 + pixels.reshape(8, 9, channels).transpose(2, 0, 1) / 255 * 2
        np.testing.assert_array_equal(np.asarray(back, np.float32), found.inputs[place])
    assert (suspect_answers(found, str(tmp_path / "ask")) == -1).all()


def test_models_without_classes_are_refused(at_desk, monkeypatch, capsys):
    from medward.guard.bundle import folder

    def number(path, **_):
        spec = ModelSpec(name="age", modality="tabular", shape=(5,), task=Regression(quantity="age", tolerance=1.0))
        return type("Bundle", (), {"model": type("Model", (), {"spec": spec}), "card": None})()

    monkeypatch.setattr(folder, "load_bundle", number)
    monkeypatch.setattr("medward.guard.bundle.site.bundle_reading", lambda bundle, said: said)
    assert run("fingerprint", "bundle", "--data", "data.npz", "-o", "new.npz") == 3
    assert "is for models of classes" in capsys.readouterr().err


def test_a_fingerprint_survives_its_file(tmp_path):
    found = pictures(Classification(classes=("a", "b"), output="logits"))
    save_fingerprint(tmp_path / "p.npz", found)
    shutil.copy(tmp_path / "p.npz", tmp_path / "q.npz")
    np.testing.assert_array_equal(load_fingerprint(tmp_path / "q.npz").null, found.null)


def test_a_table_is_written_in_its_own_columns(tmp_path):
    columns = (Column(name="sex", values=("f", "m")), Column(name="age", missing=True, fill=50.0))
    spec = ModelSpec(
        name="t",
        modality="tabular",
        shape=(3,),
        task=Classification(classes=("a", "b"), output="logits"),
        columns=columns,
    )
    inputs = np.array([[0, 41, 0], [1, 50, 1]] * 3, np.float32)
    write_inputs(replace(pictures(spec.task), spec=spec, inputs=inputs), tmp_path / "ask")
    lines = (tmp_path / "ask" / "inputs.csv").read_text().splitlines()
    assert lines[:3] == ["input,sex,age", "0000,f,41.0", "0001,m,nan"]
