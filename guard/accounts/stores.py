"""Where monitors keep accounts' states: in memory for one process, in a SQLite file for several.

Replicas on several hosts share `integrations.redis_store.RedisStore`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any, Protocol, TypeVar

from medward.guard.accounts.clock import Elapsed, SteadyClock, elapsed_time
from medward.guard.errors import MedwardError, UnavailableError

_R = TypeVar("_R")
JsonValue = Any
"""What a store keeps: None, bool, int, float, str, and lists and dicts of them."""
StoreStep = Callable[[JsonValue], tuple[JsonValue, _R]]
StepAll = Callable[[list[JsonValue]], tuple[list[JsonValue], _R]]

PURGE_EVERY = 256  # writes between two sweeps of expired rows
PURGE_ROWS = 1024  # rows one sweep may delete, so that no single write waits long

PAGE = 1024  # bytes; a state takes a few whole pages, so small ones waste little
_SCHEMA = """
CREATE TABLE IF NOT EXISTS states (key TEXT PRIMARY KEY, state BLOB NOT NULL, expires REAL);
CREATE INDEX IF NOT EXISTS states_expires ON states (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS elapsed (id INTEGER PRIMARY KEY CHECK (id = 0), time REAL NOT NULL, clock REAL NOT NULL);
"""
_WRITE = """
INSERT INTO states (key, state, expires) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET state = excluded.state, expires = excluded.expires
"""
READ = "SELECT state FROM states WHERE key = ? AND (expires IS NULL OR expires > ?)"
KEYS = "SELECT key FROM states WHERE key > ? AND (expires IS NULL OR expires > ?) ORDER BY key LIMIT ?"
KEYS_PAGE = 1000  # keys that are read at a time
TIME = "SELECT time, clock FROM elapsed"
KEEP_TIME = "INSERT OR REPLACE INTO elapsed (id, time, clock) VALUES (0, ?, ?)"
TICK = 60.0  # seconds of the clock between two times that are kept
PURGE = "DELETE FROM states WHERE key IN (SELECT key FROM states WHERE expires <= ? LIMIT ?)"


class Store(Protocol):
    """Where monitors keep an account's state."""

    def transact(self, key: str, step: Callable[[JsonValue], tuple[JsonValue, _R]], *, ttl: float | None = None) -> _R:
        """Atomically replace the state under `key` (None when absent or expired) by ``step(state)[0]``.

        Returns ``step(state)[1]``. `step` must be pure: it may run again when two writers collide. `ttl` is
        in seconds from this write; None keeps the state for ever. Raises `UnavailableError`.
        """
        ...

    def transact_all(
        self,
        keys: Sequence[str],
        step: Callable[[list[JsonValue]], tuple[list[JsonValue], _R]],
        *,
        ttl: float | None = None,
    ) -> _R:
        """Like `transact` over several distinct keys: the states of all are replaced together, or none is.

        `step` takes the states in the order of `keys` and returns as many. Raises `MedwardError` when it does not.
        """
        ...

    def get(self, key: str) -> JsonValue:
        """The state under `key`, None when absent or expired."""
        ...

    def state_keys(self) -> Iterator[str]:
        """The keys of all states, in no order; what is written or expires meanwhile may be among them or not."""
        ...

    def now(self) -> float:
        """Seconds as all who share the states count them, whatever this process's clock says; what a state is dated by.

        Raises `UnavailableError`.
        """
        ...

    def delete(self, key: str) -> None:
        """Forget `key`; no error when it is absent."""
        ...

    def close(self) -> None:
        """Let go of files; later calls raise `UnavailableError`."""
        ...


class CorruptStateError(UnavailableError):
    """The state under one key cannot be read; other keys can."""


class MemoryStore:
    """A store that lives and dies with its process; safe to use from many threads.

    States are kept as JSON text, so no caller can change one by holding on to it. They expire by `clock` without its
    jumps (`guard.accounts.clock`).
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = SteadyClock(clock)
        self._lock = threading.Lock()
        self._states: dict[str, tuple[str, float | None]] = {}
        self._writes = 0
        self._closed = False

    def transact(self, key: str, step: StoreStep[_R], *, ttl: float | None = None) -> _R:
        """Atomically replace the state under `key`; see `guard.accounts.stores.Store`."""
        return self.transact_all((key,), of_one(step), ttl=ttl)

    def transact_all(self, keys: Sequence[str], step: StepAll[_R], *, ttl: float | None = None) -> _R:
        """Atomically replace the states under all `keys`; see `guard.accounts.stores.Store`."""
        with self._lock:
            now = self._clock()
            states, result = step([self._read(key, now) for key in keys])
            expires = None if ttl is None else now + ttl
            self._states.update(
                (key, (text, expires)) for key, text in zip(keys, encode_states(keys, states), strict=True)
            )
            self._writes += len(keys)
            if self._writes > max(PURGE_EVERY, len(self._states)):  # a sweep costs O(1) per write
                self._purge(now)
            return result

    def get(self, key: str) -> JsonValue:
        """The state under `key`, None when absent or expired."""
        with self._lock:
            return self._read(key, self._clock())

    def state_keys(self) -> Iterator[str]:
        """The keys of all states; see `guard.accounts.stores.Store`."""
        with self._lock:
            self._purge(self._clock())
            return iter([*self._states])

    def now(self) -> float:
        """The time that counts for what expires; see `guard.accounts.stores.Store`."""
        with self._lock:
            self._check_open()
            return self._clock()

    def delete(self, key: str) -> None:
        """Forget `key`; no error when it is absent."""
        with self._lock:
            self._check_open()
            self._states.pop(key, None)

    def close(self) -> None:
        """Forget everything; later calls raise `UnavailableError`."""
        with self._lock:
            self._states.clear()
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("store: closed")

    def _read(self, key: str, now: float) -> JsonValue:
        self._check_open()
        text, expires = self._states.get(key, ("null", None))
        return None if expires is not None and expires <= now else json.loads(text)

    def _purge(self, now: float) -> None:
        self._check_open()
        self._writes = 0
        self._states = {
            key: (text, expires) for key, (text, expires) in self._states.items() if expires is None or expires > now
        }


class SQLiteStore:
    """A store in one SQLite file (WAL), safe for many threads and for several processes on one host.

    An update that `transact` returned from survives the death of the process (kill -9). A power cut may lose
    the newest updates (synchronous = NORMAL). Open the store after forking, and not on a network file system.
    `timeout` is how many seconds a write waits for other processes before `UnavailableError`, which is also
    raised when the file cannot be opened, read or written, was deleted or replaced under the store, or was closed.
    After a failure the file is opened anew. States expire by `clock` without its jumps (`guard.accounts.clock`), also
    across restarts.

    Reference: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous.
    """

    def __init__(
        self, path: str | PathLike[str], *, timeout: float = 5.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._writes = 0
        self._failed = self._closed = False
        with self._available():
            self._open()

    def transact(self, key: str, step: StoreStep[_R], *, ttl: float | None = None) -> _R:
        """Atomically replace the state under `key`; see `guard.accounts.stores.Store`."""
        return self.transact_all((key,), of_one(step), ttl=ttl)

    def transact_all(self, keys: Sequence[str], step: StepAll[_R], *, ttl: float | None = None) -> _R:
        """Atomically replace the states under all `keys`; see `guard.accounts.stores.Store`."""
        with self._transaction():
            now = self._time(keep=True)
            states, result = step([self._read(key, now) for key in keys])
            expires = None if ttl is None else now + ttl
            rows = [
                (key, compress_state(text), expires)
                for key, text in zip(keys, encode_states(keys, states), strict=True)
            ]
            with self._available():
                self._connection.executemany(_WRITE, rows)
                if self._writes % PURGE_EVERY == 0:
                    self._connection.execute(PURGE, (now, PURGE_ROWS))
            self._writes += 1
        return result

    def get(self, key: str) -> JsonValue:
        """The state under `key`, None when absent or expired."""
        with self._lock:
            self._ready()
            return self._read(key, self._time())

    def state_keys(self) -> Iterator[str]:
        """The keys of all states; see `guard.accounts.stores.Store`."""
        last = ""
        while True:
            with self._lock:
                self._ready()
                now = self._time()
                with self._available():
                    page = [key for (key,) in self._connection.execute(KEYS, (last, now, KEYS_PAGE))]
            if not page:
                return
            yield from page
            last = page[-1]

    def now(self) -> float:
        """The time that counts for what expires, as the file keeps it; see `guard.accounts.stores.Store`."""
        with self._lock:
            self._ready()
            return self._time()

    def delete(self, key: str) -> None:
        """Forget `key`; no error when it is absent."""
        with self._lock:
            self._ready()
            with self._available():
                self._connection.execute("DELETE FROM states WHERE key = ?", (key,))

    def close(self) -> None:
        """Close the file; later calls raise `UnavailableError`."""
        with self._lock:
            self._closed = True
            self._connection.close()

    def _read(self, key: str, now: float) -> JsonValue:
        with self._available():
            row = self._connection.execute(READ, (key, now)).fetchone()
        return None if row is None else decode_state(key, row[0])

    def _time(self, *, keep: bool = False) -> float:
        """The time that counts for what expires; `keep` writes it down, so that other processes go on from it."""
        with self._available():
            row = self._connection.execute(TIME).fetchone()
            before = None if row is None else Elapsed(*row)
            after = elapsed_time(before, self._clock())
            if keep and after is not None and (before is None or abs(after.clock - before.clock) >= TICK):
                self._connection.execute(KEEP_TIME, after)
        return 0.0 if after is None else after.time

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Hold the file's write lock from before the read; what raises inside leaves the file as it was."""
        with self._lock:
            self._ready()
            with self._available():
                self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                with self._available():
                    self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # the first error is the one to tell
                    self._connection.rollback()
                raise

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._failed |= getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY
            raise UnavailableError(f"store {self.path}: {error}") from error

    def _ready(self) -> None:
        """Open the file anew after a failure, and refuse one that is no longer where it was."""
        if self._closed:
            raise UnavailableError("store: closed")
        if self._failed:
            with self._available():
                self._connection.close()
                self._open()
        if _identity(self.path) != self._file:
            raise UnavailableError(
                f"store {self.path}: the file was deleted or replaced while in use; restart the server"
            )

    def _open(self) -> None:
        self._connection = _open(self.path, self._timeout)
        self._failed, self._file = False, _identity(self.path)


def _identity(path: str | PathLike[str]) -> tuple[int, int] | None:
    """What the file at `path` is, whatever its content; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open(path: str | PathLike[str], timeout: float) -> sqlite3.Connection:
    """Connect, and create what is missing."""
    deadline = time.monotonic() + timeout
    while True:
        connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA page_size = {PAGE}")  # of a new file
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            return connection
        except sqlite3.Error as error:
            connection.close()
            # The switch to WAL can ignore the busy timeout when several processes open a new file at once.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def of_one(step: StoreStep[_R]) -> StepAll[_R]:
    """The step over a single key as a step over a list of one."""

    def step_all(states: list[JsonValue]) -> tuple[list[JsonValue], _R]:
        state, result = step(states[0])
        return [state], result

    return step_all


def encode_states(keys: Sequence[str], states: Sequence[JsonValue]) -> list[str]:
    """What is kept under each key: compact JSON. Raises `MedwardError`, before anything is written."""
    if len(set(keys)) != len(keys) or len(states) != len(keys):
        raise MedwardError(f"store: needs distinct keys and one state for each, got {keys} and {len(states)} states")
    return [_encode(key, state) for key, state in zip(keys, states, strict=True)]


def compress_state(text: str) -> bytes:
    """What `encode_states` wrote, compressed for the disk or the network."""
    return zlib.compress(text.encode(), 1)


def decode_state(key: str, kept: str | bytes) -> JsonValue:
    """The state that `encode_states` wrote, `compress_state` if bytes; or `CorruptStateError`."""
    try:
        return json.loads(kept if isinstance(kept, str) else zlib.decompress(kept))
    except (ValueError, zlib.error) as error:
        raise CorruptStateError(f"store: the state of {key!r} is corrupt: {error}") from None


def _encode(key: str, state: JsonValue) -> str:
    try:
        return json.dumps(state, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MedwardError(f"store: the state of {key!r} must be finite JSON: {error}") from None
