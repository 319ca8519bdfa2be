"""Many accounts of the rank bet at once, each beside calibration rows of its own, and ways to break what is proven."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.guard.monitors.repeats import REMEMBERED_INPUTS
from medward.guard.statistics.rank_accounts import mistaken_shares
from medward.guard.statistics.rank_eprocess import (
    FLAGGED,
    MOST_PAID,
    PAID_THEREAFTER,
    STAKES,
    RankEProcess,
    bettor_capital,
    ranks_within,
)
from medward.guard.types import Array, Ints


def largest_wealth(
    known: Sequence[Array],
    asked: Array,
    strata: Ints | None = None,
    *,
    risk: float = 0.01,
    slack: float = 0.0,
    repeated: Array | None = None,
    limited: bool = True,
    short: int = 0,
    paid: float = 1.0,
) -> Array:
    """The largest wealth ``(A, Q)`` so far of accounts that ask scores ``asked (A, Q)`` of `strata` (A, Q).

    ``known[s] (A, n_s)`` are the calibration scores of stratum s, drawn anew for each account. The product's settings
    but for `limited` (whether chances are held to the tolerance limits), `short` (what counts lack) and `paid`.
    """
    accounts, queries = asked.shape
    strata = np.zeros(asked.shape, np.int64) if strata is None else strata
    repeated = np.zeros(asked.shape, bool) if repeated is None else repeated
    sizes = tuple(each.shape[1] for each in known)
    part = RankEProcess(name="strange", sizes=sizes, risk=risk)
    depth, everyone, ranks = part.cells.depth, np.arange(accounts), 2.0 ** np.arange(part.cells.depth)
    cuts, limits = np.full((len(sizes), accounts, depth), np.nan), np.ones((len(sizes), depth))
    for stratum, own in enumerate(known):
        places = np.array(ranks_within(own.shape[1]))
        cuts[stratum, :, : len(places)] = np.sort(own, axis=1)[:, ::-1][:, places - 1]
        limits[stratum, : len(places)] = part.limits[stratum] if limited else 1.0
    seen, above = np.zeros((accounts, len(sizes))), np.zeros((accounts, len(sizes), depth))
    wealth, capital = np.zeros((accounts, depth, len(STAKES))), np.array(bettor_capital(depth))
    most, found = np.zeros(accounts), np.zeros(asked.shape)
    for n in range(1, queries + 1):
        own, score, new = strata[:, n - 1], asked[:, n - 1, None], ~repeated[:, n - 1, None]
        mine = cuts[own, everyone]
        won, counted = (score - slack > mine) & new, (score >= mine) & new
        rows = (np.array(sizes)[own] + 1)[:, None]
        urn = (ranks + above[everyone, own] - short) / (rows + seen[everyone, own][:, None])
        chance = np.maximum(urn, (ranks - short) / rows)
        share = mistaken_shares(np.array(sizes), seen, own)[:, None]
        chance = (1 - share) * np.maximum(np.minimum(chance, limits[own]), 1e-9) + share
        chance = chance[:, :, None]
        most_paid = np.where(wealth.reshape(accounts, -1) @ capital >= FLAGGED, PAID_THEREAFTER, MOST_PAID)
        stakes = np.minimum(np.array(STAKES), (most_paid[:, None, None] - 1) * chance / np.maximum(1 - chance, 1e-9))
        factors = 1 - stakes + paid * stakes / chance * won[:, :, None]
        factors[np.isnan(mine)] = 1.0
        wealth = factors * (wealth + 1 / (n * (n + 1)))
        above[everyone, own] += counted
        seen[everyone, own] += new[:, 0]
        most = np.maximum(most, wealth.reshape(accounts, -1) @ capital)
        found[:, n - 1] = most
    return found


def repeats_within(rows: Ints) -> Array:
    """Which of ``rows (A, Q)``, by number, an account's memory of inputs knows as exact repeats."""
    found = np.zeros(rows.shape, bool)
    for account, own in enumerate(rows):
        last: dict[int, int] = {}
        for n, row in enumerate(own.tolist()):
            found[account, n] = n - last.get(row, -REMEMBERED_INPUTS - 1) <= REMEMBERED_INPUTS
            last[row] = n
    return found
