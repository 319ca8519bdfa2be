"""The state folder of a serving host: who may read it, its disk, its accounts, its log, its keys, and the clock."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from medward.guard.accounts.stores import MemoryStore, Store
from medward.guard.audit.log import AuditLog, verify_log
from medward.guard.audit.segments import closed_segments
from medward.guard.audit.verification import last_record
from medward.guard.errors import UnavailableError
from medward.guard.readiness import lacking_parts
from medward.guard.state import AUDIT_FILE, SALT_FILE, read_salt
from medward.integrations.doctor.remark import Remark
from medward.integrations.serving.key_places import Key
from medward.integrations.serving.keys import KeyStore

SOON = timedelta(days=14)
"""Before the end of a key or certificate, from when on it is to be renewed."""
LEAST_ROOM = 2**30  # bytes; about half a million records
SLOW_SYNC = 0.05  # seconds of an fsync, for which every answer waits
SYNCS, SYNC_BYTES = 5, 4096
_READ_THROUGH = 64 * 2**20  # bytes of a log that is read to its end here
CLOCK_SLACK = 5.0  # seconds by which the last record may be ahead
KEYS_FILE = "keys.json"


def folder_remarks(state: Path) -> Iterator[Remark]:
    """Whether others may read the folder or its files, how much room is left, and how fast its disk is."""
    if not state.is_dir():
        raise NotADirectoryError(20, "is no folder", str(state))
    others = [each for each in (state, *sorted(state.iterdir())) if each.stat().st_mode & 0o077]
    for each in others:
        yield Remark(
            part="state",
            said=f"{each}: others than its owner may use it (mode {each.stat().st_mode & 0o777:o})",
            state="mend",
            remedy=f"chmod {700 if each.is_dir() else 600} {each}",
        )
    if state.stat().st_uid != os.geteuid():
        said = f"{state}: belongs to another user than the one that examines it"
        yield Remark(part="state", said=said, state="note", remedy="run medward doctor as the server's own user")
    free = shutil.disk_usage(state).free
    room = f"{state}: its disk has {free / 2**30:,.1f} GiB free"
    if free < LEAST_ROOM:
        remedy = (
            "make room: medward audit prune, after the segments were copied away; a full disk is 503 to every client"
        )
        yield Remark(part="disk", said=room, state="mend", remedy=remedy)
    else:
        yield Remark(part="disk", said=room)
    taken = _sync_seconds(state)
    said = f"{state}: can be written to; an fsync takes {taken * 1000:.1f} ms, for which every answer waits"
    if taken > SLOW_SYNC:
        yield Remark(part="disk", said=said, state="note", remedy="a local SSD takes under 10 ms")
    else:
        yield Remark(part="disk", said=said)
    if (state / SALT_FILE).exists():
        read_salt(state / SALT_FILE)
    elif (state / AUDIT_FILE).exists():
        said = (
            f"{state / SALT_FILE}: is missing beside a log; the next start draws another, and digests no longer agree"
        )
        yield Remark(part="state", said=said, state="mend", remedy="restore it from a backup before serving")


def store_remarks(store: Store, where: str) -> Iterator[Remark]:
    """Whether the store of accounts can be read and written; `where` names it without its password."""
    began = time.perf_counter()
    lacking_parts(store, None, withhold=True)
    taken = (time.perf_counter() - began) * 1000
    yield Remark(part="store", said=f"{where}: can be read and written, in {taken:.1f} ms")


def log_remarks(log: Path) -> Iterator[Remark]:
    """Whether the audit log can be added to, what its head is, and how its last record and the clock agree."""
    if not log.exists() and not [*log.parent.glob(f"{log.stem}.[0-9]*{log.suffix}")]:
        yield Remark(part="audit log", said=f"{log}: there is none yet; the first answer begins it", state="note")
        return
    if not log.exists():
        said, remedy = f"{log}: is missing, though closed segments are beside it", "restore it from a backup"
        yield Remark(part="audit log", said=said, state="mend", remedy=remedy)
        return
    closed = [path for _, path in closed_segments(log)]
    size = sum(path.stat().st_size for path in (log, *closed))
    found = verify_log(log) if size <= _READ_THROUGH else None  # before a writer moves an unfinished line aside
    audit = AuditLog(log)
    lacking_parts(MemoryStore(), audit, withhold=True)
    with audit.hold() as held:
        last = last_record(log) if held.seq else None
    said = f"{log}: can be written to; {held.seq} records, head {held.head}"
    if found is None:
        said += f"; with {size / 2**20:,.0f} MiB its chain was not read through"
        yield Remark(part="audit log", said=said, state="note", remedy=f"medward audit verify {log}")
    else:
        yield Remark(part="audit log", said=f"{said}; chain whole")
    if found is not None and found.torn:
        said = f"{log}: ended in {found.torn} bytes of a record that was never acknowledged; they stand in {log}.torn"
        yield Remark(part="audit log", said=said, state="note")
    if found is not None and found.back:
        said = f"the clock went back {found.back} times while records were written"
        yield Remark(part="clock", said=said, state="note", remedy="keep the host's time by NTP or PTP")
    if last is not None:
        yield _clock_remark(str(last["time"]))


def key_remarks(state: Path, shared: Store | None, *, tokens: bool) -> Iterator[Remark]:
    """How many keys open what, and which end soon; none is needed where access `tokens` are taken."""
    keys, now = KeyStore(state / KEYS_FILE, shared=shared).list(), datetime.now(UTC)
    valid = [key for key in keys if key.valid(now)]
    scopes = {scope: sum(key.scope == scope for key in valid) for scope in ("predict", "metrics", "admin")}
    counted = ", ".join(f"{count} of scope {scope}" for scope, count in scopes.items())
    said = f"{len(valid)} keys are valid ({counted}), {len(keys) - len(valid)} have ended"
    if scopes["predict"] or tokens:
        yield Remark(part="keys", said=said)
    else:
        remedy = f"medward keys add hospital-a --state {state}"
        yield Remark(part="keys", said=f"{said}: nobody can ask", state="mend", remedy=remedy)
    yield from (_ending(key, now) for key in valid if key.expires is not None and key.expires - now < SOON)
    if not scopes["metrics"] and not tokens:
        remedy = f"medward keys add monitoring --scope metrics --state {state}"
        said = "no key of scope metrics: nobody can read /metrics, nor what /readyz says is not protected"
        yield Remark(part="keys", said=said, state="note", remedy=remedy)


def _ending(key: Key, now: datetime) -> Remark:
    assert key.expires is not None
    said = (
        f"key {key.id} of {'/'.join(key.principal)} ends on {key.expires:%Y-%m-%d}, in {(key.expires - now).days} days"
    )
    replaced = "medward keys rotate " + key.id
    return Remark(part="keys", said=said, state="mend", remedy=replaced)


def _clock_remark(last: str) -> Remark:
    """Whether the clock is behind the `last` record's time."""
    ahead = (datetime.fromisoformat(last) - datetime.now(UTC)).total_seconds()
    if ahead <= CLOCK_SLACK:
        return Remark(part="clock", said=f"the clock is not behind the last record, of {last}")
    said = f"the clock is {timedelta(seconds=round(ahead))} behind the last record, of {last}"
    remedy = "set the host's time, and keep it by NTP or PTP, before serving"
    return Remark(part="clock", said=said, state="mend", remedy=remedy)


def _sync_seconds(folder: Path) -> float:
    """The median time of a small write that is synchronised; nothing of it stays. Raises `UnavailableError`."""
    taken = []
    try:
        with tempfile.TemporaryFile(dir=folder) as scratch:
            for _ in range(SYNCS):
                os.write(scratch.fileno(), b" " * SYNC_BYTES)
                began = time.perf_counter()
                os.fsync(scratch.fileno())
                taken.append(time.perf_counter() - began)
    except OSError as error:
        said = f"{folder}: cannot be written to ({error.strerror})"
        raise UnavailableError(f"{said}; let the server's user write there, and make room") from None
    return sorted(taken)[SYNCS // 2]
