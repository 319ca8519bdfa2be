"""Whether a guard could answer now: its store and its audit log are tried, its model where it failed last."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medward.guard.accounts.stores import Store
from medward.guard.audit.record import AuditSink
from medward.guard.errors import UnavailableError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Outputs

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


@dataclass(slots=True)
class ModelTrial:
    """A model that failed at the last query is asked about a row of random numbers: it may fail at that input alone.

    So who sends an input at which the model fails does not make the server unready for others.
    """

    failed: bool = False  # at the last query

    def check(self, ask: Callable[[Array], Outputs], spec: ModelSpec) -> None:
        """Raise `UnavailableError` where the model fails at the random row too; one that did not fail is not asked."""
        if not self.failed:
            return
        try:
            ask(random_row(spec))
        except (Exception, SystemExit) as error:
            raise UnavailableError("the model fails at every input; the log says why") from error
        self.failed = False


def random_row(spec: ModelSpec) -> Array:
    """One row of random numbers within the range of `spec`, float32 ``(1, *shape)``, always the same."""
    rng, shape = np.random.default_rng(0), (1, *spec.shape)
    low, high = (-np.inf if spec.low is None else spec.low), (np.inf if spec.high is None else spec.high)
    bounded = np.isfinite([low, high]).all()
    return spec.check(rng.uniform(low, high, shape) if bounded else rng.normal(size=shape).clip(low, high))


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
