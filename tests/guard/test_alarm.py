"""What a person is told of an account, once, and what an answer says in words."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from datetime import UTC, datetime

import numpy as np
import pytest
from support.tasks import CUT, FINDINGS, MONTHS, WHOLE, PlantedTask, rows_of

from medward.guard.accounts.stores import SQLiteStore
from medward.guard.alarm import Alarm, factor_text
from medward.guard.answering import released_answer
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.classification import Classification
from medward.guard.types import Action, Level, Outputs, Query
from medward.integrations.serving.predictions import client_view

ODD = np.full((1, 3), 60, np.float32)
BENIGN = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
POLICY = Policy(on_error="withhold", screen={"action": "flag"})


class Log(list):
    def append(self, record):
        super().append(json.loads(json.dumps(record)))


def ask(guard, rows, who=("clinic", "key")):
    return guard.answer(Query(principal=who, inputs=rows))


def thieve(guard, count=30):
    rng = np.random.default_rng(0)
    return [ask(guard, ODD + rng.normal(size=(1, 3)).astype(np.float32)) for _ in range(count)]


def test_an_alarm_is_told_once_after_its_answer_was_recorded_and_a_clinic_raises_none(make_guard, caplog):
    log, told = Log(), []

    def on_alarm(alarm):
        told.append((alarm, log[-1]["query"]))

    guard = make_guard(POLICY, audit=log, on_alarm=on_alarm)
    ask(guard, BENIGN)
    assert told == []
    thieve(guard)
    alarms = [alarm for alarm, _ in told]
    assert [(each.account, each.action) for each in alarms if each.account == "clinic/key"] == [
        ("clinic/key", Action.COARSEN),
        ("clinic/key", Action.WITHHOLD),
    ]
    assert {each.account for each in alarms} == {"clinic", "clinic/key"}
    assert all(each.action is Action.FLAG for each in alarms if each.account == "clinic"), "as monitor.parents says"
    assert all(alarm.query == last for alarm, last in told), "the record of that answer was there"
    assert abs((datetime.now(UTC) - alarms[0].time).total_seconds()) < 60
    said = [record.getMessage() for record in caplog.records]
    assert said == [str(each) for each in alarms]
    line = r"account clinic/key: alarm, coarsen; e-value [\d,.e]+ \(strange \d+%.*\); query [0-9a-f]{32}; \d{4}-.*Z"
    assert any(re.fullmatch(line, each) for each in said)
    assert not any("{" in each for each in said)


def test_an_alarm_is_remembered_by_the_state_and_not_told_again(make_guard, tmp_path):
    told = []
    for _ in range(2):
        guard = make_guard(POLICY, store=SQLiteStore(tmp_path / "db"), on_alarm=told.append)
        thieve(guard)
        guard.close()
    assert len(told) == 4, "two rungs of the account, two of its organisation"


def test_a_callback_that_fails_is_logged_and_changes_nothing(make_guard, caplog):
    def broken(alarm):
        raise RuntimeError("no pager")

    plain, failing = make_guard(POLICY), make_guard(POLICY, on_alarm=broken)
    assert [each.levels for each in thieve(plain)] == [each.levels for each in thieve(failing)]
    failed = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(failed) == 4
    assert "on_alarm failed for account clinic" in failed[0].getMessage()


@pytest.mark.parametrize("waits", [True, False])
def test_a_callback_may_ask_the_guard_but_not_wait_for_its_own_thread(waits, make_guard, caplog):
    said = []

    def on_alarm(_):
        query = Query(principal=("other",), inputs=BENIGN[:1])
        said.append(asyncio.run(guard.answer_async(query)) if waits else guard.answer(query))

    guard = make_guard(POLICY, on_alarm=on_alarm)

    async def thieve_async():
        for row in ODD + np.random.default_rng(0).normal(size=(30, 1, 3)).astype(np.float32):
            await asyncio.wait_for(guard.answer_async(Query(principal=("clinic", "key"), inputs=row)), 20)

    asyncio.run(thieve_async())
    assert ("would wait for itself; call guard.answer there" in caplog.text) == waits
    assert bool(said) != waits
    assert all(each.levels == (Level.ROUNDED,) for each in said)


def test_an_alarm_is_told_though_its_answer_could_not_be_recorded(make_guard):
    class Full(Log):
        def append(self, record):
            raise UnavailableError("disk full")

    told = []
    guard, rng = make_guard(POLICY, audit=Full(), on_alarm=told.append), np.random.default_rng(0)
    for _ in range(30):
        with pytest.raises(UnavailableError):
            ask(guard, ODD + rng.normal(size=(1, 3)))
    assert told


def test_a_failed_part_is_no_alarm(make_guard):
    class Away(SQLiteStore):
        def transact_all(self, keys, step, *, ttl=None):
            raise UnavailableError("store is away")

    told = []
    guard = make_guard(POLICY, store=Away(":memory:"), on_alarm=told.append)
    assert ask(guard, BENIGN[:1]).levels == (Level.WITHHELD,)
    assert told == []


def test_a_factor_is_written_as_it_is_read():
    said = {0.5: "1.65", 5.0: "148", 8.5: "4,915", 20.0: "4.9e8", 2000.0: "3.9e868", -3.0: "0.0498"}
    assert {number: factor_text(number) for number in said} == said


def test_near_duplicates_are_said_by_their_counts():
    alarm = Alarm(
        account="a",
        action=Action.FLAG,
        part="duplicates",
        evidence={"count": 24.0, "peak": 30.5},
        query="q",
        time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    assert str(alarm) == "account a: near-duplicates, flag; count 24, peak 30.5; query q; 2026-01-02T03:04:05Z"


KINDS = {
    "classes": Classification(classes=("benign", "malignant"), output="logits"),
    "findings": FINDINGS,
    "number": MONTHS,
    "cut": CUT,
    "whole": WHOLE,
}


CASES = [
    (kind, level)
    for kind, task in KINDS.items()
    for level in {*task.levels, Level.WITHHELD} - {Level.CODES}  # which needs a codebook
]


@pytest.mark.parametrize(("kind", "level"), CASES)
def test_an_answer_in_plain_python_is_what_a_client_reads(kind, level):
    model = PlantedTask(KINDS[kind])
    outputs = Outputs(model.outputs(rows_of(6, 4)))
    levels = (level,) * 5 + (Level.WITHHELD,)
    answer = released_answer("q", model.spec, outputs, levels, (), level, ReleaseSettings())
    said = answer.as_dict()
    assert said == client_view(answer, model.spec).model_dump(exclude_unset=True)
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    rows = answer.rows()
    assert [row["level"] for row in rows] == said["levels"]
    assert answer.decisions[5] is None
    if kind == "whole":
        assert answer.decisions == (None,) * 6
    elif level is not Level.WITHHELD:
        task = model.spec.task
        words = [task.word(int(each)) for each in task.decide(outputs.scores)[:5]]
        assert [list(each) if kind == "findings" else each for each in answer.decisions[:5]] == words
        assert [row["label"] for row in rows[:5]] == words


def test_in_an_event_loop_answers_come_in_order_from_another_thread(make_guard):
    log, threads = Log(), set()
    guard = make_guard(POLICY, audit=log, on_alarm=lambda _: threads.add(threading.current_thread().name))

    async def asked():
        rng = np.random.default_rng(0)
        rows = [ODD + rng.normal(size=(1, 3)).astype(np.float32) for _ in range(30)]
        queries = [Query(principal=("key",), inputs=row, id=f"q{i}") for i, row in enumerate(rows)]
        return await asyncio.gather(*map(guard.answer_async, queries))

    answers = asyncio.run(asked())
    assert [each.id for each in answers] == [record["query"] for record in log] == [f"q{i}" for i in range(30)]
    assert threads == {"medward-guard_0"}


def test_who_is_cancelled_while_waiting_has_not_asked_and_what_runs_is_on_record(make_guard, linear_model):
    log, started, go_on = Log(), threading.Event(), threading.Event()

    class Slow:
        spec = linear_model.spec

        def predict(self, inputs):
            started.set()
            assert go_on.wait(10)
            return linear_model.predict(inputs)

    guard = make_guard(POLICY, audit=log, model=Slow())

    async def journey():
        running, waiting, last = (
            asyncio.ensure_future(guard.answer_async(Query(principal=("key",), inputs=BENIGN[:1], id=name)))
            for name in ("running", "waiting", "last")
        )
        await asyncio.to_thread(started.wait, 10)
        running.cancel()
        waiting.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await last
        assert running.cancelled()
        assert waiting.cancelled()

    asyncio.run(journey())
    assert [record["query"] for record in log] == ["running", "last"]


def test_a_closed_guard_and_a_bad_query_say_so_in_a_loop_too(make_guard):
    guard = make_guard(POLICY)
    with pytest.raises(MedwardError, match="expected shape"):
        asyncio.run(guard.answer_async(Query(principal=("key",), inputs=np.zeros((1, 9)))))
    guard.close()
    with pytest.raises(UnavailableError, match="closed"):
        asyncio.run(guard.answer_async(Query(principal=("key",), inputs=BENIGN[:1])))
