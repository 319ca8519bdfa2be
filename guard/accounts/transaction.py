"""The states that queries move: those of their principals' paths and of the index of near-duplicates, together.

One transaction takes them all: a query counts everywhere or nowhere, and several cost one round trip to the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from medward.guard.accounts.monitors import AccountMonitors, AccountStep, count_near_duplicates
from medward.guard.accounts.names import checked_principal
from medward.guard.accounts.stores import CorruptStateError, Store
from medward.guard.audit.record import AuditSink, account_reset
from medward.guard.duplicates_policy import DuplicatesPolicy
from medward.guard.monitors.base import Observations
from medward.guard.monitors.content_hash import ContentHash
from medward.guard.monitors.near_duplicates import DuplicateCount, ImageSeen, NearDuplicateIndex
from medward.guard.request import Request
from medward.guard.types import Action, Ints, Principal, Verdict

DuplicateVerdict = tuple[Action, Verdict]
"""Of the account itself: the action its near-duplicates asked for before, and the verdict."""
PathFound = tuple[list[AccountStep | Exception], DuplicateVerdict | Exception | None]
"""What one query found: of each account of its path, and of near-duplicates, or why it failed."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStep:
    """A path step is what one query does to the states of its path.

    `monitors` step each of the accounts `keys` through its rows, of which they have the `digests` and the `sight`;
    `near` counts near-duplicates for the last of them, the account itself.
    """

    keys: Sequence[str]
    monitors: AccountMonitors
    digests: Sequence[str]
    sight: Observations
    near: NearDuplicateBatch | None = None

    @property
    def lists(self) -> list[str]:
        """The keys of the lists of near-duplicates that it touches."""
        return self.near.keys if self.near else []

    def is_seen_as(self, other: PathStep) -> bool:
        """Whether one account can be stepped through both at once."""
        return self.monitors is other.monitors and self.sight.keys() == other.sight.keys()

    def count(self, states: dict[str, Any], now: float) -> DuplicateVerdict | Exception | None:
        """Count near-duplicates in `states`, which change in place; where that fails, the lists are forgotten."""
        if not self.near:
            return None
        try:
            after, found = self.near.index.step({name: states[name] for name in self.lists}, self.near.arrivals, now)
            account, counted = count_near_duplicates(self.near.monitor, found, states[self.keys[-1]])
            states |= {**after, self.keys[-1]: account}
            return counted
        except Exception as error:
            states |= dict.fromkeys(self.lists)
            return error


def _watched(steps: Sequence[PathStep], states: dict[str, Any]) -> list[list[AccountStep | Exception]]:
    """Step all accounts of `steps` in `states`, which change in place; what fails is left as it was.

    No account's state rests on another's, so each is stepped through all that concerns it, in their order.
    """
    found: dict[tuple[int, str], AccountStep | Exception] = {}
    concerned: dict[str, list[int]] = {}
    for place, step in enumerate(steps):
        for key in step.keys:
            concerned.setdefault(key, []).append(place)
    for key, places in concerned.items():
        for run in _alike_runs(steps, places):
            states[key], outcomes = _stepped(states[key], [steps[place] for place in run])
            found |= {(place, key): outcome for place, outcome in zip(run, outcomes, strict=True)}
    return [[found[place, key] for key in step.keys] for place, step in enumerate(steps)]


def _alike_runs(steps: Sequence[PathStep], places: Sequence[int]) -> list[list[int]]:
    """`places` in runs of neighbours, through whose steps one account can be stepped at once."""
    runs: list[list[int]] = []
    for place in places:
        if runs and steps[place].is_seen_as(steps[runs[-1][-1]]):
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _stepped(state: Any, steps: Sequence[PathStep]) -> tuple[Any, list[AccountStep | Exception]]:
    """The state of one account after `steps`, and what each found; where they fail at once, one after the other."""
    try:
        state, seen = steps[0].monitors.watch_all([(step.digests, step.sight) for step in steps], state)
        return state, [*seen]
    except Exception as error:
        if len(steps) == 1:
            return state, [error]
    found: list[AccountStep | Exception] = []
    for step in steps:
        state, outcomes = _stepped(state, [step])
        found += outcomes
    return state, found


def step_paths(store: Store, steps: Sequence[PathStep], *, ttl: float) -> list[PathFound]:
    """Step every state of the paths of several queries, one after the other, and the lists of near-duplicates.

    What each query found, or why it failed: a state that fails is kept, and takes nothing from the others.
    Near-duplicates count for the account itself only: the lists are common to all accounts as they are. Lists that
    cannot be read or used are forgotten; unlike an account's state, none is worth refusing queries for good. They are
    dated by the store's time: replicas share it as they share the lists, so no clock of one of them tells which lists
    are old. All go in one transaction, but for a state that cannot be read: then each query has its own.
    """
    keys, now = list(dict.fromkeys(key for step in steps for key in (*step.keys, *step.lists))), 0.0

    def step_all(states: list[Any]) -> tuple[list[Any], list[PathFound]]:
        held = dict(zip(keys, states, strict=True))
        watched = _watched(steps, held)
        found = [(seen, step.count(held, now)) for step, seen in zip(steps, watched, strict=True)]
        return [held[key] for key in keys], found

    try:
        if any(step.near for step in steps):
            now = store.now()
        return store.transact_all(keys, step_all, ttl=ttl)
    except CorruptStateError as error:
        if len(steps) > 1:
            return [each for step in steps for each in step_paths(store, [step], ttl=ttl)]
        return [_stepped_apart(store, steps[0], error, ttl=ttl)]
    except Exception as error:
        return [([error] * len(step.keys), None) for step in steps]


def _stepped_apart(store: Store, step: PathStep, error: CorruptStateError, *, ttl: float) -> PathFound:
    """What `step` finds where a state cannot be read: without near-duplicates, else each account alone."""
    if step.near:
        ((seen, _),) = step_paths(store, [replace(step, near=None)], ttl=ttl)
        return seen, _forgotten(store, step.lists) or error
    if len(step.keys) == 1:
        return [error], None
    alone = [step_paths(store, [replace(step, keys=[key])], ttl=ttl) for key in step.keys]
    return [each for ((seen, _),) in alone for each in seen], None


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
