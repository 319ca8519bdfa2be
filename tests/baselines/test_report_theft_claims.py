"""What the claims about stolen report models rest on: the gap, the rows of a guard, and who is flagged."""

from __future__ import annotations

import numpy as np
import pytest
import report_signals as signals
import report_streams as streams
import report_theft as bench
import report_theft_guarded as guarded
import report_transfer as transfers
from report_scenes import ReportScene, with_none
from support.report_thefts import ReportVictim, coarse_images

from medward.attacks.base import AttackData
from medward.guard.data.split import Split
from medward.guard.models.base import is_report_model
from medward.guard.policy import BudgetPolicy
from medward.guard.profile import judged_batches
from medward.guard.tasks.multilabel import unpacked_findings


@pytest.fixture(scope="module")
def scene():
    """The victim that reads corners, with rows for a guard."""
    victim = ReportVictim()
    data = victim.data()
    return ReportScene(
        name="corners",
        digest="corners",
        model=victim.model,
        oracle=victim,
        data=data,
        labels=with_none(unpacked_findings(data.reference, 3)),
        others=Split(coarse_images(300, 11), patients=np.arange(300) // 2),
    )


def test_the_gap_is_from_the_best_constant_answer_to_the_victim(scene):
    assert scene.victim_f1 == 1, "true labels are its own"
    assert 0 < scene.constant_f1 < 0.7
    images = scene.data.test.inputs
    assert scene.f1(scene.model.predict(images).texts) == 1
    assert scene.f1(["Pleural effusion is seen."] * len(images)) <= scene.constant_f1
    assert bench.gap_closed(0.7, 0.6, 0.8) == pytest.approx(0.5)
    assert bench.gap_closed(0.5, 0.6, 0.8) < 0, "worse than a constant answer"


def test_no_patient_is_calibrated_on_and_asked_about(scene):
    rows = scene.others
    seen = streams.remembered(scene, rows.inputs)
    profile, traffic = streams.calibrated(seen, rows, 0.7, 0)
    asked = {row.tobytes() for row in traffic}
    patients = rows.patients[[row.tobytes() in asked for row in rows.inputs]]
    others = rows.patients[[row.tobytes() not in asked for row in rows.inputs]]
    assert not set(patients) & set(others)
    assert profile.rows == len(others)
    assert len(traffic) == len(patients) == 90


def test_a_model_that_has_seen_its_rows_is_judged_as_the_model_itself(scene):
    seen = streams.remembered(scene, scene.others.inputs)
    assert is_report_model(seen)
    profile, traffic = streams.calibrated(scene.model, scene.others, 0.7, 0)
    own, remembered = (streams.sight(each, profile, traffic) for each in (scene.model, seen))
    for part, column in own.items():
        np.testing.assert_array_equal(column, remembered[part])
    fresh = coarse_images(2, 99)
    np.testing.assert_array_equal(seen.prefill(fresh).features, judged_batches(scene.model, fresh)[0].features)


def test_a_thief_of_noise_is_flagged_and_clients_are_not(scene, monkeypatch):
    monkeypatch.setattr(streams, "ACCOUNTS", 2)
    noise = np.random.default_rng(0).random((60, *scene.spec.shape)).astype(np.float32)
    rows = scene.others
    seen = streams.remembered(scene, np.concatenate([rows.inputs, noise]))
    profile, traffic = streams.calibrated(seen, rows, 0.7, 0)
    found = list(streams.accounts_of(seen, profile, traffic, {"noise": noise, "own": traffic[:60]}, 0, step=30))
    counts = {name: [count for each, count in found if each == name] for name, _ in found}
    assert max(counts["noise 1"]) <= 30
    assert np.isinf(counts["client"]).all()
    assert np.isinf(counts["own 1"]).all(), "radiographs of its own give nobody away"


def test_each_account_of_a_thief_has_an_order_of_its_own_and_rounds_stay_in_theirs():
    where = {"number": 0, "place": 0, "step": 20}
    first, second = (streams.account_order(streams.STOLEN, 50, 60, 1.0, turn=turn, **where) for turn in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50, 110))
    assert not np.array_equal(first, second)
    for rows in (first, second):
        assert [set(part) for part in np.split(rows - 50, 3)] == [set(range(at, at + 20)) for at in (0, 20, 40)]
    mixed = streams.account_order(streams.STOLEN, 50, 60, 0.5, turn=0, **where)
    assert 0.3 < np.mean(mixed < 50) < 0.7


def test_who_steals_from_a_guard_gets_what_it_lets_through(scene, tmp_path):
    plan = bench.Plan(queries=40, step=20, epochs=1, seeds=(0,), folder=tmp_path)
    inside = plan.theft(guarded.TextDistillation(source="in-domain", student=bench.STUDENT))
    photographs = plan.theft(guarded.TextDistillation(student=bench.STUDENT))
    far = np.random.default_rng(0).random((160, *scene.spec.shape)).astype(np.float32)
    apart = AttackData(craft=scene.data.craft, test=scene.data.test, pool=far, reference=scene.data.reference)
    there = ReportScene(**{name: getattr(scene, name) for name in scene.__dataclass_fields__} | {"data": apart})
    profile = guarded.fitted(there, 0)
    free = guarded.kept_guarded(plan, there, profile, inside, guarded.DEPLOYED, 0)
    caught = guarded.kept_guarded(plan, there, profile, photographs, guarded.DEPLOYED, 0)
    assert free["flagged"] is None
    assert free["levels"]["full"] >= 36
    assert caught["flagged"] is not None
    assert caught["levels"].get("full", 0) <= 5
    limit = BudgetPolicy(total_bits=10 * np.log2(3) * 3)
    tight = guarded.DEPLOYED.model_copy(update={"budget": limit})
    little = guarded.kept_guarded(plan, there, profile, inside, tight, 0)
    assert 8 <= little["levels"]["label"] <= 10
    assert "full" not in little["levels"]


def test_a_signal_of_texts_flags_a_collapse_and_leaves_clients_alone():
    counts = (300, 300, 30, 1)
    part = signals.Coverage(counts=counts, risk=0.001, ratio=4.0)
    collapsed = signals.queries_to(part, np.full(400, 2))
    usual = np.random.default_rng(0).choice(4, 400, p=np.array(counts) / sum(counts))
    assert collapsed < 60
    assert np.isinf(signals.queries_to(part, usual))
    doubts = np.random.default_rng(1).normal(size=600)
    reference = signals.ScoreReference.fit(doubts, np.zeros(600, np.int64)).at_risk(0.001, 1)
    bet = reference.bet("doubt", signals.BetSettings.under(signals.POLICY.monitor, 1.0, strata=1, longest=1)).part
    assert signals.queries_to(bet, reference.p_values(np.full(50, 9.0))) < 20
    assert np.isinf(signals.queries_to(bet, reference.p_values(np.random.default_rng(2).normal(size=400))))
    half = signals.queries_to(part, np.full(400, 0))
    assert np.isinf(half), "what half of the clients' reports say anyway gives nobody away"


def test_noise_that_moves_nobody_is_no_transfer():
    def cell(moved, noise):
        hits = {str(grey): {"own": 0.9, "victim": moved} for grey in transfers.RADII}
        return {"hits": {"thief": hits, "noise": {grey: {"victim": noise} for grey in hits}}, "aims": 10}

    assert transfers.transfer_claim("x", [cell(0.5, 0.1)] * 3).met
    assert not transfers.transfer_claim("x", [cell(0.5, 0.1), cell(0.5, 0.1), cell(0.1, 0.1)]).met
    assert not transfers.transfer_claim("x", [cell(0.5, 0.1)] * 2).met, "two seeds are too few"
    assert not transfers.radius_claim("x", [cell(0.0, 0.0)] * 3, {"16": [0.0]}).met
