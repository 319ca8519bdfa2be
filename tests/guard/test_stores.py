"""What only the SQLite store promises: several processes, kill -9, a clear word when the file is unusable."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import guard
from guard.errors import UnavailableError
from guard.stores import SQLiteStore

ROOT = Path(guard.__file__).parents[1]
WORKER = """
import sys
from guard.stores import SQLiteStore
store = SQLiteStore(sys.argv[1], timeout=30)
for _ in range(int(sys.argv[2])):
    print(store.transact("n", lambda state: ((state or 0) + 1, (state or 0) + 1)), flush=True)
"""


def increment(state):
    return (state or 0) + 1, (state or 0) + 1


def start(path, count):
    command = [sys.executable, "-c", WORKER, str(path), str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@contextmanager
def files_no_larger_than(size):
    """A full disk, as far as this process is concerned."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_four_processes_that_open_a_new_file_at_once_lose_no_increment(tmp_path):
    workers = [start(tmp_path / "state.db", 100) for _ in range(4)]
    seen = sorted(int(line) for worker in workers for line in worker.communicate(timeout=60)[0].split())
    assert [worker.returncode for worker in workers] == [0] * 4
    assert seen == list(range(1, 401))


def test_kill_9_loses_no_acknowledged_update(tmp_path):
    acknowledged = 0
    for round_ in range(3):
        worker = start(tmp_path / "state.db", 1_000_000)
        lines = [worker.stdout.readline() for _ in range(20 + 37 * round_)]
        worker.send_signal(signal.SIGKILL)
        lines += worker.stdout.readlines()
        worker.communicate(timeout=60)
        acknowledged = int([line for line in lines if line.endswith("\n")][-1])
        store = SQLiteStore(tmp_path / "state.db")
        # One update may be durable without its acknowledgement having left the pipe.
        assert store.get("n") in (acknowledged, acknowledged + 1)
        store.close()
    assert acknowledged >= 20 + 57 + 94


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
        store.transact("a", lambda state: ("x" * 100_000, None))
    assert store.get("a") == 1
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
    with pytest.raises(UnavailableError):
        store.get("a")
    with pytest.raises(UnavailableError):
        store.transact("a", increment)
    store.close()
