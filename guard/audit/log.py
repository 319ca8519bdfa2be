"""An append-only log of what the guard did: JSON Lines, each record chained to the one before by SHA-256.

A line is the canonical JSON of the record and four fields: `seq` (1, 2, ..., through all segments), `time`
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
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from medward.guard.audit.chain import (
    CHAIN,
    GENESIS,
    EncodedRecord,
    StrPath,
    check_torn,
    encode_record,
    parsed_record,
    sealed_line,
)
from medward.guard.audit.group_commit import GroupCommit
from medward.guard.audit.segments import (
    begin_segment,
    closed_before,
    closed_segments,
    first_record,
    pruned_record,
    segment_path,
    unlock_closed,
)
from medward.guard.audit.verification import Verification, last_record, read_log, tail_of, verify_log
from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.files import sync_to_disk

__all__ = ["AuditLog", "Verification", "read_log", "verify_log"]
_log = logging.getLogger("medward")

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


@dataclass(slots=True)
class HeldLog:
    """A log that nobody else adds to: number and hash of its last record, 0 and `GENESIS` for none."""

    seq: int
    head: str
    _add: Callable[[bytes], None]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add `record`, on the disk once this returns."""
        line, head = sealed_line(encode_record(record), self.seq + 1, self.head)
        self._add(line)
        self.seq, self.head = self.seq + 1, head


class AuditLog:
    """Appends records to one file; safe for many threads and for several processes on one host.

    `append` returns once the whole line is with the operating system, so a kill -9 loses no acknowledged
    record; with `fsync` it is on the disk, so a power cut does not either. Records that wait at the same time are
    written and synchronised together (group commit); where that fails all of them fail and none stays. What a writer
    killed half way left behind (an unfinished last line, never acknowledged) is moved to ``<path>.torn`` by whoever
    writes next, and the chain goes on. Opening raises `IntegrityError` when the last record is damaged.

    A file of `segment_bytes` or more, or whose first record is `segment_seconds` old, is closed before the next record
    (`guard.audit.segments`); 0 is never. Where that cannot be done the log goes on in one file.
    """

    def __init__(
        self, path: StrPath, *, fsync: bool = False, segment_bytes: int = 0, segment_seconds: float = 0.0
    ) -> None:
        self.path = os.fspath(path)
        self.fsync, self.segment_bytes, self.segment_seconds = fsync, segment_bytes, segment_seconds
        self._end: _Tail | None = None
        self._retry_size, self._begun = 0, (-1, 0.0)
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
            with self._with_room(file, seq, prev) as (written, seq, prev):
                lines = list[bytes]()
                for record in records:
                    seq += 1
                    line, prev = sealed_line(record, seq, prev)
                    lines.append(line)
                self._write(written, b"".join(lines))
                now = os.fstat(written)
                self._end = _Tail(now.st_dev, now.st_ino, now.st_size, lines[-1], seq, prev)

    def rotate(self) -> Path | None:
        """Close the file as a segment, whatever its size; gives its name, None for a log without records."""
        with self._locked() as file:
            seq, prev = self._mend(file)
            first = first_record(file, self.path)
            if first is None:
                return None
            unlock_closed(begin_segment(Path(self.path), file, seq, prev)[0])
            return segment_path(Path(self.path), closed_before(first) + 1)

    def prune(self, before: datetime) -> list[Path]:
        """Delete the closed segments that end before `before`, and record that first; gives their names.

        The log stays provable: the record names each with the hash of its last record, from which the chain goes on.
        Raises `IntegrityError` for a segment whose end is damaged: then none is deleted.
        """
        with self.hold() as held:
            old = list[tuple[Path, int, str]]()
            for _, path in closed_segments(Path(self.path)):
                last = last_record(path)
                if datetime.fromisoformat(str(last["time"])) >= before:
                    break
                old.append((path, int(last["seq"]), str(last["hash"])))
            if not old:
                return []
            held.append(pruned_record([(path.name, number, digest) for path, number, digest in old]))
            for path, _, _ in old:
                path.unlink()
            sync_to_disk(Path(self.path).parent)
            return [path for path, _, _ in old]

    @contextmanager
    def hold(self) -> Iterator[HeldLog]:
        """Let nobody else add a record meanwhile; who holds the log adds by what it is given, and reads it before.

        Raises `IntegrityError` where the log's end is damaged.
        """
        with self._locked() as file:
            seq, prev = self._mend(file)

            def add(lines: bytes) -> None:
                self._write(file, lines)
                os.fsync(file)

            yield HeldLog(seq, prev, add)

    @contextmanager
    def _with_room(self, file: int, seq: int, prev: str) -> Iterator[tuple[int, int, str]]:
        """The file to write to, the next segment's where `file` is due to be closed, and where its chain is."""
        new = None
        if self._is_due(file):
            try:
                new, seq, prev = begin_segment(Path(self.path), file, seq, prev)
                self._retry_size = 0
            except (OSError, IntegrityError) as error:
                if not os.path.samestat(os.fstat(file), os.stat(self.path)):
                    raise
                _log.error("%s: cannot begin another segment, and goes on in this one: %s", self.path, error)
                self._retry_size = os.fstat(file).st_size + self.segment_bytes
        try:
            yield (file if new is None else new), seq, prev
        finally:
            if new is not None:
                unlock_closed(new)

    def _is_due(self, file: int) -> bool:
        now = os.fstat(file)
        if not now.st_size or now.st_size < self._retry_size:
            return False
        if self.segment_bytes and now.st_size >= self.segment_bytes:
            return True
        if not self.segment_seconds:
            return False
        if self._begun[0] != now.st_ino:
            first = first_record(file, self.path)
            begun = float("inf") if first is None else datetime.fromisoformat(str(first["time"])).timestamp()
            self._begun = (now.st_ino, begun)
        return time.time() - self._begun[1] >= self.segment_seconds

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
            file = self._open_locked()
            try:
                yield file
            finally:
                unlock_closed(file)
        except OSError as error:
            raise self._away(error) from error

    def _open_locked(self) -> int:
        """The file that has the log's name once its lock is held: another may have closed the segment meanwhile."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    return file
            except FileNotFoundError:  # it was deleted: make it anew
                pass
            except BaseException:
                os.close(file)
                raise
            unlock_closed(file)

    def _mend(self, file: int) -> tuple[int, str]:
        """Move a torn last line aside; return `seq` and `hash` of the last record."""
        line, torn = tail_of(file)
        if torn:
            check_torn(torn, f"{self.path}: the last line")
            if torn.strip():  # blanks are what an older release left that was killed while it checked
                with open(f"{self.path}.torn", "ab") as aside:
                    aside.write(torn + b"\n")
            os.ftruncate(file, os.fstat(file).st_size - len(torn))
        if line is None:
            if closed_segments(Path(self.path)):
                raise IntegrityError(f"{self.path}: holds no record, though closed segments are beside it; was it cut?")
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
