"""Records that wait together share one fsync, leave only after it, and are in the chain once, whatever dies."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import Future

import pytest
from support.host import files_no_larger_than, killed, start
from support.logs import content, write

from medward.guard.audit.group_commit import LARGEST_GROUP, GroupCommit
from medward.guard.audit.log import AuditLog, read_log, verify_log
from medward.guard.audit.record import AuditSink, QueuedSink, submit_record
from medward.guard.errors import MedwardError, UnavailableError

BURST = """
import sys, threading
from medward.guard.audit.log import AuditLog

log, told = AuditLog(sys.argv[1], fsync=True), threading.Lock()

def append(name):
    for i in range(100000):
        log.append({"query": f"{sys.argv[2]}-{name}-{i}"})
        with told:
            print(f"{sys.argv[2]}-{name}-{i}", flush=True)

threads = [threading.Thread(target=append, args=(name,)) for name in range(16)]
for each in threads:
    each.start()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def slow_disk(monkeypatch, path):
    """Hold every fsync of the log until `release` is set; `begun` is set at the first."""

    class Disk:
        release, begun, sizes, error = threading.Event(), threading.Event(), [], None

    disk, fsync = Disk(), os.fsync

    def held(file):
        if not os.path.samestat(os.fstat(file), path.stat()):  # another test's thread, that ends
            return fsync(file)
        disk.sizes.append(os.fstat(file).st_size)
        disk.begun.set()
        assert disk.release.wait(30)
        if disk.error is not None:
            raise disk.error
        return fsync(file)

    monkeypatch.setattr(os, "fsync", held)
    return disk


def waiting(log, count):
    """`count` records, submitted one by one."""
    return [log.submit({"i": i}) for i in range(count)]


def test_what_waits_together_is_written_together_and_done_only_after_the_fsync(path, slow_disk):
    log = AuditLog(path, fsync=True)
    first = log.submit({"i": "first"})
    assert slow_disk.begun.wait(30)
    others = waiting(log, 32)
    assert not first.done()
    assert not any(each.done() for each in others)
    slow_disk.release.set()
    for each in (first, *others):
        each.result(30)
    assert len(slow_disk.sizes) == 2, "33 records, two fsyncs"
    assert [record["i"] for record in read_log(path)] == ["first", *range(32)]
    assert verify_log(path).records == 33


def test_a_failed_fsync_fails_all_who_wait_and_leaves_none_of_them(path, slow_disk):
    write(path, [{"i": "before"}])
    before = path.read_bytes()
    log = AuditLog(path, fsync=True)
    first = log.submit({"i": 0})
    assert slow_disk.begun.wait(30)
    slow_disk.error = OSError(errno.EIO, os.strerror(errno.EIO))
    others = waiting(log, 5)
    slow_disk.release.set()
    errors = [each.exception(30) for each in (first, *others)]
    assert all(isinstance(each, UnavailableError) for each in errors)
    assert len({id(each) for each in errors}) == 6, "each has an error of its own"
    assert "Input/output error" in str(errors[0])
    assert path.read_bytes() == before
    slow_disk.error = None
    log.append({"i": "after"})
    assert [record["i"] for record in read_log(path)] == ["before", "after"]


def test_a_disk_that_fills_fails_the_whole_group_and_the_next_goes_on(path, slow_disk):
    log = AuditLog(path, fsync=True)
    first = log.submit({"i": "first"})
    assert slow_disk.begun.wait(30)
    others = waiting(log, 8)
    with files_no_larger_than(path.stat().st_size + 300):
        slow_disk.release.set()
        first.result(30)
        assert all(isinstance(each.exception(30), UnavailableError) for each in others)
    assert verify_log(path).records == 1
    assert AuditLog(path).append({"i": "next"}) is None
    assert verify_log(path).records == 2


def test_one_record_that_is_none_is_refused_alone(path):
    log = AuditLog(path)
    good = log.submit({"i": 1})
    with pytest.raises(MedwardError, match="finite JSON"):
        log.submit({"i": float("nan")})
    good.result(30)
    record = {"i": [2]}
    submitted = log.submit(record)
    record["i"].append(3)
    submitted.result(30)
    assert [content(each) for each in read_log(path)] == [{"i": 1}, {"i": [2]}]


def test_the_end_of_the_log_is_not_read_again_while_nobody_else_writes(path, monkeypatch):
    log, read, mend = AuditLog(path), [], AuditLog._mend
    monkeypatch.setattr(AuditLog, "_mend", lambda self, file: read.append(1) or mend(self, file))
    for i in range(5):
        log.append({"i": i})
    assert len(read) == 1
    write(path, [{"i": "another process"}])
    read.clear()
    log.append({"i": 5})
    assert len(read) == 1, "longer than it was"
    log.append({"i": 6})
    assert len(read) == 1
    damaged = path.read_bytes()
    path.write_bytes(damaged[:-10] + bytes([damaged[-10] ^ 1]) + damaged[-9:])
    with pytest.raises(UnavailableError, match="last record"):
        log.append({"i": 7})


def test_a_log_that_was_replaced_by_one_of_the_same_length_is_read_again(path, tmp_path):
    """Same size, another inode: only the chain of what is there now goes on."""
    log = AuditLog(path)
    log.append({"i": 1})
    write(tmp_path / "other", [{"i": 2}])
    (tmp_path / "other").replace(path)
    log.append({"i": 3})
    assert verify_log(path).records == 2
    assert [record["i"] for record in read_log(path)] == [2, 3]


def test_two_logs_on_one_file_make_one_chain_under_load(path):
    logs = [AuditLog(path), AuditLog(path)]
    threads = [
        threading.Thread(target=lambda log=log, name=name: [log.append({"by": name, "i": i}) for i in range(100)])
        for name, log in enumerate(logs * 4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert verify_log(path).records == 800
    order = [(record["by"], record["i"]) for record in read_log(path)]
    assert all([i for by, i in order if by == name] == list(range(100)) for name in range(8))


def test_kill_9_in_a_burst_leaves_every_acknowledged_record_in_the_chain_exactly_once(path):
    acknowledged = []
    for name in "ab":
        acknowledged += [line.strip() for line in killed(BURST, path, name, after=300)]
    AuditLog(path).append({"query": "after"})
    assert verify_log(path).torn == 0
    kept = [record["query"] for record in read_log(path)]
    assert len(kept) == len(set(kept))
    assert set(acknowledged) <= set(kept)
    assert len(kept) - len(acknowledged) <= 2 * 16 + 1, "what was not acknowledged is what was under way"


def test_two_processes_in_a_burst_make_one_chain(path):
    workers = [start(BURST, path, name) for name in "ab"]
    told = [worker.stdout.readline() for worker in workers for _ in range(100)]
    for worker in workers:
        worker.kill()
        told += [line for line in worker.communicate(timeout=60)[0].splitlines(keepends=True) if line.endswith("\n")]
    AuditLog(path).append({"query": "after"})
    kept = [record["query"] for record in read_log(path)]
    assert verify_log(path).records == len(kept) == len(set(kept))
    assert {line.strip() for line in told} <= set(kept)


def test_a_child_process_has_a_writer_of_its_own(path):
    """The thread that writes does not come along in a fork, nor what waits for it."""
    log = AuditLog(path)
    log.append({"by": "parent"})
    child = os.fork()
    if child == 0:
        status = 1
        try:
            log.append({"by": "child"})
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    log.append({"by": "parent"})
    assert [record["by"] for record in read_log(path)] == ["parent", "child", "parent"]


def test_a_group_has_an_end_and_an_idle_writer_stops():
    groups, held = [], threading.Event()

    def commit(items):
        held.wait(30)
        groups.append(list(items))

    group = GroupCommit(commit, name="test-group")
    done = [group.submit(i) for i in range(2 * LARGEST_GROUP)]
    held.set()
    for each in done:
        each.result(30)
        assert not each.cancel()
    assert [i for items in groups for i in items] == list(range(2 * LARGEST_GROUP))
    assert max(map(len, groups)) <= LARGEST_GROUP
    until = time.monotonic() + 30
    while any(each.name == "test-group" for each in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert group.submit(0).result(30) is None


def test_an_error_that_nobody_foresaw_is_unavailable_and_the_writer_goes_on():
    def commit(items):
        if "bad" in items:
            raise RuntimeError("surprise")

    group = GroupCommit(commit, name="test-group")
    with pytest.raises(UnavailableError, match="surprise"):
        group.submit("bad").result(30)
    assert group.submit("good").result(30) is None


def test_where_no_thread_can_be_started_it_is_written_on_the_spot(path, monkeypatch):
    def refused(self):
        raise RuntimeError("can't start new thread")

    log = AuditLog(path)
    monkeypatch.setattr(threading.Thread, "start", refused)
    log.append({"i": 1})
    log.append({"i": 2})
    assert verify_log(path).records == 2


def test_a_sink_without_a_queue_is_waited_for(path):
    class Sink:
        def append(self, record):
            if "bad" in record:
                raise UnavailableError("away")

        def check_writable(self): ...

    sink: AuditSink = Sink()
    assert not isinstance(sink, QueuedSink)
    assert isinstance(AuditLog(path), QueuedSink)
    assert submit_record(sink, {}).done()
    failed: Future[None] = submit_record(sink, {"bad": 1})
    with pytest.raises(UnavailableError, match="away"):
        failed.result()
