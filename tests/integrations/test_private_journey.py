"""``medward harden --method dp``, then the commands that it names, and every mistake as one sentence and exit 3."""

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.certificates import privacy_certificate
from torch import nn

from medward import PrivateTraining, harden, validate
from medward.attacks.validate import flipped_coins, planted_canaries
from medward.attacks.validation.record import Report
from medward.guard.bundle.folder import load_bundle
from medward.guard.certificate import PrivacyCertificate
from medward.guard.data.canaries import make_canaries
from medward.guard.data.coin_flip import flip_coins, read_manifest
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden.audit_rows import arrange_audit
from medward.guard.harden.private.settings import plan_training
from medward.guard.harden.training_ledger import training_ledger
from medward.guard.statistics.privacy_accounting import spent_epsilon
from medward.integrations.cli import main
from medward.integrations.serving import load_app

CODE = """
import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
table = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))
images = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.GroupNorm(1, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
)
data = np.load("table.npz")
x, y = torch.from_numpy(data["train_inputs"]), torch.from_numpy(data["train_labels"])
optimiser = torch.optim.Adam(table.parameters(), 0.02)
for _ in range(150):
    optimiser.zero_grad()
    nn.functional.cross_entropy(table(x), y).backward()
    optimiser.step()
table.eval()
"""
HARDEN = ("harden", "site_models_for_privacy:table", "--data", "table.npz", "-o", "out", "--method", "dp")
BUDGET = ("--target-epsilon", "8", "--epochs", "10", "--batch", "120")
"""Over two epochs, one training in three collapsed: its noise is nobody's to seed."""


def rows(n, first, seed):
    """A table whose label follows from one column, and whose each row is another patient from `first` on."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    x[:, 0] += 3 * labels
    return {"inputs": x, "labels": labels, "patients": first + np.arange(n)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a module of models and data, of a table and of images."""
    folder = tmp_path_factory.mktemp("private")
    sizes = {"train": 240, "val": 80, "holdout": 100, "test": 100}
    parts = {name: rows(n, 1000 * i, i) for i, (name, n) in enumerate(sizes.items())}
    np.savez(folder / "table.npz", **{f"{name}_{key}": v for name, part in parts.items() for key, v in part.items()})
    np.savez(folder / "benign.npz", inputs=rows(300, 0, 9)["inputs"])
    inputs, labels = parts["val"]["inputs"], parts["val"]["labels"]
    cells = [f"{','.join(map(str, x))},{y},p{i}" for i, (x, y) in enumerate(zip(inputs, labels, strict=True))]
    (folder / "table.csv").write_text("\n".join(["a,b,c,d,e,f,label,patient", *cells]) + "\n")
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 2
    pixels = rng.uniform(0, 0.5, size=(160, 1, 8, 8)).astype(np.float32) + 0.4 * labels[:, None, None, None]
    np.savez(folder / "images.npz", train_inputs=pixels.astype(np.float32), train_labels=labels)
    (folder / "site_models_for_privacy.py").write_text(CODE)
    return folder


@pytest.fixture
def medward(made, monkeypatch, capsys):
    """Run the command in that folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "path", [*sys.path, str(made)])

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(list(arguments))
        printed = capsys.readouterr()
        return done.value.code, printed.out, printed.err

    yield run
    sys.modules.pop("site_models_for_privacy", None)


def certificate_at(folder):
    return PrivacyCertificate.model_validate_json((Path(folder) / "certificate.json").read_bytes())


def test_a_table_goes_from_training_to_a_report_by_the_commands_that_are_printed(medward, monkeypatch, caplog):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 20)
    code, out, err = medward(
        *HARDEN, *BUDGET, "--delta", "auto", "--unit", "patient", "--canaries", "60", "--candidates", "80"
    )
    assert code == 0, err
    certificate = certificate_at("out")
    spent = [float(each) for each in re.findall(r"step \d+/\d+: epsilon ([\d.]+) spent of 8", out)]
    assert spent == sorted(spent)
    assert spent[-1] == pytest.approx(certificate.epsilon, abs=1e-3)
    assert 0 < certificate.epsilon <= 8
    assert (certificate.unit, certificate.canaries.count, certificate.task.classes) == ("patient", 60, ("0", "1"))
    assert {each.name for each in Path("out").iterdir()} == {"certificate.json", *certificate.files}
    assert not training_ledger(Path("out")).exists()
    assert 'accuracy is measured on the 80 rows of "val"' in out
    assert "40 of 240 rows are held out of training, for an audit" in out
    assert "trained with differential privacy: epsilon" in out
    assert err == "".join(f"medward: warning: {note}\n" for note in certificate.notes)

    protect, validate = (shlex.split(line)[1:] for line in out.splitlines() if line.startswith("  medward "))
    assert validate[2:] == [
        *("--data", "table.npz", "--before", "out/original.onnx", "--canaries", "out/canaries.npz"),
        *("--manifest", "out/membership.json", "-o", "report"),
    ]
    code, out, err = medward(*("benign.npz" if word == "BENIGN" else word for word in protect))
    assert code == 0, err
    assert "certificate: trained with differential privacy: epsilon" in out
    card = load_bundle("bundle").card
    assert card.certificate == certificate
    with caplog.at_level(logging.INFO, "medward.serving"):
        load_app(Path("bundle"), state=Path("state"), anonymous=True)
    assert "certificate: trained with differential privacy: epsilon" in caplog.text
    code, out, err = medward(*validate, "--attacks", "fgsm,membership-loss")
    assert code in (0, 1, 2), err
    assert "what training changed, bare models" in out
    assert out.count("  not covered: ") == len(certificate.not_covered), "each once"
    assert Path("report/report.html").read_text().count("<dt>Not covered</dt>") == 1
    report = Report.load(Path("report/report.json"))
    assert report.certificate == certificate
    assert report.provenance.twin.claim == "privacy"
    told = {found.attack: found for found in report.interactions}
    assert {name: found.claimed for name, found in told.items()} == {"fgsm": False, "membership-loss": True}
    assert all(found.paired and found.difference is not None for found in told.values())
    assert any("the coin that held rows out was flipped after" in note for note in report.notes)


def test_images_whose_rows_are_said_to_be_the_unit(medward, made):
    where = ("harden", "site_models_for_privacy:images", "--data", "images.npz", "-o", "seen", "--method", "dp")
    options = ("--unit", "row", "--class-prior", "0.5,0.5", "--clip", "0.5", "--low", "0", "--high", "1")
    code, out, err = medward(*where, *BUDGET[:2], *options, "--epochs", "40", "--batch", "60", "--rate", "0.05")
    assert code == 0, err
    certificate = certificate_at("seen")
    assert (certificate.unit, certificate.clip, certificate.other_mechanisms) == ("row", 0.5, ())
    assert (certificate.low, certificate.high, certificate.canaries, certificate.manifest) == (0, 1, None, None)
    assert "set apart for it" in out
    assert "--low 0 --high 1" in out
    assert "--canaries" not in out


WRONG = {
    "no budget": (("--unit", "row"), "--target-epsilon: say how much privacy may be spent"),
    "radius": (("--epsilon", "8"), "--epsilon: is the radius of a change, and dp hides patients; say --target-epsilon"),
    "margin": (("--margin", "1.2"), "--margin: is a radius of uat and certified, and dp hides patients; leave it out"),
    "augment": (("--no-augment",), "--augment: is of robust methods, and dp hides patients; leave it out"),
    "delta": ((*BUDGET, "--delta", "small"), "--delta: expected auto or a number as 1e-5, got 'small'"),
    "delta of all": ((*BUDGET, "--delta", "0.5"), "delta: must be below 1 / 240 units"),
    "prior": ((*BUDGET, "--class-prior", "even"), "--class-prior: expected counted, none or shares as 0.7,0.3"),
    "prior of three": ((*BUDGET, "--class-prior", "0.2,0.3,0.5"), "2 shares above 0 and below 1"),
    "start": ((*BUDGET, "--part", "head"), 'say start "pretrained"'),
    "nothing to resume": ((*BUDGET, "--resume"), "resume: there is no killed training to go on with"),
    "unit unknown": (
        ("--data", "images.npz", "--low", "0", "--high", "1", *BUDGET),
        "unit: the data does not say whose rows are whose",
    ),
    "few candidates": ((*BUDGET, "--candidates", "4"), "coin flip: "),
    "no such method": ((*BUDGET, "--method", "dp-sgd"), "--method: there is no 'dp-sgd'; there are uat, "),
    "table of texts": (("--data", "table.csv", "--target", "label", *BUDGET), "gaps or texts in patient; say which"),
    "table without target": (("--data", "table.csv", "--patient", "patient", *BUDGET), "say --target COLUMN"),
    "device": ((*BUDGET, "--device", "nowhere"), "device 'nowhere'"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_one_sentence_and_leaves_nothing(medward, mistake):
    arguments, sentence = WRONG[mistake]
    model = ("site_models_for_privacy:images",) if "images.npz" in arguments else HARDEN[1:2]
    usual = [] if "--data" in arguments else HARDEN[2:4]
    usual = [*usual, *([] if "--method" in arguments else HARDEN[6:])]
    code, _, err = medward("harden", *model, *usual, "-o", "wrong", *arguments)
    assert (code, err.count("\n")) == (3, 1), err
    assert sentence in err
    assert not [path for path in Path().iterdir() if "wrong" in path.name]


@pytest.mark.parametrize(("after", "expected"), [(0.51, 1), (0.9, 0)])
def test_a_private_training_that_collapsed_exits_1_and_is_nothing_to_protect(medward, monkeypatch, after, expected):
    monkeypatch.setattr("medward.guard.harden.private.method.measured_accuracy", lambda *_: after)
    code, out, err = medward(*HARDEN[:4], "-o", f"reached{after}", *HARDEN[6:], *BUDGET)
    assert code == expected, out + err
    assert ("hardly better than chance" in err and "its training collapsed" in err) == bool(expected)
    assert ("is kept to be looked at, and is nothing to protect" in out) == bool(expected)
    assert ("medward protect" in out) != bool(expected)
    assert certificate_at(f"reached{after}").measured["after"] == after


@pytest.mark.parametrize("option", [("--target-epsilon", "8"), ("--canaries", "5"), ("--unit", "row"), ("--resume",)])
def test_options_of_private_training_are_for_it_alone(medward, option):
    code, _, err = medward(*HARDEN[:6], "--method", "pgd", *option)
    assert (code, err) == (3, f"medward: {option[0]}: is an option of --method dp, not of pgd; leave it out\n")


def test_from_python_the_budget_must_be_said(tmp_path):
    data = {"train": Split(**rows(100, 0, 0))}
    with pytest.raises(MedwardError, match=r'"dp" needs to know what may be spent; give PrivateTraining\(target'):
        harden(nn.Linear(6, 2), data, tmp_path / "out", "dp")
    with pytest.raises(MedwardError, match="canaries, candidates, resume: are for private training"):
        harden(nn.Linear(6, 2), data, tmp_path / "out", "uat", canaries=10)
    training = PrivateTraining(target_epsilon=4, epochs=1, class_balance="none", batch=30)
    certificate, _ = harden(nn.Linear(6, 2), data, tmp_path / "out", training, candidates=80)
    manifest = read_manifest((tmp_path / "out" / "membership.json").read_text())
    assert manifest.digest == certificate.manifest
    inside, outside = manifest.sides(data["train"].inputs)
    assert certificate.units == certificate.rows["train"] == int(inside.sum())
    assert set(certificate.measured) == {"after", "chance"}
    assert "accuracy before is not stated" in certificate.notes[-1]
    assert abs(int(inside.sum()) - int(outside.sum())) <= 1


KILLED = """
import os, signal, sys
from medward.guard.harden.private.method import PrivateTraining
from medward.integrations.cli import main
from medward.integrations.serving import load_app

told = PrivateTraining._progress
def killed(self, done, total, epsilon):
    told(self, done, total, epsilon)
    if done >= total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
PrivateTraining._progress = killed
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_and_spends_no_more(medward, made):
    arguments = [*HARDEN[:4], "-o", "late", *HARDEN[6:], *BUDGET, "--unit", "patient", "--canaries", "20"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=made, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert training_ledger(made / "late").exists()
    assert not (made / "late").exists()
    code, _, err = medward(*arguments)
    assert (code, err.count("\n")) == (3, 1)
    assert "is of a training that was killed; go on with it by --resume" in err
    code, _, err = medward(*arguments, "--resume", "--clip", "2")
    assert code == 3
    assert "is of another training, with other clip" in err
    code, _, err = medward(*arguments, "--resume")
    late = certificate_at("late")
    assert code == any("training collapsed" in note for note in late.notes), err
    assert not list(made.glob(".late*"))
    settings = PrivateTraining(target_epsilon=8, epochs=10, batch=120)
    plan = plan_training(settings, late.units, late.other_mechanisms)
    assert late.units == 240 + late.canaries.included
    assert (late.steps, late.noise_multiplier) == (plan.mechanism.steps, plan.mechanism.noise_multiplier)
    assert late.epsilon == spent_epsilon(plan.mechanism, plan.delta), "as if it had never been killed"


def test_a_training_that_is_interrupted_says_how_it_goes_on(medward, monkeypatch):
    def interrupted(self, done, total, epsilon):
        raise KeyboardInterrupt

    arguments = [*HARDEN[:4], "-o", "stopped", *HARDEN[6:], *BUDGET]
    with monkeypatch.context() as patch:
        patch.setattr(PrivateTraining, "_progress", interrupted)
        code, out, _ = medward(*arguments)
    assert code == 130
    assert "go on with the same command and --resume" in " ".join(out.split())
    assert medward(*arguments, "--resume")[0] == 0


def test_a_start_is_not_called_checked_against_rows_of_its_own_training(tmp_path):
    training = PrivateTraining(target_epsilon=8, epochs=1, start="pretrained", class_balance="none")
    data = {"train": Split(**rows(100, 0, 0)), "selection": Split(**rows(60, 200, 1))}
    for each, unchecked in ((data, False), ({"train": data["train"]}, True)):
        certificate, _ = harden(nn.Linear(6, 2), each, tmp_path / str(unchecked), training, task="classification")
        assert any("weights that were fitted to all of train pass" in note for note in certificate.notes) == unchecked


def test_more_candidates_than_rows_are_said(caplog):
    training, train, apart = PrivateTraining(target_epsilon=8), Split(**rows(100, 0, 0)), Split(**rows(20, 1, 0))
    with caplog.at_level(logging.WARNING, "medward.data"):
        arrange_audit(training, train, apart, canaries=0, candidates=100, seed=0)
        assert not caplog.records
        arrange_audit(training, train, apart, canaries=0, candidates=101, seed=0)
    assert "101 were asked for and there are 100 rows; all are taken" in caplog.text


@pytest.mark.parametrize("setting", [{"target_epsilon": "8"}, {"delta": "auto"}, {"clip": None}])
def test_a_setting_that_is_no_number_is_refused(setting):
    with pytest.raises(MedwardError, match=f"{next(iter(setting))}: must be a number, got"):
        PrivateTraining(**{"target_epsilon": 8, **setting}).check()
    PrivateTraining(target_epsilon=np.float32(8), delta=None, batch=None).check()


def test_audit_files_of_another_training_are_refused(tmp_path):
    split = Split(**rows(100, 0, 0))
    canaries = make_canaries(split, 20, np.random.default_rng(0))
    manifest = read_manifest(flip_coins(split, seed=0).manifest)
    canaries.save(tmp_path / "canaries.npz")
    (tmp_path / "membership.json").write_text(manifest.model_dump_json())
    record = {"count": 20, "included": int(canaries.included.sum()), "digest": canaries.digest}

    own = privacy_certificate(canaries=record, manifest=manifest.digest)
    for certificate in (own, None):
        assert planted_canaries(tmp_path / "canaries.npz", certificate).digest == canaries.digest
        assert flipped_coins(tmp_path / "membership.json", certificate) == manifest
    for other in (privacy_certificate(), privacy_certificate(canaries={**record, "digest": "0"}, manifest="0")):
        with pytest.raises(MedwardError, match="canaries: are not those of the bundle's certificate"):
            planted_canaries(tmp_path / "canaries.npz", other)
        with pytest.raises(MedwardError, match="manifest: is not that of the bundle's certificate"):
            flipped_coins(tmp_path / "membership.json", other)
    edited = json.loads((tmp_path / "membership.json").read_text())
    edited["included"], edited["held_out"] = edited["held_out"], edited["included"]
    (tmp_path / "membership.json").write_text(json.dumps(edited))
    with pytest.raises(MedwardError, match="was changed after training"):
        flipped_coins(tmp_path / "membership.json", own)
    with pytest.raises(MedwardError, match=r"canaries\.npz: is no text; give the manifest"):
        flipped_coins(tmp_path / "canaries.npz", own)
    with pytest.raises(MedwardError, match=r"bundle: expected a bundle, got 'out'; give medward\.load"):
        validate("out", "table.npz", tmp_path / "report")
    with pytest.raises(MedwardError, match=r"absent\.json: cannot be read"):
        flipped_coins(tmp_path / "absent.json", own)


def test_canaries_and_manifests_of_another_kind_are_refused_in_one_sentence():
    with pytest.raises(MedwardError, match=r"^canaries: expected the file .* got int; give its path$"):
        planted_canaries(5, None)
    with pytest.raises(MedwardError, match=r"^manifest: expected the file .* got dict; give its path$"):
        flipped_coins({}, None)
