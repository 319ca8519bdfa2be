from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
import threading
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.host import files_no_larger_than, killed, start
from support.logs import content, write

from medward.guard.audit.chain import CHAIN, GENESIS
from medward.guard.audit.log import ROOM, AuditLog, Verification, read_log, verify_log
from medward.guard.errors import IntegrityError, MedwardError, UnavailableError

WORKER = """
import sys
from medward.guard.audit.log import AuditLog

log = AuditLog(sys.argv[1])
for i in range(int(sys.argv[3])):
    log.append({"worker": sys.argv[2], "i": i, "pad": "x" * (i % 7 * 1000)})
    print(i, flush=True)
"""
RECORDS = [
    {"query": "q1", "p_values": [0.005, 1.0, None], "peak": 1e-07, "principal": "hôpital-a/key"},
    {"query": "q2", "p_values": [], "evidence": {"n": 2.0, "log_e": -0.0}},
    {"query": "q3", "text": 'quote " backslash \\ newline \n', "ok": True},
]
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUE = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(st.text(), SCALAR, max_size=3)
RECORD = st.dictionaries(st.text().filter(lambda key: key not in CHAIN), VALUE, max_size=4)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "audit.jsonl", RECORDS)


def test_what_is_appended_is_read_back_in_order_and_verifies(path):
    records = list(read_log(path))
    assert [content(record) for record in records] == RECORDS
    assert [record["seq"] for record in records] == [1, 2, 3]
    assert [record["prev"] for record in records] == [GENESIS, *(record["hash"] for record in records[:-1])]
    assert verify_log(path) == Verification(records=3, head=records[-1]["hash"], torn=0)


def test_the_chain_goes_on_after_reopening_and_for_records_larger_than_a_block(path):
    write(path, [{"large": "x" * 100_000}, {"small": 1}, {"large": ["y" * 9] * 20_000}, {"small": 2}])
    assert verify_log(path).records == 7


def test_an_empty_log_verifies_and_a_missing_one_is_named(tmp_path):
    AuditLog(tmp_path / "a")
    assert verify_log(tmp_path / "a") == Verification(records=0, head=GENESIS, torn=0)
    with pytest.raises(MedwardError, match=r"b: there is no such audit log"):
        verify_log(tmp_path / "b")


@pytest.mark.parametrize("record", [{"p": float("nan")}, {"p": {1}}, {("a",): 1}, {1: 2, "a": 3}])
def test_a_record_that_is_not_json_is_refused_and_leaves_the_log_alone(path, record):
    before = path.read_bytes()
    with pytest.raises(MedwardError, match="must be finite JSON"):
        AuditLog(path).append(record)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_a_record_cannot_take_a_field_of_the_chain(path, name):
    with pytest.raises(MedwardError, match=name):
        AuditLog(path).append({name: "x"})


# Tampering


def test_flipping_any_bit_of_any_byte_is_caught_and_the_record_named(path):
    whole = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(whole):
            number = whole[:position].count(b"\n") + 1
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), position)
                with pytest.raises(IntegrityError, match=rf"record {number} \(line {number}\): "):
                    verify_log(path)
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert verify_log(path).records == 3


@settings(deadline=None)
@given(records=st.lists(RECORD, min_size=2, max_size=4), data=st.data())
def test_changing_any_byte_of_any_log_is_caught(records, data):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "audit.jsonl", records)
        assert [content(record) for record in read_log(path)] == json.loads(json.dumps(records))
        whole = path.read_bytes()
        position = data.draw(st.integers(0, len(whole) - 1))
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes([whole[position] ^ data.draw(st.integers(1, 255))]))
        with pytest.raises(IntegrityError, match=r"record \d+ \(line \d+\)"):
            verify_log(path)


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (
            lambda lines: lines[:1] + lines[2:],
            r"record 2 \(line 2\): broken sequence: it says it is record 3",
        ),
        (lambda lines: [lines[1], lines[0], lines[2]], r"record 1 \(line 1\): broken sequence"),
        (lambda lines: [lines[0], b"\n", *lines[1:]], r"record 2 \(line 2\): not JSON"),
        (lambda lines: [lines[0], b"[1]\n", *lines[1:]], r"record 2 \(line 2\): not an audit record"),
        (lambda lines: [lines[0], b"[" * 100_000 + b"\n"], r"record 2 \(line 2\): not JSON"),
        (lambda lines: [lines[0].replace(b'"q1"', b'"q9"'), *lines[1:]], r"record 1 .*broken hash"),
        (lambda lines: [lines[0].replace(b":", b": ", 1), *lines[1:]], r"record 1 .*not in canonical form"),
        (lambda lines: [lines[0].replace(b"1e-07", b"1E-07"), *lines[1:]], r"record 1 .*canonical"),
        (lambda lines: [lines[0].replace(b"\\u00f4", b"\\u00F4"), *lines[1:]], r"record 1 .*canonical"),
        (lambda lines: [lines[0].replace(b"null", b"NaN"), *lines[1:]], r"record 1 .*canonical"),
        (lambda lines: [lines[0].replace(b"{", b'{"seq":1,', 1), *lines[1:]], r"record 1 .*canonical"),
        (lambda lines: [lines[0].replace(b"\\u00f4", "ô".encode()), *lines[1:]], r"record 1 .*not JSON"),
        (lambda lines: [lines[0].replace(b"\n", b"\r\n"), *lines[1:]], r"record 1 .*canonical"),
    ],
)
def test_what_is_wrong_is_said(path, tamper, says):
    before = path.read_bytes()
    path.write_bytes(b"".join(tamper(before.splitlines(keepends=True))))
    assert path.read_bytes() != before
    with pytest.raises(IntegrityError, match=says):
        verify_log(path)
    with pytest.raises(IntegrityError, match=says):
        list(read_log(path))


def test_a_record_rewritten_with_a_new_hash_breaks_the_link_of_the_next(tmp_path, path):
    other = write(tmp_path / "other.jsonl", [{"query": "forged"}, *RECORDS[1:]])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(other.read_bytes().splitlines(keepends=True)[0] + b"".join(lines[1:]))
    with pytest.raises(IntegrityError, match=r"record 2 \(line 2\): broken link"):
        verify_log(path)


def test_a_head_kept_elsewhere_shows_truncation_and_rewriting_but_allows_growth(path):
    head = verify_log(path).head
    assert verify_log(path, head=GENESIS).head == head
    write(path, [{"query": "q4"}])
    assert verify_log(path, head=head).records == 4
    lines = path.read_bytes().splitlines(keepends=True)

    path.write_bytes(b"".join(lines[:2]))
    assert verify_log(path).records == 2  # the chain alone does not show it
    with pytest.raises(IntegrityError, match="cut short or rewritten"):
        verify_log(path, head=head)

    path.unlink()
    write(path, [*RECORDS, {"query": "rewritten"}])
    assert verify_log(path).records == 4
    with pytest.raises(IntegrityError, match="cut short or rewritten"):
        verify_log(path, head=head)


def test_nothing_is_appended_to_a_log_whose_last_record_is_damaged(path):
    log = AuditLog(path)
    path.write_bytes(path.read_bytes().replace(b'"q3"', b'"q9"'))
    before = path.read_bytes()
    with pytest.raises(UnavailableError, match="broken hash"):
        log.append({"query": "q4"})
    with pytest.raises(IntegrityError, match="broken hash"):
        AuditLog(path)
    assert path.read_bytes() == before


# Torn lines


def test_a_torn_last_line_is_reported_then_moved_aside_and_the_chain_goes_on(path):
    whole = path.read_bytes()
    first_two = whole[: whole[:-1].rindex(b"\n") + 1]
    for cut in [len(first_two) + 1, *range(len(first_two) + 2, len(whole) - 1, 9), len(whole) - 1]:
        torn = whole[len(first_two) : cut]
        path.write_bytes(whole[:cut])
        found = verify_log(path)
        assert (found.records, found.torn) == (2, len(torn))
        assert len(list(read_log(path))) == 2
        aside = Path(f"{path}.torn")
        aside.unlink(missing_ok=True)
        write(path, [{"query": "next"}])
        assert aside.read_bytes() == torn + b"\n"
        found = verify_log(path)
        assert (found.records, found.torn) == (3, 0)


def test_a_running_log_moves_the_torn_line_of_another_process_aside(path):
    log = AuditLog(path)
    for torn in (b'{"query":"fir', b'{"query":"seco'):
        with path.open("ab") as other:
            other.write(torn)
        log.append({"query": "next"})
    assert Path(f"{path}.torn").read_bytes() == b'{"query":"fir\n{"query":"seco\n'
    assert verify_log(path).records == 5


def test_a_damaged_final_newline_is_not_taken_for_a_torn_line(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x8a")
    for open_ in (verify_log, AuditLog):
        with pytest.raises(IntegrityError, match="a whole record that does not end in a newline"):
            open_(path)
    assert path.read_bytes() == whole[:-1] + b"\x8a"


# Several processes, kill -9 and full disks


def test_four_processes_and_four_threads_make_one_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    count = 500  # enough for the processes to be at it at the same time
    workers = [start(WORKER, path, name, count) for name in "abcd"]
    log = AuditLog(path)

    def append(name):
        for i in range(count):
            log.append({"worker": name, "i": i})

    threads = [threading.Thread(target=append, args=(name,)) for name in "efgh"]
    for thread in threads:
        thread.start()
    while any(worker.poll() is None for worker in workers):
        verify_log(path)  # a reader sees a valid log at any time, and disturbs no writer
    for thread in threads:
        thread.join()
    for worker in workers:
        worker.communicate(timeout=60)
    assert [worker.returncode for worker in workers] == [0] * 4
    assert verify_log(path).records == 8 * count
    order = [(record["worker"], record["i"]) for record in read_log(path)]
    assert [[i for name, i in order if name == worker] for worker in "abcdefgh"] == [list(range(count))] * 8


def test_kill_9_loses_no_acknowledged_record(tmp_path):
    path = tmp_path / "audit.jsonl"
    for name, lines in {"a": 20, "b": 57, "c": 94}.items():
        acknowledged = killed(WORKER, path, name, 1_000_000, after=lines)
        AuditLog(path).append({"worker": "after"})
        assert verify_log(path).torn == 0
        kept = [record["i"] for record in read_log(path) if record["worker"] == name]
        assert kept == list(range(len(kept)))
        assert len(kept) - len(acknowledged) in (0, 1)  # the pipe may not have got to tell the last


def test_a_reader_never_sees_half_of_a_line_that_is_being_written(tmp_path):
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append({"query": "q1"})
    line = path.read_bytes()
    os.truncate(path, 0)
    found = []
    reader = threading.Thread(target=lambda: found.append(verify_log(path)))
    with path.open("ab", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        writer.write(line[:50])
        reader.start()
        reader.join(0.1)
        writer.write(line[50:])
    reader.join()
    assert (found[0].records, found[0].torn) == (1, 0)


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
    assert verify_log(path).records == 2


def test_whether_a_record_would_fit_is_known_beforehand_and_leaves_no_trace(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append({"i": 0})
    before = (tmp_path / "audit.jsonl").read_bytes()
    log.check_writable()
    for room in (0, 10, 400):
        with files_no_larger_than(len(before) + room), pytest.raises(UnavailableError, match="cannot write"):
            log.check_writable()
    assert (tmp_path / "audit.jsonl").read_bytes() == before
    (tmp_path / "audit.jsonl").write_bytes(before[:-9] + b"damaged}\n")
    with pytest.raises(UnavailableError, match="last record"):
        log.check_writable()
    (tmp_path / "audit.jsonl").write_bytes(before + b"  ")  # killed while it checked
    log.append({"i": 1})
    assert [content(record) for record in read_log(tmp_path / "audit.jsonl")] == [{"i": 0}, {"i": 1}]
    assert [each.name for each in tmp_path.iterdir()] == ["audit.jsonl"]


def test_a_reader_never_sees_the_log_grow_while_its_disk_is_tried(tmp_path, monkeypatch):
    log, seen, fsync = AuditLog(tmp_path / "audit.jsonl", fsync=True), [], os.fsync
    log.append({"i": 0})
    size = (tmp_path / "audit.jsonl").stat().st_size

    def watched(file):
        seen.append(((tmp_path / "audit.jsonl").stat().st_size, os.fstat(file).st_size))
        fsync(file)

    monkeypatch.setattr(os, "fsync", watched)
    log.check_writable()
    assert seen == [(size, size + ROOM)]
    assert [each.name for each in tmp_path.iterdir()] == ["audit.jsonl"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_where_no_file_can_be_made_beside_the_log_the_disk_itself_is_asked(tmp_path, monkeypatch, code):
    log, disk = AuditLog(tmp_path / "audit.jsonl"), os.statvfs(tmp_path)

    def refused(**_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    log.check_writable()
    full = SimpleNamespace(f_bavail=0, f_frsize=disk.f_frsize)
    monkeypatch.setattr(os, "fstatvfs", lambda _: full)
    with pytest.raises(UnavailableError, match="No space left"):
        log.check_writable()


def test_a_clock_that_went_back_is_counted_and_breaks_no_chain(tmp_path, monkeypatch):
    log, days = AuditLog(tmp_path / "audit.jsonl"), iter((10, 3650, 11, 12, 0, 13))

    class Jumping(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 1, 1, tzinfo=tz) + timedelta(days=next(days))

    monkeypatch.setattr("medward.guard.audit.chain.datetime", Jumping)
    for i in range(6):
        log.append({"i": i})
    found = verify_log(tmp_path / "audit.jsonl")
    assert (found.records, found.back) == (6, 2)


def test_a_log_that_cannot_be_written_or_read_is_unavailable(tmp_path):
    for bad in (tmp_path, tmp_path / "missing" / "audit.jsonl"):
        with pytest.raises(UnavailableError, match="cannot write the audit log"):
            AuditLog(bad)
    with pytest.raises(UnavailableError, match="cannot read the audit log"):
        verify_log(tmp_path)
