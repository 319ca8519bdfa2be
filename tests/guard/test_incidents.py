"""Incidents from a log: who alarmed, when, what saw it, what had left by then, and what became of it."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from medward.guard.accounts.stores import MemoryStore
from medward.guard.accounts.suspension import lift_suspension, suspend_account
from medward.guard.audit.incidents import incidents
from medward.guard.audit.record import is_query_record
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.types import Action, Query

BENIGN = np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32)
THEFT = 60 + np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
POLICY = Policy(on_error="withhold", screen={"action": "flag"})


class Log(list):
    def append(self, record):
        super().append(
            {**json.loads(json.dumps(record)), "time": f"2026-01-01T00:00:{len(self):05}", "seq": len(self) + 1}
        )


@pytest.fixture
def scene(make_guard):
    log = Log()
    return make_guard(POLICY, store=MemoryStore(), audit=log), log


def ask(guard, rows, *who):
    for row in rows:
        guard.answer(Query(principal=who, inputs=row[None]))


def test_benign_accounts_are_no_incident_and_a_thief_and_its_clinic_are(scene):
    guard, log = scene
    ask(guard, BENIGN, "clinic", "good")
    assert incidents(log) == []
    ask(guard, BENIGN[:5], "clinic", "thief")
    ask(guard, THEFT, "clinic", "thief")
    found = {each.account: each for each in incidents(log)}
    assert set(found) == {"clinic", "clinic/thief"}
    assert found["clinic/thief"].action is Action.WITHHOLD
    assert found["clinic"].action is Action.FLAG
    assert not found["clinic/thief"].ended


def test_an_incident_counts_what_left_before_the_alarm_and_since(scene):
    guard, log = scene
    ask(guard, BENIGN[:5], "clinic", "thief")
    ask(guard, THEFT, "clinic", "thief")
    incident = next(each for each in incidents(log) if each.account == "clinic/thief")
    at = next(i for i, record in enumerate(log) if record["query"] == incident.query)
    assert incident.began == log[at]["time"]
    levels = [Counter(level for record in part for level in record["levels"]) for part in (log[:at], log[at:])]
    assert [incident.left_before, incident.left_since] == [*map(dict, levels)]
    assert sum(incident.left_before.values()) >= 5
    assert incident.left_since["withheld"]
    assert incident.seen_by in ("strange", "embedding", "shared")
    assert "medward accounts suspend" in incident.remedy


def test_a_reset_ends_an_incident_and_a_thief_who_goes_on_begins_another(scene):
    guard, log = scene
    ask(guard, THEFT, "thief")
    guard.reset(("thief",))
    assert [bool(each.ended) for each in incidents(log)] == [True]
    assert incidents(log)[0].remedy == ""
    ask(guard, THEFT, "thief")
    first, second = incidents(log)
    assert (first.ended != "", second.ended) == (True, "")
    assert first.left_before == second.left_before, (
        "its alarm is the same, and what left before the reset is not counted"
    )
    assert sum(second.left_since.values()) + sum(second.left_before.values()) == len(THEFT)


def test_a_suspension_shows_while_it_stands(scene):
    guard, log = scene
    ask(guard, THEFT, "clinic", "thief")
    why = {"reason": "theft", "operator": "jo"}
    suspend_account(guard.store, log, ("clinic",), **why)
    assert all(each.suspended for each in incidents(log))
    assert "accounts release" in incidents(log)[0].remedy
    lift_suspension(guard.store, log, ("clinic",), **why)
    assert not any(each.suspended for each in incidents(log))


def test_near_duplicates_are_an_incident_of_their_own_kind_and_a_failed_part_is_none():
    def record(*verdicts):
        return {
            "query": "q", "principal": "a/b", "policy": "p", "inputs": ["x"], "bets": {}, "levels": ["label"],
            "verdicts": [*verdicts], "time": "2026-01-01", "seq": 1,
        }  # fmt: skip

    counted = {"source": "duplicates:a/b", "action": "coarsen", "evidence": {"count": 9.0, "peak": 9.0}}
    failed = {"source": "error:account:a/b:OSError", "action": "withhold", "evidence": {}}
    (found,) = incidents([record(counted), record(failed)])
    assert (found.account, found.seen_by, found.action) == ("a/b", "duplicates", Action.COARSEN)
    assert "border" in found.remedy
    assert incidents([record(failed)]) == []
    broken = record(counted) | {"inputs": None, "principal": 7}
    assert is_query_record(broken)
    with pytest.raises(MedwardError, match="audit record 1: not one of a query"):
        incidents([broken])
