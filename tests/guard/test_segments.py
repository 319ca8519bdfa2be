"""Closed segments of a log: one chain through all files, whatever is killed, removed, renamed or flipped, or pruned."""

from __future__ import annotations

import errno
import json
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest
from support.host import killed, start
from support.logs import content, write

from medward.guard.audit import segments
from medward.guard.audit.log import AuditLog, read_log, verify_log
from medward.guard.audit.segments import LOG_CONTINUED, LOG_PRUNED, closed_segments
from medward.guard.errors import IntegrityError, MedwardError, UnavailableError

WORKER = """
import sys
from medward.guard.audit.log import AuditLog

log = AuditLog(sys.argv[1], segment_bytes=2000)
for i in range(100000):
    log.append({"query": f"{sys.argv[2]}-{i}"})
    print(f"{sys.argv[2]}-{i}", flush=True)
"""
KILLED = """
import os, sys
from medward.guard.audit.log import AuditLog

log = AuditLog(sys.argv[1], segment_bytes=1)
call = getattr(os, sys.argv[2])

def die(*arguments):
    if sys.argv[3] == "after":
        call(*arguments)
    os.kill(os.getpid(), 9)

setattr(os, sys.argv[2], die)
print("begun", flush=True)
log.append({"query": "last"})
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def log(path):
    """A log of three closed segments with four records of ours each, and one in the file that is written."""
    made = AuditLog(path)
    for i in range(13):
        if i and i % 4 == 0:
            made.rotate()
        made.append({"query": i})
    return made


def asked(path):
    """The queries of a log, in order."""
    return [record["query"] for record in read_log(path) if "query" in record]


def names(path):
    return sorted(each.name for each in path.parent.iterdir())


def test_one_chain_goes_on_through_all_files(log, path):
    assert names(path) == ["audit.000001.jsonl", "audit.000002.jsonl", "audit.000003.jsonl", "audit.jsonl"]
    assert asked(path) == list(range(13))
    found = verify_log(path)
    assert (found.records, found.segments, found.pruned, found.torn) == (16, 4, 0, 0)
    records = list(read_log(path))
    assert [record["seq"] for record in records] == list(range(1, 17))
    assert [content(each) for each in records if "event" in each] == [
        {"event": LOG_CONTINUED, "after": number} for number in (1, 2, 3)
    ]
    for record in records:
        assert verify_log(path, head=record["hash"]) == found
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_is_closed_by_size_and_by_age_and_never_without_being_asked(path, monkeypatch):
    plain = AuditLog(path)
    for i in range(20):
        plain.append({"query": i})
    assert not closed_segments(path)
    by_size = AuditLog(path, segment_bytes=path.stat().st_size + 1)
    by_size.append({"query": 20})
    assert not closed_segments(path)
    by_size.append({"query": 21})
    assert len(closed_segments(path)) == 1
    by_age, now = AuditLog(path, segment_seconds=3600), datetime.now(UTC).timestamp()
    by_age.append({"query": 22})
    assert len(closed_segments(path)) == 1
    monkeypatch.setattr("medward.guard.audit.log.time.time", lambda: now + 7200)
    by_age.append({"query": 23})
    assert len(closed_segments(path)) == 2
    assert asked(path) == list(range(24))


def test_a_damaged_beginning_is_the_log_s_fault_and_not_that_of_who_asked(path):
    log = AuditLog(path, segment_seconds=3600)
    for i in range(2):
        log.append({"query": i})
    whole = path.read_bytes()
    path.write_bytes(b"x" + whole[1:])
    with pytest.raises(UnavailableError, match="the first record"):
        AuditLog(path, segment_seconds=3600).append({"query": 2})


def test_a_flipped_byte_in_any_segment_is_found(log, path):
    for _, each in [*closed_segments(path), (0, path)]:
        whole = each.read_bytes()
        with each.open("r+b", buffering=0) as file:
            for position in range(len(whole)):
                os.pwrite(file.fileno(), bytes([whole[position] ^ 1 << position % 8]), position)
                with pytest.raises(IntegrityError, match=each.name):
                    verify_log(path)
                os.pwrite(file.fileno(), whole[position : position + 1], position)
    assert verify_log(path).records == 16


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_segment_that_is_removed_renamed_cut_or_swapped_is_said(log, path, number):
    each = path.with_name(f"audit.{number:06d}.jsonl")
    whole = each.read_bytes()
    each.rename(path.with_name("elsewhere"))
    with pytest.raises(IntegrityError, match=r"missing|removed or renamed|it follows audit\.000003"):
        verify_log(path)
    path.with_name("elsewhere").rename(path.with_name("audit.000007.jsonl"))
    with pytest.raises(IntegrityError, match=r"missing|was it renamed"):
        verify_log(path)
    path.with_name("audit.000007.jsonl").rename(each)
    each.write_bytes(whole[: whole[:-1].rindex(b"\n") + 1])
    with pytest.raises(IntegrityError, match="broken"):
        verify_log(path)
    each.write_bytes(whole[:-1])
    with pytest.raises(IntegrityError, match="does not end in a newline"):
        verify_log(path)
    each.write_bytes(whole)
    assert verify_log(path).records == 16


def test_all_old_segments_removed_at_once_are_missed(log, path):
    for _, each in closed_segments(path):
        each.unlink()
    with pytest.raises(IntegrityError, match="begins with record 15, and no record says that those before were pruned"):
        verify_log(path)
    with pytest.raises(IntegrityError, match="removed or renamed"):
        list(read_log(path))


def test_a_written_file_that_was_emptied_or_deleted_is_not_begun_anew(log, path):
    path.write_bytes(b"")
    with pytest.raises(UnavailableError, match="holds no record, though closed segments"):
        log.append({"query": "x"})
    path.unlink()
    with pytest.raises(UnavailableError, match="holds no record, though closed segments"):
        log.append({"query": "x"})
    with pytest.raises(IntegrityError, match="closed segments"):
        AuditLog(path)


# Pruning


def later(days):
    return datetime.now(UTC) + timedelta(days=days)


def test_what_is_pruned_is_recorded_first_and_the_rest_verifies_and_says_so(log, path, monkeypatch):
    head, order, unlink = verify_log(path).head, [], type(path).unlink

    def watched(self, *arguments, **options):
        order.append(json.loads(path.read_text().splitlines()[-1])["event"])
        unlink(self, *arguments, **options)

    monkeypatch.setattr(type(path), "unlink", watched)
    assert [each.name for each in log.prune(later(1))] == [f"audit.00000{i}.jsonl" for i in (1, 2, 3)]
    assert order == [LOG_PRUNED] * 3
    found = verify_log(path, head=head)
    assert (found.records, found.segments, found.pruned) == (3, 1, 14)
    assert asked(path) == [12]
    log.append({"query": 13})
    log.rotate()
    log.append({"query": 14})
    assert names(path) == ["audit.000004.jsonl", "audit.jsonl"], "no number is used twice"
    assert asked(path) == [12, 13, 14]
    assert len(log.prune(later(1))) == 1
    assert asked(path) == [14]
    assert verify_log(path).pruned == 18


def test_young_segments_and_the_file_that_is_written_stay(log, path):
    assert log.prune(later(-1)) == []
    assert verify_log(path).records == 16
    second = list(read_log(path))[6]
    kept = log.prune(datetime.fromisoformat(second["time"]))
    assert [each.name for each in kept] == ["audit.000001.jsonl"]
    assert asked(path) == list(range(4, 13))


def test_pruning_excuses_no_segment_that_it_did_not_name(log, path):
    first = list(read_log(path))[6]
    log.prune(datetime.fromisoformat(first["time"]))
    path.with_name("audit.000002.jsonl").unlink()
    with pytest.raises(IntegrityError, match="removed or renamed"):
        verify_log(path)


def test_a_kill_while_pruning_leaves_a_log_that_verifies(log, path, monkeypatch):
    removed, unlink = [], type(path).unlink

    def dies(self, *arguments, **options):
        if removed:
            raise KeyboardInterrupt
        removed.append(self)
        unlink(self, *arguments, **options)

    monkeypatch.setattr(type(path), "unlink", dies)
    with pytest.raises(KeyboardInterrupt):
        log.prune(later(1))
    monkeypatch.undo()
    assert len(closed_segments(path)) == 2
    assert verify_log(path).pruned == 4
    assert len(log.prune(later(1))) == 2
    assert verify_log(path).pruned == 14


def test_a_segment_whose_end_is_damaged_is_not_pruned(log, path):
    each = path.with_name("audit.000002.jsonl")
    each.write_bytes(each.read_bytes()[:-9] + b"damaged}\n")
    with pytest.raises(IntegrityError, match="000002"):
        log.prune(later(1))
    assert len(closed_segments(path)) == 3


# Kills, several processes, and folders that do not do it


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["link", "rename"])
def test_a_kill_at_any_step_of_closing_leaves_a_whole_log_that_goes_on(path, call, when):
    write(path, [{"query": "first"}, {"query": "second"}])
    killed(KILLED, path, call, when, after=1)
    assert asked(path) == ["first", "second"]
    for name in ("third", "fourth"):
        AuditLog(path, segment_bytes=1).append({"query": name})
    assert asked(path) == ["first", "second", "third", "fourth"]
    numbers = [number for number, _ in closed_segments(path)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert verify_log(path).segments == len(numbers) + 1


def test_processes_that_close_segments_under_each_other_make_one_chain(path):
    workers = [start(WORKER, path, name) for name in "ab"]
    told = [worker.stdout.readline() for worker in workers for _ in range(60)]
    for _ in range(5):
        verify_log(path)  # a reader sees one moment
    for worker in workers:
        worker.kill()
        told += [line for line in worker.communicate(timeout=60)[0].splitlines(keepends=True) if line.endswith("\n")]
    AuditLog(path).append({"query": "after"})
    kept = asked(path)
    assert len(closed_segments(path)) > 5
    assert verify_log(path).segments == len(closed_segments(path)) + 1
    assert len(kept) == len(set(kept))
    assert {line.strip() for line in told} <= set(kept)


def test_threads_of_two_logs_lose_nothing_while_segments_are_closed(path):
    logs = [AuditLog(path, segment_bytes=3000), AuditLog(path, segment_bytes=3000)]
    threads = [
        threading.Thread(target=lambda log=log, name=name: [log.append({"query": (name, i)}) for i in range(50)])
        for name, log in enumerate(logs * 2)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(map(tuple, asked(path))) == [(name, i) for name in range(4) for i in range(50)]


def test_where_no_segment_can_be_closed_the_log_goes_on_in_one_file(path, monkeypatch, caplog):
    def refused(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(segments.os, "link", refused)
    log = AuditLog(path, segment_bytes=500)
    for i in range(10):
        log.append({"query": i})
    assert asked(path) == list(range(10))
    assert not closed_segments(path)
    assert 1 <= caplog.text.count("cannot begin another segment") < 6
    assert names(path) == ["audit.jsonl"]


def test_a_file_in_the_way_of_a_segment_is_not_written_over(path):
    write(path, [{"query": 1}])
    other = path.with_name("audit.000001.jsonl")
    other.write_text("mine\n")
    AuditLog(path, segment_bytes=1).append({"query": 2})
    assert other.read_text() == "mine\n"
    other.unlink()
    assert asked(path) == [1, 2]


def test_files_of_other_names_are_no_segments(log, path):
    for name in (
        "audit.1.jsonl",
        "audit.000001.jsonl.gz",
        "audit.jsonl.torn",
        "other.000001.jsonl",
        "audit.00000x.jsonl",
    ):
        path.with_name(name).write_text("x")
    assert verify_log(path).segments == 4


def test_a_log_without_records_has_nothing_to_close(path):
    assert AuditLog(path).rotate() is None
    assert verify_log(path).records == 0
    with pytest.raises(MedwardError, match="no such audit log"):
        verify_log(path.with_name("missing"))
