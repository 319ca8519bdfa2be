"""Where keys are kept: in a file of one host, and in the store that replicas share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from medward.guard.accounts.stores import JsonValue, Store
from medward.guard.errors import IntegrityError
from medward.guard.files import write_durably

Scope = Literal["predict", "metrics", "admin"]
"""What a key opens: answers, what monitors and counters say, or the administration. No key opens two of them."""
SHARED_KEYS = "//keys"  # no principal has an empty level, so none is mistaken for this state
_SLACK = timedelta(days=1)  # by which the clock may be behind the one a key was made by


class Key(BaseModel):
    """One key as it is kept. `digest` is the SHA-256 of the whole token, in hex; `replaces` the id of an older key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    principal: tuple[str, ...]
    scope: Scope
    digest: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    replaces: str | None = None

    def valid(self, now: datetime) -> bool:
        """Neither revoked nor past its end; by a clock from before it was made, no end can be told."""
        return self.revoked is None and (self.expires is None or self.created - _SLACK <= now < self.expires)


Keys = Mapping[str, Key]
ChangeKeys = Callable[[Keys], Keys]
"""Makes the new keys, by id, of the old ones; or raises, and nothing changes."""


class KeyPlace(Protocol):
    """A place of keys reads them and changes them, one writer at a time."""

    def read(self) -> Keys:
        """The keys by id, oldest first. Raises `IntegrityError` where they cannot be read."""
        ...

    def update(self, change: ChangeKeys) -> None:
        """Replace the keys by what `change` makes of them."""
        ...


class _Kept(BaseModel):
    """Version 2 added `replaces` and the scope "admin"; what lies in version 1 is read as it is."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1, 2] = 2
    keys: tuple[Key, ...] = ()


@dataclass(slots=True, eq=False)
class KeyFile:
    """A JSON file of mode 0600; writers take a lock and replace it atomically, and what changed is read again."""

    path: Path
    _seen: tuple[int, ...] | None = field(default=None, init=False, repr=False)
    _keys: Keys = field(default_factory=dict, init=False, repr=False)

    def read(self) -> Keys:
        """The keys by id; none where there is no file."""
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen != self._seen:
                parsed = _Kept.model_validate_json(self.path.read_bytes())
                self._keys, self._seen = _by_id(parsed), seen
        except FileNotFoundError:
            self._keys, self._seen = {}, None
        except (OSError, ValidationError) as error:
            raise IntegrityError(f"{self.path}: not a readable key file: {type(error).__name__}") from None
        return self._keys

    def update(self, change: ChangeKeys) -> None:
        """Replace the file by what `change` makes of it."""
        with self._locked():
            text = _Kept(keys=tuple(change(self.read()).values())).model_dump_json(indent=1)
            write_durably(self.path, text.encode(), mode=0o600)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = self.path.with_name(f".{self.path.name}.lock")
        with open(name, "w", opener=partial(os.open, mode=0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """One state of `store`, which all replicas read; raises `UnavailableError` where it does not answer."""

    store: Store

    def read(self) -> Keys:
        """The keys by id, asked of the store each time."""
        return _stored(self.store.get(SHARED_KEYS))

    def update(self, change: ChangeKeys) -> None:
        """Replace the state by what `change` makes of it, in one transaction."""

        def step(state: JsonValue) -> tuple[JsonValue, None]:
            return _Kept(keys=tuple(change(_stored(state)).values())).model_dump(mode="json"), None

        self.store.transact(SHARED_KEYS, step)


def _stored(state: JsonValue) -> Keys:
    try:
        return {} if state is None else _by_id(_Kept.model_validate(state))
    except ValidationError:
        raise IntegrityError(f"store: what is kept under {SHARED_KEYS} are no keys; is it another program's?") from None


def _by_id(kept: _Kept) -> Keys:
    return {key.id: key for key in kept.keys}
