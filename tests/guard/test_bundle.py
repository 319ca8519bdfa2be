from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import HistGradientBoostingClassifier
from support.report_models import report_images, report_spec
from support.report_networks import VOCABULARY, encoder_decoder
from support.sights import refitted

from medward.guard import models
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.bundle import folder as bundle
from medward.guard.bundle.add_site import add_site
from medward.guard.bundle.card import canonical_json, sha256, site_file
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.monitors.table import calibration_shares
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Query
from medward.guard.waiver_policy import Waiver

POLICY = Policy(on_error="withhold")
SPEC = ModelSpec(
    name="m", modality="tabular", shape=(4,), task=Classification(classes=("a", "b"), output="logits"), low=-50, high=50
)
rng = np.random.default_rng(0)
X = rng.normal(size=(400, 4)).astype(np.float32)
W = rng.normal(size=(4, 2)).astype(np.float32)
IMAGES = report_images(400)
REPORT_SPEC = report_spec(length=12, vocabulary=VOCABULARY)


def onnx_bytes() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"]), helper.make_node("Relu", ["x"], ["features"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4]),
        ],
        [numpy_helper.from_array(W, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def score(batch):
    return batch @ W


def make(path, x, spec=SPEC, **options):
    model = models.wrap(x, spec=spec, sample=X[:16])
    profile = Profile.fit(model, X, risk=POLICY.monitor.calibration_risk, secret=0)
    return bundle.save_bundle(path, model, POLICY, profile, data_digest="d" * 64, sizes={"benign": len(X)}, **options)


def make_report_bundle(path):
    model = models.wrap(encoder_decoder(), spec=REPORT_SPEC, sample=IMAGES[:8])
    profile = Profile.fit(model, IMAGES, risk=POLICY.monitor.calibration_risk, secret=0)
    sizes = {"benign": len(IMAGES)}
    return bundle.save_bundle(path, model, POLICY, profile, data_digest="d" * 64, sizes=sizes)


def with_site(to, site="Hospital A", rows=X + 9, sizes=None):
    profile = Profile.fit(to.model, rows, risk=POLICY.monitor.calibration_risk, secret=1)
    return add_site(to, site, profile, data_digest="e" * 64, sizes=sizes or {"benign": len(rows)})


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "m.onnx"
    path.write_bytes(onnx_bytes())
    return path


@pytest.fixture(scope="module")
def masters(tmp_path_factory, source):
    """One bundle per file form; tests change copies."""
    folder = tmp_path_factory.mktemp("masters")
    estimator = HistGradientBoostingClassifier(max_iter=2).fit(X, (X[:, 0] > 0).astype(int))
    probabilities = ModelSpec(
        name="t", modality="tabular", shape=(4,), task=Classification(classes=("a", "b"), output="probabilities")
    )
    return {
        "model.onnx": make(folder / "onnx", source),
        "report.zip": make_report_bundle(folder / "report"),
        "model.skops": make(folder / "skops", estimator, probabilities),
        "entrypoint.json": make(folder / "code", score),
        "sites": with_site(make(folder / "sites", source)),
    }


@pytest.fixture
def copy(masters, tmp_path):
    return Path(shutil.copytree(masters["model.onnx"].path, tmp_path / "bundle"))


@pytest.fixture
def sited(masters, tmp_path):
    return Path(shutil.copytree(masters["sites"].path, tmp_path / "sited"))


SITE = site_file("Hospital A")


@pytest.mark.parametrize("file", models.FILES)
def test_what_was_saved_is_loaded(masters, file):
    saved, rows = masters[file], IMAGES[:8] if file == "report.zip" else X
    assert {each.name for each in saved.path.iterdir()} == {"card.json", "policy.toml", "profile.npz", file}
    loaded = bundle.load_bundle(saved.path, allow_code=True, expect=saved.digest)
    assert (loaded.card, loaded.policy, loaded.model.spec) == (saved.card, POLICY, saved.model.spec)
    outputs, again = saved.model.predict(rows), loaded.model.predict(rows)
    np.testing.assert_array_equal(again.scores, outputs.scores)
    assert again.texts == outputs.texts
    np.testing.assert_array_equal(loaded.profile.strangeness(rows, outputs), saved.profile.strangeness(rows, outputs))
    assert loaded.card.data_digest == "d" * 64
    assert loaded.card.sizes == {"benign": 400}
    assert loaded.card.versions["numpy"] == np.__version__


def test_a_bundle_answers_behind_its_guard(masters):
    loaded = bundle.load_bundle(masters["model.onnx"].path)
    answer = loaded.guard(salt=b"s", ephemeral=True).answer(Query(principal=("a",), inputs=X[:3]))
    np.testing.assert_array_equal(answer.labels, (X[:3] @ W).argmax(axis=1))


def test_saving_twice_gives_the_same_bytes(masters, source, tmp_path):
    again = make(tmp_path / "again", source)
    assert again.digest == masters["model.onnx"].digest


def test_no_pickle_inside(masters):
    for each in masters.values():
        for file in each.path.iterdir():
            assert file.suffix in {".json", ".toml", ".npz", ".onnx", ".skops", ".zip"}
            if file.suffix == ".zip":
                assert {Path(part).suffix for part in zipfile.ZipFile(file).namelist()} == {".json", ".safetensors"}
            assert not file.read_bytes().startswith(b"\x80")  # the first byte of every binary pickle
        with np.load(each.path / "profile.npz", allow_pickle=False) as archive:
            assert all(archive[key].dtype != object for key in archive.files)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_anywhere_is_named_and_refused(masters, data):
    folder = masters[data.draw(st.sampled_from(sorted(masters)), label="bundle")].path
    file = folder / data.draw(st.sampled_from(sorted(each.name for each in folder.iterdir())), label="file")
    good = file.read_bytes()
    position = data.draw(st.integers(0, len(good) - 1), label="position")
    mask = data.draw(st.integers(1, 255), label="mask")
    bad = bytearray(good)
    bad[position] ^= mask
    try:
        file.write_bytes(bad)
        with pytest.raises(IntegrityError, match=f"^{file.name}: "):
            bundle.load_bundle(folder, allow_code=True)
    finally:
        file.write_bytes(good)
    bundle.load_bundle(folder, allow_code=True)


@pytest.mark.parametrize("file", ["card.json", "policy.toml", "profile.npz", "model.onnx", SITE])
def test_missing_cut_linked_or_replaced_files_are_named(sited, file):
    copy = sited
    good = (copy / file).read_bytes()
    (copy / file).write_bytes(good[:-1])
    with pytest.raises(IntegrityError, match=f"^{file}: "):
        bundle.load_bundle(copy)
    (copy / file).write_bytes(good + b"\n")
    with pytest.raises(IntegrityError, match=f"^{file}: "):
        bundle.load_bundle(copy)
    (copy / file).unlink()
    with pytest.raises(IntegrityError, match=f"^{file}: cannot be read"):
        bundle.load_bundle(copy)
    (copy.parent / "elsewhere").write_bytes(good)
    (copy / file).symlink_to(copy.parent / "elsewhere")
    with pytest.raises(IntegrityError, match=f"^{file}: must be a regular file"):
        bundle.load_bundle(copy)


def test_unknown_files_are_refused(copy):
    (copy / "model.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(IntegrityError, match=r"model\.pkl: is not part of the bundle"):
        bundle.load_bundle(copy)


def test_nothing_is_parsed_before_every_digest_is_compared(copy, monkeypatch):
    def parsed(*_, **__):
        raise AssertionError("parsed")

    monkeypatch.setattr(models, "load_model", parsed)
    monkeypatch.setattr(Policy, "from_toml", parsed)
    monkeypatch.setattr(np, "load", parsed)
    (copy / "profile.npz").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"profile\.npz"):
        bundle.load_bundle(copy)


def rewrite(folder, **changes):
    """What someone with write access can do: change the card and seal it again."""
    content = json.loads((folder / "card.json").read_bytes()) | changes
    content.pop("digest")
    digest = sha256(canonical_json(content))
    (folder / "card.json").write_bytes(canonical_json({**content, "digest": digest}))


def test_only_expect_detects_a_full_rewrite(copy):
    kept = bundle.load_bundle(copy).digest
    rewrite(copy, data_digest="e" * 64)
    assert bundle.load_bundle(copy).card.data_digest == "e" * 64
    with pytest.raises(IntegrityError, match="expected"):
        bundle.load_bundle(copy, expect=kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 7}, "format 7, this medward reads formats 1 to 6"),
        ({"model": "model.pkl"}, "names the files"),
        ({"model": "../model.onnx"}, "names the files"),
        ({"sizes": "many"}, "sizes"),
        ({"extra": 1}, "extra"),
        ({"options": {"input": "x", "scores": "absent"}}, "no output named 'absent'"),
    ],
)
def test_a_card_that_makes_no_sense_is_one_sentence(copy, changes, message):
    rewrite(copy, **changes)
    with pytest.raises(MedwardError, match=message):
        bundle.load_bundle(copy)


def test_a_card_of_format_2_is_read_and_lacks_only_what_has_a_default(copy):
    before = bundle.load_bundle(copy)
    content = json.loads((copy / "card.json").read_bytes())
    older = {key: value for key, value in content.items() if key not in ("plugins", "target", "patient", "digest")}
    older["spec"] = {k: v for k, v in content["spec"].items() if k not in ("sent", "columns", "prepare")}
    older["format"] = 2
    digest = sha256(canonical_json(older))
    (copy / "card.json").write_bytes(canonical_json({**older, "digest": digest}))
    read = bundle.load_bundle(copy)
    assert (read.card.digest, read.card.spec) == (digest, before.card.spec)
    rows = X[:3]
    np.testing.assert_array_equal(read.model.predict(rows).scores, before.model.predict(rows).scores)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{}", b"[" * 100_000, b"\xff\xfe"])
def test_a_card_that_is_no_card_is_refused(copy, text):
    (copy / "card.json").write_bytes(text)
    with pytest.raises(IntegrityError, match=r"^card\.json: "):
        bundle.load_bundle(copy)


def test_a_corrupt_model_with_a_matching_card_is_one_sentence(copy):
    (copy / "model.onnx").write_bytes(b"garbage")
    files = json.loads((copy / "card.json").read_bytes())["files"]
    rewrite(copy, files={**files, "model.onnx": sha256(b"garbage")})
    with pytest.raises(MedwardError, match=r"model\.onnx: onnxruntime cannot load"):
        bundle.load_bundle(copy)


def test_code_must_be_allowed(masters):
    with pytest.raises(MedwardError, match="allow_code=True"):
        bundle.load_bundle(masters["entrypoint.json"].path)
    bundle.load_bundle(masters["model.onnx"].path)


def test_seal_accepts_an_edited_policy_and_nothing_else(copy):
    old = bundle.load_bundle(copy).digest
    text = (copy / "policy.toml").read_text().replace('on_error = "withhold"', 'on_error = "flag"')
    (copy / "policy.toml").write_text(text)
    with pytest.raises(IntegrityError, match=r"policy\.toml: .*medward seal"):
        bundle.load_bundle(copy)
    new = bundle.seal_bundle(copy)
    loaded = bundle.load_bundle(copy, expect=new)
    assert (loaded.policy.on_error, new != old) == ("flag", True)
    assert not [each for each in copy.parent.iterdir() if each.name.endswith(".tmp")]

    (copy / "policy.toml").write_text(text + "[unknown]\n")
    with pytest.raises(MedwardError, match="unknown"):
        bundle.seal_bundle(copy)
    (copy / "policy.toml").write_text(text)
    (copy / "model.onnx").write_bytes(onnx_bytes() + b"\x00")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        bundle.seal_bundle(copy)


def test_waivers_change_the_digest_and_not_what_answers_depend_on(copy):
    def digests(text):
        (copy / "policy.toml").write_text(text)
        bundle.seal_bundle(copy)
        found = bundle.load_bundle(copy)
        return found.digest, found.digest_without_waivers

    text = (copy / "policy.toml").read_text()
    waiver = Waiver(attack="pgd", reason="reviewed by the board", by="Dr. Ada Example", until=date(2999, 1, 1))
    plain, accepting = digests(text), digests(text + waiver.to_toml())
    assert plain[0] != accepting[0]
    assert plain[1] == accepting[1]
    other = digests(text.replace('on_error = "withhold"', 'on_error = "flag"'))
    assert other[1] != plain[1]


def test_sealing_warns_of_waivers_that_have_ended(copy, caplog):
    waivers = "".join(
        Waiver(attack=name, reason="reviewed by the board", by="Dr. Ada Example", until=until).to_toml()
        for name, until in (("pgd", date(2020, 1, 1)), ("uap", date(2999, 1, 1)))
    )
    (copy / "policy.toml").write_text((copy / "policy.toml").read_text() + waivers)
    bundle.seal_bundle(copy)
    assert "that of 'pgd' by Dr. Ada Example ended on 2020-01-01" in caplog.text
    assert "uap" not in caplog.text


def test_a_bundle_of_an_older_format_can_be_sealed_and_given_a_site(tmp_path):
    golden = Path(__file__).parent.parent / "golden" / "bundle"
    assert json.loads((golden / "card.json").read_text())["format"] == 1
    shutil.copytree(golden, tmp_path / "b")
    text = (tmp_path / "b" / "policy.toml").read_text()
    (tmp_path / "b" / "policy.toml").write_text(f"{text}\n# read and approved\n")
    new = bundle.seal_bundle(tmp_path / "b")
    loaded = bundle.load_bundle(tmp_path / "b", expect=new)
    assert loaded.card.format == 6, "what is written anew is of the newest format, and says so"
    add_site(loaded, "clinic", loaded.profile, data_digest="0" * 64, sizes={"benign": 1})
    again = bundle.load_bundle(tmp_path / "b")
    assert again.model.spec == bundle.load_bundle(golden).model.spec
    assert set(again.sites) == {"clinic"}


def test_an_edited_calibration_risk_moves_the_thresholds_or_is_refused(copy):
    text = (copy / "policy.toml").read_text()
    (copy / "policy.toml").write_text(text.replace("calibration_risk = 0.001", "calibration_risk = 0.05"))
    bundle.seal_bundle(copy)
    loaded = bundle.load_bundle(copy).profile
    assert loaded.risk == 0.05
    strange, *_ = AccountMonitors.of(Policy(on_error="flag", monitor={"calibration_risk": 0.05}), loaded, 1).bets
    assert strange.part.risk == 0.05 * calibration_shares()["strange"]
    assert loaded.fitted["probing"].reference.thresholds.risk == 0.05 * calibration_shares()["probing"]
    (copy / "policy.toml").write_text(text.replace("calibration_risk = 0.001", "calibration_risk = 1e-300"))
    with pytest.raises(MedwardError, match="cannot support risk"):
        bundle.seal_bundle(copy)


def test_a_profile_from_before_the_shared_monitor_is_refused_until_that_is_switched_off(tmp_path, source):
    model = models.wrap(source, spec=SPEC, sample=X[:16])
    old = refitted(Profile.fit(model, X, risk=0.001), residuals=None)
    parts = {"data_digest": "d" * 64, "sizes": {}}
    with pytest.raises(MedwardError, match=r"protect the model again, or set monitor\.shared = false"):
        bundle.save_bundle(tmp_path / "on", model, POLICY, old, **parts)
    off = Policy.model_validate({**POLICY.model_dump(), "monitor": {"shared": False}})
    built = bundle.save_bundle(tmp_path / "off", model, off, old, **parts)
    verdicts = built.guard(ephemeral=True).answer(Query(principal=("key",), inputs=X[:2])).verdicts
    assert [verdict.source for verdict in verdicts] == ["screen", "e-process:key"]


def test_only_a_bundle_is_overwritten_and_only_on_request(copy, source, tmp_path):
    with pytest.raises(MedwardError, match="not empty"):
        make(copy, source)
    assert make(copy, source, overwrite=True).digest == bundle.load_bundle(copy).digest
    precious = tmp_path / "precious"
    precious.mkdir()
    make(precious, source)  # an empty folder is fine
    (precious / "notes.txt").write_text("keep me")
    with pytest.raises(MedwardError, match="is not a bundle"):
        make(precious, source, overwrite=True)
    assert (precious / "notes.txt").read_text() == "keep me"
    with pytest.raises(MedwardError, match="not a folder"):
        make(precious / "notes.txt", source, overwrite=True)


def test_a_failing_export_leaves_nothing_behind(tmp_path):
    model = models.wrap(lambda batch: batch[:, :2], spec=SPEC, sample=X[:4])
    profile = Profile.fit(model, X, risk=0.001)
    with pytest.raises(MedwardError, match="only name a callable"):
        bundle.save_bundle(tmp_path / "out", model, POLICY, profile, data_digest="", sizes={})
    assert not list(tmp_path.iterdir())
    with pytest.raises(MedwardError, match=r"guard\.models\.wrap"):
        bundle.save_bundle(tmp_path / "out", object(), POLICY, profile, data_digest="", sizes={})


def test_a_site_s_calibration_is_loaded_beside_the_bundle_s_own(masters):
    added = masters["sites"]
    assert {each.name for each in added.path.iterdir()} == {
        "card.json",
        "policy.toml",
        "profile.npz",
        "model.onnx",
        "site-Hospital-A-" + sha256(b"Hospital A")[:12] + ".npz",
    }
    loaded = bundle.load_bundle(added.path, expect=added.digest)
    assert loaded.card == added.card
    assert loaded.card.sites["Hospital A"].model_dump(exclude={"power"}) == {
        "data_digest": "e" * 64,
        "sizes": {"benign": 400},
    }
    assert loaded.guard(ephemeral=True).sites.keys() == {"Hospital A"}
    own, shared = loaded.sites["Hospital A"], masters["model.onnx"].profile
    outputs = added.model.predict(X)
    assert np.median(own.strangeness(X, outputs)) > 4 > 2 > np.median(shared.strangeness(X, outputs))
    np.testing.assert_array_equal(loaded.profile.reference, shared.reference)
    for profile in (own, added.sites["Hospital A"]):
        refit = Profile.fit(added.model, X + 9, risk=0.001, secret=1)
        np.testing.assert_array_equal(profile.reference, refit.reference)


def test_a_site_is_replaced_and_added_to_others_and_nothing_else_changes(masters, sited):
    (sited / "profile.npz").chmod(0o600)
    sited.chmod(0o750)
    before = {each.name: each.read_bytes() for each in sited.iterdir()}
    again = with_site(bundle.load_bundle(sited), rows=X[:200] + 5)
    both = with_site(with_site(again, "hospital b", rows=X[:100] + 5), "Hospital  B", rows=X[:300])  # prints alike
    loaded = bundle.load_bundle(sited, expect=both.digest)
    assert {site: each.sizes["benign"] for site, each in loaded.card.sites.items()} == {
        "Hospital A": 200,
        "hospital b": 300,
    }
    after = {each.name: each.read_bytes() for each in sited.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"card.json", SITE}
    assert (sited / site_file("hospital b")).stat().st_mode & 0o777 == 0o600  # as private as the bundle's own
    assert sited.stat().st_mode & 0o777 == 0o750
    assert [each.name for each in sited.parent.iterdir()] == ["sited"]


def test_a_site_is_not_added_to_a_bundle_that_changed_or_under_a_name_that_is_no_organisation(sited):
    loaded = bundle.load_bundle(sited)
    with_site(loaded, "other")
    with pytest.raises(MedwardError, match="was changed since it was loaded"):
        with_site(loaded, "third")
    assert bundle.load_bundle(sited).sites.keys() == {"Hospital A", "other"}
    for name in ("", "a/b", "a\n", "a" * 129):
        with pytest.raises(MedwardError, match="1 to 128 printable characters"):
            with_site(bundle.load_bundle(sited), name)


@settings(max_examples=200, deadline=None)
@given(names=st.sets(st.text(min_size=1, max_size=128), min_size=2, max_size=8))
def test_every_site_has_a_file_of_its_own_whatever_its_name(names):
    files = {site_file(name).lower() for name in names}
    assert len(files) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{1,75}\.npz", file) for file in files)


def test_a_site_s_file_that_the_card_does_not_know_or_lacks_is_refused(copy, sited):
    shutil.copy(sited / SITE, copy)
    with pytest.raises(IntegrityError, match=f"^{SITE}: is not part of the bundle"):
        bundle.load_bundle(copy)
    card = json.loads((sited / "card.json").read_bytes())
    for sites in ({}, {"Hospital B": card["sites"]["Hospital A"]}, {**card["sites"], "x": card["sites"]["Hospital A"]}):
        rewrite(sited, sites=sites)
        with pytest.raises(IntegrityError, match="names the files"):
            bundle.load_bundle(sited)


def test_a_bundle_from_before_there_were_sites_still_loads(copy):
    content = json.loads((copy / "card.json").read_bytes())
    del content["sites"], content["digest"]
    (copy / "card.json").write_bytes(canonical_json({**content, "digest": sha256(canonical_json(content))}))
    assert bundle.load_bundle(copy).sites == {}
    assert with_site(bundle.load_bundle(copy), "new").digest == bundle.load_bundle(copy).digest


def test_sealing_keeps_the_sites_and_names_one_that_the_edited_policy_is_too_strict_for(sited):
    text = (sited / "policy.toml").read_text()
    mild = text.replace("calibration_risk = 0.001", "calibration_risk = 0.05")
    (sited / "policy.toml").write_text(mild)
    bundle.seal_bundle(sited)
    assert bundle.load_bundle(sited).sites["Hospital A"].risk == 0.05
    few = with_site(bundle.load_bundle(sited), rows=X[:150])
    (sited / "policy.toml").write_text(text.replace("calibration_risk = 0.001", "calibration_risk = 1e-15"))
    with pytest.raises(MedwardError, match=f"^{SITE}: calibration: 90 benign rows cannot support risk"):
        bundle.seal_bundle(sited)
    (sited / "policy.toml").write_text(mild)
    assert bundle.seal_bundle(sited) == few.digest


def test_overwriting_a_bundle_drops_the_sites_of_the_old_model(sited, source):
    assert make(sited, source, overwrite=True).sites == {}
    assert not (sited / SITE).exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from medward.guard.bundle import folder as bundle
from medward.guard.bundle import parts
from medward.guard.bundle.add_site import add_site
old = bundle.load_bundle(sys.argv[1])
steps = 0
def counted(real):
    def step(*args):
        global steps
        steps += 1
        if steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    return step
parts.sync_to_disk, Path.rename = counted(parts.sync_to_disk), counted(Path.rename)
if sys.argv[3] == "save":
    bundle.save_bundle(sys.argv[1], old.model, old.policy, old.profile, data_digest="new", sizes={}, overwrite=True)
else:
    add_site(old, "new", old.profile, data_digest="", sizes={})
"""


@pytest.mark.parametrize(("step", "left"), [(1, "old"), (5, "old"), (6, "old"), (7, "none"), (8, "new")])
def test_a_kill_leaves_the_old_bundle_or_the_new_or_none_but_never_half(copy, step, left):
    killed(copy, step, "save")
    if left == "none":
        assert not copy.exists()
    else:
        assert bundle.load_bundle(copy).card.data_digest == {"old": "d" * 64, "new": "new"}[left]


@pytest.mark.parametrize(("step", "left"), [(1, set()), (7, set()), (9, {"new"})])
def test_a_kill_while_a_site_is_added_leaves_the_old_bundle_or_the_new(copy, step, left):
    killed(copy, step, "site")
    assert bundle.load_bundle(copy).sites.keys() == left


def killed(folder, step, what):
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(step), what], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize("kind", ["model.onnx", "sites"])
def test_serving_an_onnx_bundle_loads_no_torch(masters, kind, tmp_path):
    code = (
        "import sys, numpy as np, medward.guard.bundle.folder as b; from medward.guard.types import Query; "
        "g = b.load_bundle(sys.argv[1]).guard(state=sys.argv[2]); "
        "g.answer(Query(principal=('Hospital A',), inputs=np.zeros((2, 4)))); "
        "print(sorted({'torch', 'sklearn', 'onnx', 'transformers', 'skops', 'scipy'} & set(sys.modules)))"
    )
    run = [sys.executable, "-c", code, str(masters[kind].path), str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
