"""What the SQLite store promises of its file: several processes, kill -9, full disks."""

from __future__ import annotations

import os
import sqlite3
import threading

import pytest
from support.host import files_no_larger_than, killed, start
from support.replicas import count

from medward.guard.accounts.stores import CorruptStateError, SQLiteStore
from medward.guard.errors import UnavailableError

WORKER = """
import sys
from medward.guard.accounts.stores import SQLiteStore

store = SQLiteStore(sys.argv[1], timeout=30)
for _ in range(int(sys.argv[2])):
    print(store.transact("n", lambda state: ((state or 0) + 1, (state or 0) + 1)), flush=True)
"""


def increment(state):
    return (state or 0) + 1, (state or 0) + 1


def test_four_processes_lose_no_update(tmp_path):
    workers = [start(WORKER, tmp_path / "state.db", 50) for _ in range(4)]
    seen = [line for worker in workers for line in worker.communicate(timeout=60)[0].splitlines()]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert sorted(map(int, seen)) == list(range(1, 201))


def test_a_writer_waits_until_the_step_of_another_is_written(tmp_path):
    one, other = (SQLiteStore(tmp_path / "state.db") for _ in range(2))
    writer = threading.Thread(target=other.transact, args=("n", increment))

    def slow(state):
        writer.start()
        writer.join(0.1)
        return increment(state)

    assert one.transact("n", slow) == 1
    writer.join()
    assert one.get("n") == 2
    one.close()
    other.close()


def test_kill_9_loses_no_acknowledged_update(tmp_path):
    for lines in (20, 57, 94):
        acknowledged = killed(WORKER, tmp_path / "state.db", 1_000_000, after=lines)
        store = SQLiteStore(tmp_path / "state.db")
        assert store.get("n") - int(acknowledged[-1]) in (0, 1)  # the pipe may not have got to tell the last
        store.close()


def test_kill_9_of_some_workers_loses_no_acknowledged_update_and_counts_none_twice(tmp_path):
    counted = count("sqlite", tmp_path / "state.db", workers=4, kill=2, after=15, updates=30)
    store = SQLiteStore(tmp_path / "state.db")
    assert (counted.lost(store), counted.surplus(store)) == (0, 0)
    store.close()


def test_state_survives_reopening(tmp_path):
    store = SQLiteStore(tmp_path / "state.db")
    store.transact("a", increment)
    store.close()
    store = SQLiteStore(tmp_path / "state.db")
    assert store.get("a") == 1
    store.close()


def test_a_file_locked_by_another_writer_is_unavailable_for_writes_then_works_again(tmp_path):
    store = SQLiteStore(tmp_path / "state.db", timeout=0.05)
    store.transact("a", increment)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="locked"):
        store.transact("a", increment)
    assert store.get("a") == 1
    other.execute("ROLLBACK")
    other.close()
    assert store.transact("a", increment) == 2
    store.close()


def test_an_error_of_sqlite_raised_by_a_step_is_the_steps_own(tmp_path):
    def step(state):
        raise sqlite3.OperationalError("mine")

    store = SQLiteStore(tmp_path / "state.db")
    with pytest.raises(sqlite3.OperationalError, match="mine"):
        store.transact("a", step)
    assert store.transact("a", increment) == 1
    store.close()


def test_a_full_disk_is_unavailable_and_keeps_the_state(tmp_path):
    store = SQLiteStore(tmp_path / "state.db")
    store.transact("a", increment)
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    with files_no_larger_than(size), pytest.raises(UnavailableError):
        store.transact("a", lambda state: (os.urandom(100_000).hex(), None))
    assert store.get("a") == 1
    assert store.transact("a", increment) == 2
    store.close()


def test_a_wrong_clock_of_one_process_expires_nothing_in_the_next(tmp_path):
    times = iter((1e9, 1e9 + 1e8))
    for _ in range(2):
        now = next(times)
        store = SQLiteStore(tmp_path / "state.db", clock=lambda now=now: now)
        store.transact("a", increment, ttl=1e6)
        store.close()
    store = SQLiteStore(tmp_path / "state.db", clock=lambda: 1e9 + 60)
    assert store.get("a") == 2
    store.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_deleted_or_replaced_under_the_store_is_said_and_not_written_to(tmp_path, replaced):
    path = tmp_path / "state.db"
    store = SQLiteStore(path)
    store.transact("a", increment)
    away = path.rename(tmp_path / "away.db")
    if replaced:
        path.write_bytes(b"")
    for call in (lambda: store.transact("a", increment), lambda: store.get("a"), lambda: store.delete("a")):
        with pytest.raises(UnavailableError, match="deleted or replaced"):
            call()
    away.replace(path)
    assert store.transact("a", increment) == 2
    store.close()


def test_a_store_whose_connection_broke_opens_the_file_anew(tmp_path):
    store = SQLiteStore(tmp_path / "state.db")
    store.transact("a", increment)
    store._connection.close()  # as after an input/output error that could not be rolled back
    with pytest.raises(UnavailableError):
        store.transact("a", increment)
    assert store.transact("a", increment) == 2
    store.close()


def test_a_path_that_cannot_be_opened_is_unavailable(tmp_path):
    with pytest.raises(UnavailableError, match=r"state\.db"):
        SQLiteStore(tmp_path / "missing" / "state.db")


def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    (tmp_path / "state.db").write_bytes(b"not a database, by any means" * 100)
    with pytest.raises(UnavailableError, match="not a database"):
        SQLiteStore(tmp_path / "state.db")


def test_a_corrupt_state_is_unavailable(tmp_path):
    store = SQLiteStore(tmp_path / "state.db")
    store.transact("a", increment)
    other = sqlite3.connect(tmp_path / "state.db")
    with other:
        other.execute("UPDATE states SET state = '{'")
    other.close()
    with pytest.raises(CorruptStateError, match="'a' is corrupt"):
        store.get("a")
    with pytest.raises(CorruptStateError):
        store.transact_all(("b", "a"), lambda states: (states, None))
    assert store.transact("b", increment) == 1
    store.close()
