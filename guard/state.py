"""The state folder of a deployment: what outlives a restart, opened alike by ``medward serve`` and one's own code.

The folder is made for its owner only, and so is each file in it, also in a folder that was there. It holds
``accounts.db`` (what the monitors know), ``audit.jsonl`` and ``salt``; a server keeps its ``keys.json`` beside them.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from medward.guard.accounts.stores import SQLiteStore, Store
from medward.guard.audit.record import AuditSink
from medward.guard.errors import IntegrityError, MedwardError

_log = logging.getLogger("medward")
ACCOUNTS_FILE, AUDIT_FILE, SALT_FILE = "accounts.db", "audit.jsonl", "salt"
SALT = "//salt"  # no principal has an empty level, so none is mistaken for this key
SALT_BYTES = 32
SEGMENT_BYTES = 256 * 2**20
"""Bytes at which the audit log's file is closed as a segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """A guard's state is where it keeps accounts, where it records answers, and the salt of its digests."""

    store: Store
    audit: AuditSink
    salt: bytes


def open_state(folder: Path | str, *, store: Store | None = None) -> GuardState:
    """Open the state folder `folder`, made when missing; an answer leaves once its record is on the disk.

    Threads and processes of one host may open one folder, each after it was forked. `store` keeps accounts elsewhere,
    for replicas that share it; their salt is then the store's own.
    Raises `MedwardError` for a folder that cannot be used, `UnavailableError` for a store or log that cannot.
    """
    from medward.guard.audit.log import AuditLog  # POSIX only, as the rest of a bundle is not

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        salt = read_salt(folder / SALT_FILE)
        if store is None:  # SQLite gives the files beside it the mode of this one
            os.close(os.open(folder / ACCOUNTS_FILE, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise MedwardError(f"{folder}: cannot hold the guard's state: {error.strerror}") from None
    audit = AuditLog(folder / AUDIT_FILE, fsync=True, segment_bytes=SEGMENT_BYTES)
    if store is None:
        return GuardState(store=SQLiteStore(folder / ACCOUNTS_FILE), audit=audit, salt=salt)
    return GuardState(store=store, audit=audit, salt=shared_salt(store, salt))


def read_salt(path: Path) -> bytes:
    """The 32 random bytes at `path`, made on the first call and readable by their owner only."""
    if not path.exists():
        # Of its own name: threads share a process id, and so do processes of two containers.
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SALT_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)
        except FileExistsError:
            _log.info("another process made %s first", path)
        os.unlink(scratch)
    salt = path.read_bytes()
    if len(salt) != SALT_BYTES:
        raise IntegrityError(f"{path}: a salt has {SALT_BYTES} bytes, got {len(salt)}; restore it from a backup")
    return salt


def shared_salt(store: Store, own: bytes) -> bytes:
    """The one salt of all replicas of `store`: that of the first to ask, be it `own`.

    Only with one salt are their digests of an input the same, so that each knows what was asked of the others.
    """
    held = store.transact(SALT, lambda held: (held or own.hex(),) * 2)
    try:
        return bytes.fromhex(held)
    except (TypeError, ValueError):
        raise MedwardError(f"store: what is kept under {SALT} is no salt; is it another program's store?") from None
