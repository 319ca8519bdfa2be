"""Accounts of one class only, and streams of one change: the deployed step on small synthetic subjects."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from support.models import LinearModel, MeanModel
from support.sights import refitted, sight_of

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.audit.excess import drift_reports
from medward.guard.audit.replay import replay_log
from medward.guard.errors import IntegrityError
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches
from medward.guard.spec import ModelSpec
from medward.guard.statistics.strata import STRATUM
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs, Query

POLICY = Policy(on_error="withhold")
FIRST, LAST = (-math.log(rung.false_alarm) for rung in POLICY.monitor.ladder)
CENTRES = np.array([[6, 0, 0], [0, 6, 0], [0, 0, 6]], np.float32)
SPREAD = np.array([1, 1.6, 1.3], np.float32)  # of the classes: rare cells are also the odder ones
SHARES = (0.86, 0.08, 0.06)
MODEL = LinearModel()


def drawn(classes, seed):
    """Benign rows of these classes."""
    rng = np.random.default_rng(seed)
    return (CENTRES[classes] + SPREAD[classes, None] * rng.normal(size=(len(classes), 3))).astype(np.float32)


def usual(n, seed):
    return drawn(np.random.default_rng(1000 + seed).choice(3, n, p=SHARES), seed)


def peak(profile, rows, model=MODEL):
    """The largest log wealth of an account that asks `rows`, and when it was at the first rung; infinite for never."""
    monitors = AccountMonitors.of(POLICY, profile, 1)
    sight = sight_of(POLICY, profile, rows, forward_batches(model, rows))
    state, first = None, math.inf
    for i in range(len(rows)):
        one = {part: column[i : i + 1] for part, column in sight.items()}
        state, (_, verdict, _) = monitors.watch([str(i)], one, state)
        if verdict.evidence["peak"] >= FIRST:
            first = min(first, i + 1)
    return verdict.evidence["peak"], first


@pytest.fixture(scope="module", params=[0, 1])
def profile(request):
    return Profile.fit(MODEL, usual(700, request.param), risk=0.001, seed=request.param, secret=request.param)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_clinic_of_one_class_is_not_withheld(profile, label):
    assert profile.strata.members.tolist() == [0, *([1, 2] if profile.strata.members[1] == 1 else [2, 1])]
    assert peak(profile, drawn(np.full(250, label), 50 + label))[0] < LAST


def test_without_strata_it_is(profile):
    """The negative control: what the same accounts were before."""
    maps = {
        name: dataclasses.replace(each, reference_strata=0 * each.reference_strata)
        for name in ("residuals", "embedding")
        for each in (profile.fitted[name],)
    }
    nowhere = dataclasses.replace(refitted(profile, **maps), strata=None).at_risk(profile.risk)
    assert any(peak(nowhere, drawn(np.full(250, label), 50 + label))[0] >= LAST for label in (1, 2))


def test_a_mix_of_the_rare_classes_is_not_withheld_either(profile):
    assert peak(profile, drawn(np.random.default_rng(3).choice([1, 2], 250), 60))[0] < LAST


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_thief_whose_queries_all_land_in_one_class_is_noticed_in_rare_ones_too(profile, label):
    far = CENTRES[label] * np.random.default_rng(4).uniform(3, 5, (60, 1))
    rows = (far + np.random.default_rng(5).normal(size=(60, 3)) * 2).astype(np.float32)
    assert (forward_batches(MODEL, rows).scores.argmax(axis=1) == label).all()
    assert peak(profile, rows)[1] <= 30


class Listening:
    """A model of images whose third class, one in a hundred, is told by a fine pattern alone."""

    PATTERN = np.random.default_rng(8).choice([-1, 1], (12, 12)).astype(np.float32)
    spec = ModelSpec(
        name="listening",
        modality="image",
        shape=(1, 12, 12),
        task=Classification(classes=("a", "b", "rare"), output="logits"),
        low=0.0,
        high=1.0,
    )

    def predict(self, inputs):
        tilt = inputs[:, 0, :, :6].mean(axis=(1, 2)) - inputs[:, 0, :, 6:].mean(axis=(1, 2))
        heard = (inputs[:, 0] * self.PATTERN).sum(axis=(1, 2))
        scores = np.stack([tilt, -tilt, np.abs(tilt) + heard + 7], axis=1)
        return Outputs(20 * scores.astype(np.float32))


def waves(n, seed):
    """Smooth images, each with grain."""
    rng = np.random.default_rng(seed)
    across, down, phase = rng.random((3, n, 1, 1))
    high, wide = np.mgrid[:12, :12] / 12
    smooth = 0.5 + 0.2 * np.sin(6 * (wide * across + high * down) + 6 * phase)
    return np.clip(smooth + 0.05 * rng.standard_normal((n, 12, 12)), 0, 1)[:, None].astype(np.float32)


@pytest.fixture(scope="module")
def listening():
    model = Listening()
    return model, Profile.fit(model, waves(3000, 0), risk=0.001, seed=0, secret=1)


def test_one_change_that_makes_all_images_a_class_of_few_rows_is_noticed(listening):
    model, profile = listening
    assert (
        5 <= (profile.fitted["residuals"].reference_strata == 1).sum() < 57
    )  # what the largest level of *shared* would need
    rows = np.clip(waves(60, 9) + 0.05 * model.PATTERN, 0, 1).astype(np.float32)
    assert (forward_batches(model, rows).scores.argmax(axis=1) == 2).mean() > 0.95
    assert peak(profile, rows, model)[1] <= 30


def test_a_clinic_of_a_class_of_few_rows_is_not_withheld(listening):
    model, profile = listening
    rows = waves(40000, 10)
    rows = rows[forward_batches(model, rows).scores.argmax(axis=1) == 2][:250]
    assert len(rows) == 250
    assert peak(profile, rows, model)[0] < LAST


def anatomy(n, seed):
    """Images that share a layout, as radiographs do, each with some of its own."""
    shared = np.random.default_rng(9).uniform(0.1, 0.9, (1, 1, 4, 4))
    own = np.random.default_rng(seed).uniform(0.1, 0.9, (n, 1, 4, 4))
    coarse = (0.7 * shared + 0.3 * own).repeat(4, axis=2).repeat(4, axis=3)
    grain = np.random.default_rng(seed).normal(size=coarse.shape) * 0.01
    return np.clip(coarse + grain, 0, 1).astype(np.float32)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("change", [lambda x: 1 - x, lambda x: np.clip(3 * x - 1, 0, 1)], ids=["inverted", "steeper"])
def test_different_images_that_are_all_changed_alike_are_noticed_within_twenty(change, share):
    model = MeanModel(shape=(1, 16, 16))
    profile = Profile.fit(model, anatomy(700, 0), risk=0.001, seed=0, secret=0)
    rows = anatomy(60, 1)
    rows[: int(share * 60)] = change(rows[: int(share * 60)]).astype(np.float32)
    rows = rows[np.random.default_rng(2).permutation(60)]
    assert peak(profile, rows, model)[1] <= 20
    assert peak(profile, anatomy(60, 3), model)[1] == math.inf


class Records(list):
    """An audit sink in memory, numbered as the log would."""

    def append(self, record):
        super().append({**json.loads(json.dumps(record)), "seq": len(self) + 1, "time": "2026-01-31T08:00:00+00:00"})


@pytest.fixture(scope="module")
def records(profile):
    found = Records()
    guard = Guard(model=MODEL, policy=POLICY, profile=profile, audit=found)
    for row in usual(60, 7):
        guard.answer(Query(principal=("clinic", "key"), inputs=row[None]))
    return found


def test_a_log_of_rare_classes_replays_and_its_strata_cannot_change(profile, records):
    assert replay_log(records, [POLICY], profile).verdicts == 120
    strata = [record["bets"]["clinic"][STRATUM][0] for record in records]
    assert set(strata) == {0, 1, 2}
    hit = next(i for i, stratum in enumerate(strata) if stratum)
    for wrong in ([0], [3], [], None):
        changed = json.loads(json.dumps(records))
        for values in changed[hit]["bets"].values():
            values.pop(STRATUM) if wrong is None else values.update({STRATUM: wrong})
        with pytest.raises(IntegrityError, match=f"record {hit + 1}: "):
            replay_log(changed, [POLICY], profile)


def test_a_drift_report_reads_such_a_log_and_a_clinic_of_one_class_is_nothing_to_report(profile, records):
    (report,) = drift_reports(records, POLICY, profile)
    assert (report.queries, report.left_out) == (60, 0)
    found = Records()
    guard = Guard(model=MODEL, policy=POLICY, profile=profile, audit=found)
    for i, label in enumerate((0, 0, 1)):
        for row in drawn(np.full(150, label), 80 + i):
            guard.answer(Query(principal=("hospital", f"key-{i}"), inputs=row[None]))
    (report,) = drift_reports(found, POLICY, profile)
    assert "strange" not in report.moved
    assert report.alarms == {}
