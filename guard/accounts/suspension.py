"""Accounts that a person suspended: every guard that shares the store refuses them, and all accounts below them.

A suspension is a decision of a person, unlike an alarm, which a reset forgets: it stands until a person lifts it. All
suspensions are under one key, so that a guard learns of any by reading one state, every `KEPT` seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from medward.guard.accounts.names import checked_principal, hides_character
from medward.guard.accounts.stores import CorruptStateError, JsonValue, Store
from medward.guard.audit.record import AuditSink
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.types import Principal

_log = logging.getLogger("medward")
SUSPENSIONS = "//suspensions"  # no principal has an empty level, so none is mistaken for this key
KEPT = 0.5
"""Seconds that a guard goes by what it read last."""
LONGEST_TEXT = 500
"""Characters of a reason, and of who gives it."""
ACCOUNT_SUSPENDED, SUSPENSION_LIFTED = "account suspended", "suspension lifted"


class SuspendedError(MedwardError):
    """The account that asks, or one above it, is suspended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """A suspension says which `account` is refused, why, by whose decision, and since when (UTC)."""

    account: str
    reason: str
    operator: str
    time: str


@dataclass(slots=True, eq=False)
class SuspensionWatch:
    """Tells a guard which accounts are suspended, at most `KEPT` seconds late.

    While the store is away it goes by what it read last: the monitors need the store for every query, and refuse or
    answer as ``on_error`` says. `withhold` is whether suspensions that cannot be read, while the store answers, are an
    error. Safe for many threads: the worst is that two of them read at once. `clock` is in seconds.
    """

    store: Store
    withhold: bool
    clock: Callable[[], float] = time.monotonic
    _held: Mapping[str, Suspension] = field(default_factory=dict, init=False)
    _until: float = field(default=0.0, init=False)

    def check(self, accounts: Iterable[str]) -> None:
        """Raise `SuspendedError` where one of `accounts`, the path of who asks, is suspended.

        The client is not told why. Raises `UnavailableError` where suspensions cannot be read, and `withhold` is set.
        """
        if self.clock() >= self._until:
            self._read()
        for account in accounts:
            if account in self._held:
                raise SuspendedError(f"{account} is suspended; ask whoever operates this server")

    def _read(self) -> None:
        try:
            self._held = suspensions(self.store)
        except UnavailableError as error:
            if self.withhold and isinstance(error, CorruptStateError):
                raise
            _log.error("suspensions: %s; those read last are held to", error)
        self._until = self.clock() + KEPT


def suspensions(store: Store) -> dict[str, Suspension]:
    """The suspensions that stand, by account."""
    return _read_state(store.get(SUSPENSIONS))


def suspend_account(store: Store, audit: AuditSink, principal: Principal, *, reason: str, operator: str) -> Suspension:
    """Suspend the account `principal` and all below it, on record first; one that is suspended has the new reason.

    Raises `MedwardError` for a reason or operator that is none, and `UnavailableError` when log or store are away.
    """
    found = Suspension(
        account="/".join(checked_principal(principal)),
        reason=recorded_text("reason", reason),
        operator=recorded_text("operator", operator),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    said = {"principal": found.account, "reason": found.reason, "operator": found.operator}
    audit.append({"event": ACCOUNT_SUSPENDED, **said})
    store.transact(SUSPENSIONS, lambda state: ({**(state or {}), found.account: asdict(found)}, None))
    return found


def lift_suspension(store: Store, audit: AuditSink, principal: Principal, *, reason: str, operator: str) -> None:
    """Let the account `principal` ask again, on record first; its alarms and what it was told stand.

    Raises `MedwardError` where it is not suspended itself, and as `suspend_account` does.
    """
    account = "/".join(checked_principal(principal))
    said = {
        "principal": account,
        "reason": recorded_text("reason", reason),
        "operator": recorded_text("operator", operator),
    }
    if account not in suspensions(store):
        above = [each for each in suspensions(store) if account.startswith(f"{each}/")]
        raise MedwardError(f"{account}: is not suspended" + (f", but {above[0]} is" if above else ""))
    audit.append({"event": SUSPENSION_LIFTED, **said})
    store.transact(
        SUSPENSIONS, lambda state: ({name: each for name, each in (state or {}).items() if name != account}, None)
    )


def _read_state(state: JsonValue) -> dict[str, Suspension]:
    try:
        return {name: Suspension(**each) for name, each in (state or {}).items()}
    except (AttributeError, TypeError) as error:
        raise CorruptStateError(f"store: the state of {SUSPENSIONS!r} is corrupt: {error}") from None


def recorded_text(what: str, text: str) -> str:
    """A reason or operator as records keep it. Raises `MedwardError` for one that is none; `what` is said first."""
    found = " ".join(text.split())
    if not 1 <= len(found) <= LONGEST_TEXT or hides_character(found):
        raise MedwardError(f"{what}: give 1 to {LONGEST_TEXT} printable characters; they stay in the audit log")
    return found
