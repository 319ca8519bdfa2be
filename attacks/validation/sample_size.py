"""How many rows a bound needs: planned before anything is run, from the bound and the interval it is judged by."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from scipy import special

from medward.attacks.intervals import LEVEL
from medward.guard.errors import MedwardError

PLANNED_SHARE = 0.5
"""Of a bound: the rate that plans assume. A guard that only just keeps a bound cannot be shown to, with any rows."""
PLANNED_POWER = 0.9
"""The chance with which so many rows show that a bound is kept, at the rate that plans assume."""
MOST_PLANNED = 100_000
"""Rows beyond which a plan is none."""


@functools.cache
def rows_to_hold(limit: float, *, share: float = PLANNED_SHARE, power: float = PLANNED_POWER) -> int:
    """The fewest rows of which a rate of `share` times `limit` is shown to be within `limit` with the chance `power`.

    Shown means that the upper end of the Clopper-Pearson interval lies within the limit, as the gate asks. That end
    does so for at most c of n rows, where c is the largest count that n rows of a rate `limit` reach or stay below with
    a chance of 2.5 %. Coverage moves in steps, so a few rows more may be one too few again; never many.

    Raises `MedwardError` for a limit outside (0, 1), and where more than `MOST_PLANNED` rows were needed.
    """
    if not 0 < limit < 1:
        raise MedwardError(f"limit: must be between 0 and 1, got {limit:g}")
    tail, most = (1 - LEVEL) / 2, -1
    for n in range(1, MOST_PLANNED + 1):
        while special.bdtr(most + 1, n, limit) <= tail:
            most += 1
        if most >= 0 and special.bdtr(most, n, share * limit) >= power:
            return n
    raise MedwardError(f"limit: {limit:g} needs more than {MOST_PLANNED} rows; raise it")


def short_groups(counts: Mapping[str, int], limit: float) -> dict[str, tuple[int, int]]:
    """Of the groups with fewer rows than it takes to hold each to `limit`: how many are needed, and how many given."""
    needed = rows_to_hold(limit)
    return {name: (needed, given) for name, given in counts.items() if given < needed}


def shortage_words(what: str, needed: int, given: int) -> str:
    """How a shortage is told."""
    return f"too few {what}: {needed} needed, {given} given"


def shortage_note(what: str, needed: int, given: int, row: str = "the row") -> str:
    """How a shortage is told before anything is run, of which `row` of the report, and what to do about it."""
    return f"{shortage_words(what, needed, given)}; give more, or {row} may end as TOO FEW ROWS"
