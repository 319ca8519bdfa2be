"""Segments of an audit log: closed files beside the one that is written, whose chain goes on from file to file.

The log at ``audit.jsonl`` is closed by giving it a second name, ``audit.000001.jsonl``, and renaming a new file over
it. The new file begins with a record that names the number of the closed one (`LOG_CONTINUED`), and its `prev` is
the hash of the closed one's last record, so a segment that is missing, renamed, shortened or changed breaks the chain.
What was deleted on purpose is named, with the hash of its last record, by a record written before (`LOG_PRUNED`).
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medward.guard.audit.chain import encode_record, parsed_record, sealed_line
from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.files import sync_to_disk

LOG_CONTINUED, LOG_PRUNED = "log continued", "log pruned"


@dataclass(frozen=True, slots=True)
class SegmentLine:
    """One line of a log: which file it is in, which line of it, its bytes.

    `closed` is the number of a closed segment, 0 in the file that is written.
    """

    file: Path
    number: int
    line: bytes
    closed: int

    @property
    def first(self) -> bool:
        """Whether it begins its file."""
        return self.number == 1


def segment_path(path: Path, number: int) -> Path:
    """Where the log at `path` keeps its closed segment `number`, from 1."""
    return path.with_name(f"{path.stem}.{number:06d}{path.suffix}")


def closed_segments(path: Path) -> list[tuple[int, Path]]:
    """The closed segments of the log at `path` with their numbers, oldest first.

    One that is still the file at `path`, since its writer was killed before it went on, is not closed.
    """
    pattern = re.compile(re.escape(path.stem) + r"\.(\d{6,})" + re.escape(path.suffix))
    named = ((pattern.fullmatch(each.name), each) for each in path.parent.iterdir())
    found = sorted((int(match[1]), each) for match, each in named if match)
    return [(number, each) for number, each in found if not each.samefile(path)]


def continued_record(number: int) -> dict[str, Any]:
    """The record that begins a segment, after that of `number` was closed."""
    return {"event": LOG_CONTINUED, "after": number}


def pruned_record(segments: list[tuple[str, int, str]]) -> dict[str, Any]:
    """The record that segments are deleted, each with its name, the number and the hash of its last record."""
    said = [{"segment": name, "through": seq, "head": digest} for name, seq, digest in segments]
    return {"event": LOG_PRUNED, "segments": said}


def closed_before(first: Mapping[str, Any]) -> int:
    """The number of the segment that was closed before the one that begins with the record `first`; 0 for none."""
    return int(first["after"]) if first.get("event") == LOG_CONTINUED else 0


def first_record(file: int, where: str) -> Mapping[str, Any] | None:
    """The record that begins an open file, checked by itself; None where there is no whole one."""
    size = 1 << 13
    while True:
        line, newline, _ = os.pread(file, size, 0).partition(b"\n")
        if newline:
            return parsed_record(line, f"{where}: the first record")
        if len(line) < size:
            return None
        size *= 4


def segment_lines(path: Path) -> Iterator[SegmentLine]:
    """The lines that the log has now, from its oldest segment on; a lock is held only to learn how far it goes.

    Raises `MedwardError` where there is no log, `IntegrityError` for a segment that is not where it belongs.
    """
    try:
        with _open_now(path) as (file, size, closed):
            for place, (number, each) in enumerate(closed):
                if place and number != closed[place - 1][0] + 1:
                    missing = segment_path(path, number - 1)
                    raise IntegrityError(f"{missing}: broken sequence: this segment is missing, and no later one")
                yield from _lines_of(each, number)
            for count, line in enumerate(_lines_until(file, size), 1):
                yield SegmentLine(path, count, line, 0)
    except FileNotFoundError as error:
        if Path(error.filename or path) != path:
            raise UnavailableError(f"{error.filename}: was pruned while the log was read; read it again") from None
        raise MedwardError(f"{path}: there is no such audit log") from None
    except OSError as error:
        raise UnavailableError(f"{path}: cannot read the audit log: {error.strerror}") from error


def pruned_ends(record: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Where the segments that a record says were deleted ended: number and hash of their last records."""
    if record.get("event") == LOG_PRUNED:
        for each in record["segments"]:
            yield int(each["through"]), str(each["head"])


def check_place(line: SegmentLine, record: Mapping[str, Any], last_closed: int, where: str) -> None:
    """Check that the first `record` of a file belongs there; `last_closed` is the segment before, or 0.

    Raises `IntegrityError`.
    """
    after = closed_before(record)
    if line.closed and after != line.closed - 1:
        raise IntegrityError(
            f"{where}: broken sequence: by its first record this is segment {after + 1}; was it renamed?"
        )
    if not line.closed and last_closed and after != last_closed:
        missing = segment_path(line.file, after)
        raise IntegrityError(
            f"{where}: broken sequence: it follows {missing.name}, and the last one there is {last_closed}"
        )


def starts_late(record: Mapping[str, Any]) -> bool:
    """Whether a log may begin with `record` though it is not the first ever written: those before may be pruned."""
    return record.get("event") == LOG_CONTINUED and record["seq"] > 1


def begin_segment(path: Path, file: int, seq: int, prev: str) -> tuple[int, int, str]:
    """Close `file`, the locked log at `path` that ends with record `seq` of hash `prev`, and begin the next segment.

    Gives the new file, locked and for the caller to close, with its last record's `seq` and hash. A kill at any moment
    leaves a whole log: until the new file takes its name, the old one is the log, by one name or two.
    Raises `OSError`, `IntegrityError` for a damaged first record.
    """
    first = first_record(file, str(path))
    number = 1 if first is None else closed_before(first) + 1
    closed, scratch = segment_path(path, number), path.with_name(f".{path.name}.next")
    line, digest = sealed_line(encode_record(continued_record(number)), seq + 1, prev)
    new = os.open(scratch, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, os.fstat(file).st_mode & 0o777)
    try:
        fcntl.flock(new, fcntl.LOCK_EX)
        os.write(new, line)
        os.fsync(new)
        os.fsync(file)
        if not (closed.exists() and closed.samefile(path)):
            os.link(path, closed)
        os.rename(scratch, path)
        sync_to_disk(path.parent)
    except BaseException:
        unlock_closed(new)
        scratch.unlink(missing_ok=True)
        raise
    return new, seq + 1, digest


def unlock_closed(file: int) -> None:
    """Close a locked file; closing alone does not unlock it where another thread has just forked."""
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


@contextmanager
def _open_now(path: Path) -> Iterator[tuple[Any, int, list[tuple[int, Path]]]]:
    """The file that is written with its size, and the closed segments, all as of one moment."""
    while True:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                size, closed = os.fstat(file.fileno()).st_size, closed_segments(path)
                fcntl.flock(file, fcntl.LOCK_UN)
                yield file, size, closed
                return
            fcntl.flock(file, fcntl.LOCK_UN)


def _lines_of(path: Path, number: int) -> Iterator[SegmentLine]:
    with path.open("rb") as file:
        for count, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                raise IntegrityError(f"{path}: line {count}: a closed segment that does not end in a newline")
            yield SegmentLine(path, count, line, number)


def _lines_until(file: Any, left: int) -> Iterator[bytes]:
    while line := file.readline(left):
        left -= len(line)
        yield line
