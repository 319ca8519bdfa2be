"""Whether all of an organisation's accounts moved away from calibration, or a few of them: exact counts, and a reading.

Every part bets on events: a p-value at or below a level, or a cell. Calibration bounds how often a benign input has
each, and the policy allows for some drift on top. Where the rate of an event is clearly above what is allowed, the
monitors' bound on false alarms no longer speaks of this traffic, or it is not benign. A part *moved* when the accounts
together are clearly above what is allowed, and at least half as many of them are as would be had all moved alike. An
account stands out when its rate is clearly above what is allowed and above `FACTOR` times what is usual among the
accounts, or when it alarmed for what no drift explains; where nothing moved, also when it alarmed at all or is clearly
above what is allowed. Where something moved, a thief who is no further out than that hides in it.

Guarantee: while queries are independent and benign rates are within what is allowed, an excess is found with
probability at most `RISK`, over all events and accounts together (exact binomial tails, Bonferroni). Bursts and series
are not independent, so this is a guide and no bound. Drift and an attack spread over all accounts have the same counts:
nothing here, or in any other function of the queries, can tell them apart.

Reference: Clopper and Pearson, Biometrika 26, 1934, for the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medward.guard.statistics.binomial import log_tail
from medward.guard.statistics.combined_eprocess import Part
from medward.guard.statistics.eprocess import Event
from medward.guard.types import Array, Ints

RISK = 0.01
FACTOR = 2.0
FEWEST_ACCOUNTS = 3  # accounts, or there is nothing to compare
ENOUGH_ACCOUNTS = 500  # queries, or a mild excess goes unseen

_Flags = NDArray[np.bool_]
EventKind = Literal["nothing", "attack", "drift", "both", "unclear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the clearest excess of a part is spread over accounts; `event` is its number.

    `above` of `accounts` are above what is allowed, and `alike` would be on average had all moved alike. `worst` is the
    share of the excess that one account has, `tenth` that of a tenth of them. `others` are (hits, queries) of accounts
    that do not stand out, `quiet` of those among them that did not alarm.
    """

    event: int
    above: int
    accounts: int
    alike: float
    worst: float
    tenth: float
    others: tuple[int, int]
    quiet: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReading:
    """What the counts say: the accounts that stand out by number, the parts in which most others moved, the spread."""

    kind: EventKind
    standing: tuple[int, ...]
    moved: tuple[str, ...]
    spreads: tuple[Spread, ...]


def bet_events(parts: Sequence[Part]) -> tuple[Event, ...]:
    """What `parts` bet on."""
    return tuple(event for part in parts for event in part.events())


def count_events(watched: Sequence[Event], values: Mapping[str, Sequence[float]]) -> Ints:
    """Hits and queries ``(2, E)`` of every event in what an account bet on, by part; a part that failed saw none."""
    columns = [values.get(event.part, ()) for event in watched]
    hits = [event.hits(column) for event, column in zip(watched, columns, strict=True)]
    return np.array([hits, [len(column) for column in columns]], np.int64)


def read_drift(
    watched: Sequence[Event],
    hits: Ints,
    n: Ints,
    alarmed: Sequence[bool],
    *,
    apart: Sequence[bool] | None = None,
    parents: bool = False,
) -> DriftReading:
    """Read ``hits (A, E)`` of ``n (A, E)`` queries, whatever the order of the accounts.

    ``alarmed (A,)`` says which accounts did, ``apart (A,)`` which for what no drift explains, `parents` whether the
    organisation, or a level between, did.
    """
    allowed, parts = np.array([event.allowed for event in watched]), [event.part for event in watched]
    clear, clear_together = math.log(RISK / 2 / max(hits.size, 1)), math.log(RISK / 2 / max(len(watched), 1))
    off = _tails(hits, n, allowed)
    far = (_tails(hits, n, np.clip(FACTOR * _usual(hits, n), allowed, 1)) <= clear).any(axis=1)
    far |= np.array(apart or [False] * len(hits), np.bool_)
    together = _tails(hits[~far].sum(axis=0)[None], n[~far].sum(axis=0)[None], allowed)[0]
    excess = together <= clear_together
    broad = [e for e in np.flatnonzero(excess) if _broad(hits[~far, e], n[~far, e], allowed[e])]
    moved = tuple(dict.fromkeys(parts[e] for e in broad))
    alarms: _Flags = np.array(alarmed, np.bool_)
    standing: _Flags = np.array(far if moved else far | alarms | (off <= clear).any(axis=1), np.bool_)
    evidence = np.vstack([off, together]).min(axis=0)
    clearest: dict[str, int] = {}
    for e in sorted(np.flatnonzero(excess | (off <= clear).any(axis=0)), key=lambda e: float(evidence[e])):
        clearest.setdefault(parts[e], int(e))
    return DriftReading(
        kind=_kind(hits, n, moved, bool(standing.any()), parents or bool(excess.any())),
        standing=tuple(np.flatnonzero(standing).tolist()),
        moved=moved,
        spreads=tuple(
            _spread(e, hits[:, e], n[:, e], float(allowed[e]), ~standing, alarms) for e in sorted(clearest.values())
        ),
    )


def _kind(hits: Ints, n: Ints, moved: Sequence[str], standing: bool, hint: bool) -> EventKind:
    if len(hits) < FEWEST_ACCOUNTS and (standing or hint):
        return "unclear"
    if moved:
        return "both" if standing else "drift"
    if standing:
        return "attack"
    return "unclear" if hint or n.max(axis=1, initial=0).sum() < ENOUGH_ACCOUNTS else "nothing"


def _tails(hits: Ints, n: Ints, p: Array) -> Array:
    """`log_tail` of each ``(A, E)`` where there is an excess over ``p (E,)``, else 0."""
    found = np.zeros(hits.shape)
    for a, e in zip(*np.nonzero(hits > n * p), strict=True):
        found[a, e] = log_tail(int(hits[a, e]), int(n[a, e]), float(p[e]))
    return found


def _usual(hits: Ints, n: Ints) -> Array:
    """The lower median ``(E,)`` of the accounts' rates: at most half of them can be far above it."""
    rates = np.sort(np.where(n > 0, hits / np.maximum(n, 1), np.inf), axis=0)
    middle = np.maximum((n > 0).sum(axis=0) - 1, 0) // 2
    return np.array([rates[m, e] if (n[:, e] > 0).any() else 0.0 for e, m in enumerate(middle)])


def _broad(hits: Ints, n: Ints, allowed: float) -> bool:
    """Whether an excess of ``hits (A,)`` of ``n (A,)`` is one of most accounts."""
    return bool((n > 0).sum() > 1 and (hits > n * allowed).sum() >= _alike(hits, n, allowed) / 2)


def _alike(hits: Ints, n: Ints, allowed: float) -> float:
    """How many accounts would be above `allowed`, on average, had all the same rate."""
    rate = float(hits.sum() / max(n.sum(), 1))
    return math.fsum(math.exp(log_tail(math.floor(each * allowed) + 1, each, rate)) for each in n.tolist())


def _spread(event: int, hits: Ints, n: Ints, allowed: float, others: _Flags, alarmed: _Flags) -> Spread:
    excess = np.sort(np.maximum(hits - n * allowed, 0))[::-1]
    total = max(float(excess.sum()), 1e-12)
    quiet = others & ~alarmed
    return Spread(
        event=event,
        above=int((excess > 0).sum()),
        accounts=int((n > 0).sum()),
        alike=_alike(hits, n, allowed),
        worst=float(excess[:1].sum() / total),
        tenth=float(excess[: math.ceil(len(excess) / 10)].sum() / total),
        others=(int(hits[others].sum()), int(n[others].sum())),
        quiet=(int(hits[quiet].sum()), int(n[quiet].sum())),
    )
