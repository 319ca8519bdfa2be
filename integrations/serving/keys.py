"""API keys: made once, shown once, kept hashed.

A token is ``mw_<id>_<secret>`` with a secret of 256 random bits. What is kept is the SHA-256 of the token: a
slow hash protects secrets that people choose, and nobody can search 2^256. A file that changes is read
again at the next request, so a key added or revoked while a server runs counts at once; keys in the store that
replicas share are read again after `SHARED_FRESH` seconds.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from medward.guard.accounts.look_alikes import distinct_principal
from medward.guard.accounts.names import folded_name
from medward.guard.accounts.stores import Store
from medward.guard.errors import MedwardError
from medward.guard.types import Principal
from medward.integrations.serving.fetched_copy import FetchedCopy
from medward.integrations.serving.key_places import Key, KeyFile, KeyPlace, Keys, Scope, StoredKeys

TOKEN = re.compile(r"mw_([0-9a-f]{8})_[0-9a-f]{64}")
SHARED_FRESH, SHARED_OLDEST = (
    0.5,
    1.0,
)  # seconds that a replica uses its copy of shared keys, and while the store is slow


@dataclass(slots=True, eq=False)
class KeyStore:
    """The keys of one host, in the file at `path`, and those that all replicas of `shared` know, kept in that store.

    New keys are made where they are shared, if they are. Every change finds a key wherever it is.
    """

    path: Path
    shared: Store | None = None
    _places: tuple[KeyPlace, ...] = field(init=False, repr=False)
    _copy: FetchedCopy[Keys] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._places = (KeyFile(self.path),)
        if self.shared is not None:
            stored = StoredKeys(self.shared)
            self._places = (*self._places, stored)
            self._copy = FetchedCopy(stored.read, name="shared keys", fresh=SHARED_FRESH, stale=SHARED_OLDEST)

    def add(self, principal: Principal, *, expires: datetime | None = None, scope: Scope = "predict") -> str:
        """Make a key for `principal` and return its token, which cannot be shown again.

        `expires` needs a time zone. A key of scope "metrics" reads ``/metrics`` and nothing else: verdict
        counts would tell a thief whether he was noticed; one of "admin" opens ``/admin`` and nothing else. A name
        that looks like that of another key is refused (`distinct_principal`).
        """
        _check_end(expires)
        known = [key.principal for key in self.list()]
        key, token = _made(distinct_principal(tuple(principal), known), scope, expires)
        self._places[-1].update(lambda keys: {**keys, key.id: key})
        return token

    def list(self) -> tuple[Key, ...]:
        """Every key ever made, revoked ones too, oldest first; the host's own before those that are shared."""
        return tuple(key for place in self._places for key in place.read().values())

    def revoke(self, key_id: str) -> None:
        """End a key now. It stays listed, so that audit records keep their meaning."""
        place, key_id = self._place_of(key_id)

        def end(keys: Keys) -> Keys:
            key = keys[key_id]
            return {**keys, key_id: key.model_copy(update={"revoked": key.revoked or datetime.now(UTC)})}

        place.update(end)

    def rotate(self, key_id: str, *, overlap: timedelta, expires: datetime | None = None) -> str:
        """Make a key in the place of another, which ends after `overlap`, and return the new one's token.

        Until then both are valid, each known by its own id. The new key has the principal and scope of the old one,
        and, without `expires`, as long a life as it was given. Raises `MedwardError` for a key that has ended.
        """
        _check_end(expires)
        if overlap < timedelta(0):
            raise MedwardError(f"overlap: must be >= 0, got {overlap}")
        place, key_id = self._place_of(key_id)
        now = datetime.now(UTC)
        token = ""

        def replace(keys: Keys) -> Keys:
            nonlocal token
            old = keys[key_id]
            if not old.valid(now):
                raise MedwardError(f"key {key_id!r} has ended; make a new one with `medward keys add`")
            end = expires or (now + (old.expires - old.created) if old.expires else None)
            new, token = _made(old.principal, old.scope, end, replaces=key_id)
            last = now + overlap if old.expires is None else min(old.expires, now + overlap)
            return {**keys, key_id: old.model_copy(update={"expires": last}), new.id: new}

        place.update(replace)
        return token

    def authenticate(self, token: str) -> Key | None:
        """The valid key that `token` opens, else None. Compares in constant time."""
        key = _opened({key.id: key for key in self.list()}, token)
        return key if key and key.valid(datetime.now(UTC)) else None

    async def holder(self, token: str) -> Key | None:
        """The key whose token this is, ended or not, else None; waits for nothing but shared keys.

        A shared key that was revoked is so here within 1 s. Raises `UnavailableError` where the store does not tell,
        but for the keys of the host's own file.
        """
        own = _opened(self._places[0].read(), token)
        return own if own or self._copy is None else _opened(await self._copy.current(), token)

    def _place_of(self, key_id: str) -> tuple[KeyPlace, str]:
        key_id = folded_name(key_id)
        for place in self._places:
            if key_id in place.read():
                return place, key_id
        raise MedwardError(f"key {key_id!r} does not exist in {self.path}{' or the store' if self.shared else ''}")


def _made(principal: Principal, scope: Scope, expires: datetime | None, replaces: str | None = None) -> tuple[Key, str]:
    key_id = secrets.token_hex(4)
    token = f"mw_{key_id}_{secrets.token_hex(32)}"
    made = Key(
        id=key_id,
        principal=principal,
        scope=scope,
        digest=_digest(token),
        created=datetime.now(UTC),
        expires=expires,
        replaces=replaces,
    )
    return made, token


def _opened(keys: Keys, token: str) -> Key | None:
    match = TOKEN.fullmatch(token)
    key = keys.get(match[1]) if match else None
    same = hmac.compare_digest(_digest(token), key.digest if key else "0" * 64)
    return key if key and same else None


def _check_end(expires: datetime | None) -> None:
    if expires is not None and (expires.tzinfo is None or expires <= datetime.now(UTC)):
        raise MedwardError(f"expires: must be in the future and name its time zone, got {expires.isoformat()}")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
