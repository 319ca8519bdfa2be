"""What a bundle can notice, measured on its own calibration: how soon thieves and a changed scanner show.

Of every kind of inputs that no patient has (`guard.bundle.invented_inputs`) some are made from the calibration rows and
asked of the model; how strange they look is bet on as it is deployed, by accounts that ask nothing else or hide them as
a tenth of ordinary queries, whose scores are drawn from the calibration rows. Only the monitor *strange* bets here:
with the others an account is noticed no later, as its part of the capital is the same. For what is noticed late as a
tenth it is said how many rows would change that (`guard.bundle.more_rows`). Nothing here is a bound. A thief who
invents inputs better is noticed later, one with patients' inputs never: for these there is the budget.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.bundle.invented_inputs import invented_inputs, within_range
from medward.guard.bundle.more_rows import (
    ALPHA,
    PATIENCE_QUERIES,
    WANTED_QUERIES,
    Placed,
    median_queries,
    reference_needed,
    up_to_two_digits,
)
from medward.guard.models.base import Model
from medward.guard.monitors.strangeness import RankBet
from medward.guard.policy import Policy
from medward.guard.profile import FIT_ROWS, FIT_SHARE, Profile, calibration_size, counted_in, judged_batches
from medward.guard.statistics.rank_eprocess import RankEProcess, rank_limits
from medward.guard.types import Array, Ints

Cover = Literal["all", "one class"]
STOLEN_SHARES = (1.0, 0.1)
MADE_ROWS = 120  # inputs made of each kind
FEWEST_MADE = 10  # of a stratum, that a thief could keep to it
_ERRORS = 3.0  # standard ones, that what looks ordinary must differ by
ORDINARY_TAIL = 0.005  # how often ordinary inputs are taken to be in the smallest tail


class Noticed(BaseModel):
    """After how many `queries` accounts of a `kind` are noticed that make up a `share` of all; None for never.

    It is the median of several accounts, and never means not within `PATIENCE_QUERIES`. `cover` is what the other
    queries are: like all calibration rows, or those of one stratum, whichever serves a thief best.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: str
    share: float
    queries: int | None
    cover: Cover = "all"


class NeededRows(BaseModel):
    """Needed rows say about how many would notice a `kind` that makes up a `share` of all queries in time.

    That is, of what is noticed alone, a tenth within `WANTED_QUERIES`, else all within `PATIENCE_QUERIES`. `reference`
    are rows for comparison, `calibration` the rows or patients that leave so many; None where no number of
    rows does, while these inputs look as ordinary as they do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: str
    share: float
    reference: int | None
    calibration: int | None


class Power(BaseModel):
    """What a calibration can notice at `ALPHA`.

    `reference` are the calibration rows that are compared with, in each stratum, `smallest_tail` what they bound of
    ordinary inputs, `limit` what `dilution_limit` makes of it against a thief of a tenth of all, None for infinite.
    `needed` has the kinds that are noticed late, or never. The screens are fitted to `fitted`
    rows. `counted` says what calibration rows are counted in: rows, or patients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    reference: tuple[int, ...]
    smallest_tail: float
    limit: int | None
    noticed: tuple[Noticed, ...]
    needed: tuple[NeededRows, ...]
    fitted: int
    counted: str


def measure_power(model: Model, profile: Profile, policy: Policy, inputs: Array, *, seed: int = 0) -> Power:
    """What `profile`, calibrated on rows of which `inputs` are some, can notice under `policy`."""
    rng = np.random.default_rng(seed)
    inputs = np.asarray(inputs)
    monitors = AccountMonitors.of(policy, profile, 1)
    bet = next(each for each in monitors.bets if isinstance(each, RankBet))
    weight = monitors.combined.weights[monitors.bets.index(bet)]
    some = inputs[rng.integers(len(inputs), size=MADE_ROWS)]
    ordinary = benign_cells(profile, bet)
    noticed, needed = [], []
    for kind, make in invented_inputs(model.spec).items():
        made = within_range(make(some, rng), model.spec)
        outputs, _ = judged_batches(model, made)
        strange = profile.strangeness(made, outputs)
        strata = np.zeros(len(made), np.int64) if profile.strata is None else profile.strata.of(outputs)
        cells = np.array(bet.values(None, strange.tolist(), [""] * len(made), strata.tolist())[1], np.int64)
        found = {
            share: median_queries(bet.part, weight, ordinary, (cells, strata), share, rng) for share in STOLEN_SHARES
        }
        noticed += [Noticed(kind=kind, share=share, queries=queries) for share, queries in found.items()]
        if profile.strata is not None:
            hidden = _behind_one_class(bet.part, weight, ordinary, (cells, strata), found[STOLEN_SHARES[-1]], rng)
            noticed.append(Noticed(kind=kind, share=STOLEN_SHARES[-1], queries=hidden, cover="one class"))
        share, within, errors = STOLEN_SHARES[-1], WANTED_QUERIES, 0.0
        if found[1.0] is None:
            share, within, errors = 1.0, PATIENCE_QUERIES, _ERRORS
        if (found[share] or math.inf) > within:
            placed = cells, strata
            wanted = reference_needed(bet.part, weight, placed, share, seed, within=within, errors=errors)
            given = None if wanted is None else up_to_two_digits(calibration_size(profile, wanted))
            needed.append(NeededRows(kind=kind, share=share, reference=wanted, calibration=given))
    sizes, risk = bet.part.sizes, bet.part.risk
    tail = rank_limits(max(sizes), risk * max(sizes) / sum(sizes))[0]
    limit = dilution_limit(tail, STOLEN_SHARES[-1])
    return Power(
        reference=sizes,
        smallest_tail=tail,
        limit=math.ceil(limit) if math.isfinite(limit) else None,
        noticed=tuple(noticed),
        needed=tuple(needed),
        fitted=round(min(FIT_SHARE * profile.rows, FIT_ROWS)),
        counted=counted_in(profile)[1],
    )


def _behind_one_class(
    part: RankEProcess, weight: float, ordinary: Placed, made: Placed, at_large: int | None, rng: np.random.Generator
) -> int | None:
    """As `median_queries` of a tenth, where all other queries are of one stratum, and what is `made` of any or of it.

    The latest of all strata, and no sooner than `at_large`, among all calibration rows.
    """
    latest = at_large
    for stratum in np.unique(ordinary[1]):
        cover, own = ((each[0][each[1] == stratum], each[1][each[1] == stratum]) for each in (ordinary, made))
        for theirs in (made, own) if len(own[0]) >= FEWEST_MADE else (made,):
            if latest is None:
                return None
            found = median_queries(part, weight, cover, theirs, STOLEN_SHARES[-1], rng)
            latest = None if found is None else max(latest, found)
    return latest


def benign_cells(profile: Profile, bet: RankBet) -> tuple[Ints, Ints]:
    """The cells and strata ``(n,)`` of the calibration rows themselves."""
    reference = profile.screening
    strata = np.zeros(len(reference.scores), np.int64) if reference.strata is None else reference.strata
    strata = strata if len(bet.cuts) > 1 else np.zeros_like(strata)
    cells = bet.values(None, reference.scores.tolist(), [""] * len(strata), strata.tolist())[1]
    return np.array(cells, np.int64), np.asarray(strata, np.int64)


def dilution_limit(tail: float, share: float, alpha: float = ALPHA) -> float:
    """Queries that a bet on the smallest `tail` calibration bounds needs against a thief of a `share` of all queries.

    ln(1 / alpha) / KL(h || tail) with h how often the account is in that tail: the thief always, ordinary inputs as
    often as `ORDINARY_TAIL`. Infinite where that is no more often than calibration allows. It is a yardstick: *strange*
    pays an account's first hits by ranks among few rows, and needs fewer queries where there are few reference rows.
    """
    hit = share + (1 - share) * ORDINARY_TAIL
    return math.log(1 / alpha) / evidence_per_query(hit, tail) if hit > tail else math.inf


def evidence_per_query(hit: float, tail: float) -> float:
    """KL(hit || tail): nats that a query brings against an event of `tail` at most that happens in `hit` of them.

    0 where it happens no more often than that.
    """
    if hit <= tail:
        return 0.0
    missed = (1 - hit) * math.log((1 - hit) / (1 - tail)) if hit < 1 else 0.0
    return hit * math.log(hit / tail) + missed
