"""When a commissioning begins, ends and goes on, whatever is restarted; the clock is the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.accounts.stores import MemoryStore, SQLiteStore
from medward.guard.commissioning.period import (
    BEGAN,
    COMMISSIONING_ANSWERS,
    ENDED,
    RESUMED,
    Commissioning,
    CommissioningAsked,
    begin_commissioning,
    claim_answers,
    close_commissioning,
)
from medward.guard.errors import MedwardError, UnavailableError


class Records(list):
    def append(self, record):
        super().append(dict(record))

    def check_writable(self):
        pass

    @property
    def events(self):
        return [record["event"] for record in self]


def begin(store, audit, now, *, organisation="hospital-b", minutes=60, number=1):
    return begin_commissioning(
        store, audit, organisation=organisation, minutes=minutes, number=number, clock=lambda: now
    )


@pytest.fixture
def begun():
    store, audit = MemoryStore(), Records()
    return store, audit, begin(store, audit, 1000.0)


def test_it_begins_on_record_and_ends_at_its_time(begun):
    store, audit, running = begun
    assert audit == [
        {
            "event": BEGAN,
            "commissioning": 1,
            "organisation": "hospital-b",
            "until": "1970-01-01T01:16:40+00:00",
            "answers": COMMISSIONING_ANSWERS,
        }
    ]
    assert claim_answers(store, running, 3, 1000.0 + 3599).granted
    late = claim_answers(store, running, 3, 1000.0 + 3600)
    assert (late.granted, late.ended) == (False, "its time is over")
    assert not claim_answers(store, running, 1, 1000.0).granted  # nor ever again


def test_a_restart_goes_on_to_the_same_end_with_the_answers_that_are_left(begun):
    store, audit, running = begun
    claim_answers(store, running, 480, 1100.0)
    again = begin(store, audit, 2000.0, minutes=1440)
    assert again == running
    assert audit.events == [BEGAN, RESUMED]
    assert audit[-1]["answers"] == 20
    assert audit[-1]["until"] == audit[0]["until"]


def test_an_option_that_was_left_begins_nothing_once_it_ended(begun, caplog):
    store, audit, running = begun
    for now in (1000.0 + 3600, 1e9):
        assert begin(store, audit, now) is None
    assert "--commission-number 2" in caplog.text
    assert audit.events == [BEGAN, ENDED]  # the end once
    assert not claim_answers(store, running, 1, 1e9).granted


def test_the_next_one_is_asked_for_by_its_number_and_prolongs_none(begun):
    store, audit, running = begun
    with pytest.raises(MedwardError, match="still runs, and none is prolonged"):
        begin(store, audit, 1100.0, number=2)
    with pytest.raises(MedwardError, match="the last commissioning was 1, so the next is 2, got 3"):
        begin(store, audit, 9000.0, number=3)
    second = begin(store, audit, 9000.0, number=2)
    assert audit.events == [BEGAN, BEGAN]
    assert claim_answers(store, second, 1, 9001.0).left == COMMISSIONING_ANSWERS - 1
    stale = claim_answers(store, running, 1, 1001.0)  # of a process that was not restarted
    assert (stale.granted, stale.ended) == (False, "another one was begun")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"organisation": "hospital-c"}, "is for 'hospital-b' until it ends, got 'hospital-c'"),
        ({"minutes": 0}, "from 1 to 1440 minutes"),
        ({"minutes": 1441}, "from 1 to 1440 minutes"),
        ({"minutes": float("nan")}, "from 1 to 1440 minutes"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_and_changes_nothing(begun, change, said):
    store, audit, running = begun
    with pytest.raises(MedwardError, match=said):
        begin(store, audit, 1100.0, **change)
    assert audit.events == [BEGAN]
    assert claim_answers(store, running, 1, 1101.0).granted


def test_nothing_begins_without_a_record():
    class Away(Records):
        def append(self, record):
            raise UnavailableError("disk full")

    store = MemoryStore()
    with pytest.raises(UnavailableError):
        begin(store, Away(), 1000.0)
    assert not claim_answers(store, Commissioning(organisation="hospital-b", until=4600.0), 1, 1001.0).granted


def test_a_clock_that_is_set_back_ends_it(begun):
    store, audit, running = begun
    assert claim_answers(store, running, 1, 4000.0).granted
    assert claim_answers(store, running, 1, 3950.0).granted  # clocks differ a little
    assert claim_answers(store, running, 1, 1000.0).ended == "the clock went back"
    close_commissioning(store, audit, running, 1001.0)
    assert audit[-1]["why"] == "the clock went back"


@given(asked=st.lists(st.integers(1, 64), max_size=60))
@settings(max_examples=30)
def test_no_more_is_answered_than_stated(asked):
    store = MemoryStore()
    running = begin(store, Records(), 0.0)
    claims = [claim_answers(store, running, rows, 1.0) for rows in asked]
    granted = [rows for rows, claim in zip(asked, claims, strict=True) if claim.granted]
    assert sum(granted) <= COMMISSIONING_ANSWERS
    if (total := sum(asked)) > COMMISSIONING_ANSWERS:
        assert not claims[-1].granted  # once it asked for too many it is over, for smaller queries too
        assert sum(granted) < total
    else:
        assert len(granted) == len(asked)


def test_threads_share_the_answers(begun):
    store, _, running = begun
    granted = []

    def ask():
        for _ in range(100):
            claim = claim_answers(store, running, 3, 1001.0)
            granted.append(3 * claim.granted)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert COMMISSIONING_ANSWERS - 3 < sum(granted) <= COMMISSIONING_ANSWERS


CHILD = """
import sys
from medward.guard.accounts.stores import SQLiteStore
from medward.guard.commissioning.period import Commissioning, claim_answers
store = SQLiteStore(sys.argv[1])
while True:
    claim = claim_answers(store, Commissioning(organisation="hospital-b", until=4600.0), 1, 1001.0)
    print(claim.granted, flush=True)
"""


def test_a_kill_gives_no_answers_back(tmp_path):
    path = tmp_path / "accounts.db"
    store = SQLiteStore(path)
    running = begin(store, Records(), 1000.0)
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, env={**os.environ}
    ) as child:
        seen = [child.stdout.readline() for _ in range(30)]
        child.kill()
        seen += child.stdout.readlines()
    answered = sum(line == b"True\n" for line in seen)
    assert answered >= 30
    left = claim_answers(store, running, 1, 1002.0).left + 1
    assert 0 <= COMMISSIONING_ANSWERS - left - answered <= 1  # one at most was counted and not told
    store.close()


@pytest.mark.parametrize(
    ("organisation", "known", "said"),
    [
        (None, {"a", "b"}, "name one organisation; a, b have keys"),
        (None, set(), "name one organisation; none has keys"),
        ("c", {"a"}, "no key begins with 'c'"),
    ],
)
def test_an_organisation_is_named_unless_there_is_one_only(organisation, known, said):
    asked = CommissioningAsked(minutes=5, organisation=organisation)
    with pytest.raises(MedwardError, match=said):
        asked.begin(MemoryStore(), Records(), known, lambda: 0.0)


def test_the_only_organisation_need_not_be_named_and_any_spelling_does():
    assert CommissioningAsked(minutes=5).begin(MemoryStore(), Records(), {"a"}, lambda: 0.0).organisation == "a"
    named = CommissioningAsked(minutes=5, organisation="Hospital\N{EN DASH}A")
    assert named.begin(MemoryStore(), Records(), {"hospital-a", "b"}, lambda: 0.0).organisation == "hospital-a"
