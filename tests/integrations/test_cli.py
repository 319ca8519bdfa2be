"""The command line: its journeys with a small model, and every mistake of a user as one sentence and exit 3."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from medward.attacks import validate as entry
from medward.attacks.validation.finding import Status
from medward.attacks.validation.record import Report
from medward.guard.accounts.stores import SQLiteStore
from medward.guard.audit.log import AuditLog, verify_log
from medward.guard.bundle import folder as bundles
from medward.guard.bundle.power_words import power_words
from medward.integrations.cli import main
from medward.integrations.serving import load_app

CODE = """
import numpy as np
from sklearn.linear_model import LogisticRegression

rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
clinic = LogisticRegression().fit(rows, (rows[:, 0] > 0).astype(int))
number = 7


def scores(rows):
    return np.stack([rows[:, 0], -rows[:, 0]], axis=1)


def first(images):
    mean = images[:, 0].mean(axis=(1, 2))
    return np.stack([mean, 1 - mean], axis=1)
"""
MODEL = "site_models_for_cli:clinic"
PROTECT = ("protect", MODEL, "--data", "benign.npz")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with a model's module, data sets good and bad, a policy with a wrong key, and a bundle."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "site_models_for_cli.py").write_text(CODE)
    rng = np.random.default_rng(1)

    def normal(n):
        return rng.normal(size=(n, 4)).astype(np.float32)

    test = normal(60)
    labels = (test[:, 0] > 0).astype(int)
    np.savez(folder / "benign.npz", inputs=normal(300))
    np.savez(folder / "test.npz", test_inputs=test, test_labels=labels)
    np.savez(folder / "wide.npz", test_inputs=np.zeros((20, 5), np.float32), test_labels=np.zeros(20, int))
    np.savez(folder / "high_labels.npz", test_inputs=test, test_labels=labels + 9)
    np.savez(folder / "word_labels.npz", test_inputs=test, test_labels=np.array(["no"] * 60))
    np.savez(folder / "few.npz", inputs=normal(3))
    np.savez(folder / "clinic.npz", inputs=normal(150) + np.float32(9))
    np.savez(folder / "ample.npz", inputs=normal(170) + np.float32(9))
    np.savez(folder / "nan.npz", inputs=np.full((300, 4), np.nan, np.float32))
    np.savez(folder / "words.npz", inputs=np.full((300, 4), "a"))
    np.savez(folder / "pickled.npz", inputs=np.array([{}], object))
    benign = normal(300)
    yes = np.where(benign[:, 0] > 0, "yes", "no")
    np.savez(folder / "labelled.npz", inputs=benign, labels=yes, patients=np.arange(300).astype(str), notes=yes)
    np.savez(folder / "swapped.npz", inputs=benign, labels=np.where(yes == "yes", "no", "yes"))
    np.savez(folder / "scans.npz", images=rng.integers(0, 256, (300, 3, 8, 8)).astype(np.uint8))
    (folder / "table.csv").write_text("age,sex\n40,f\n")
    (folder / "garbage.npz").write_bytes(b"PK\x03\x04garbage")
    (folder / "policy.toml").write_text('on_error = "withhold"\n[screen]\nrat = 0.1\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        with pytest.raises(SystemExit) as done:
            main([*PROTECT, "--on-error", "withhold", "-o", "bundle"])
    assert done.value.code == 0
    return folder


@pytest.fixture
def medward(desk, tmp_path, monkeypatch, capsys):
    """Run the command in a copy of the desk; returns its exit code, stdout and stderr."""
    work = Path(shutil.copytree(desk, tmp_path / "desk"))
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", [*sys.path, str(work)])

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(list(arguments))
        printed = capsys.readouterr()
        return done.value.code, printed.out, printed.err

    return run


# Journeys


def test_protect_says_what_it_guarantees_and_writes_a_bundle_that_loads(medward):
    code, out, err = medward(*PROTECT, "--on-error", "flag", "-o", "b", "--classes", "no, yes", "--name", "clinic")
    assert (code, err) == (0, "")
    loaded = bundles.load_bundle("b")
    assert loaded.digest in out
    assert "P(ever withhold a benign account) <= 0.0001 + 0.001" in out
    assert (loaded.policy.on_error, loaded.model.spec.classes) == ("flag", ("no", "yes"))
    assert medward(*PROTECT, "--on-error", "withhold", "-o", "b", "--overwrite")[0] == 0
    assert bundles.load_bundle("b").policy.on_error == "withhold"


def test_protect_says_what_it_understood_and_how_well_the_model_does(medward):
    arguments = ("protect", MODEL, "--data", "labelled.npz", "--on-error", "withhold", "-o", "b", "--classes", "no,yes")
    code, out, err = medward(*arguments)
    assert (code, err) == (0, "")
    quality = bundles.load_bundle("b").card.quality
    unread, understood, model, *_ = out.splitlines()
    assert unread == "warning: labelled.npz: not read, for no split has these names: notes"
    assert understood.startswith("data: 300 rows of 300 patients; 4 columns, values -")
    assert "; classes no 1" in understood
    assert model == f"model: {quality}"
    assert quality.accuracy > 0.9


def test_layout_and_bits_are_said_on_the_command_line(medward):
    scans = ("protect", "site_models_for_cli:first", "--data", "scans.npz", "--on-error", "withhold", "-o", "b")
    said = ("--classes", "a,b", "--output", "probabilities", "--low", "0", "--high", "1")
    assert "say --layout NCHW" in mistake(medward(*scans, *said))
    code, out, _ = medward(*scans, *said, "--layout", "NCHW", "--bits", "8")
    assert code == 0
    assert out.startswith("data: 300 rows; images 3 x 8 x 8, values 0 to 1; no labels; 8-bit pixels, channels first\n")


def test_protect_says_what_an_operating_point_means_and_the_bundle_keeps_it(medward):
    code, out, err = medward(*PROTECT, "--on-error", "flag", "-o", "b", "--threshold", "0.02")
    assert (code, err) == (0, "")
    assert "decides 1 when its probability is at least 0.02, else 0\n" in out
    assert bundles.load_bundle("b").model.spec.threshold == 0.02
    for wrong in ("0", "1", "nan", "-0.1"):
        code, _, err = medward(*PROTECT, "--on-error", "flag", "-o", "c", "--threshold", wrong)
        assert (code, err.count("\n")) == (3, 1), err
        assert "threshold: must be a probability above 0 and below 1" in err


def test_validate_writes_the_report_and_its_exit_code_is_the_verdict(medward):
    code, out, _ = medward("validate", "bundle", "--data", "test.npz", "-o", "report", "--attacks", "uap")
    assert out.startswith("test: 60 rows; 4 columns, values -")
    report = Report.load(Path("report/report.json"))
    assert [finding.attack for finding in report.findings] == ["uap"]
    assert report.places == {"bundle": "bundle", "data": "test.npz", "out": "report"}, "which its commands name"
    medward("validate", "bundle", "--data", "test.npz", "-o", "other", "--attacks", "uap", "--allow-code")
    assert Report.load(Path("other/report.json")).places["options"] == "--allow-code"
    assert code == report.exit_code
    assert report.verdict.value in out
    assert f"report: {Path('report/report.html')}" in out
    assert Path("report/report.html").exists()


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((Status.HELD, Status.HELD), 0),
        ((Status.HELD, Status.BROKEN), 1),
        ((Status.HELD, Status.INCONCLUSIVE), 2),
        ((Status.NOT_APPLICABLE,), 2),
    ],
)
def test_every_verdict_keeps_its_exit_code(medward, monkeypatch, statuses, expected):
    arguments = ("validate", "bundle", "--data", "test.npz", "-o", "report", "--attacks", "membership-loss")
    medward(*arguments)
    report = Report.load(Path("report/report.json"))
    findings = tuple(report.findings[0].model_copy(update={"status": status}) for status in statuses)
    changed = report.model_copy(update={"findings": findings})
    monkeypatch.setattr(entry, "validate", lambda *_, **__: changed)
    assert medward(*arguments)[0] == expected


def test_an_edited_policy_is_refused_until_it_is_sealed(medward):
    policy = Path("bundle/policy.toml")
    policy.write_text(policy.read_text().replace('on_error = "withhold"', 'on_error = "flag"'))
    serve = ("serve", "bundle", "--no-keys", "--host", "127.0.0.1", "--state", "state")
    code, _, err = medward(*serve)
    assert code == 3
    assert "policy.toml" in err
    assert medward("seal", "bundle")[0] == 0
    assert bundles.load_bundle("bundle").policy.on_error == "flag"


def test_a_site_gets_a_calibration_of_its_own_and_is_served_by_it(medward):
    code, out, err = medward("calibrate", "bundle", "clinic.npz", "--site", "clinic")
    assert (code, err) == (0, "")
    made = bundles.load_bundle("bundle")
    own, shared = len(made.sites["clinic"].reference), len(made.profile.reference)
    assert out.splitlines()[0].startswith("clinic: 150 rows; 4 columns, values ")
    assert out.splitlines()[1:] == [
        f"clinic: calibrated on 150 benign rows, 90 of them as reference; the bundle's own has {shared}",
        *power_words(made.card.sites["clinic"].power),
        "note: with fewer rows there are no more false alarms, but a thief is noticed later; add rows to "
        "notice it sooner",
        "note: site 'clinic': the screen is idle: 150 calibration rows leave 90 for comparison, and refusing a share "
        "of 0.01 needs 99; give at least 164 rows; until then the bundle's own screen judges its inputs",
        *(f"note: {each}" for each in made.cautions),
        "alarms that stand are kept: `medward accounts reset` clears them, account by account",
        f"bundle: bundle  digest {made.digest}; restart servers of it",
    ]
    assert own == 90 < shared

    assert "note: the screen" not in medward("calibrate", "bundle", "ample.npz", "--site", "clinic")[1]
    tokens = {site: medward("keys", "add", f"{site}/key", "--state", "state")[1].strip() for site in ("clinic", "ward")}
    found = {}
    with TestClient(load_app(Path("bundle"), state=Path("state"))) as client:
        for site, token in tokens.items():
            rows = np.load("ample.npz")["inputs"][:40]
            reply = client.post("/v1/predict", json={"inputs": rows.tolist()}, headers={"X-API-Key": token})
            found[site] = reply.raise_for_status().json()["levels"].count("withheld")
    assert found["clinic"] < 4  # the screen's rate is 1 %
    assert found["ward"] == 40

    replaced = medward("calibrate", "bundle", "benign.npz", "--site", "clinic")[1]
    assert "clinic: calibrated on 300 benign rows" in replaced
    made = bundles.load_bundle("bundle")
    assert [each for each in replaced.splitlines() if "note:" in each] == [f"note: {each}" for each in made.cautions]
    assert made.digest in replaced


def test_a_site_without_a_key_is_named_when_the_bundle_is_served(medward, caplog):
    medward("calibrate", "bundle", "clinic.npz", "--site", "clinik")
    medward("keys", "add", "clinic/key", "--state", "state")
    with TestClient(load_app(Path("bundle"), state=Path("state"))):
        pass  # closes what it opened
    assert "site 'clinik' has a calibration of its own, but no key begins with that name" in caplog.text
    caplog.clear()
    medward("keys", "add", "clinik/key", "--state", "state")
    with TestClient(load_app(Path("bundle"), state=Path("state"))):
        pass  # closes what it opened
    assert "begins with that name" not in caplog.text


def test_keys_are_shown_once_listed_without_their_secret_and_revoked(medward):
    code, token, _ = medward("keys", "add", "hospital-a/radiology/key-1", "--state", "state", "--days", "30")
    assert code == 0
    token = token.strip()
    _, listed, _ = medward("keys", "list", "--state", "state")
    key = listed.split()[0]
    assert token.startswith(f"mw_{key}_")
    assert "hospital-a/radiology/key-1" in listed
    assert "expires" in listed
    assert token.removeprefix(f"mw_{key}_") not in listed
    assert medward("keys", "revoke", key, "--state", "state")[0] == 0
    assert "revoked" in medward("keys", "list", "--state", "state")[1]


def test_audit_verify_counts_the_records_and_names_a_broken_one(medward):
    log = AuditLog("audit.jsonl")
    for number in range(3):
        log.append({"query": f"q{number}"})
    code, out, _ = medward("audit", "verify", "audit.jsonl")
    assert code == 0
    assert "3 records, chain whole" in out
    assert verify_log("audit.jsonl").head in out
    assert medward("audit", "verify", "audit.jsonl", "--head", "0" * 63 + "1")[0] == 3
    path = Path("audit.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"q1"', b'"q9"'))
    assert "record 2 (line 2)" in mistake(medward("audit", "verify", "audit.jsonl"))


def test_a_reset_forgets_one_account(medward):
    with TestClient(load_app(Path("bundle"), state=Path("state"), anonymous=True)) as client:
        client.post("/v1/predict", json={"inputs": [[0.0] * 4]}).raise_for_status()
    code, out, _ = medward("accounts", "reset", "anonymous", "--state", "state")
    assert (code, out) == (
        0,
        "anonymous: its monitors start afresh; accounts above and below it, and what it was told, stand\n",
    )
    store = SQLiteStore("state/accounts.db")
    assert store.get("anonymous") is None
    store.close()


@pytest.mark.parametrize("command", [(), ("keys",), ("audit",), ("accounts",), ("protect", "--help")])
def test_help_is_printed(medward, command):
    _, out, err = medward(*command)
    assert "Usage" in out
    assert "Traceback" not in err


# Mistakes


def mistake(done):
    """The one sentence of a refused command."""
    code, out, err = done
    assert code == 3, (out, err)
    assert out == ""
    assert err.startswith("medward: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err


def protecting(*arguments, model=MODEL, data="benign.npz", on_error=("--on-error", "withhold")):
    return ("protect", model, "--data", data, *on_error, "-o", "out", *arguments)


def calibrating(*arguments, bundle="bundle", data="clinic.npz", site="clinic"):
    return ("calibrate", bundle, data, "--site", site, *arguments)


def validating(*arguments, bundle="bundle", data="test.npz"):
    return ("validate", bundle, "--data", data, "-o", "report", *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (protecting(model="missing.onnx"), "missing.onnx: cannot read the model"),
        (protecting(model="missing_module:net"), "No module named 'missing_module'"),
        (protecting(model="site_models_for_cli:nothing"), "no attribute 'nothing'"),
        (protecting(model="site_models_for_cli:number"), "int is no torch module"),
        (protecting(model="site_models_for_cli:scores"), "say what its scores are"),
        (
            protecting("--output", "probabilities", "--classes", "a,b", model="site_models_for_cli:scores"),
            "claims probabilities",
        ),
        (protecting(data="missing.npz"), "missing.npz"),
        (protecting(data="."), "not a readable npz"),
        (protecting(data="table.csv"), "was fitted on 4 features"),
        (protecting("--target", "dead", data="table.csv"), "target: there is no column 'dead'; there are age, sex"),
        (protecting("--classes", "no,yes", data="swapped.npz"), "classes: the names look exchanged"),
        (protecting(data="swapped.npz"), "must be names of the classes 0, 1, or their places; got 'no'"),
        (protecting("--layout", "HWC"), "'NHW', 'NHWC', 'NCHW'"),
        (protecting("--layout", "NHWC"), "layout and bits are for images, got a table"),
        (protecting("--bits", "40"), "--bits"),
        (protecting(data="garbage.npz"), "garbage.npz: not a readable npz"),
        (protecting(data="pickled.npz"), "without pickled objects"),
        (protecting(data="nan.npz"), "finite"),
        (protecting(data="few.npz"), "3 benign rows are too few for calibration_risk 0.001; give at least 77"),
        (protecting(data="words.npz"), "expected numbers"),
        (protecting("--split", "val"), "there is no split 'val'; it has data"),
        (protecting(data="test.npz"), "name the benign split with --split; it has test"),
        (protecting(on_error=()), "on_error must be chosen"),
        (protecting(on_error=("--on-error", "maybe")), "'withhold', 'flag'"),
        (protecting("--policy", "policy.toml"), "not both"),
        (protecting(on_error=("--policy", "policy.toml")), "policy.toml: screen.rat = 0.1 is not a known key"),
        (protecting(on_error=("--policy", "missing.toml")), "missing.toml: cannot read the policy"),
        (protecting("--low", "3", "--high", "1"), "low must be below high, got low = 3 and high = 1"),
        (protecting("--low", "nan"), "bounds must be finite"),
        (protecting("--classes", "a,b,c"), "one column per class"),
        (protecting("--seed", "-1"), "--seed"),
        ((*PROTECT, "--on-error", "withhold", "-o", "bundle"), "not empty"),
        ((*PROTECT, "--on-error", "withhold", "-o", "policy.toml"), "not a folder"),
        (calibrating(site="clinic/ward"), "a level is 1 to 128 printable characters without '/', got 'clinic/ward'"),
        (calibrating(site=""), "1 to 128 printable characters"),
        (calibrating(bundle="missing"), "missing: is not a bundle folder"),
        (calibrating(data="missing.npz"), "missing.npz"),
        (calibrating(data="few.npz"), "3 benign rows are too few for calibration_risk 0.001; give at least 77"),
        (calibrating(data="nan.npz"), "finite"),
        (calibrating("--split", "test", data="wide.npz"), "expected shape (n >= 1, 4), got (20, 5)"),
        (calibrating("--split", "val"), "there is no split 'val'; it has data"),
        (calibrating("--expect", "0" * 64), "expected 000000000000"),
        (calibrating("--seed", "-1"), "--seed"),
        (("calibrate", "bundle", "clinic.npz"), "Missing option '--site'"),
        (validating(bundle="missing"), "missing: is not a bundle folder"),
        (validating(bundle="."), "card.json: cannot be read"),
        (validating(data="missing.npz"), "missing.npz"),
        (validating(data="wide.npz"), "expected shape (n >= 1, 4), got (20, 5)"),
        (validating(data="high_labels.npz"), "split test: labels must be 0 to 1, got 9 to 10"),
        (validating(data="word_labels.npz"), "labels must be"),
        (validating(data="few.npz"), 'needs a split "test" of at least 10 rows, got'),
        (validating("--attacks", "uapp"), "there is no 'uapp'; there are uap"),
        (validating("--attacks", ""), "there is no ''"),
        (validating("--expect", "0" * 64), "expected 000000000000"),
        (validating("--seed", "-1"), "--seed"),
        (("validate", "bundle", "--data", "test.npz", "-o", "policy.toml"), "policy.toml"),
        (("validate", "bundle"), "Missing option '--data'"),
        (("validate",), "Missing argument 'BUNDLE'"),
        (("protect",), "Missing argument"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("demo", "-o", "policy.toml", "--seed", "no"), "--seed"),
        (("seal", "missing"), "missing: is not a bundle folder"),
        (("keys", "add", "a//b"), "1 to 128 printable characters"),
        (("keys", "add", "a", "--days", "0"), "--days"),
        (("keys", "add", "a", "--state", "policy.toml"), "policy.toml"),
        (("keys", "revoke", "1234"), "key '1234' does not exist"),
        (("audit", "verify", "missing.jsonl"), "there is no such audit log"),
        (("audit", "verify", "policy.toml"), "record 1 (line 1): not JSON"),
        (("accounts", "reset", "hospital-a"), "there is no such file; give the server's --state folder"),
        (("accounts", "reset", "hospital-a", "--store", "missing.db"), "missing.db: there is no such file"),
        (("accounts", "reset", "hospital-a", "--store", "localhost:6379"), "redis://:password@host:6379/0"),
        (("serve", "missing"), "missing: is not a bundle folder"),
        (("serve", "bundle", "--no-keys", "--host", "0.0.0.0"), "must stay on 127.0.0.1"),
        (("serve", "bundle", "--port", "99999"), "--port"),
        (("serve", "bundle", "--state", "policy.toml"), "cannot hold the guard's state"),
        (("serve", "bundle", "--store", "localhost:6379"), "redis://:password@host:6379/0"),
        (("serve", "bundle", "--store", "missing/accounts.db"), "missing/accounts.db: unable to open"),
        (("serve", "bundle", "--certificate", "c.pem"), "both or neither"),
        (("validate", "bundle", "--data", "a.npz", "--data=b.npz"), "--data: is said 2 times, and only one can count"),
        (("protect", "m", "-o", "a", "--out", "b"), "--out: is said 2 times"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_sentence_and_exit_3(medward, arguments, says):
    assert says in mistake(medward(*arguments))


@pytest.mark.parametrize("file", ["card.json", "policy.toml", "profile.npz", "model.onnx"])
def test_a_damaged_bundle_file_is_named(medward, file):
    path = Path("bundle") / file
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert f"medward: {file}: " in mistake(medward(*validating()))


def test_a_damaged_calibration_of_a_site_is_named(medward):
    medward(*calibrating())
    (file,) = Path("bundle").glob("site-*")
    file.write_bytes(file.read_bytes()[:-1])
    for command in (validating(), calibrating(), ("seal", "bundle"), ("serve", "bundle", "--no-keys")):
        assert f"medward: {file.name}: " in mistake(medward(*command))


def test_a_bundle_of_code_needs_allow_code(medward):
    options = ("--output", "logits", "--classes", "no,yes")
    assert medward(*protecting(*options, model="site_models_for_cli:scores"))[0] == 0
    assert "allow" in mistake(medward(*validating(bundle="out")))
    assert "allow" in mistake(medward(*calibrating(bundle="out")))
    assert medward(*calibrating("--allow-code", bundle="out"))[0] == 0


def test_a_missing_library_says_what_to_install(medward, monkeypatch):
    monkeypatch.setitem(sys.modules, "medward.integrations.serving.keys", None)
    assert "pip install 'medward[all]'" in mistake(medward("keys", "list"))


def test_protect_says_which_calibration_rows_the_model_was_trained_on(medward):
    rows = np.random.default_rng(5).normal(size=(600, 4)).astype(np.float32)
    half_seen = np.concatenate([rows[200:300], rows[300:500]])
    np.savez("seen.npz", train_inputs=rows[:300], calibration_inputs=half_seen)
    np.savez("apart.npz", train_inputs=rows[:300], calibration_inputs=rows[300:])
    for name, told in (("seen", True), ("apart", False)):
        code, out, err = medward("protect", MODEL, "--data", f"{name}.npz", "--on-error", "flag", "-o", f"b-{name}")
        assert (code, err) == (0, "")
        assert ("of the rows of the calibration data are copies of rows that are also in train" in out) == told


def test_help_loads_neither_torch_nor_scikit_learn():
    code = (
        "import sys\nfrom medward.integrations.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'sklearn', 'onnxruntime', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "protect" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
