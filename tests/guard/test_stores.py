"""What the SQLite store and the audit log promise of their files: several processes, kill -9, full disks."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

import guard
from guard.audit import AuditLog, read, verify
from guard.errors import UnavailableError
from guard.stores import SQLiteStore

ROOT = Path(guard.__file__).parents[1]
WORKER = """
import sys
from guard.audit import AuditLog
from guard.stores import SQLiteStore

folder, worker, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store, log = SQLiteStore(folder + "/state.db", timeout=30), AuditLog(folder + "/audit.jsonl")
for i in range(count):
    n = store.transact("n", lambda state: ((state or 0) + 1, (state or 0) + 1))
    log.append({"worker": worker, "i": i, "pad": "x" * (i % 7 * 1000)})
    print(n, i, flush=True)
"""


def increment(state):
    return (state or 0) + 1, (state or 0) + 1


def start(folder, worker, count):
    command = [sys.executable, "-c", WORKER, str(folder), worker, str(count)]
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


def test_four_processes_and_four_threads_lose_no_update_and_make_one_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    workers = [start(tmp_path, name, 50) for name in "abcd"]
    log = AuditLog(path)

    def append(name):
        for i in range(50):
            log.append({"worker": name, "i": i})

    threads = [threading.Thread(target=append, args=(name,)) for name in "efgh"]
    for thread in threads:
        thread.start()
    while any(worker.poll() is None for worker in workers):
        verify(path)  # a reader sees a valid log at any time, and disturbs no writer
    for thread in threads:
        thread.join()
    seen = [line.split()[0] for worker in workers for line in worker.communicate(timeout=60)[0].splitlines()]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert sorted(map(int, seen)) == list(range(1, 201))
    assert verify(path).records == 400
    order = [(record["worker"], record["i"]) for record in read(path)]
    assert [[i for name, i in order if name == worker] for worker in "abcdefgh"] == [list(range(50))] * 8


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


def test_kill_9_loses_no_acknowledged_update_or_record(tmp_path):
    path = tmp_path / "audit.jsonl"
    for name, lines in {"a": 20, "b": 57, "c": 94}.items():
        worker = start(tmp_path, name, 1_000_000)
        told = [worker.stdout.readline() for _ in range(lines)]
        worker.send_signal(signal.SIGKILL)
        told += worker.stdout.readlines()
        worker.communicate(timeout=60)
        acknowledged = [tuple(map(int, line.split())) for line in told if line.endswith("\n")]
        assert len(acknowledged) >= lines

        # One more update or record may be there than the pipe got to tell.
        store = SQLiteStore(tmp_path / "state.db")
        assert store.get("n") - acknowledged[-1][0] in (0, 1)
        store.close()
        AuditLog(path).append({"worker": "after"})
        assert verify(path).torn == 0
        kept = [record["i"] for record in read(path) if record["worker"] == name]
        assert kept == list(range(len(kept)))
        assert len(kept) - len(acknowledged) in (0, 1)


def test_a_reader_never_sees_half_of_a_line_that_is_being_written(tmp_path):
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append({"query": "q1"})
    line = path.read_bytes()
    os.truncate(path, 0)
    found = []
    reader = threading.Thread(target=lambda: found.append(verify(path)))
    with path.open("ab", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        writer.write(line[:50])
        reader.start()
        reader.join(0.1)
        writer.write(line[50:])
    reader.join()
    assert (found[0].records, found[0].torn) == (1, 0)


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


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_is_unavailable_and_the_log_stays_whole(tmp_path, room):
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append({"query": "q1"})
    before = path.read_bytes()
    with (
        files_no_larger_than(len(before) + room),
        pytest.raises(UnavailableError, match="cannot write the audit"),
    ):
        AuditLog(path).append({"query": "x" * 100})
    assert path.read_bytes() == before
    AuditLog(path, fsync=True).append({"query": "q2"})
    assert verify(path).records == 2


def test_a_log_that_cannot_be_written_or_read_is_unavailable(tmp_path):
    for bad in (tmp_path, tmp_path / "missing" / "audit.jsonl"):
        with pytest.raises(UnavailableError, match="cannot write the audit log"):
            AuditLog(bad)
    with pytest.raises(UnavailableError, match="cannot read the audit log"):
        verify(tmp_path)


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
