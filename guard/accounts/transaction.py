"""The states that one query moves: those of its principal's path and of the index of near-duplicates, together.

One transaction takes them all: a query counts everywhere or nowhere, and costs one round trip to where they are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medward.guard.accounts.monitors import AccountStep, count_near_duplicates
from medward.guard.accounts.names import checked_principal
from medward.guard.accounts.stores import CorruptStateError, Store
from medward.guard.audit.record import AuditSink, account_reset
from medward.guard.monitors.content_hash import ContentHash
from medward.guard.monitors.near_duplicates import DuplicateCount, ImageSeen, NearDuplicateIndex
from medward.guard.policy import DuplicatesPolicy
from medward.guard.request import Request
from medward.guard.types import Action, Ints, Principal, Verdict

Watch = Callable[[Any], tuple[Any, AccountStep]]
"""The step of one account's monitors: `Monitors.watch` of a batch."""
DuplicateVerdict = tuple[Action, Verdict]
"""Of the account itself: the action its near-duplicates asked for before, and the verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicateBatch:
    """A batch as the index of near-duplicates sees it, and who counts what it finds."""

    index: NearDuplicateIndex
    monitor: DuplicateCount
    arrivals: Sequence[ImageSeen]

    @classmethod
    def of(
        cls, policy: DuplicatesPolicy, contents: ContentHash, salt: bytes, request: Request, decisions: Ints
    ) -> NearDuplicateBatch:
        """What the index sees of `request`, whose rows were decided ``(n,)``.

        One map serves all sites, for an attacker may have accounts at several. Only the clients of one organisation
        vouch for one another's studies.
        """
        seen = zip(*contents.see(request.inputs), request.digests, decisions.tolist(), strict=True)
        ttl, ladder = policy.ttl_days * 86400, [(limit.count, Action[limit.action.upper()]) for limit in policy.ladder]
        return cls(
            index=NearDuplicateIndex(salt=salt, calibration=contents.fingerprint, slices=policy.slices, ttl=ttl),
            monitor=DuplicateCount(ladder=tuple(ladder)),
            arrivals=[ImageSeen(*each, request.organisation, request.study) for each in seen],
        )

    @property
    def keys(self) -> list[str]:
        """Of the lists that the batch touches."""
        return self.index.keys([each.code for each in self.arrivals])


def step_accounts(
    store: Store, keys: list[str], watch: Watch, near: NearDuplicateBatch | None, *, ttl: float
) -> tuple[list[AccountStep | Exception], DuplicateVerdict | Exception | None]:
    """Step every state of a path, and the lists of near-duplicates; what each found, or why it failed.

    One that fails is kept, and takes nothing from the others. Near-duplicates count for the account itself only: the
    lists are common to all accounts as they are. Lists that cannot be read or used are forgotten; unlike an account's
    state, none is worth refusing queries for good. They are dated by the store's time: replicas share it as they share
    the lists, so no clock of one of them tells which lists are old.
    """
    lists, now = near.keys if near else [], 0.0

    def step(
        states: list[Any],
    ) -> tuple[list[Any], tuple[list[AccountStep | Exception], DuplicateVerdict | Exception | None]]:
        stepped = list(states)
        seen: list[AccountStep | Exception] = []
        counted: DuplicateVerdict | Exception | None = None
        for i, state in enumerate(states[: len(keys)]):
            try:
                stepped[i], each = watch(state)
                seen.append(each)
            except Exception as error:
                seen.append(error)
        if near:
            try:
                known = dict(zip(lists, states[len(keys) :], strict=True))
                after, found = near.index.step(known, near.arrivals, now)
                account, counted = count_near_duplicates(near.monitor, found, stepped[len(keys) - 1])
                stepped[len(keys) - 1 :] = [account, *(after[name] for name in lists)]
            except Exception as error:
                counted = error
                stepped[len(keys) :] = [None] * len(lists)
        return stepped, (seen, counted)

    try:
        if near:
            now = store.now()
        return store.transact_all([*keys, *lists], step, ttl=ttl)
    except CorruptStateError as error:
        if near:
            return step_accounts(store, keys, watch, None, ttl=ttl)[0], _forgotten(store, lists) or error
        if len(keys) == 1:
            return [error], None
        return [each for key in keys for each in step_accounts(store, [key], watch, None, ttl=ttl)[0]], None
    except Exception as error:
        return [error] * len(keys), None


def _forgotten(store: Store, lists: list[str]) -> Exception | None:
    """Delete those of `lists` that cannot be read; the last reason why."""
    found = None
    for name in lists:
        try:
            store.get(name)
        except CorruptStateError as error:
            found = error
            store.delete(name)
    return found


def reset_account(
    store: Store, principal: Principal, audit: AuditSink | None, *, reason: str = "", operator: str = ""
) -> None:
    """Forget the account `principal`, not its parents or children; with an audit log, on record first.

    `reason` and `operator` are on record where they are given.
    Raises `UnavailableError`, the account being kept, when the log or the store is away.
    """
    key = "/".join(checked_principal(principal))
    if audit is not None:
        audit.append(account_reset(key, reason, operator))
    store.delete(key)
