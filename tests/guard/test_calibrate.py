from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medward.guard.bundle import folder as bundle
from medward.guard.bundle.make import protect
from medward.guard.bundle.power_words import power_cautions
from medward.guard.bundle.site import calibrate_site
from medward.guard.data.split import Split, split_digest
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.policy import Policy
from medward.guard.types import Level, Outputs, Query

POLICY = Policy(on_error="withhold")
rng = np.random.default_rng(5)
ROWS = rng.normal(size=(400, 4)).astype(np.float32)
SITE = (rng.normal(size=(300, 4)) * [1, 1, 0.1, 0.1] + [0, 0, 7, -7]).astype(np.float32)


def bright(batch):
    """Says whether an image is bright; named in a bundle, which imports it."""
    mean = batch.mean(axis=(1, 2, 3))
    return np.stack([0.5 - mean, mean - 0.5], axis=1)


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    path = tmp_path_factory.mktemp("master") / "bundle"
    return protect(model, Split(ROWS), POLICY, path, classes=("no", "yes"))


@pytest.fixture
def path(master, tmp_path):
    return Path(shutil.copytree(master.path, tmp_path / "bundle"))


def withheld(guard, principal, rows):
    """The share of rows that is refused."""
    levels = guard.answer(Query(principal=principal, inputs=rows)).levels
    return np.mean([level is Level.WITHHELD for level in levels])


def test_a_site_is_judged_by_the_rows_it_was_calibrated_on(path):
    made = calibrate_site(path, Split(SITE[:200]), "clinic")
    guard = bundle.load_bundle(path, expect=made.digest).guard(ephemeral=True)
    assert withheld(guard, ("clinic", "key"), SITE[200:]) < 0.1
    assert withheld(guard, ("other", "key"), SITE[200:]) == 1
    assert withheld(guard, ("clinic", "key"), ROWS[:50]) > 0.9


def test_a_site_says_by_name_what_its_own_calibration_cannot_notice(path):
    made = calibrate_site(path, Split(SITE[:150]), "clinic")
    power = made.card.sites["clinic"].power
    assert made.power_by_site == {"": made.card.power, "clinic": power}
    said = [f"site 'clinic': {each}" for each in power_cautions(power)]
    assert said
    assert made.cautions == (*(f"bundle: {each}" for each in power_cautions(made.card.power)), *said)
    assert set(said) <= set(made.guard(ephemeral=True).notes)


def test_the_card_says_what_a_site_was_learned_from_and_the_answers_stay_the_bundle_s(path):
    made = calibrate_site(path, Split(SITE), "clinic")
    described = made.card.sites["clinic"]
    assert described.data_digest == split_digest(Split(SITE))
    assert described.sizes == {"benign": 300, "distinct": 300, "reference": len(made.sites["clinic"].reference)}
    assert made.sites["clinic"].codebook is None
    assert made.profile.codebook is not None


def test_images_are_scaled_as_the_model_s_are_and_near_duplicates_are_known_by_one_map(tmp_path):
    scans = rng.integers(0, 120, (300, 8, 8)).astype(np.uint8)
    spec = {"output": "logits", "classes": ("dark", "bright"), "low": 0, "high": 1}
    protect(bright, Split(scans), POLICY, tmp_path / "images", **spec)
    made = calibrate_site(tmp_path / "images", Split(scans[:200] + np.uint8(120)), "clinic", allow_code=True)
    assert made.profile.contents is not None
    assert made.sites["clinic"].contents is None
    shares = [
        withheld(made.guard(ephemeral=True), (site, "key"), scans[200:, None] / 255 + 120 / 255)
        for site in ("clinic", "ward")
    ]
    assert shares[0] < 0.1
    assert shares[1] == 1


def test_another_secret_and_the_policy_s_risk(path):
    text = (path / "policy.toml").read_text()
    (path / "policy.toml").write_text(text.replace("calibration_risk = 0.001", "calibration_risk = 0.05"))
    bundle.seal_bundle(path)
    made = calibrate_site(path, Split(ROWS), "clinic")
    again = calibrate_site(path, Split(ROWS), "clinic")
    assert made.sites["clinic"].risk == made.profile.risk == 0.05
    profiles = (made.profile, made.sites["clinic"], again.sites["clinic"])
    secrets = [each.fitted["embedding"].fingerprint for each in profiles]
    assert len(set(secrets)) == 3  # who learns one site's maps knows no other's


def test_patients_count_once(path):
    patients = np.repeat(np.arange(100), 3)
    made = calibrate_site(path, Split(SITE, patients=patients), "clinic")
    assert len(made.sites["clinic"].reference) <= 100
    assert len(calibrate_site(path, Split(SITE), "clinic").sites["clinic"].reference) > 100


@pytest.mark.parametrize(
    ("benign", "site", "says"),
    [
        (Split(SITE), "clinic/ward", "1 to 128 printable characters"),
        (Split(SITE), "", "1 to 128 printable characters"),
        (Split(SITE[:20]), "clinic", "20 benign rows are too few .*; give at least 77"),
        (Split(SITE[:40]), "clinic", "40 benign rows are too few .*; give at least 77"),
        (Split(SITE, patients=np.repeat(np.arange(30), 10)), "clinic", "30 patients are too few .*; give at least 77"),
        (Split(np.tile(SITE[:30], (10, 1))), "clinic", "only 30 of 300 rows are distinct"),
        (Split(SITE[:, :3]), "clinic", r"expected shape \(n >= 1, 4\), got \(300, 3\)"),
        (Split(SITE * np.nan), "clinic", "finite"),
    ],
)
def test_what_cannot_be_calibrated_is_one_sentence_and_leaves_the_bundle_as_it_was(path, master, benign, site, says):
    with pytest.raises(MedwardError, match=says):
        calibrate_site(path, benign, site)
    assert bundle.load_bundle(path, expect=master.digest).sites == {}
    assert [each.name for each in path.parent.iterdir()] == ["bundle"]


def test_a_damaged_or_unexpected_bundle_is_not_calibrated(path, master):
    with pytest.raises(IntegrityError, match="expected 000000000000"):
        calibrate_site(path, Split(SITE), "clinic", expect="0" * 64)
    (path / "profile.npz").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"^profile\.npz: "):
        calibrate_site(path, Split(SITE), "clinic", expect=master.digest)


ANSWERS = (np.random.default_rng(0).random((400, 5)) < 0.5).astype(np.float32)


def protected(tmp_path, rows, **parts):
    model = LogisticRegression().fit(ROWS[:, :1].repeat(rows.shape[1], axis=1), ROWS[:, 0] > 0)
    return protect(model, Split(rows, **parts), POLICY, tmp_path / "bundle", classes=("no", "yes"))


def test_patients_described_by_a_few_answers_repeat_by_nature_and_are_served(tmp_path):
    made = protected(tmp_path, ANSWERS)
    assert made.card.sizes["distinct"] == 32
    answer = made.guard(ephemeral=True).answer(Query(principal=("clinic",), inputs=ANSWERS[:100]))
    assert not any(verdict.source.startswith("error:") for verdict in answer.verdicts)
    assert sum(level is Level.WITHHELD for level in answer.levels) < 10


def test_some_copies_are_left_out_and_said(tmp_path, caplog):
    """Resampled rows would be counted as draws; what is learned is what the different ones teach."""
    rows = np.concatenate([ROWS[:300], ROWS[:120]])
    with caplog.at_level("WARNING", "medward.data"):
        made = protected(tmp_path / "copied", rows)
    assert "120 of 420 rows are copies of others and are left out" in caplog.text
    plain = protected(tmp_path / "plain", ROWS[:300])
    assert made.card.sizes == {**plain.card.sizes, "benign": 420}
    assert len(made.profile.reference) == len(plain.profile.reference)
    assert "copies" not in caplog.text.split("left out")[1]


@pytest.mark.parametrize(
    "rows", [np.repeat(ROWS[:200], 2, axis=0), np.repeat(ROWS[:134], 3, axis=0), np.repeat(ANSWERS[:134], 3, axis=0)]
)
def test_copies_are_refused_in_the_bounds_name(tmp_path, rows):
    with pytest.raises(MedwardError, match=r"only \d+ of 40[02] rows are distinct"):
        protected(tmp_path, rows)


def test_bounds_hold_where_scores_tie(tmp_path):
    """Most patients give the same answers, so nearly all scores are one value: too high a rank would refuse them."""
    rows = (np.random.default_rng(1).random((4400, 6)) < 0.04).astype(np.float32)
    profile = protected(tmp_path, rows[:400]).profile
    outputs = Outputs(np.zeros((4000, 2), np.float32))
    scores = profile.strangeness(rows[400:], outputs)
    assert len(np.unique(profile.reference)) < len(profile.reference) / 4
    for level in (0.02, 0.1, 0.2):
        rate = (profile.screening.p_values(scores) <= level).mean()
        assert rate <= level + 3 * (level / len(profile.reference)) ** 0.5
    assert (scores > profile.screen_cut(0.05)).mean() <= 0.05 + 3 * (0.05 / len(profile.reference)) ** 0.5


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1), (2, 1, 1)])
def test_an_image_without_a_layout_is_named_by_its_shape(tmp_path, shape):
    images = np.random.default_rng(0).random((400, *shape)).astype(np.float32)
    name = f"{__name__}:bright"
    with pytest.raises(MedwardError, match=re.escape(f"images of shape {shape}")):
        protect(name, Split(images), POLICY, tmp_path / "bundle", classes=("dark", "light"), output="logits")


@pytest.mark.parametrize("shape", [(12, 1, 250), (1, 250, 1), (1, 1, 64), (3, 1, 1), (16, 8, 8)])
def test_images_of_any_shape_else_are_protected_and_answered(tmp_path, shape):
    images = np.random.default_rng(0).random((400, *shape)).astype(np.float32)
    name = f"{__name__}:bright"
    made = protect(name, Split(images), POLICY, tmp_path / "bundle", classes=("dark", "light"), output="logits")
    answer = made.guard(ephemeral=True).answer(Query(principal=("clinic",), inputs=images[:10]))
    assert not any(verdict.source.startswith("error:") for verdict in answer.verdicts)
    assert (answer.labels >= 0).sum() >= 8
