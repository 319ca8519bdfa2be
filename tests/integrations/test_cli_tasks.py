"""Tasks on the command line: findings and numbers from a model to a judged bundle, and each mistake a sentence."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from medward.guard.bundle.folder import load_bundle
from medward.integrations.cli import main
from medward.integrations.cli.options import parsed_numbers, parsed_threshold

CODE = """
import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier

rng = np.random.default_rng(0)
x = rng.normal(size=(900, 5))
table = (x[:, :2] + 0.5 * rng.normal(size=(900, 2)) > [0.4, 1.0]).astype(int)
number = 50 + 8 * x[:, 0]
findings = MultiOutputClassifier(LogisticRegression()).fit(x[:300], table[:300])
risk = Ridge().fit(x[:300], number[:300])


def maps(batch):
    return np.stack([batch, -batch], axis=1)


def first_positive(outputs):
    return (outputs[:, 0, 0] > 0).astype(int)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a user's module and data, and the name of the module."""
    name = f"tasks_{abs(hash(tmp_path)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module(name)
    splits = {"train": slice(0, 300), "calibration": slice(300, 800), "test": slice(800, 900)}
    for kind, labels in (("findings", made.table), ("risk", made.number)):
        arrays = {f"{split}_inputs": made.x[rows].astype(np.float32) for split, rows in splits.items()}
        arrays |= {f"{split}_labels": labels[rows] for split, rows in splits.items()}
        np.savez(f"{kind}.npz", **arrays)
    return name


def run(capsys, *arguments):
    """Exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    return (done.value.code, *capsys.readouterr())


def protect(capsys, module, model, data, *options):
    return run(
        capsys, "protect", f"{module}:{model}", "--data", data, "--on-error", "flag", "-o", "b", "--overwrite", *options
    )


@pytest.mark.slow
def test_findings_are_protected_at_a_sensitivity_and_attacked_by_what_is_hidden(here, capsys):
    code, out, err = protect(capsys, here, "findings", "findings.npz", "--classes", "mass,cyst", "--sensitivity", "0.9")
    assert (code, err) == (0, "")
    assert "mass AUC 0.9" in out
    assert "decides each finding by its own probability (mass from 0." in out
    task = load_bundle("b").card.spec.task
    assert len(set(task.thresholds)) == 2
    code, out, err = run(
        capsys, "validate", "b", "--data", "findings.npz", "-o", "r", "--attacks", "pgd-hide,pgd-raise"
    )
    assert code in (0, 1, 2), err
    found = {each["attack"]: each for each in json.loads(Path("r/report.json").read_text())["findings"]}
    assert set(found) == {"pgd-hide", "pgd-raise"}


def test_operating_points_are_said_by_finding(here, capsys):
    code, out, _ = protect(
        capsys, here, "findings", "findings.npz", "--classes", "mass,cyst", "--threshold", "cyst=0.1,mass=0.3"
    )
    assert code == 0
    assert "mass from 0.3, cyst from 0.1" in out
    assert load_bundle("b").card.spec.task.thresholds == (0.3, 0.1)


def test_a_number_is_protected_with_its_tolerance_and_cut_points(here, capsys):
    code, out, _ = protect(
        capsys, here, "risk", "risk.npz", "--tolerance", "2", "--cut-points", "40,60", "--unit", "points"
    )
    assert code == 0
    assert "mean absolute error 0." in out
    assert "2 points and the cut points 40, 60 matter" in out


@pytest.mark.slow
def test_an_opaque_model_is_validated_by_the_user_s_own_decision(here, capsys):
    code, out, _ = protect(capsys, here, "maps", "risk.npz", "--task", "opaque")
    assert code == 0
    assert "answers leave at level full" in out
    arguments = ("validate", "b", "--data", "risk.npz", "-o", "r", "--allow-code", "--attacks", "pgd")
    code, _, err = run(capsys, *arguments)
    assert code == 3
    assert "there is no 'pgd'" in err
    code, _, err = run(capsys, *arguments, "--decide", f"{here}:first_positive")
    assert code in (0, 1, 2), err
    code, _, err = run(capsys, *arguments, "--decide", "first_positive")
    assert code == 3
    assert "--decide: name a function, \"package.module:function\", got 'first_positive'" in err


@pytest.mark.parametrize(
    ("model", "data", "options", "says"),
    [
        ("findings", "findings.npz", [], "name the classes in score order with --classes"),
        (
            "findings",
            "findings.npz",
            ["--classes", "mass,cyst", "--threshold", "0.1,0.2,0.3"],
            "each of the 2 findings",
        ),
        ("findings", "findings.npz", ["--classes", "mass,cyst", "--threshold", "mass=often"], "--threshold: a number"),
        ("findings", "findings.npz", ["--classes", "mass,cyst", "--tolerance", "1"], "tolerance: means nothing"),
        ("findings", "risk.npz", ["--classes", "mass,cyst"], "needs a table of 0 and 1 of shape (n, 2)"),
        ("risk", "risk.npz", [], "needs --tolerance"),
        ("risk", "risk.npz", ["--tolerance", "2", "--threshold", "0.5"], "threshold: means nothing"),
        ("risk", "risk.npz", ["--tolerance", "2", "--cut-points", "60,40"], "must be finite and rise"),
        ("risk", "findings.npz", ["--tolerance", "2"], "is several findings per row"),
        ("risk", "risk.npz", ["--tolerance", "2", "--sensitivity", "0.9"], "for two classes or several findings"),
        ("maps", "risk.npz", [], "the labels are numbers that are no classes"),
        ("maps", "risk.npz", ["--task", "segmentation"], "say --task opaque"),
        ("maps", "risk.npz", ["--task", "diagnosis"], "task must be one of classification, multilabel"),
    ],
)
def test_a_mistake_is_one_sentence(here, capsys, model, data, options, says):
    code, _, err = protect(capsys, here, model, data, *options)
    assert code == 3
    assert err.startswith("medward: ")
    assert err.count("\n") == 1
    assert says in err
    assert "Traceback" not in err


def test_options_are_read_as_they_are_written():
    assert parsed_threshold(None) is None
    assert parsed_threshold("0.1") == 0.1
    assert parsed_threshold("0.1, 0.3") == [0.1, 0.3]
    assert parsed_threshold("a=b=0.1,c=0.2") == {"a=b": 0.1, "c": 0.2}
    assert parsed_numbers("--cut-points", "1,2.5") == (1.0, 2.5)
