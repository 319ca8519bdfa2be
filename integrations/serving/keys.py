"""API keys: made once, shown once, kept hashed.

A token is ``mw_<id>_<secret>`` with a secret of 256 random bits. The file keeps the SHA-256 of the token: a
slow hash protects secrets that people choose, and nobody can search 2^256. A file that changes is read
again at the next request, so a key added or revoked while a server runs counts at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from medward.guard.accounts.names import checked_principal, folded_name
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.files import write_durably
from medward.guard.types import Principal

Scope = Literal["predict", "metrics"]
_SLACK = timedelta(days=1)  # by which the clock may be behind the one a key was made by
TOKEN = re.compile(r"mw_([0-9a-f]{8})_[0-9a-f]{64}")


class Key(BaseModel):
    """One key as it is kept. `digest` is the SHA-256 of the whole token, in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    principal: tuple[str, ...]
    scope: Scope
    digest: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    def valid(self, now: datetime) -> bool:
        """Neither revoked nor past its end; by a clock from before it was made, no end can be told."""
        return self.revoked is None and (self.expires is None or self.created - _SLACK <= now < self.expires)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    keys: tuple[Key, ...] = ()


@dataclass(slots=True, eq=False)
class KeyStore:
    """The keys in one JSON file of mode 0600; writers take a lock and replace it atomically."""

    path: Path
    _seen: tuple[int, ...] | None = field(default=None, init=False, repr=False)
    _keys: dict[str, Key] = field(default_factory=dict, init=False, repr=False)

    def add(self, principal: Principal, *, expires: datetime | None = None, scope: Scope = "predict") -> str:
        """Make a key for `principal` and return its token, which cannot be shown again.

        `expires` needs a time zone. A key of scope "metrics" reads ``/metrics`` and nothing else: verdict
        counts would tell a thief whether he was noticed.
        """
        now = datetime.now(UTC)
        if expires is not None and (expires.tzinfo is None or expires <= now):
            raise MedwardError(f"expires: must be in the future and name its time zone, got {expires.isoformat()}")
        key_id = secrets.token_hex(4)
        token = f"mw_{key_id}_{secrets.token_hex(32)}"
        key = Key(
            id=key_id,
            principal=checked_principal(tuple(principal)),
            scope=scope,
            digest=_digest(token),
            created=now,
            expires=expires,
        )
        self._update(lambda keys: {**keys, key_id: key})
        return token

    def list(self) -> tuple[Key, ...]:
        """Every key ever made, revoked ones too, oldest first."""
        return tuple(self._read().values())

    def revoke(self, key_id: str) -> None:
        """End a key now. It stays listed, so that audit records keep their meaning."""
        key_id = folded_name(key_id)

        def end(keys: dict[str, Key]) -> dict[str, Key]:
            if key_id not in keys:
                raise MedwardError(f"key {key_id!r} does not exist in {self.path}")
            key = keys[key_id]
            ended = key.model_copy(update={"revoked": key.revoked or datetime.now(UTC)})
            return {**keys, key_id: ended}

        self._update(end)

    def authenticate(self, token: str) -> Key | None:
        """The valid key that `token` opens, else None. Compares in constant time."""
        match = TOKEN.fullmatch(token)
        key = self._read().get(match[1]) if match else None
        same = hmac.compare_digest(_digest(token), key.digest if key else "0" * 64)
        return key if key and same and key.valid(datetime.now(UTC)) else None

    def _read(self) -> dict[str, Key]:
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen != self._seen:
                parsed = _File.model_validate_json(self.path.read_bytes())
                self._keys, self._seen = {key.id: key for key in parsed.keys}, seen
        except FileNotFoundError:
            self._keys, self._seen = {}, None
        except (OSError, ValidationError) as error:
            raise IntegrityError(f"{self.path}: not a readable key file: {type(error).__name__}") from None
        return self._keys

    def _update(self, change: Callable[[dict[str, Key]], dict[str, Key]]) -> None:
        with self._locked():
            keys = change(dict(self._read()))
            text = _File(keys=tuple(keys.values())).model_dump_json(indent=1)
            write_durably(self.path, text.encode(), mode=0o600)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.path.with_name(f".{self.path.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
