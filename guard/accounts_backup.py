"""Backups of accounts that know how far the audit log had come, so that restoring one forgets no alarm.

A backup is a folder with ``accounts.db``, ``salt`` and ``backup.json``. It has no copy of the log, whose files are only
ever added to and can be copied as they are. A shared store (Redis) is backed up by its own means.
Reference for the copy under load: https://www.sqlite.org/backup.html.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medward.guard.accounts.stores import decode_state
from medward.guard.accounts.suspension import ACCOUNT_SUSPENDED, SUSPENSION_LIFTED, SUSPENSIONS, recorded_text
from medward.guard.audit.incidents import incidents
from medward.guard.audit.log import AuditLog, read_log, verify_log
from medward.guard.audit.record import is_query_record
from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.files import sync_to_disk, write_durably
from medward.guard.state import ACCOUNTS_FILE, AUDIT_FILE, SALT_FILE
from medward.guard.types import Action

MANIFEST_FILE = "backup.json"
ACCOUNTS_RESTORED = "accounts restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsBackup:
    """A backup of accounts says when it was made (UTC), how far the log had come, and what its files are.

    `seq` and `head` are the number and hash of the log's last record then, 0 and zeros for none. `accounts` and `salt`
    are SHA-256 of the files.
    """

    time: str
    seq: int
    head: str
    accounts: str
    salt: str

    @classmethod
    def load(cls, folder: Path) -> AccountsBackup:
        """The backup in `folder`. Raises `MedwardError` where there is none, `IntegrityError` where files differ."""
        path = folder / MANIFEST_FILE
        try:
            found = cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise MedwardError(f"{path}: there is no such backup; `medward backup` makes one") from None
        except (TypeError, ValueError):
            raise IntegrityError(f"{path}: not the manifest of a backup") from None
        for name, digest in ((ACCOUNTS_FILE, found.accounts), (SALT_FILE, found.salt)):
            if _digest(folder / name) != digest:
                raise IntegrityError(f"{folder / name}: not the file that was backed up; use another backup")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredAccounts:
    """What restoring a backup came to: `forgotten` queries are in the log and unknown to monitors and budgets."""

    backup: AccountsBackup
    forgotten: int


def back_up_accounts(state: Path, folder: Path) -> AccountsBackup:
    """Copy the accounts of the state folder `state` to the new folder `folder`, also under a running server.

    The log is held meanwhile, so no record is of an answer that the copy does not know. The manifest is written last:
    without it a folder is no backup. Raises `MedwardError` where there are no accounts, or `folder` is not empty.
    """
    _check_state(state)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise MedwardError(f"{folder}: is not empty; name a new folder for the backup")
    with AuditLog(state / AUDIT_FILE).hold() as held:
        _copy_database(state / ACCOUNTS_FILE, folder / ACCOUNTS_FILE, journal="DELETE")  # one file, on any medium
        seq, head = held.seq, held.head
    write_durably(folder / SALT_FILE, (state / SALT_FILE).read_bytes(), mode=0o600)
    sync_to_disk(folder / ACCOUNTS_FILE)
    made = AccountsBackup(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seq=seq,
        head=head,
        accounts=_digest(folder / ACCOUNTS_FILE),
        salt=_digest(folder / SALT_FILE),
    )
    write_durably(folder / MANIFEST_FILE, json.dumps(asdict(made), indent=1).encode() + b"\n", mode=0o600)
    return made


def restore_accounts(folder: Path, state: Path, *, reason: str, operator: str) -> RestoredAccounts:
    """Put the backup in `folder` in the place of the accounts in `state`, on record first, all or nothing.

    Raises `MedwardError` where the log has an alarm or suspension that the backup lacks, or another salt is used, and
    `IntegrityError` where the log does not hold, or is not the one that the backup was made beside.
    """
    backup, log = AccountsBackup.load(folder), state / AUDIT_FILE
    who = {"reason": recorded_text("reason", reason), "operator": recorded_text("operator", operator)}
    if not log.exists():
        raise MedwardError(f"{log}: there is no log to tell which alarms the backup lacks; put its files back first")
    if (state / SALT_FILE).exists() and _digest(state / SALT_FILE) != backup.salt:
        raise MedwardError(f"{state / SALT_FILE}: not the salt that the backup was made with; put {folder}/salt there")
    verified = verify_log(log, head=backup.head)
    if lacking := [*_alarms_since(log, backup.seq), *_suspensions_since(log, folder)]:
        raise MedwardError(
            f"{folder}: lacks what the log has: {'; '.join(lacking)}; take a later backup, or end it on record with "
            "`medward accounts reset` or `release`"
        )
    forgotten = sum(is_query_record(each) and each["seq"] > backup.seq for each in read_log(log))
    with AuditLog(log).hold() as held:
        if held.head != verified.head:
            raise UnavailableError(f"{log}: went on while it was read; stop the server and restore again")
        said = {"backup": backup.time, "through": backup.seq, "head": backup.head, "forgotten": forgotten}
        held.append({"event": ACCOUNTS_RESTORED, **who, **said})
        if not (state / SALT_FILE).exists():
            write_durably(state / SALT_FILE, (folder / SALT_FILE).read_bytes(), mode=0o600)
        _copy_database(folder / ACCOUNTS_FILE, state / ACCOUNTS_FILE, journal="WAL")
    return RestoredAccounts(backup=backup, forgotten=forgotten)


def _alarms_since(log: Path, seq: int) -> Iterator[str]:
    """The alarms that stand by the log, and rose after record `seq`, in words."""
    before = _standing(each for each in read_log(log) if each["seq"] <= seq)
    for account, (action, began) in _standing(read_log(log)).items():
        if action > before.get(account, (Action.ALLOW, ""))[0]:
            yield f"the alarm of {account} ({action.label} since {began})"


def _standing(records: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Action, str]]:
    return {each.account: (each.action, each.began) for each in incidents(records) if not each.ended}


def _suspensions_since(log: Path, folder: Path) -> Iterator[str]:
    """The suspensions that stand by the log and are not in the backup, in words."""
    standing = dict[str, str]()
    for record in read_log(log):
        if record.get("event") == ACCOUNT_SUSPENDED:
            standing[str(record["principal"])] = str(record["time"])
        elif record.get("event") == SUSPENSION_LIFTED:
            standing.pop(str(record["principal"]), None)
    if not standing:
        return
    with closing(_open_read_only(folder / ACCOUNTS_FILE)) as copy:
        row = copy.execute("SELECT state FROM states WHERE key = ?", (SUSPENSIONS,)).fetchone()
    kept = {} if row is None else decode_state(SUSPENSIONS, row[0]) or {}
    for account, time in standing.items():
        if account not in kept:
            yield f"the suspension of {account} (since {time})"


def _check_state(state: Path) -> None:
    for name in (ACCOUNTS_FILE, AUDIT_FILE, SALT_FILE):
        if not (state / name).exists():
            raise MedwardError(
                f"{state / name}: there is none, so no accounts to back up; is it a server's state folder?"
            )


def _copy_database(source: Path, target: Path, *, journal: str) -> None:
    """Copy a database whole into `target` in one transaction, which readers see before or after."""
    try:
        with closing(_open_read_only(source)) as taken, closing(sqlite3.connect(target, timeout=30)) as kept:
            target.chmod(0o600)
            taken.backup(kept)
            kept.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            kept.execute(f"PRAGMA journal_mode = {journal}")
    except sqlite3.Error as error:
        raise UnavailableError(f"{source}: cannot be copied to {target}: {error}") from error


def _open_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MedwardError(f"{path}: cannot be read: {error.strerror}") from None
