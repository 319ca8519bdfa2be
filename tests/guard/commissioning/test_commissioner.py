"""A guard that is commissioned: one organisation is answered for testing and charged nothing, the others as ever."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from support.report_models import report_guard, report_images, report_model, report_policy

from medward.guard.accounts.stores import MemoryStore, SQLiteStore
from medward.guard.audit.excess import drift_reports
from medward.guard.audit.log import AuditLog, read_log
from medward.guard.audit.record import is_query_record
from medward.guard.audit.replay import replay_log
from medward.guard.commissioning.commissioner import OLD_PROFILE
from medward.guard.commissioning.period import COMMISSIONED, COMMISSIONING_ANSWERS, Commissioning, begin_commissioning
from medward.guard.commissioning.report import commissioning_reports
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.types import Level, Query

TESTED, OTHER = ("hospital-b", "pacs", "key-1"), ("hospital-a", "radiology", "key-17")
POLICY = Policy.model_validate({"on_error": "withhold", "budget": {"daily_bits": 300}})
ODD = np.random.default_rng(2).normal(40, 1, (20, 3)).astype(np.float32)


def ordinary(n, seed=5):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


class Site:
    """A guard with a store and a log on disk, begun at 1000 s for an hour."""

    def __init__(self, make_guard, folder, **parts):
        self.clock = parts.pop("clock", Clock(1000.0))
        self.path, self.log = folder / "accounts.db", folder / "audit.jsonl"
        self.store, self.audit = parts.pop("store", None) or SQLiteStore(self.path), AuditLog(self.log)
        running = begin_commissioning(self.store, self.audit, organisation="hospital-b", minutes=60, clock=self.clock)
        self.alarms = []
        self.guard = make_guard(
            parts.pop("policy", POLICY),
            store=self.store,
            audit=self.audit,
            clock=self.clock,
            commissioning=running,
            on_alarm=self.alarms.append,
            **parts,
        )

    def ask(self, who, rows):
        return self.guard.answer(Query(principal=who, inputs=rows))

    def accounts(self):
        """Every state of an account as it is on the disk, and when it expires."""
        with sqlite3.connect(self.path) as opened:
            rows = opened.execute("SELECT key, state, expires FROM states ORDER BY key").fetchall()
        return [row for row in rows if not row[0].startswith("//commissioning")]

    def records(self, event=None):
        return [record for record in read_log(self.log) if event is None or record.get("event") == event]


@pytest.fixture
def site(make_guard, tmp_path):
    return Site(make_guard, tmp_path)


def test_an_answer_of_commissioning_is_marked_and_shows_decisions_only(site, linear_model):
    rows = ordinary(20)
    answer = site.ask(TESTED, rows)
    assert answer.commissioning.content == {
        "for_testing_only": True,
        "until": "1970-01-01T01:16:40+00:00",
        "answers_left": COMMISSIONING_ANSWERS - 20,
        "rows_compared": 20,
        "notes": [],
    }
    assert set(answer.levels) == {Level.LABEL}
    assert np.isnan(answer.scores).all()
    assert (answer.labels == linear_model.predict(rows).scores.argmax(axis=1)).all()
    assert answer.as_dict()["commissioning"]["for_testing_only"] is True


def test_strange_rows_are_answered_and_told_in_words(site):
    answer = site.ask(TESTED, ODD)
    assert set(answer.levels) == {Level.LABEL}
    assert answer.commissioning.notes
    assert answer.commissioning.compared == 20


def test_the_control_is_refused_what_the_other_is_told(site):
    answer = site.ask(OTHER, ODD)
    assert set(answer.levels) == {Level.WITHHELD}
    assert answer.commissioning is None
    assert "commissioning" not in answer.as_dict()


def test_nothing_is_charged_to_any_account(site):
    site.ask(OTHER, ordinary(6))
    before = site.accounts()
    assert before
    for _ in range(10):
        site.ask(TESTED, ODD)
    assert site.accounts() == before  # byte for byte
    assert site.alarms == []
    site.ask(OTHER, ODD)
    assert site.accounts() != before  # the control


def test_the_same_queries_without_commissioning_are_charged_and_raise_an_alarm(make_guard):
    alarms = []
    guard = make_guard(POLICY, on_alarm=alarms.append)
    for _ in range(10):
        guard.answer(Query(principal=TESTED, inputs=ODD + np.random.default_rng(len(alarms)).normal(size=ODD.shape)))
    assert alarms


def test_every_query_is_on_record_with_what_would_have_become_of_it(site):
    for number in range(10):
        site.ask(TESTED, ODD + np.float32(number))
    records = site.records(COMMISSIONED)
    assert len(records) == 10
    assert {record["principal"] for record in records} == {"/".join(TESTED)}
    assert records[0]["levels"] == ["label"] * 20
    assert records[0]["commissioning"] == 1
    strictest = [verdict["action"] for record in records for verdict in record["judged"]]
    assert "withhold" in strictest
    assert not any("withhold" in json.dumps(record["notes"]) for record in records)
    assert not any(is_query_record(record) for record in site.records())


def test_replay_and_drift_read_a_log_in_which_something_was_commissioned(site, linear_profile):
    site.ask(OTHER, ordinary(30))
    site.ask(TESTED, ODD)
    site.ask(OTHER, ordinary(30, seed=6))
    site.clock.now = 1000.0 + 3600
    site.ask(TESTED, ordinary(30, seed=7))
    records = site.records()
    replayed = replay_log(records, [POLICY], linear_profile)
    assert replayed.restarts == {}
    assert replayed.verdicts == 9  # three queries at three levels each
    reports = {each.organisation: each for each in drift_reports(records, POLICY, linear_profile)}
    assert {name: each.queries for name, each in reports.items()} == {"hospital-a": 60, "hospital-b": 30}


def test_it_ends_at_its_time_on_record_with_totals(site):
    site.ask(TESTED, ODD)
    assert any("commissioning until 1970-01-01T01:16:40" in each for each in site.guard.check_ready())
    site.clock.now = 1000.0 + 3600
    assert not any("commissioning" in each for each in site.guard.check_ready())
    assert site.ask(TESTED, ODD).commissioning is None
    ends = site.records("commissioning ended")
    assert [(each["why"], each["queries"], each["answers"]) for each in ends] == [("its time is over", 1, 20)]
    assert sum(ends[0]["words"].values()) > 0


def test_it_ends_with_its_answers_and_what_comes_then_is_guarded(site):
    for number in range(COMMISSIONING_ANSWERS // 20):
        assert site.ask(TESTED, ordinary(20, seed=number)).commissioning is not None
    assert site.ask(TESTED, ordinary(1)).commissioning is None
    assert set(site.ask(TESTED, ODD).levels) == {Level.WITHHELD}
    (end,) = site.records("commissioning ended")
    assert end["why"] == "its answers were used up"


def test_the_report_of_the_log_says_what_was_said(site):
    site.ask(TESTED, ODD)
    site.ask(TESTED, ordinary(20))
    (report,) = commissioning_reports(site.records())
    assert (report.queries, report.rows, report.organisation, report.ended) == (2, 40, "hospital-b", "")
    assert report.words
    assert report.words == {
        word: rows for record in site.records(COMMISSIONED) for word, rows in record["words"].items()
    }
    assert "its end is not on record" in report.sentences[0]
    assert commissioning_reports([]) == []


def test_rows_are_gathered_over_queries_and_a_repeated_row_counts_once(site):
    compared = [site.ask(TESTED, ODD[:1]).commissioning.compared for _ in range(30)]
    assert compared == [0] * 30
    compared = [site.ask(TESTED, ODD[number : number + 1]).commissioning.compared for number in range(1, 20)]
    assert compared == [0] * 3 + [5] + [0] * 14 + [20]


def test_no_answer_leaves_unrecorded_whatever_the_policy_says(make_guard, tmp_path):
    found = Site(make_guard, tmp_path, policy=Policy.model_validate({"on_error": "flag"}))
    object.__setattr__(found.guard._commissioner, "audit", _Away())
    with pytest.raises(UnavailableError):
        found.ask(TESTED, ODD)


class _Away:
    def append(self, record):
        raise UnavailableError("disk full")

    def check_writable(self):
        raise UnavailableError("disk full")


def test_a_store_that_is_away_commissions_nothing(make_guard, tmp_path):
    class Failing(MemoryStore):
        away = False

        def transact_all(self, keys, step, *, ttl=None):
            if self.away:
                raise UnavailableError("store is away")
            return super().transact_all(keys, step, ttl=ttl)

    found = Site(make_guard, tmp_path, store=Failing())
    found.store.away = True
    answer = found.ask(TESTED, ODD)
    assert answer.commissioning is None
    assert set(answer.levels) == {Level.WITHHELD}


def test_a_guard_without_an_audit_log_is_not_commissioned(make_guard):
    with pytest.raises(MedwardError, match="give the guard an audit log"):
        make_guard(POLICY, commissioning=Commissioning(organisation="hospital-b", until=2000.0))


def test_what_was_never_begun_covers_nothing(make_guard, tmp_path):
    running = Commissioning(organisation="hospital-b", until=1e12)
    guard = make_guard(POLICY, audit=AuditLog(tmp_path / "log"), commissioning=running)
    assert guard.answer(Query(principal=TESTED, inputs=ODD)).commissioning is None


@pytest.mark.parametrize("who", [("hospital-b2",), ("x", "hospital-b"), ("hospital", "b"), ("//commissioning",)])
def test_nobody_else_passes_for_the_organisation(site, who):
    try:
        assert site.ask(who, ODD).commissioning is None
    except MedwardError:
        assert who == ("//commissioning",)


def test_another_spelling_of_the_organisation_is_the_same_one(site):
    assert site.ask(("Hospital-B", "ct"), ODD).commissioning is not None


def test_a_comparison_that_fails_is_said_and_the_answer_leaves(site, monkeypatch):
    def fail(*_):
        raise ValueError("no")

    monkeypatch.setattr("medward.guard.commissioning.commissioner.explain_batch", fail)
    answer = site.ask(TESTED, ODD)
    assert answer.commissioning.notes == ("the rows could not be compared; the server's log says why",)
    assert answer.commissioning.compared == 0


def test_an_older_profile_says_what_it_cannot_tell(make_guard, tmp_path, linear_profile):
    found = Site(make_guard, tmp_path, profile=replace(linear_profile, ordinary=None))
    assert found.ask(TESTED, ordinary(20)).commissioning.notes == (OLD_PROFILE,)


def test_of_a_report_the_findings_leave_and_no_text_whole_or_streamed(tmp_path):
    store, audit = MemoryStore(), AuditLog(tmp_path / "log.jsonl")
    running = begin_commissioning(store, audit, organisation="clinic", minutes=5, clock=lambda: 1000.0)
    settings = {"store": store, "audit": audit, "commissioning": running, "clock": lambda: 1000.0}
    guard, rows = report_guard(report_model(), report_policy(), **settings), report_images(6, 5)
    answer = guard.answer(Query(principal=("clinic", "key"), inputs=rows))
    assert answer.texts == (None,) * 6
    assert set(answer.levels) == {Level.LABEL}
    assert answer.decisions == guard.answer(Query(principal=("other", "key"), inputs=rows)).decisions
    with pytest.raises(MedwardError, match="while commissioning no text leaves"):
        guard.stream(Query(principal=("clinic", "key"), inputs=rows[:1]))
    assert guard.stream(Query(principal=("other", "key"), inputs=rows[:1])).level is Level.FULL  # the control


def test_a_site_is_compared_with_its_own_calibration(make_guard, tmp_path, linear_model):
    own = Profile.fit(linear_model, ordinary(400, seed=8) + np.float32(5), risk=0.001, secret=0)
    found = Site(make_guard, tmp_path, sites={"hospital-b": own})
    assert found.ask(TESTED, ordinary(20) + np.float32(5)).commissioning.notes == ()
    assert found.ask(TESTED, ordinary(20)).commissioning.notes != ()
