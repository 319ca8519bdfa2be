"""Where monitors keep an account's state: in memory for one process, in a SQLite file for several."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from typing import TypeVar

from guard.errors import MedwardError, UnavailableError
from guard.protocols import Json

R = TypeVar("R")
Step = Callable[[Json], tuple[Json, R]]

PURGE_EVERY = 256  # writes between two sweeps of expired rows
PURGE_ROWS = 1024  # rows one sweep may delete, so that no single write waits long

SCHEMA = """
CREATE TABLE IF NOT EXISTS states (key TEXT PRIMARY KEY, state TEXT NOT NULL, expires REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS states_expires ON states (expires) WHERE expires IS NOT NULL;
"""
WRITE = "INSERT OR REPLACE INTO states (key, state, expires) VALUES (?, ?, ?)"
READ = "SELECT state FROM states WHERE key = ? AND (expires IS NULL OR expires > ?)"
PURGE = "DELETE FROM states WHERE key IN (SELECT key FROM states WHERE expires <= ? LIMIT ?)"


class MemoryStore:
    """A store that lives and dies with its process; safe to use from many threads.

    States are kept as JSON text, so no caller can change one by holding on to it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[str, tuple[str, float | None]] = {}
        self._writes = 0
        self._closed = False

    def transact(self, key: str, step: Step[R], *, ttl: float | None = None) -> R:
        """Atomically replace the state under `key`; see `guard.protocols.Store`."""
        with self._lock:
            state, result = step(self._read(key))
            self._states[key] = (_encode(key, state), None if ttl is None else self._clock() + ttl)
            self._writes += 1
            if self._writes > max(PURGE_EVERY, len(self._states)):  # a sweep costs O(1) per write
                self._purge()
            return result

    def get(self, key: str) -> Json:
        """The state under `key`, None when absent or expired."""
        with self._lock:
            return self._read(key)

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

    def _read(self, key: str) -> Json:
        self._check_open()
        text, expires = self._states.get(key, ("null", None))
        return None if expires is not None and expires <= self._clock() else json.loads(text)

    def _purge(self) -> None:
        now, self._writes = self._clock(), 0
        self._states = {
            key: (text, expires) for key, (text, expires) in self._states.items() if expires is None or expires > now
        }


class SQLiteStore:
    """A store in one SQLite file (WAL), safe for many threads and for several processes on one host.

    An update that `transact` returned from survives the death of the process (kill -9). A power cut may lose
    the newest updates (synchronous = NORMAL). Open the store after forking, and not on a network file system.
    `timeout` is how many seconds a write waits for other processes before `UnavailableError`, which is also
    raised when the file cannot be opened, read or written, or was closed.

    Reference: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous.
    """

    def __init__(
        self, path: str | PathLike[str], *, timeout: float = 5.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._writes = 0
        with self._available():
            self._connection = _open(path, timeout)

    def transact(self, key: str, step: Step[R], *, ttl: float | None = None) -> R:
        """Atomically replace the state under `key`; see `guard.protocols.Store`."""
        with self._transaction():
            state, result = step(self._read(key))
            expires = None if ttl is None else self._clock() + ttl
            text = _encode(key, state)
            with self._available():
                self._connection.execute(WRITE, (key, text, expires))
                if self._writes % PURGE_EVERY == 0:
                    self._connection.execute(PURGE, (self._clock(), PURGE_ROWS))
            self._writes += 1
        return result

    def get(self, key: str) -> Json:
        """The state under `key`, None when absent or expired."""
        with self._lock:
            return self._read(key)

    def delete(self, key: str) -> None:
        """Forget `key`; no error when it is absent."""
        with self._lock, self._available():
            self._connection.execute("DELETE FROM states WHERE key = ?", (key,))

    def close(self) -> None:
        """Close the file; later calls raise `UnavailableError`."""
        with self._lock:
            self._connection.close()

    def _read(self, key: str) -> Json:
        with self._available():
            row = self._connection.execute(READ, (key, self._clock())).fetchone()
            return None if row is None else json.loads(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Hold the file's write lock from before the read; what raises inside leaves the file as it was."""
        with self._lock:
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
        except (sqlite3.Error, json.JSONDecodeError) as error:
            raise UnavailableError(f"store {self.path}: {error}") from error


def _open(path: str | PathLike[str], timeout: float) -> sqlite3.Connection:
    """Connect, and create what is missing."""
    deadline = time.monotonic() + timeout
    while True:
        connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(SCHEMA)
            return connection
        except sqlite3.Error as error:
            connection.close()
            # The switch to WAL can ignore the busy timeout when several processes open a new file at once.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _encode(key: str, state: Json) -> str:
    try:
        return json.dumps(state, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MedwardError(f"store: the state of {key!r} must be finite JSON: {error}") from None
