"""How many rows for comparison a bundle would need to notice a diluted thief soon: the deployed bet at larger sizes.

Ranks among more rows are bounded more tightly, so that the same inputs pay more. What is assumed: strata keep their
proportions; ordinary inputs are above the k-th largest of n rows as often as exchangeable ones are, k / (n + 1); the
thief's are above a cut of the same share of ordinary inputs as often as now, and above deeper ones as often as above
the largest row of now. More rows lie deeper in the tail, where that promises too much, and teach the screens, which is
left out and promises too little: where few rows fit the screens a kind may need far fewer than is said, or some where
none is said to do.

Tried on fetal CTG, WDBC, PneumoniaMNIST and blood cells: with as many rows as 150 or 250 asked for, draws showed
thieves in a median of 50 to 290 queries where `WANTED_QUERIES` were said, most within half as many again (the claim
`stealing_tables_rows_said`).
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from medward.guard.statistics.rank_accounts import RankAccounts
from medward.guard.statistics.rank_eprocess import RankEProcess
from medward.guard.types import Array, Ints

ALPHA = 0.001
"""The false-alarm rate at which an account counts as noticed."""
PATIENCE_QUERIES = 600
"""Who is not noticed within so many is said to be noticed never."""
WANTED_QUERIES = 100
"""Within so many a thief should be noticed who makes a tenth of them."""
_ACCOUNTS, _MORE_ACCOUNTS = 15, 31  # whose median it is; more where sizes are compared with one another
_GROWTH, _MOST_REFERENCE = 1.1, 50_000  # sizes that are tried
_DRAWN = 400  # inputs of each side

Placed = tuple[Ints, Ints]
"""The cells and strata ``(n,)`` of inputs."""


def median_queries(
    part: RankEProcess,
    weight: float,
    ordinary: Placed,
    made: Placed,
    share: float,
    rng: np.random.Generator,
    *,
    accounts: int = _ACCOUNTS,
    patience: int = PATIENCE_QUERIES,
) -> int | None:
    """The median query at which accounts are noticed of whose queries a `share` is of `made`, else of `ordinary`.

    `weight` is the bet's part of the capital. None where that is beyond `patience`.
    """
    theirs = rng.random((accounts, patience)) < share
    new, old = (rng.integers(len(each[0]), size=theirs.shape) for each in (made, ordinary))
    cells, strata = (np.where(theirs, own[new], usual[old]) for own, usual in zip(made, ordinary, strict=True))
    needed = 1 / (ALPHA * weight)
    noticed, stepped = np.zeros(accounts, bool), RankAccounts(part, accounts)
    for query in range(patience):
        noticed |= stepped.step(cells[:, query], strata[:, query]) >= needed
        if 2 * noticed.sum() > accounts:
            return query + 1
    return None


def reference_needed(
    part: RankEProcess,
    weight: float,
    made: Placed,
    share: float,
    seed: int,
    *,
    within: int = WANTED_QUERIES,
    errors: float = 0.0,
) -> int | None:
    """About how many rows for comparison notice a `share` of inputs that are `made` within so many queries.

    `made` are placed among the rows of now, in each rank so many standard `errors` fewer than were seen there: what is
    about as ordinary as can be would else be told by chance. None where no number of rows does.
    """
    now, steps = sum(part.sizes), math.log(_MOST_REFERENCE / sum(part.sizes), _GROWTH)
    totals = [now * _GROWTH**step for step in range(math.floor(steps) + 1)]

    def soon(total: float) -> bool:
        larger = _with_rows(part, total / now)
        pools = _ordinary(larger), _made(part, larger, made, errors)
        rng = np.random.default_rng(seed)  # the same for every size, so that sizes alone differ
        return median_queries(larger, weight, *pools, share, rng, accounts=_MORE_ACCOUNTS, patience=within) is not None

    place = bisect_left(totals, True, key=soon)
    return up_to_two_digits(totals[place]) if place < len(totals) else None


def _with_rows(part: RankEProcess, factor: float) -> RankEProcess:
    """The bet with `factor` times the rows in each stratum."""
    sizes = tuple(round(factor * size) for size in part.sizes)
    return RankEProcess(name=part.name, sizes=sizes, risk=part.risk, contamination=part.contamination)


def _ordinary(part: RankEProcess) -> Placed:
    """Inputs of each stratum in its proportion, as likely above each rank as exchangeable ones."""
    return _placed(part, [(size / sum(part.sizes), _tails(part, stratum)) for stratum, size in enumerate(part.sizes)])


def _made(now: RankEProcess, larger: RankEProcess, made: Placed, errors: float) -> Placed:
    """Inputs placed in `larger` as `made` are in `now`, standard `errors` aside."""
    won, strata = made[0] % now.cells.base, made[1]
    found = []
    for stratum, ranks in enumerate(now.ranks):
        mine = won[strata == stratum]
        above = np.array([(mine <= place).mean() if len(mine) else 0.0 for place in range(len(ranks))])
        above = np.maximum(above - errors * np.sqrt(above * (1 - above) / max(len(mine), 1)), 0.0)
        deeper = np.interp(np.log(_tails(larger, stratum)), np.log(_tails(now, stratum)), above)
        found.append((len(mine) / len(won), deeper))
    return _placed(larger, found)


def _tails(part: RankEProcess, stratum: int) -> Array:
    """How likely an exchangeable input is above each rank of a `stratum`."""
    return np.array(part.ranks[stratum]) / (part.sizes[stratum] + 1)


def _placed(part: RankEProcess, strata: list[tuple[float, Array]]) -> Placed:
    """Cells of inputs, by stratum a share of all and how often these are above each of its ranks."""
    cells, own = [], []
    for stratum, (share, above) in enumerate(strata):
        chances = (np.arange(round(share * _DRAWN)) + 0.5) / max(round(share * _DRAWN), 1)
        place = (chances[:, None] >= above).sum(axis=1)
        place = np.where(place == len(above), part.cells.depth, place)
        cells.append(place * part.cells.base + place)
        own.append(np.full(len(place), stratum))
    return np.concatenate(cells).astype(np.int64), np.concatenate(own).astype(np.int64)


def up_to_two_digits(count: float) -> int:
    """`count` rounded up to two digits, for no more is known of it."""
    step = 10 ** max(len(str(int(count))) - 2, 0)
    return int(-(-count // step) * step)
