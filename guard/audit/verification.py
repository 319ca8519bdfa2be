"""Reads an audit log from its oldest segment on, and checks every byte of it against the chain."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medward.guard.audit.chain import GENESIS, StrPath, check_torn, parsed_record
from medward.guard.audit.segments import SegmentLine, check_place, pruned_ends, segment_lines, starts_late
from medward.guard.errors import IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A log that holds: its number of records, the last one's hash, the bytes of an unfinished last line.

    `back` counts the records dated before the one before them: the clock went back. Their order is that of `seq`.
    `segments` counts its files; `pruned` records before its first were deleted with their segments, as a record says.
    """

    records: int
    head: str
    torn: int
    back: int = 0
    segments: int = 1
    pruned: int = 0


def verify_log(path: StrPath, *, head: str | None = None) -> Verification:
    """Check every byte of a log, line by line, or raise `IntegrityError` naming the first broken record.

    `head` is the hash of a record, noted earlier and kept where the log's writers cannot reach; the log must
    still contain it. Without it, a log that was rewritten as a whole, or cut short at the end of a line,
    verifies. A last line without its newline is reported as `torn`, not as an error: it was never
    acknowledged, or the file lost its end, which again only `head` tells.
    """
    last, records, torn, seen = GENESIS, 0, 0, head in (None, GENESIS)
    before, back, files, pruned = "", 0, set[Path](), 0
    for at, record in _walk(Path(path)):
        files.add(at.file)
        if record is None:
            torn = len(at.line)
            continue
        if not records:
            pruned = record["seq"] - 1
            seen = seen or record["prev"] == head
        records, last = records + 1, record["hash"]
        seen = seen or last == head
        back += str(record["time"]) < before
        before = str(record["time"])
    if not seen:
        raise IntegrityError(
            f"{path}: none of {records} records has the hash {head}: the log was cut short or rewritten since"
        )
    return Verification(records=records, head=last, torn=torn, back=back, segments=max(1, len(files)), pruned=pruned)


def read_log(path: StrPath) -> Iterator[dict[str, Any]]:
    """Yield the records in order, each checked against the chain first, without an unfinished last line.

    Closed segments are read before the file at `path`.
    """
    return (record for _, record in _walk(Path(path)) if record is not None)


def last_record(path: Path) -> dict[str, Any]:
    """The last record of a closed segment, checked by itself. Raises `IntegrityError` where it is damaged."""
    file = os.open(path, os.O_RDONLY)
    try:
        line, torn = tail_of(file)
    finally:
        os.close(file)
    if line is None or torn:
        raise IntegrityError(f"{path}: a closed segment that does not end in a whole record")
    return parsed_record(line, f"{path}: the last record")


def _walk(path: Path) -> Iterator[tuple[SegmentLine, dict[str, Any] | None]]:
    """Each line with its checked record, and at the end, where there is one, an unfinished line with None."""
    prev, number, last_closed = GENESIS, 0, 0
    begins: tuple[int, str] | None = None
    pruned = set[tuple[int, str]]()
    for at in segment_lines(path):
        where = f"{at.file}: record {number + 1} (line {at.number})"
        if not at.line.endswith(b"\n"):
            check_torn(at.line, where)
            yield at, None
            break
        record = parsed_record(at.line[:-1], where)
        if at.first:
            check_place(at, record, last_closed, where)
            last_closed = at.closed
        if not number and starts_late(record):
            number, prev = record["seq"] - 1, record["prev"]
            begins = number, prev
        number += 1
        if record["seq"] != number:
            raise IntegrityError(f"{where}: broken sequence: it says it is record {record['seq']}")
        if record["prev"] != prev:
            raise IntegrityError(f"{where}: broken link: its prev is not the hash of the record before")
        prev = record["hash"]
        pruned.update(pruned_ends(record))
        yield at, record
    if begins is not None and begins not in pruned:
        raise IntegrityError(
            f"{path}: begins with record {begins[0] + 1}, and no record says that those before were pruned: "
            "a segment was removed or renamed"
        )


def tail_of(file: int, block: int = 1 << 13) -> tuple[bytes | None, bytes]:
    """The last whole line (None when there is none) and what follows it, read from the end."""
    end = os.fstat(file).st_size
    while True:
        start = max(0, end - block)
        whole, newline, torn = os.pread(file, end - start, start).rpartition(b"\n")
        if start == 0 or b"\n" in whole:
            return (whole.rpartition(b"\n")[2] if newline else None), torn
        block *= 4
