"""Logs that a real guard wrote, with made-up times, and what the report says of them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import cache

import numpy as np
import pytest
import typer
from support.logs import content, write
from support.models import LinearModel, benign_rows

from medward.guard.audit.chain import GENESIS
from medward.guard.audit.excess import drift_reports
from medward.guard.data.split import Split
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.types import Query
from medward.integrations.cli.drift import drift_command, drift_limitation, drift_verdict

POLICY = Policy(on_error="flag")
MODEL = LinearModel()
PROFILE = Profile.fit(MODEL, benign_rows(LinearModel), risk=0.001, secret=1)
THIEF, ONSET = 3, 3


def benign(rng, account, day):
    return rng.normal(size=(8, 3))


def thief(rng, account, day):
    return benign(rng, account, day) * (8 if account == THIEF else 1)


def new_scanner(rng, account, day):
    return benign(rng, account, day) * (1.6 if day >= ONSET else 1)


def both(rng, account, day):
    return benign(rng, account, day) * (8 if account == THIEF else 1.5)


class Records(list):
    """An audit sink in memory whose clock the test sets."""

    day = 1

    def append(self, record):
        time = f"2026-10-{self.day:02d}T09:00:00.000000+00:00"
        super().append({**json.loads(json.dumps(record)), "seq": len(self) + 1, "time": time})


@cache
def log(rows, *, accounts=10, days=4, shuffled=False, policy=POLICY, organisation="hospital"):
    """Five queries of eight rows a day from each account; `shuffled` gives every query a random one's name."""
    records, rng, names = Records(), np.random.default_rng(0), np.random.default_rng(1)
    guard_ = Guard(model=MODEL, policy=policy, profile=PROFILE, audit=records)
    for day in range(1, days + 1):
        records.day = day
        for account in range(accounts * 5):
            name = int(names.integers(accounts)) if shuffled else account % accounts
            inputs = np.clip(rows(rng, account % accounts, day), -99, 99)
            guard_.answer(Query(principal=(organisation, f"key-{name}"), inputs=inputs))
    return records


def report(records, **settings):
    (found,) = drift_reports(records, POLICY, PROFILE, **settings)
    return found


def excess_of(found, part):
    return next(excess for excess in found.excesses if excess.rate.event.part == part)


def test_benign_accounts_are_nothing_to_report():
    found = report(log(benign))
    assert (found.kind, found.accounts, found.queries, found.left_out) == ("nothing", 10, 1600, 0)
    assert [reached for _, _, reached in found.rungs] == [0, 0]
    assert drift_verdict(found).startswith("nothing to report")
    assert all(rate.low <= rate.hits / rate.n <= rate.high for rate in found.rates)


def test_a_thief_among_ten_stands_out():
    found = report(log(thief))
    assert (found.kind, found.standing) == ("attack", (f"hospital/key-{THIEF}",))
    assert [reached for _, _, reached in found.rungs] == [1, 1]
    assert found.alarms.keys() == {f"hospital/key-{THIEF}"}
    excess = excess_of(found, "strange")
    assert excess.standing[0] > 0.9 * excess.standing[1]
    assert excess.spread.worst > 0.9
    assert excess.began == "2026-10-01"
    assert re.match(
        r"1 of 10 accounts stands out \(hospital/key-3\), alarmed by strange; strange above rank ", drift_verdict(found)
    )
    assert "attack first" in drift_verdict(found)


def test_drift_of_all_is_drift_and_names_the_day():
    found = report(log(new_scanner))
    assert (found.kind, found.standing, found.moved) == ("drift", (), ("strange",))
    excess = excess_of(found, "strange")
    assert excess.began == f"2026-10-0{ONSET}"
    assert [day for day, _, _ in excess.days] == [f"2026-10-0{day}" for day in range(1, 5)]
    assert excess.spread.worst < 0.3
    assert "medward calibrate --site" in drift_verdict(found)
    assert "would look the same" in drift_verdict(found)
    assert f"on or before 2026-10-0{ONSET}" in drift_limitation(found)


def test_drift_and_a_thief_are_both():
    found = report(log(both))
    assert (found.kind, found.standing, found.moved) == ("both", (f"hospital/key-{THIEF}",), ("strange",))
    assert drift_verdict(found).startswith("both: most accounts moved together, in strange")


def test_too_few_queries_are_too_little_to_say():
    found = report(log(benign, days=1))
    assert found.kind == "unclear"
    assert drift_verdict(found).startswith("too little to say: 400 queries of 10 accounts")


def test_one_account_has_nothing_to_be_compared_with():
    found = report([record for record in log(thief) if record["principal"].endswith(f"-{THIEF}")])
    assert found.kind == "unclear"
    assert "too few accounts to compare" in drift_verdict(found)
    assert "alarmed by strange" in drift_verdict(found)


def test_an_alarm_by_near_duplicates_is_no_drift():
    records = json.loads(json.dumps(log(new_scanner)))
    evidence = {"count": POLICY.duplicates.ladder[0].count, "peak": 1e9}
    own = next(record for record in records if record["principal"] == "hospital/key-7")
    own["verdicts"].append({"source": "duplicates:hospital/key-7", "action": "flag", "evidence": evidence})
    found = report(records)
    assert (found.kind, found.standing, found.moved) == ("both", ("hospital/key-7",), ("strange",))
    assert "duplicates" in found.alarms["hospital/key-7"]
    evidence["count"] = 0.0  # an alarm from before this stretch
    assert report(records).kind == "drift"


def test_shuffled_names_leave_drift_and_hide_a_thief_in_all_accounts():
    assert report(log(new_scanner, shuffled=True)).kind == "drift"
    spread = report(log(thief, shuffled=True))
    assert (spread.kind, spread.standing) == ("drift", ())  # a thief spread over all accounts looks the same


def test_the_report_does_not_depend_on_what_accounts_are_called():
    renamed = json.loads(json.dumps(log(both)).replace("key-", "z-").replace(f"z-{THIEF}", "a"))
    assert report(renamed).standing == ("hospital/a",)
    assert report(renamed).kind == report(log(both)).kind
    assert report(renamed).excesses == report(log(both)).excesses


def test_a_stretch_is_read_alone():
    early = report(log(new_scanner), until=datetime(2026, 10, ONSET, tzinfo=UTC))
    assert (early.kind, early.queries, early.end[:10]) == ("nothing", 800, f"2026-10-0{ONSET - 1}")
    late = report(log(new_scanner), since=datetime(2026, 10, ONSET, tzinfo=UTC))
    assert (late.kind, late.queries, late.begin[:10]) == ("drift", 800, f"2026-10-0{ONSET}")
    assert drift_reports(log(benign), POLICY, PROFILE, since=datetime(2027, 1, 1, tzinfo=UTC)) == []


def test_every_organisation_has_its_own_report_and_its_own_profile():
    records = [*log(benign), *log(new_scanner, organisation="clinic")]
    clinic, hospital = drift_reports(records, POLICY, PROFILE)
    assert (clinic.organisation, clinic.kind, hospital.kind) == ("clinic", "drift", "nothing")
    site = Profile.fit(MODEL, benign_rows(LinearModel)[:300], risk=0.001, secret=1)
    clinic, hospital = drift_reports(records, POLICY, PROFILE, {"clinic": site})
    assert (clinic.queries, clinic.left_out > 0) == (1600 - clinic.left_out, True)  # made on other levels
    assert (hospital.kind, hospital.left_out) == ("nothing", 0)


def test_records_of_another_policy_are_left_out_and_said_so():
    other = Policy(on_error="withhold")
    found = report([*log(benign), *log(benign, days=1, policy=other)])
    assert (found.queries, found.left_out) == (1600, 400)


def test_events_are_passed_over_and_a_record_no_guard_writes_is_named():
    assert report([{"event": "reset", "principal": "hospital"}, *log(benign)]).kind == "nothing"
    broken = {key: value for key, value in log(benign)[0].items() if key != "inputs"}
    with pytest.raises(IntegrityError, match="record 1: not the record of a query"):
        report([broken])


def test_a_part_that_failed_has_seen_fewer_queries():
    records = json.loads(json.dumps(log(benign)))
    for record in records[:50]:
        for values in record["bets"].values():
            del values["strange"]
    found = report(records)
    assert {rate.n for rate in found.rates if rate.event.part == "strange"} == {1600 - 400}
    assert {rate.n for rate in found.rates if rate.event.part == "shared"} == {1600}


# The command


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A bundle, and the log of a server that a thief has asked."""
    folder = tmp_path_factory.mktemp("drift")
    rng = np.random.default_rng(2)
    from sklearn.linear_model import LogisticRegression

    from medward.guard.bundle.make import protect

    rows = rng.normal(size=(300, 3)).astype(np.float32)
    model = LogisticRegression().fit(rows, (rows[:, 0] > 0).astype(int))
    bundle = protect(model, Split(inputs=rows), POLICY, folder / "bundle")
    records = Records()
    guard_ = bundle.guard(audit=records, ephemeral=True)
    for _ in range(20):
        for account in range(4):
            rows = rng.normal(size=(8, 3)) * (6 if account == 1 else 1)
            guard_.answer(Query(principal=("hospital", f"key-{account}"), inputs=rows))
    (folder / "state").mkdir()
    write(folder / "state" / "audit.jsonl", [content(record) for record in records])
    return folder


@pytest.fixture
def medward(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    app = typer.Typer()
    app.command()(drift_command)

    def run(*arguments):
        app(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_the_command_prints_the_verdict_and_its_limits(medward):
    out = medward("bundle", "state")
    assert out.startswith("hospital: 1 of 4 accounts stands out (hospital/key-1), alarmed by ")
    assert "no bound" in out
    assert "strange above rank 1 in " in out
    assert medward("bundle", "state/audit.jsonl") == out
    assert "nobody asked anything" in medward("bundle", "state", "--until", "2020-01-01")


def test_the_command_prints_json_that_says_the_same(medward):
    (found,) = json.loads(medward("bundle", "state", "--json"))
    assert (found["kind"], found["standing"]) == ("attack", ["hospital/key-1"])
    assert found["verdict"] in medward("bundle", "state")
    labels = [rate["event"]["label"] for rate in found["rates"] if rate["event"]["part"] == "strange"]
    assert labels == [f"above rank {2**place}" for place in range(len(labels))] != []
    assert json.loads(medward("bundle", "state", "--json", "--since", "2099-01-01")) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing", "state"), "missing: is not a bundle folder"),
        (("bundle", "missing.jsonl"), "missing.jsonl: there is no such audit log"),
        (("bundle", "bundle/policy.toml"), "record 1"),
        (("bundle", "state", "--since", "yesterday"), "--since: a time such as 2026-01-31"),
        (("bundle", "state", "--since", "2026-02-01", "--until", "2026-01-31"), "--until: must be later than --since"),
        (("bundle", "state", "--expect", GENESIS), "expected 000000000000"),
    ],
)
def test_a_mistake_is_one_sentence(medward, arguments, says):
    with pytest.raises(MedwardError, match=re.escape(says)) as refused:
        medward(*arguments)
    assert "\n" not in str(refused.value)
