"""Whether a guard could answer now: its store and its audit log are tried, and what is away is said."""

from __future__ import annotations

import logging
from collections.abc import Callable

from medward.guard.accounts.stores import Store
from medward.guard.audit.record import AuditSink
from medward.guard.errors import UnavailableError

_log = logging.getLogger("medward")
READINESS, READINESS_TTL = "//readiness", 60.0  # a key that no principal can have, and seconds it is kept
STORE_AWAY = "the store of accounts does not answer; until it does, answers leave without its monitors and budgets"
AUDIT_AWAY = "the audit log cannot be written; until it can, answers leave unrecorded"


def lacking_parts(store: Store, audit: AuditSink | None, *, withhold: bool) -> tuple[str, ...]:
    """Write to the store, and try the audit log: what is away, a sentence each, while queries are answered.

    With `withhold` no query is answered without them: then it raises `UnavailableError` where one is away.
    """

    def try_store() -> None:
        store.transact(READINESS, lambda _: (True, None), ttl=READINESS_TTL)

    def try_audit() -> None:
        if audit is not None:
            audit.check_writable()

    said = (_lack(STORE_AWAY, try_store, withhold=withhold), _lack(AUDIT_AWAY, try_audit, withhold=withhold))
    return tuple(filter(None, said))


def _lack(said: str, part: Callable[[], None], *, withhold: bool) -> str:
    """`said` if `part` is away; its own reason is for the operator."""
    try:
        part()
    except UnavailableError as error:
        if withhold:
            raise
        _log.error("%s; on_error = flag; %s", said, error)
        return said
    return ""
