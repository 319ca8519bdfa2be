"""Certified answers from `protect` to the audit log: what is refused, what leaves, what is counted and recorded."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from support.certified import forest, greys, images, policy, protected

from medward.guard.audit.log import AuditLog, read_log, verify_log
from medward.guard.audit.record import AuditRecord
from medward.guard.bundle.card import Card, sha256
from medward.guard.bundle.folder import load_bundle, seal_bundle
from medward.guard.bundle.make import protect
from medward.guard.certify.bounds import Bounds
from medward.guard.certify.model_mark import marked
from medward.guard.data.split import Split
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.policy import Policy
from medward.guard.types import Action, Level, Query

CERTAIN, NEAR = greys(200), greys(129)
BOTH = np.concatenate([CERTAIN, NEAR])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return protected(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture
def copy(bundle, tmp_path):
    shutil.copytree(bundle.path, tmp_path / "copy")
    return tmp_path / "copy"


def ask(guard, rows, who=("clinic", "key")):
    return guard.answer(Query(principal=who, inputs=rows))


def load_card(folder):
    return Card.from_bytes((folder / "card.json").read_bytes())


def reseal(folder, data, name="bounds.onnx"):
    """Exchange the bounds, and rewrite the digests as whoever can write the folder may."""
    (folder / name).write_bytes(data)
    card = load_card(folder)
    files = {**card.files, name: sha256(data)}
    (folder / "card.json").write_bytes(card.model_copy(update={"files": files}).sealed().to_bytes())


def under(bundle, chosen):
    return dataclasses.replace(bundle, policy=chosen)


def test_the_section_reads_back_and_leaves_old_names_of_policies_as_they_were():
    chosen = policy("withhold", 3.5)
    assert Policy.from_toml(chosen.to_toml()) == chosen
    assert Policy(on_error="flag").fingerprint != Policy(on_error="flag", certify={"enabled": True}).fingerprint
    assert Policy(on_error="withhold").fingerprint == Policy(on_error="withhold", certify={}).fingerprint


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("radius = -1.0", "certify.radius = -1.0"),
        ('uncertified = "hide"', "certify.uncertified"),
        ("enabled = 1", "certify.enabled = 1"),
        ("norm = 2", "certify.norm = 2 is not a known key"),
    ],
)
def test_a_section_that_is_none_is_refused(section, words):
    with pytest.raises(MedwardError, match=words):
        Policy.from_toml(f'on_error = "flag"\n[certify]\n{section}\n')


def test_protect_keeps_bounds_and_says_what_they_certify(bundle, caplog):
    found = bundle.card.certified
    assert set(bundle.card.files) == {"model.onnx", "bounds.onnx", "policy.toml", "profile.npz"}
    assert (found.radius, found.rows) == (4.0, 300)
    means = images().mean(axis=(1, 2, 3), dtype=np.float64)
    assert found.certified == (np.abs(means - 0.5) * 255 > 4).sum()


def test_a_forest_keeps_its_trees_and_the_spread_of_its_columns(tmp_path):
    made = forest(tmp_path / "forest")
    assert "bounds.npz" in made.bundle.card.files
    assert made.bundle.card.certified.deviations == pytest.approx(made.rows.std(axis=0), rel=1e-4)


def test_a_model_with_one_answer_is_not_called_certified(tmp_path):
    rows = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    model = LogisticRegression().fit(rows, (rows[:, 0] > 0).astype(int))
    model.intercept_ += 1000.0
    policy = Policy(on_error="withhold", certify={"enabled": True})
    with pytest.raises(MedwardError, match=r'300 of 300 calibration rows .* all are decided as "ill".*--low, --high'):
        protect(model, Split(rows), policy, tmp_path / "b", classes=("well", "ill"))
    model.intercept_ -= 1000.0
    assert protect(model, Split(rows), policy, tmp_path / "b", classes=("well", "ill")).card.certified.certified > 0


def test_a_model_that_cannot_be_bounded_is_refused_by_name(tmp_path):
    rows = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    model = KNeighborsClassifier().fit(rows, (rows[:, 0] > 0).astype(int))
    with pytest.raises(MedwardError, match=r"no sound bound here|cannot be bounded|KNeighbors"):
        protect(model, Split(rows), policy(), tmp_path / "knn", classes=("no", "yes"))
    assert not (tmp_path / "knn").exists()


def test_a_model_of_which_nothing_is_certified_is_refused_with_the_share(tmp_path):
    with pytest.raises(MedwardError, match=r"0 of 300 calibration rows \(0.0%\) are certified at 100 grey levels"):
        protected(tmp_path / "none", chosen=policy(radius=100.0))


def test_bounds_that_are_missing_or_edited_are_refused(copy):
    data = (copy / "bounds.onnx").read_bytes()
    (copy / "bounds.onnx").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"bounds\.onnx: does not match its digest"):
        load_bundle(copy)
    (copy / "bounds.onnx").unlink()
    with pytest.raises(IntegrityError, match=r"bounds\.onnx: cannot be read"):
        load_bundle(copy)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A bundle of a network that decides by one pixel alone, where the mean is that of `bundle`'s."""
    return protected(tmp_path_factory.mktemp("bundles") / "other", "one pixel")


def test_bounds_of_another_model_are_refused_even_with_digests_rewritten(copy, other):
    data = (other.path / "bounds.onnx").read_bytes()
    reseal(copy, data)
    with pytest.raises(IntegrityError, match=r"bounds\.onnx: holds bounds of another model than model\.onnx"):
        load_bundle(copy)
    reseal(copy, marked(data, load_card(copy).files["model.onnx"]))
    with pytest.raises(MedwardError, match=r"\d+ of 64 random rows are answered otherwise than bounds say"):
        load_bundle(copy)


def test_own_bounds_with_digests_rewritten_are_opened(copy):
    reseal(copy, (copy / "bounds.onnx").read_bytes())
    assert ask(load_bundle(copy).guard(ephemeral=True), CERTAIN).certified.holds.all()


def test_bounds_of_trees_name_their_model_too(tmp_path):
    made, others = forest(tmp_path / "forest"), forest(tmp_path / "others", column=1)
    path = made.bundle.path
    reseal(path, (others.bundle.path / "bounds.npz").read_bytes(), "bounds.npz")
    with pytest.raises(IntegrityError, match=r"bounds\.npz: holds bounds of another model"):
        load_bundle(path)


def test_a_guard_takes_no_bounds_of_another_model(bundle, other):
    mixed = dataclasses.replace(bundle, bounds=other.bounds)
    with pytest.raises(MedwardError, match="they are of another model"):
        mixed.guard(ephemeral=True)
    assert dataclasses.replace(mixed, policy=Policy(on_error="flag")).guard(ephemeral=True)  # which asks for none


def test_a_guard_takes_no_bounds_of_another_number(tmp_path, bundle):
    number, half = (protected(tmp_path / kind, kind) for kind in ("number", "number halved"))
    with pytest.raises(MedwardError, match="64 of 64 random rows are answered otherwise"):
        dataclasses.replace(number, bounds=half.bounds).guard(ephemeral=True)
    with pytest.raises(MedwardError, match="another specification"):
        dataclasses.replace(number, bounds=bundle.bounds).guard(ephemeral=True)


def test_a_bundle_compares_bounds_with_its_model_once(bundle, monkeypatch):
    asked = []
    monkeypatch.setattr(Bounds, "check_against", lambda self, model: asked.append(model))
    opened = load_bundle(bundle.path)
    guards = [opened.guard(ephemeral=True) for _ in range(2)]
    assert asked == [opened.model]
    assert guards[0].bounds is guards[1].bounds


def test_a_column_of_one_value_is_named_and_its_error_of_measurement_lifts_it(tmp_path, caplog):
    rows = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    model = LogisticRegression().fit(rows, (rows[:, 0] + 3 * rows[:, 1] > 0).astype(int))
    rows[:, 1] = 0.1
    made = protect(model, Split(rows), policy(), tmp_path / "one", classes=("no", "yes"))
    assert made.card.certified.constant == ("column 1",)
    assert made.card.certified.deviations[1] == 0.0
    assert "no change of column 1 is covered" in caplog.text
    caplog.clear()
    known = policy(threat={"measurement_error": {"1": 0.01}})
    made = protect(model, Split(rows), known, tmp_path / "known", classes=("no", "yes"))
    assert made.card.certified.constant == ()
    assert "is covered" not in caplog.text


def test_a_policy_that_asks_for_certificates_without_bounds_is_refused(tmp_path, bundle):
    plain = protected(tmp_path / "plain", chosen=Policy(on_error="flag"))
    with pytest.raises(MedwardError, match="there are no bounds to certify answers with; protect the model again"):
        under(plain, policy()).guard(ephemeral=True)
    (plain.path / "policy.toml").write_text(policy().to_toml())
    with pytest.raises(MedwardError, match="there are no bounds"):
        seal_bundle(plain.path)
    assert dataclasses.replace(bundle, bounds=None, policy=Policy(on_error="flag")).guard(ephemeral=True)


def test_a_policy_may_be_sealed_with_another_radius_of_which_it_is_said_that_nobody_counted(copy, caplog):
    (copy / "policy.toml").write_text(policy().to_toml())
    seal_bundle(copy)
    assert "certify.radius" not in caplog.text, "the radius that was counted at"
    (copy / "policy.toml").write_text(policy(radius=1.0).to_toml())
    seal_bundle(copy)
    assert "certified at 1 grey levels" in caplog.text
    assert "was counted at 4 only" in caplog.text
    answer = ask(load_bundle(copy).guard(ephemeral=True), NEAR)
    assert answer.certified.asked == 1.0
    assert answer.certified.holds.tolist() == [True]


@pytest.mark.parametrize(
    ("uncertified", "level", "action"),
    [("mark", Level.FULL, Action.FLAG), ("label", Level.LABEL, Action.COARSEN), ("withhold", Level.WITHHELD, 3)],
)
def test_an_answer_that_is_not_certified_leaves_as_the_policy_says(bundle, uncertified, level, action):
    answer = ask(under(bundle, policy(uncertified)).guard(ephemeral=True), BOTH)
    assert answer.levels == (Level.FULL, level)
    assert answer.certified.holds.tolist() == [True, False]
    (verdict,) = (each for each in answer.verdicts if each.part == "certificate")
    assert verdict.action == action
    assert verdict.evidence == {"uncertified": 1.0}
    content = answer.as_dict()
    assert content["certified"] == [True, None if uncertified == "withhold" else False]
    assert content["certified_radius"] == [8.0, {"mark": 1.0, "label": 0.0, "withhold": None}[uncertified]]
    assert (content["radius"], content["radius_unit"]) == (4.0, "grey levels of 255")
    assert answer.rows()[0]["certified"] is True


@pytest.mark.parametrize(("on_error", "levels"), [("withhold", {Level.WITHHELD}), ("flag", {Level.FULL})])
def test_bounds_that_fail_certify_nothing_and_the_site_has_chosen_what_then(bundle, on_error, levels):
    class Failing:
        data = b""

        def between(self, rows, radius):
            raise RuntimeError("no memory")

    broken = dataclasses.replace(bundle.bounds, bounds=dataclasses.replace(bundle.bounds.bounds, model=Failing()))
    chosen = policy().model_copy(update={"on_error": on_error})
    answer = ask(dataclasses.replace(bundle, policy=chosen, bounds=broken).guard(ephemeral=True), BOTH)
    assert set(answer.levels) == levels
    assert not answer.certified.holds.any()
    assert any(each.source == "error:certificate:RuntimeError" for each in answer.verdicts)


def test_a_certificate_is_charged_for_and_a_row_withheld_for_want_of_one_too(bundle):
    def spent(chosen, rows):
        answer = ask(under(bundle, chosen).guard(ephemeral=True), rows)
        (verdict,) = (each for each in answer.verdicts if each.part == "leakage" and each.account == "clinic/key")
        return verdict.evidence["bits_total"], answer

    limited = {"budget": {"total_bits": 1000.0}, "level": "label"}
    label = spent(policy(**limited), CERTAIN)[0]  # one of two classes, and the radius that the time it took can tell
    assert label == pytest.approx(1 + np.log2(5), abs=1e-3)
    bits, answer = spent(policy("withhold", **limited), NEAR)
    assert (bits, answer.levels) == (1.0, (Level.WITHHELD,))
    full = spent(policy(budget={"total_bits": 1000.0}), CERTAIN)[0]
    assert full == pytest.approx(2 * 32 + np.log2(5), abs=1e-3)


def test_a_budget_that_is_spent_withholds_and_takes_no_more(bundle):
    chosen = policy("withhold", level="label", budget={"total_bits": 5.0})
    guard = under(bundle, chosen).guard(ephemeral=True)
    answers = [ask(guard, greys(128.0 + i / 8)) for i in range(8)]  # all within 4 grey levels
    assert all(each.levels == (Level.WITHHELD,) for each in answers)
    spent = [
        v.evidence["bits_total"]
        for each in answers
        for v in each.verdicts
        if v.account == "clinic/key"
        if v.part == "leakage"
    ]
    assert spent == [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0]


def test_the_record_holds_the_radii_and_older_records_still_read(bundle, tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", fsync=False)
    guard = bundle.guard(audit=log, ephemeral=True)
    ask(guard, BOTH)
    assert verify_log(tmp_path / "audit.jsonl").records == 1
    (record,) = read_log(tmp_path / "audit.jsonl")
    assert AuditRecord.recorded(record).certified == [8.0, 1.0]
    older = {name: value for name, value in record.items() if name != "certified"}
    assert AuditRecord.recorded(older).certified == ()
    assert "certified" not in AuditRecord.recorded(older).content
    assert json.loads(json.dumps(record)) == record


def test_the_certificate_is_of_what_the_model_gets(bundle):
    """Values a little out of range are clipped before the model and before bounds alike."""
    beyond = np.full((1, 1, 4, 4), 1 + 5e-7, np.float64)
    assert ask(bundle.guard(ephemeral=True), beyond).certified.radius.tolist() == [8.0]
