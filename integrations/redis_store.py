"""Accounts' states in Redis, shared by replicas: one round trip per query.

Every write is a compare-and-set over all keys of a query at once. A replica steps the states it saw last and sends the
new ones with the versions it started from; a script in Redis writes all of them, or none and returns what it holds.
"""

from __future__ import annotations

import logging
import random
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from medward.guard.accounts.stores import (
    JsonValue,
    StepAll,
    StoreStep,
    compress_state,
    decode_state,
    encode_states,
    of_one,
)
from medward.guard.errors import MedwardError, UnavailableError

_R = TypeVar("_R")
_log = logging.getLogger("medward")

CACHED = 32_768  # states; the index of near-duplicates alone has up to 16,384 lists
VERSION = 16  # bytes before the state in a stored value; random, so no two writes share one
REMEMBERED = 10  # times `timeout` that Redis remembers a write, so that it recognises one that is sent again
TURN = 0.25  # seconds that others wait at most for one that collided, was given the turn and died
POLL, RECONNECT = 0.005, 0.05  # seconds, the longest wait before asking for a turn, or for a connection, again
STATES_KEPT = 60.0  # seconds that a connection is used, so that an address repointed to another server is followed
ELSEWHERE = re.compile(r"\b(READONLY|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK)\b")
"""What a Redis says that is not, or not yet, the one to write to; scripts of older versions quote it in a sentence."""
MOVED_ON = (
    redis.ConnectionError,  # refused, reset, loading, and a password it does not know yet
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,
)

# KEYS: a marker of this write, then n states, then the n turns at them. ARGV: this call's version; in ms the life of
# the marker, of a turn and of the states (0: for ever); then for each state the version expected ("" for none) and the
# new state. Says "done" once the write stands and "wait" while it is another's turn; else grants the turn to this call
# and says "stale" and, third and on, what the states are. Every answer has the Unix seconds of Redis second.
_WRITE = """
local now = redis.call('TIME')[1]
if redis.call('EXISTS', KEYS[1]) == 1 then return {'done', now} end
local n = (#KEYS - 1) / 2
local held, same, mine = {'stale', now}, true, false
for i = 1, n do
  local turn = redis.call('GET', KEYS[1 + n + i])
  if turn and turn ~= ARGV[1] then return {'wait', now} end
  mine = mine or turn
  held[2 + i] = redis.call('GET', KEYS[1 + i]) or ''
  same = same and string.sub(held[2 + i], 1, 16) == ARGV[3 + 2 * i]
end
for i = 1, n do
  if not same then
    redis.call('SET', KEYS[1 + n + i], ARGV[1], 'PX', ARGV[3])
  else
    if mine then redis.call('DEL', KEYS[1 + n + i]) end
    local value = ARGV[1] .. ARGV[4 + 2 * i]
    redis.call('SET', KEYS[1 + i], value)
    if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[1 + i], ARGV[4]) end
  end
end
if not same then return held end
redis.call('SET', KEYS[1], '', 'PX', ARGV[2])
return {'done', now}
"""


class ClockReading(NamedTuple):
    """The Unix seconds that Redis said, and this process's monotonic clock then."""

    time: float
    at: float


class Held(NamedTuple):
    """What Redis holds under one key: a version and a packed state; no version when it holds nothing."""

    version: bytes = b""
    state: bytes = compress_state("null")


@dataclass(frozen=True, slots=True)
class _Write:
    """One call of `transact_all` as Redis knows it. Only one of its tries is ever written: all have one version."""

    version: bytes
    marker: str
    states: list[str]
    turns: list[str]
    lives: tuple[int, int, int]

    @classmethod
    def of(cls, prefix: str, keys: Sequence[str], ttl: float | None, timeout: float) -> _Write:
        version = secrets.token_bytes(VERSION)
        return cls(
            version,
            f"{prefix}:wrote:{version.hex()}",
            [f"{prefix}:state:{key}" for key in keys],
            [f"{prefix}:turn:{key}" for key in keys],
            (_milliseconds(REMEMBERED * timeout), _milliseconds(TURN), 0 if ttl is None else _milliseconds(ttl)),
        )


class RedisStore:
    """A store in one Redis, safe for many threads, processes and hosts. Keys share one hash slot.

    `url` is ``redis://``, ``rediss://`` (TLS) or ``unix://``; `name` keeps deployments that share a Redis apart.
    The last `cached` states are also kept here, so that a query costs one round trip. Where another replica wrote
    one of its states since, it costs one more: the first try fails, and the others wait for the second.

    Exactly once: an update that `transact` returned from was applied once, whatever replies were lost. It survives the
    death (kill -9) of this process. After `UnavailableError` the update may have been applied or not. `timeout`
    bounds one call in seconds, waiting for other threads, collisions and reconnecting included; a silent Redis may
    take half as long again. `UnavailableError` is also raised when Redis cannot be reached at the start.

    Failover: where the server says that it is a replica now, is loading or has lost its primary, and where the line is
    cut, the address is looked up and connected to anew until `timeout`. Connections are renewed after `STATES_KEPT`
    seconds.

    What Redis itself keeps is for its configuration to say: ``appendonly yes`` (with ``appendfsync everysec`` a
    crash of Redis loses up to a second), ``maxmemory-policy noeviction`` (or a full Redis forgets alarms), no
    writes to lagging replicas. A warning is logged where Redis says that the first two are not so. States expire by,
    and are dated by (`now`), Redis's own clock, jumps of it included; the clocks of the replicas play no part.

    Reference: Kung & Robinson, "On Optimistic Methods for Concurrency Control", ACM TODS 6(2), 1981.
    """

    def __init__(self, url: str, *, name: str = "medward", timeout: float = 2.0, cached: int = CACHED) -> None:
        if timeout <= 0 or cached < 1:
            raise MedwardError(f"RedisStore: needs timeout > 0 and cached >= 1, got {timeout} and {cached}")
        if not name or set(name) & set("{}"):
            raise MedwardError(f"RedisStore: needs a name without braces, got {name!r}")
        self._where = url.rpartition("@")[2].partition("?")[0]  # never a password in a message
        self._prefix = f"{{{name}}}"
        self._timeout = timeout
        self._cached = cached
        self._seen: OrderedDict[str, Held] = OrderedDict()
        self._lock = threading.Lock()  # threads of one process wait for one another instead of colliding
        self._closed = False
        self._connected = time.monotonic()
        wait = timeout / 4
        try:
            self._redis = redis.Redis.from_url(
                url, socket_timeout=wait, socket_connect_timeout=wait, retry=Retry(NoBackoff(), 0)
            )
        except ValueError:
            raise MedwardError(f"store: {self._where}: not a Redis address") from None
        self._script = self._redis.register_script(_WRITE)
        self._warn(self._ask(self._info, self._deadline()))
        self._reading = ClockReading(self._ask(self._redis.time, self._deadline())[0], time.monotonic())

    def transact(self, key: str, step: StoreStep[_R], *, ttl: float | None = None) -> _R:
        """Atomically replace the state under `key`; see `guard.accounts.stores.Store`."""
        return self.transact_all((key,), of_one(step), ttl=ttl)

    def transact_all(self, keys: Sequence[str], step: StepAll[_R], *, ttl: float | None = None) -> _R:
        """Atomically replace the states under all `keys`; see `guard.accounts.stores.Store`."""
        write = _Write.of(self._prefix, keys, ttl, self._timeout)
        deadline = self._deadline()
        with self._alone(deadline):
            held, sure, granted = [self._seen.get(key, Held()) for key in keys], False, False
            while True:
                try:
                    states, result = step([decode_state(key, each.state) for key, each in zip(keys, held, strict=True)])
                    parts = [compress_state(text) for text in encode_states(keys, states)]
                except Exception:
                    if granted:
                        with suppress(UnavailableError):  # then the turn passes by itself
                            self._ask(lambda: self._redis.delete(*write.turns), deadline)
                    if sure:
                        raise
                    # The step may have met a state that is no more.
                    held, sure = self._read(write.states, deadline), True
                    continue
                said, *found = self._send(write, held, parts, deadline)
                if said == b"done":
                    self._remember(keys, [Held(write.version, part) for part in parts])
                    return result
                held, sure, granted = [_parsed(value) for value in found], True, True

    def get(self, key: str) -> JsonValue:
        """The state under `key`, None when absent or expired."""
        return decode_state(key, self._read((self._key(key),), self._deadline())[0].state)

    def state_keys(self) -> Iterator[str]:
        """The keys of all states, page by page; see `guard.accounts.stores.Store`."""
        start = self._key("")
        pattern, cursor, seen = re.sub(r"([\[\]*?\\])", r"\\\1", start) + "*", 0, set[str]()
        while True:
            cursor, page = self._ask(partial(self._redis.scan, cursor, match=pattern, count=1000), self._deadline())
            found = {key.decode()[len(start) :] for key in page} - seen  # SCAN may name a key twice
            seen |= found
            yield from found
            if not cursor:
                return

    def now(self) -> float:
        """Unix seconds by Redis's own clock: what its last answer said, and the time since; costs no round trip."""
        if self._closed:
            raise UnavailableError("store: closed")
        said = self._reading
        return said.time + time.monotonic() - said.at

    def delete(self, key: str) -> None:
        """Forget `key`; no error when it is absent."""
        self._ask(lambda: self._redis.delete(self._key(key)), self._deadline())

    def close(self) -> None:
        """Close the connections; later calls raise `UnavailableError`."""
        self._closed = True
        self._redis.close()

    def _key(self, key: str) -> str:
        return f"{self._prefix}:state:{key}"

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    @contextmanager
    def _alone(self, deadline: float) -> Iterator[None]:
        """One thread at a time; a thread that waits for its turn in vain says so in time."""
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise UnavailableError(f"store {self._where}: no answer to earlier queries for {self._timeout:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _send(self, write: _Write, held: list[Held], parts: list[bytes], deadline: float) -> list[bytes]:
        """What `_WRITE` says but "wait"; one round trip, and safe to send again."""
        arguments: list[Any] = [write.version, *write.lives]
        for each, part in zip(held, parts, strict=True):
            arguments += [each.version, part]
        keys, pauses = [write.marker, *write.states, *write.turns], _pauses(POLL)
        while time.monotonic() < deadline:
            said, now, *found = self._ask(lambda: self._script(keys=keys, args=arguments), deadline)
            self._reading = ClockReading(float(now), time.monotonic())
            if said != b"wait":
                return [said, *found]
            time.sleep(next(pauses))
        raise UnavailableError(f"store {self._where}: other writers left no turn for {self._timeout:g} s")

    def _read(self, names: Sequence[str], deadline: float) -> list[Held]:
        return [_parsed(value or b"") for value in self._ask(lambda: self._redis.mget(names), deadline)]

    def _remember(self, keys: Sequence[str], held: list[Held]) -> None:
        for key, each in zip(keys, held, strict=True):
            self._seen[key] = each
            self._seen.move_to_end(key)
        while len(self._seen) > self._cached:
            self._seen.popitem(last=False)

    def _ask(self, command: Callable[[], Any], deadline: float) -> Any:
        """What Redis answers, asking again over a new connection until `deadline`."""
        pauses = _pauses(RECONNECT)
        while True:
            if self._closed:
                raise UnavailableError("store: closed")
            if time.monotonic() - self._connected > STATES_KEPT:
                self._reconnect()
            try:
                return command()
            except redis.RedisError as error:
                if not _moved_on(error) or not _paused(next(pauses), deadline):
                    raise UnavailableError(f"store {self._where}: {error}") from error
                self._reconnect()

    def _reconnect(self) -> None:
        """Drop the connections nobody is using, so that the next ones go to where the address points by then."""
        self._redis.connection_pool.disconnect(inuse_connections=False)
        self._connected = time.monotonic()

    def _info(self) -> dict[str, Any]:
        try:
            return self._redis.info()
        except redis.exceptions.NoPermissionError:  # it answered; what it does not tell is not warned about
            return {}

    def _warn(self, info: dict[str, Any]) -> None:
        if info.get("maxmemory_policy", "noeviction") != "noeviction":
            policy = info["maxmemory_policy"]
            _log.warning(
                "redis %s: maxmemory-policy is %s, so a full Redis forgets alarms; set noeviction", self._where, policy
            )
        if info.get("aof_enabled", 1) == 0:
            _log.warning(
                "redis %s: appendonly is off, so a restart of Redis forgets alarms; set appendonly yes", self._where
            )


def _pauses(longest: float) -> Iterator[float]:
    """Seconds to wait before each further try: more each time, random so that writers do not march in step."""
    bound = 0.0005
    while True:
        yield random.uniform(0, bound)
        bound = min(2 * bound, longest)


def _moved_on(error: redis.RedisError) -> bool:
    """Whether another connection may find what this one did not: a server that can be reached and written to."""
    return isinstance(error, MOVED_ON) or ELSEWHERE.search(str(error)) is not None


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * seconds))


def _paused(seconds: float, deadline: float) -> bool:
    """Wait, unless that would be past `deadline`."""
    if time.monotonic() + seconds > deadline:
        return False
    time.sleep(seconds)
    return True


def _parsed(value: bytes) -> Held:
    return Held(value[:VERSION], value[VERSION:]) if value else Held()
