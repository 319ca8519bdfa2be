"""A real guard over a model and a profile that need no training. A row is (its own score, a number)."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace

import numpy as np
import pytest
from support.logs import content, write

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.audit.log import AuditLog, read_log, verify_log
from medward.guard.audit.replay import replay_log
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.monitors.boundary_probing import DoubtReference
from medward.guard.monitors.kernel_features import KernelFeatures
from medward.guard.monitors.noise_residuals import NoiseResiduals
from medward.guard.monitors.score_reference import ScoreReference
from medward.guard.monitors.strangeness import ScreenReference
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.screens.mahalanobis import Mahalanobis
from medward.guard.spec import ModelSpec
from medward.guard.statistics.conformal import Thresholds
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs, Query

POLICY = Policy(on_error="withhold")
KEYS = [("hospital", "ward", "key-1"), ("hospital", "ward", "key-2"), ("hospital", "lab")]


class FirstColumn:
    spec = ModelSpec(name="m", modality="tabular", shape=(2,), task=Classification(classes=("a", "b"), output="logits"))

    def predict(self, inputs):
        return Outputs(inputs)


SEEN = np.random.default_rng(0).normal(size=(200, 2)) * [2, 4] + [1, 5]
RESIDUALS = NoiseResiduals.fit(SEEN[:80], SEEN[80:])
FIT = SEEN[:80], Outputs(SEEN[:80])
EMBEDDING = KernelFeatures.fit(Mahalanobis.fit("rows", *FIT), FIT, (SEEN[80:], Outputs(SEEN[80:])))
PROBING = DoubtReference(
    reference=ScoreReference(
        scores=np.zeros(0), thresholds=Thresholds(levels=(0.1, 0.2), cuts=(-0.1, -0.3), risk=0.01, n=100)
    )
)


class ColumnScreen:
    def strangeness(self, inputs, outputs):
        return inputs[:, 0]


STRANGE = ScreenReference(screen=ColumnScreen(), scores=np.repeat([0.0, 2.0, 4.0, 7.0], [300, 100, 94, 6]))


def first_column_profile(**fitted):
    parts = {"screen": STRANGE, "residuals": RESIDUALS, "embedding": EMBEDDING, "probing": PROBING, **fitted}
    return Profile(fitted={source: each for source, each in parts.items() if each is not None})


PROFILE = first_column_profile()


class Records(list):
    """An audit sink in memory, numbered as the log would."""

    def append(self, record):
        super().append({**json.loads(json.dumps(record)), "seq": len(self) + 1})


def guarded(audit):
    return Guard(model=FirstColumn(), policy=POLICY, profile=PROFILE, audit=audit)


def traffic(count, *, seed=0):
    """Batches of 1 to 3 rows from three keys; strange ones now and then; many repeats."""
    rng = random.Random(seed)
    for _ in range(count):
        rows = [
            (rng.choice([0.0, 0.0, 1.0, 3.0, 6.0]), rng.choice([rng.randrange(12), rng.uniform(0, 12)]))
            for _ in range(rng.choice([1, 1, 1, 3]))
        ]
        yield Query(principal=rng.choice(KEYS), inputs=rows)


def answered(count, audit, *, seed=0):
    guard_ = guarded(audit)
    for query in traffic(count, seed=seed):
        guard_.answer(query)
    return guard_


def test_replay_reproduces_the_verdicts_of_a_log(tmp_path):
    path = tmp_path / "audit.jsonl"
    answered(120, AuditLog(path))
    found = replay_log(read_log(path), [POLICY], PROFILE)
    assert found.verdicts == sum(len(record["verdicts"]) - 1 for record in read_log(path))
    assert found.restarts == {}
    actions = {verdict["action"] for record in read_log(path) for verdict in record["verdicts"]}
    assert actions >= {"allow", "flag", "coarsen"}  # the log has something to reproduce


def test_the_records_of_a_site_replay_with_its_own_calibration_and_no_other(tmp_path):
    own = first_column_profile(residuals=NoiseResiduals.fit(SEEN[120:], SEEN[:120]), probing=None)
    guard_ = Guard(
        model=FirstColumn(), policy=POLICY, profile=PROFILE, sites={"clinic": own}, audit=AuditLog(tmp_path / "log")
    )
    for query in traffic(60):
        guard_.answer(query)
        guard_.answer(Query(principal=("clinic", *query.principal[1:]), inputs=query.inputs))
    records = list(read_log(tmp_path / "log"))
    assert replay_log(records, [POLICY], PROFILE, {"clinic": own}).restarts == {}
    clinics = replay_log(records[1::2], [POLICY], own)  # the clinic's accounts know of no other profile
    others = replay_log(records[::2], [POLICY], PROFILE)
    assert clinics.verdicts == others.verdicts > 120
    for profile, sites in ((PROFILE, {}), (own, {}), (PROFILE, {"hospital": own})):
        with pytest.raises(IntegrityError, match=r"record [12]: "):
            replay_log(records, [POLICY], profile, sites)
    shared = first_column_profile(residuals=None)
    with pytest.raises(MedwardError, match=r"record 2: .* give the profile it was made with"):
        replay_log(records, [POLICY], PROFILE, {"clinic": shared})


@pytest.mark.parametrize("seed", range(5))
def test_replay_finds_the_order_of_records_that_were_logged_out_of_order(seed):
    records = Records()
    answered(400, records, seed=seed)
    rng = random.Random(seed)
    windows = [records[i : i + 6] for i in range(0, len(records), 6)]
    shuffled = [record for window in windows for record in rng.sample(window, len(window))]
    assert shuffled != records
    assert replay_log(shuffled, [POLICY], PROFILE).restarts == {}


def test_replay_of_a_guard_asked_from_eight_threads(tmp_path):
    path = tmp_path / "audit.jsonl"
    guard_ = guarded(AuditLog(path))
    threads = [
        threading.Thread(target=lambda seed=seed: [guard_.answer(query) for query in traffic(25, seed=seed)])
        for seed in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(read_log(path))) == 200
    assert replay_log(read_log(path), [POLICY], PROFILE).restarts == {}


REPEATED_CELL = AccountMonitors.of(POLICY, PROFILE, 1).bets[0].part.repeated(0.0)


def bet_on(records):
    """(record, key, part, row) of every value in the log."""
    for number, record in enumerate(records):
        for key, values in record["bets"].items():
            for part, column in values.items():
                for row in range(len(column)):
                    yield number, key, part, row


def test_no_value_that_was_bet_on_can_change_even_in_a_rehashed_chain(tmp_path):
    records = Records()
    answered(12, records)
    for number, key, part, row in bet_on(records):
        tampered = json.loads(json.dumps(records))
        column = tampered[number]["bets"][key][part]
        if part == "strange":
            column[row] = REPEATED_CELL if column[row] == 0 else 0.0  # place 0 wins every rank
        elif part == "coverage":
            continue  # cells may pay alike
        else:
            least = next(p for p in AccountMonitors.of(POLICY, PROFILE, 1).combined.parts if p.name == part).levels[0]
            column[row] = 1.0 if column[row] < 1.0 else least
        with pytest.raises(IntegrityError, match=rf"record {number + 1}: "):
            replay_log(tampered, [POLICY], PROFILE)
    path = write(tmp_path / "forged.jsonl", [content(record) for record in tampered])
    assert verify_log(path).records == 12
    with pytest.raises(IntegrityError, match=rf"record {number + 1}: account '.*': recorded .* replayed "):
        replay_log(read_log(path), [POLICY], PROFILE)


def test_a_shared_perturbation_replays_and_its_p_values_cannot_change():
    records, rng = Records(), np.random.default_rng(2)
    guard_ = guarded(records)
    for _ in range(40):
        guard_.answer(Query(principal=KEYS[2], inputs=rng.normal(size=(1, 2)) * [0.1, 4] + [-30, 5]))
    verdicts = [v for record in records for v in record["verdicts"] if v["source"].startswith("e-process:")]
    assert {v["action"] for v in verdicts} == {"allow", "flag", "coarsen", "withhold"}
    assert replay_log(records, [POLICY], PROFILE).verdicts == 40 * 2
    strange = next(i for i, record in enumerate(records) if record["bets"]["hospital"]["shared"][0] < 1)
    for key in ("hospital", "hospital/lab"):
        tampered = json.loads(json.dumps(records))
        tampered[strange]["bets"][key]["shared"] = [1.0]
        with pytest.raises(IntegrityError, match=rf"record {strange + 1}: account '{key}'"):
            replay_log(tampered, [POLICY], PROFILE)
    with pytest.raises(MedwardError, match=r"record 1: .* give the profile it was made with"):
        replay_log(records, [POLICY], first_column_profile(residuals=None))


def test_parts_that_failed_are_missing_from_the_record_and_it_replays():
    class Broken(ColumnScreen):
        def strangeness(self, inputs, outputs):
            raise RuntimeError("no screen today")

    broken = first_column_profile(screen=replace(STRANGE, screen=Broken()))
    records = Records()
    Guard(model=FirstColumn(), policy=POLICY, profile=broken, audit=records).answer(next(traffic(1)))
    assert all("strange" not in values and "shared" in values for values in records[0]["bets"].values())
    assert replay_log(records, [POLICY], PROFILE).verdicts == len(records[0]["bets"])


def test_a_changed_action_or_evidence_or_a_removed_record_is_named():
    records = Records()
    answered(40, records)

    def named(change, says):
        tampered = json.loads(json.dumps(records))
        change(tampered)
        with pytest.raises(IntegrityError, match=says):
            replay_log(tampered, [POLICY], PROFILE)

    for level in (1, 2):
        named(lambda log, v=level: log[20]["verdicts"][v].update(action="withhold"), "record 21: ")
        named(lambda log, v=level: log[20]["verdicts"][v]["evidence"].update(peak=9.0), "record 21: ")
        named(lambda log, v=level: log[20]["verdicts"][v]["evidence"].pop("peak"), "record 21: ")
        named(lambda log, v=level: log[20]["verdicts"].pop(v), "record 21: not the record .*e-process")
    key = records[20]["principal"]
    named(lambda log: log[20]["bets"][key]["strange"].__setitem__(0, 0.3), r"record 21: strange knows no value 0\.3")
    named(lambda log: log[20]["bets"][key].pop("shared"), "record 21: bets by .* needs them by")
    named(lambda log: log[20]["bets"][key]["strange"].append(1.0), "record 21: needs as many values of strange")
    for no_cell in (0.3, -1.0, 1e6, float("nan"), float("inf"), "0"):
        named(lambda log, v=no_cell: log[20]["bets"][key]["strange"].__setitem__(0, v), "record 21: ")
    named(lambda log: log.pop(20), "a record before it is missing")


def test_a_reset_is_reported_as_a_new_start_and_not_refused():
    records = Records()
    guard_ = answered(60, records)
    guard_.reset(("hospital", "ward"))
    guard_.answer(Query(principal=KEYS[0], inputs=[(0.0, 99)]))
    for query in traffic(20, seed=1):
        guard_.answer(query)
    assert [record["seq"] for record in records if record.get("event") == "reset"] == [61]
    assert replay_log(records, [POLICY], PROFILE).restarts == {"hospital/ward": [62]}


def test_a_record_under_an_unknown_policy_is_named_and_known_policies_may_mix():
    records = Records()
    guard_ = answered(20, records)
    stricter = Policy.model_validate({"on_error": "flag", "monitor": {"parents": "withhold"}})
    later = Guard(model=guard_.model, policy=stricter, profile=guard_.profile, store=guard_.store, audit=records)
    for query in traffic(20, seed=1):
        later.answer(query)
    with pytest.raises(MedwardError, match=f"record 21: made under policy {stricter.fingerprint}"):
        replay_log(records, [POLICY], PROFILE)
    assert replay_log(records, [POLICY, stricter], PROFILE).verdicts > 0


def test_records_without_monitor_verdicts_are_passed_over():
    records = Records()
    guard_ = guarded(records)
    records.append({"event": "started"})
    guard_.store.close()
    guard_.answer(Query(principal=KEYS[0], inputs=[(0.0, 1)]))
    assert all(verdict["source"].startswith(("screen", "error:")) for verdict in records[-1]["verdicts"])
    assert replay_log(records, [POLICY], PROFILE).verdicts == 0
