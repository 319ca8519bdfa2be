"""``medward harden``: what it prints and writes, and every mistake as one sentence and exit 3."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medward.guard.harden import Accuracy, RobustnessCertificate
from medward.guard.harden.method import certificate_doubts
from medward.integrations.cli import main

CODE = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
with torch.no_grad():
    model[1].weight[1] = 1.0
    model[1].weight[0] = 0.0
    model[1].bias[:] = torch.tensor([0.0, -32.0])
finder = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
measurer = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
number = 7
"""
HARDEN = ("harden", "site_models_for_harden:model", "--data", "mine.npz", "-o", "hardened", "--low", "0", "--high", "1")


def hardening(*said):
    """The words of `HARDEN` with those that are `said`, in the place of the same option where it has it."""
    pairs = zip(HARDEN[2::2], HARDEN[3::2], strict=True)
    return (*HARDEN[:2], *(word for option, value in pairs if option not in said for word in (option, value)), *said)


@pytest.fixture
def medward(tmp_path, monkeypatch, capsys):
    """Run the command in a folder with a model's module and data; returns its exit code, stdout and stderr."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.uniform(0, 1, size=(120, 1, 8, 8)) * 0.4 + 0.25 + 0.1 * labels[:, None, None, None]
    np.savez(tmp_path / "mine.npz", train_inputs=images.astype(np.float32), train_labels=labels)
    np.savez(tmp_path / "unlabelled.npz", train_inputs=images.astype(np.float32))
    np.savez(tmp_path / "table.npz", train_inputs=images.reshape(120, 64).astype(np.float32), train_labels=labels)
    table = np.stack([labels, np.arange(120) % 3 == 0], axis=1).astype(int)
    np.savez(tmp_path / "findings.npz", train_inputs=images.astype(np.float32), train_labels=table)
    months = 20 * images.mean(axis=(1, 2, 3))
    np.savez(tmp_path / "numbers.npz", train_inputs=images.astype(np.float32), train_labels=months)
    (tmp_path / "site_models_for_harden.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "site_models_for_harden", raising=False)

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(list(arguments))
        printed = capsys.readouterr()
        return done.value.code, printed.out, printed.err

    return run


def test_it_says_what_it_did_and_what_to_do_next(medward):
    code, out, err = medward(*HARDEN, "--epsilon", "12/255", "--epochs", "2", "--rate", "0.001", "--no-augment")
    assert code == 0
    certificate = RobustnessCertificate.model_validate_json(Path("hardened/certificate.json").read_text())
    assert certificate.method == "uat"
    assert certificate.notes[0].startswith("hardening achieved nothing: balanced accuracy under one change for all")
    assert err == "".join(f"medward: warning: {note}\n" for note in certificate.notes)
    assert certificate.epsilon == pytest.approx(12 / 255)
    training = certificate.settings["training"]
    assert (training["epochs"], training["rate"], training["augment"]) == (2, 0.001, None)
    assert {path.name for path in Path("hardened").iterdir()} == {"certificate.json", *certificate.files}
    assert torch.load("hardened/weights.pt", weights_only=True)["1.weight"].shape == (2, 64)
    said = [line.split(":")[0] for line in out.splitlines()]
    assert said[:2] == ["train", "selection"]
    assert [each for each in said if each.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert "24 rows of train are set apart" in out
    assert f"one change for all rows  {certificate.after.universal:.3f}\n" in out
    assert certificate.before is None, "the model may have learned the rows that were set apart"
    assert "figures before are not stated, and those after may flatter" in err
    assert "empirical, not certified: estimates by the defense itself" in out
    assert "--before hardened/original.onnx" in out
    code, _, err = medward(*HARDEN, "--epochs", "1")
    assert code == 3
    assert "is not empty" in err


@pytest.mark.parametrize(("after", "expected"), [(0.51, 1), (0.9, 0)])
def test_a_training_that_collapsed_exits_1_and_is_nothing_to_protect(medward, monkeypatch, after, expected):
    reached = Accuracy(clean=after, universal=after, per_input=0.4), Accuracy(clean=1.0, universal=0.4, per_input=0.4)
    doubts = certificate_doubts(*reached[::-1], "balanced accuracy", 0.5, "universal")
    monkeypatch.setattr("medward.guard.harden.method.certificate_doubts", lambda *_: doubts)
    code, out, err = medward(*HARDEN, "--epsilon", "12/255", "--epochs", "1", "--no-augment")
    assert code == expected, out + err
    assert ("its training collapsed" in err) == bool(expected)
    assert ("collapsed: hardened is kept to be looked at" in out) == bool(expected)
    assert ("Protect hardened/model.onnx" in out) != bool(expected)
    assert Path("hardened/certificate.json").exists()


def test_an_operating_point_is_defended_and_handed_on_to_protect(medward):
    code, out, _ = medward(*HARDEN, "--epsilon", "12/255", "--epochs", "1", "--no-augment", "--threshold", "0.3")
    assert code == 0
    assert (
        RobustnessCertificate.model_validate_json(Path("hardened/certificate.json").read_text()).task.threshold == 0.3
    )
    assert "balanced accuracy at the threshold 0.3:" in out
    assert "Protect hardened/model.onnx with --output logits --threshold 0.3 --low 0 --high 1, then check it" in out
    code, _, err = medward(*HARDEN, "--epochs", "1", "--threshold", "1", "--overwrite")
    assert (code, err.count("\n")) == (3, 1)
    assert "threshold: must be a probability above 0 and below 1, got 1.0" in err


@pytest.mark.parametrize(
    ("model", "data", "options", "measured", "next_"),
    [
        (
            "finder",
            "findings.npz",
            ("--task", "multilabel", "--classes", "mass,cyst", "--threshold", "cyst=0.3,mass=0.5"),
            "mean balanced accuracy of the findings at the thresholds mass 0.5, cyst 0.3:",
            "with --task multilabel --output logits --classes mass,cyst --threshold 0.5,0.3",
        ),
        (
            "measurer",
            "numbers.npz",
            ("--tolerance", "2", "--cut-points", "9,12"),
            "share within the tolerance and on their side of the cut points (tolerance 2, cut points 9, 12):",
            "with --task regression --classes value --tolerance 2 --cut-points 9.0,12.0",
        ),
        (
            "measurer",
            "mine.npz",
            ("--classes", "well,ill", "--output", "logits"),
            "kept; balanced accuracy:",
            "with --output logits --classes well,ill --low 0 --high 1, then",
        ),
    ],
)
def test_what_the_model_answers_is_said_measured_and_handed_on(medward, model, data, options, measured, next_):
    said = ("harden", f"site_models_for_harden:{model}", "--data", data, *HARDEN[4:], *options)
    code, out, err = medward(*said, "--epochs", "1", "--no-augment")
    assert code == 0, err
    assert measured in out
    assert next_ in out


def test_opaque_outputs_are_refused_with_the_remedy(medward):
    code, _, err = medward(*HARDEN, "--task", "opaque")
    assert (code, err.count("\n")) == (3, 1)
    assert "opaque outputs cannot be hardened" in err
    assert not Path("hardened").exists()


def test_rows_that_the_model_never_saw_say_what_it_was_before(medward):
    with np.load("mine.npz") as rows:
        np.savez("both.npz", **rows, selection_inputs=rows["train_inputs"], selection_labels=rows["train_labels"])
    code, out, err = medward(*hardening("--data", "both.npz", "--epochs", "1", "--no-augment"))
    assert code == 0, err
    certificate = RobustnessCertificate.model_validate_json(Path("hardened/certificate.json").read_text())
    assert f"{certificate.before.universal:.3f} -> {certificate.after.universal:.3f}" in out
    assert "not stated" not in err


def test_certified_hardening_says_what_is_proven_for_how_many(medward):
    said = (*HARDEN, "--method", "certified", "--epochs", "2", "--no-augment")
    code, out, _ = medward(*said, "--architecture", "small", "--margin", "1.5")
    assert code == 0
    certificate = RobustnessCertificate.model_validate_json(Path("hardened/certificate.json").read_text())
    assert certificate.epsilon == pytest.approx(4 / 255)
    assert (certificate.settings["architecture"], certificate.settings["margin"]) == ("small", 1.5)
    assert f"  decisions certified within 0.01569: {certificate.certified_shares[1].after:.3f}\n" in out
    assert f"any change, by bounds    {certificate.after.certified:.3f}\n" in out
    assert "certified answer by answer: no change within the radius" in out
    for options, told in (
        (("certified", "--architecture", "huge"), "architecture: there is no 'huge'; there are own, small, wide"),
        (("pgd", "--architecture", "small"), "--architecture: only certified brings networks of its own"),
        (("dp", "--architecture", "small"), "--architecture: is of certified"),
    ):
        code, _, err = medward(*HARDEN, "--method", *options, "--overwrite")
        assert (code, err.count("\n")) == (3, 1)
        assert told in err


def test_a_margin_is_for_uat_and_certified_alone(medward, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "medward.integrations.cli.harden_options.run_hardening",
        lambda model, splits, out, method, **_: seen.append(method),
    )
    assert medward(*HARDEN, "--margin", "1.2")[0] == 0
    assert seen[0].margin == 1.2
    code, _, err = medward(*HARDEN, "--method", "pgd", "--margin", "1.2")
    assert code == 3
    assert "only uat and certified train at more than their radius" in err


@pytest.mark.parametrize(
    ("method", "data", "bounds", "epsilon"),
    [
        ("trades", "mine.npz", (), 10 / 255),
        ("trades", "mine.npz", ("--high", "3"), 30 / 255),
        ("trades", "table.npz", (), 1.0),
        ("certified", "mine.npz", ("--high", "3"), 12 / 255),
        ("certified", "table.npz", (), 0.25),
    ],
)
def test_without_a_radius_it_is_the_usual_one_of_the_method(medward, monkeypatch, method, data, bounds, epsilon):
    seen = []
    monkeypatch.setattr(
        "medward.integrations.cli.harden_options.run_hardening",
        lambda model, splits, out, method, **_: seen.append(method),
    )
    assert medward(*hardening("--data", data, *bounds, "--method", method))[0] == 0
    assert seen[0].name == method
    assert seen[0].epsilon == pytest.approx(epsilon)


WRONG = {
    "no range": ((), "--low and --high"),
    "range upside down": (("--low", "2"), "--low must be below --high, got 2 and 1"),
    "radius of everything": (("--epsilon", "10"), "--epsilon: 10 is more than half of the range 0 to 1"),
    "radius of nothing": (("--epsilon", "0.001"), "--epsilon: 0.001 is next to nothing in the range 0 to 1"),
    "no labels": (("--data", "unlabelled.npz"), "train: hardening needs labels"),
    "range": (("--high", "0.5"), "set --low and --high"),
    "negative": (("--epsilon", "-0.1"), "epsilon: must be a finite number above 0, got -0.1"),
    "no number": (("--epsilon", "ten"), "epsilon: expected a number or a fraction as 10/255, got 'ten'"),
    "by zero": (("--epsilon", "1/0"), "epsilon: expected a number"),
    "method": (("--method", "magic"), "magic"),
    "file": (("--data", "absent.npz"), "absent.npz: there is no such file"),
    "device": (("--device", "nowhere"), "device 'nowhere'"),
    "rate": (("--rate", "0"), "rate: must be a finite number above 0"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_one_sentence_and_leaves_nothing(medward, mistake):
    arguments, sentence = WRONG[mistake]
    code, _, err = medward(*(HARDEN[:6] if mistake == "no range" else hardening(*arguments)))
    assert code == 3
    assert sentence in err
    assert "Traceback" not in err
    assert not [path for path in Path().iterdir() if "hardened" in path.name]


@pytest.mark.parametrize("name", ["number", "absent"])
def test_what_is_no_torch_module_is_refused(medward, name):
    code, _, err = medward("harden", f"site_models_for_harden:{name}", *HARDEN[2:])
    assert code == 3
    assert "site_models_for_harden" in err
    assert err.startswith("medward: ")


def test_validate_refuses_a_twin_of_another_shape(medward):
    assert medward(*HARDEN, "--epochs", "1", "--method", "pgd", "--no-augment")[0] == 0
    shutil.copytree("hardened", "other")
    benign = np.random.default_rng(1).uniform(0.2, 0.8, size=(300, 1, 8, 8)).astype(np.float32)
    np.savez("benign.npz", inputs=benign)
    np.savez("test.npz", test_inputs=benign[:60])
    protect = ("protect", "hardened/model.onnx", "--data", "benign.npz", "--on-error", "withhold", "--low", "0")
    assert medward(*protect, "--high", "1", "--output", "logits", "--classes", "a,b", "-o", "bundle")[0] == 0
    check = ("validate", "bundle", "--data", "test.npz", "-o", "report", "--before")
    code, _, err = medward(*check, "absent.onnx")
    assert code == 3
    assert "before: absent.onnx" in err
    code, _, err = medward(*check, "site_models_for_harden:number")
    assert code == 3
    assert err.count("\n") == 1
