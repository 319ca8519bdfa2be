"""An append-only log of what the guard did: JSON Lines, each record chained to the one before by SHA-256.

A line is the canonical JSON of the record and four fields: `seq` (1, 2, ...; also its line number), `time`
(UTC), `prev` (the hash of the record before) and `hash` (SHA-256 of the canonical JSON of everything else,
`prev` included). Canonical means sorted keys, no spaces, ASCII, shortest numbers, one newline. Any other
spelling is refused, so no byte of a whole line can change unnoticed.

The chain has no key: it reveals damage and clumsy edits. Somebody who may write the file can rewrite all of
it, or cut off its end, and the chain still holds. Only a hash kept elsewhere (`head`) shows that.

POSIX only, and not for network file systems, where ``flock`` may not exclude other hosts.
Reference: Schneier and Kelsey, "Secure audit logs to support computer forensics", ACM TISSEC 2(2), 1999, for
the chain; the evolving keys of that paper are not used here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

from medward.guard.audit.chain import (
    CHAIN,
    GENESIS,
    EncodedRecord,
    check_torn,
    encode_record,
    parsed_record,
    sealed_line,
)
from medward.guard.audit.group_commit import GroupCommit
from medward.guard.errors import IntegrityError, MedwardError, UnavailableError

StrPath = str | PathLike[str]

ROOM = 4096  # bytes that must fit for the log to be writable
NO_SCRATCH = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV)  # no file can be made beside the log, on its disk


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of a log as its last writer here left it: which file, how long, its last line and what that says."""

    device: int
    inode: int
    size: int
    line: bytes
    seq: int
    hash: str

    def is_end_of(self, file: int) -> bool:
        """Whether nobody wrote to `file` since, replaced it or changed its last line."""
        now = os.fstat(file)
        if (now.st_dev, now.st_ino, now.st_size) != (self.device, self.inode, self.size):
            return False
        return os.pread(file, len(self.line), self.size - len(self.line)) == self.line


class AuditLog:
    """Appends records to one file; safe for many threads and for several processes on one host.

    `append` returns once the whole line is with the operating system, so a kill -9 loses no acknowledged
    record; with `fsync` it is on the disk, so a power cut does not either. Records that wait at the same time are
    written and synchronised together (group commit); where that fails all of them fail and none stays. What a writer
    killed half way left behind (an unfinished last line, never acknowledged) is moved to ``<path>.torn`` by whoever
    writes next, and the chain goes on. Opening raises `IntegrityError` when the last record is damaged.
    """

    def __init__(self, path: StrPath, *, fsync: bool = False) -> None:
        self.path = os.fspath(path)
        self.fsync = fsync
        self._end: _Tail | None = None
        self._group = GroupCommit(self._commit, name="medward-audit")
        with self._locked() as file:
            self._mend(file)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add `record`. Raises `UnavailableError` on a full disk, a refused permission or a damaged end."""
        self.submit(record).result()

    def submit(self, record: Mapping[str, Any]) -> Future[None]:
        """Have `record` added; the future is done once it is, or has the `UnavailableError`.

        It cannot be cancelled. What `record` holds now is what is written. Raises `MedwardError` for what is no record.
        """
        if taken := [name for name in CHAIN if name in record]:
            raise MedwardError(f"audit record: the field {taken[0]!r} belongs to the chain; rename it")
        return self._group.submit(encode_record(record))

    def _commit(self, records: Sequence[EncodedRecord]) -> None:
        """Add `records` in one write and one fsync, all or none."""
        end, self._end = self._end, None
        with self._locked() as file:
            if end is not None and end.is_end_of(file):
                seq, prev = end.seq, end.hash
            else:
                try:
                    seq, prev = self._mend(file)
                except IntegrityError as error:  # the log's fault, not that of whoever sent the query
                    raise UnavailableError(str(error)) from error
            lines = list[bytes]()
            for record in records:
                seq += 1
                line, prev = sealed_line(record, seq, prev)
                lines.append(line)
            self._write(file, b"".join(lines))
            now = os.fstat(file)
            self._end = _Tail(now.st_dev, now.st_ino, now.st_size, lines[-1], seq, prev)

    def check_writable(self) -> None:
        """Raise `UnavailableError` unless a record could be added now; the log stays as it is.

        What reads the log never sees it grow and shrink: a nameless file on the same disk, as long as the log but
        without its content, takes the room of a record. Where none can be made, its folder being another disk or not to
        be written to, the disk's own count of free bytes tells.
        """
        with self._locked() as file:
            try:
                self._mend(file)
            except IntegrityError as error:
                raise UnavailableError(str(error)) from error
            log, disk = os.fstat(file), os.fstatvfs(file)
        folder = os.path.dirname(os.path.realpath(self.path))
        try:
            if os.stat(folder).st_dev != log.st_dev:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            with tempfile.TemporaryFile(dir=folder) as scratch:
                os.lseek(scratch.fileno(), log.st_size, os.SEEK_SET)
                self._write(scratch.fileno(), b" " * ROOM)
        except OSError as error:
            if error.errno not in NO_SCRATCH:
                raise self._away(error) from error
            if disk.f_bavail * disk.f_frsize < ROOM:
                raise self._away(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None

    def _away(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"{self.path}: cannot write the audit log: {error.strerror}")

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, held by this thread alone; opened anew each time, so forks and rotation do no harm."""
        try:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    yield file
                finally:
                    fcntl.flock(file, fcntl.LOCK_UN)  # close alone would not, had another thread just forked
            finally:
                os.close(file)
        except OSError as error:
            raise self._away(error) from error

    def _mend(self, file: int) -> tuple[int, str]:
        """Move a torn last line aside; return `seq` and `hash` of the last record."""
        line, torn = _tail(file)
        if torn:
            check_torn(torn, f"{self.path}: the last line")
            if torn.strip():  # blanks are what an older release left that was killed while it checked
                with open(f"{self.path}.torn", "ab") as aside:
                    aside.write(torn + b"\n")
            os.ftruncate(file, os.fstat(file).st_size - len(torn))
        if line is None:
            return 0, GENESIS
        record = parsed_record(line, f"{self.path}: the last record")
        return record["seq"], record["hash"]

    def _write(self, file: int, lines: bytes) -> None:
        """Add `lines`, or raise `OSError` and leave the file as it was."""
        size = os.fstat(file).st_size
        try:
            if os.write(file, lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.fsync:
                os.fsync(file)
        except OSError:
            os.ftruncate(file, size)  # nobody was told that they are on record
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A log that holds: its number of records, the last one's hash, the bytes of an unfinished last line.

    `back` counts the records dated before the one before them: the clock went back. Their order is that of `seq`.
    """

    records: int
    head: str
    torn: int
    back: int = 0


def verify_log(path: StrPath, *, head: str | None = None) -> Verification:
    """Check every byte of a log, line by line, or raise `IntegrityError` naming the first broken record.

    `head` is the hash of a record, noted earlier and kept where the log's writers cannot reach; the log must
    still contain it. Without it, a log that was rewritten as a whole, or cut short at the end of a line,
    verifies. A last line without its newline is reported as `torn`, not as an error: it was never
    acknowledged, or the file lost its end, which again only `head` tells.
    """
    last, records, torn, seen = GENESIS, 0, 0, head in (None, GENESIS)
    time, back = "", 0
    for record, unfinished in _walk(path):
        torn = len(unfinished)
        if record is not None:
            records, last = record["seq"], record["hash"]
            seen = seen or last == head
            back += str(record["time"]) < time
            time = str(record["time"])
    if not seen:
        raise IntegrityError(
            f"{path}: none of {records} records has the hash {head}: the log was cut short or rewritten since"
        )
    return Verification(records=records, head=last, torn=torn, back=back)


def read_log(path: StrPath) -> Iterator[dict[str, Any]]:
    """Yield the records in order, each checked against the chain first, without an unfinished last line."""
    return (record for record, _ in _walk(path) if record is not None)


def _walk(path: StrPath) -> Iterator[tuple[dict[str, Any] | None, bytes]]:
    """Each checked record with b"", and at the end, where there is one, None with the unfinished line."""
    prev = GENESIS
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}: record {number} (line {number})"
        if not line.endswith(b"\n"):
            check_torn(line, where)
            yield None, line
            return
        record = parsed_record(line[:-1], where)
        if record["seq"] != number:
            raise IntegrityError(f"{where}: broken sequence: it says it is record {record['seq']}")
        if record["prev"] != prev:
            raise IntegrityError(f"{where}: broken link: its prev is not the hash of the record before")
        prev = record["hash"]
        yield record, b""


def _lines(path: StrPath) -> Iterator[bytes]:
    """The lines the file has now. The lock is held only to learn the size between two writes."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            left = os.fstat(file.fileno()).st_size
            fcntl.flock(file, fcntl.LOCK_UN)
            while line := file.readline(left):
                left -= len(line)
                yield line
    except FileNotFoundError:
        raise MedwardError(f"{path}: there is no such audit log") from None
    except OSError as error:
        raise UnavailableError(f"{path}: cannot read the audit log: {error.strerror}") from error


def _tail(file: int, block: int = 1 << 13) -> tuple[bytes | None, bytes]:
    """The last whole line (None when there is none) and what follows it, read from the end."""
    end = os.fstat(file).st_size
    while True:
        start = max(0, end - block)
        whole, newline, torn = os.pread(file, end - start, start).rpartition(b"\n")
        if start == 0 or b"\n" in whole:
            return (whole.rpartition(b"\n")[2] if newline else None), torn
        block *= 4
