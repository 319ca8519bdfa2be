"""Intervals: every measured number comes with one, and the gate reads its bad end.

Rates get Clopper-Pearson (never covers less than it says); AUCs and paired differences and ratios get a
seeded percentile bootstrap. A bootstrap knows no value that no row has, and has no width at all where rows are
alike, however few they are; the exact binomial limit for "none of n" makes up for that.

References: Clopper and Pearson, Biometrika 1934; Efron and Tibshirani, "An introduction to the bootstrap",
1993, ch. 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from medward.guard.data.quality import auc

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000
_CHUNK = 4_000_000  # resampled weights held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, its two-sided 95 % limits, and the rows it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if not all(math.isfinite(each) for each in (self.value, self.low, self.high)):
            raise ValueError(f"an interval needs finite numbers, got {self.value}, {self.low}, {self.high}")

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Exact interval of a rate, `successes` of `n` independent rows.

    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"need 0 <= successes <= n and n >= 1, got {successes} of {n}")
    return Interval(successes / n, *_rate_limits(successes / n, n, level), n)


def rate_interval(outcomes: ArrayLike, level: float = LEVEL) -> Interval:
    """Share of true rows in `outcomes (n,)`. Raises ValueError for NaN and infinities, which are neither."""
    rows = _finite(outcomes) != 0
    return clopper_pearson(int(rows.sum()), rows.size, level)


def balanced_rate(groups: Sequence[ArrayLike], level: float = LEVEL) -> Interval:
    """Mean of the shares of true rows in each of `groups` ``(n_k,)``, every group counting alike, however few its rows.

    The limits are the wider of two. One recovers the variance of the mean from the Clopper-Pearson limits of every
    share, which must be independent (MOVER): the distance to a limit is the root of the summed squares of the shares'
    own. It is too short where many groups have next to no true rows, so the other is the Clopper-Pearson interval of
    the mean as one rate, over as many rows as if every group were as small as the smallest. Of groups of one size that
    one is never too short (Hoeffding); of others coverage is what simulation finds, at least nominal.

    References: Zou, Huang and Zhang, "A note on confidence interval estimation for a linear function of binomial
    proportions", Computational Statistics and Data Analysis 2009, eq. 3; Hoeffding, "On the distribution of the number
    of successes in independent trials", Annals of Mathematical Statistics 1956.

    Raises ValueError without groups, for empty ones, and for NaN and infinities.
    """
    shares = [clopper_pearson(int((_finite(rows) != 0).sum()), np.size(rows), level) for rows in groups]
    if not shares:
        raise ValueError("a balanced rate needs at least one group")
    value = sum(each.value for each in shares) / len(shares)
    down = math.hypot(*(each.value - each.low for each in shares)) / len(shares)
    up = math.hypot(*(each.high - each.value for each in shares)) / len(shares)
    low, high = _rate_limits(value, len(shares) * min(each.n for each in shares), level)
    return Interval(value, max(0.0, min(value - down, low)), min(1.0, max(value + up, high)), sum(s.n for s in shares))


def worst_interval(estimates: Sequence[Callable[[float], Interval]], *, among: int = 1) -> Interval:
    """The largest of several quantities has an interval of its own; each of `estimates` is of one, at a given level.

    It is for a worst case that is picked after the fact, as an attacker picks the radius. The upper end is the largest
    of the plain upper ends: it fails only if the interval of the truly largest quantity does, so it needs no
    correction. The lower end is the largest of lower ends that are corrected for the choice (Bonferroni): each misses
    its own quantity with a chance of 2.5 % over their number, so that all together exceed the largest one with at most
    2.5 %. That holds however the quantities depend on each other. `among` is how many such worst cases are looked at
    together, as one for each class; the lower end is corrected for these too. The value is the largest that was seen,
    which leans upwards. With one quantity this is its own interval.

    Raises ValueError without estimates.
    """
    plain = [estimate(LEVEL) for estimate in estimates]
    level = 1 - (1 - LEVEL) / (len(plain) * among)
    low = max(estimate(level).low for estimate in estimates)
    top = max(plain, key=lambda each: each.value)
    return Interval(top.value, low, max(each.high for each in plain), top.n)


def worst_rate(outcomes: Sequence[ArrayLike], *, among: int = 1) -> Interval:
    """The largest of several rates, each that of the rows ``(n,)`` of one of `outcomes`; see `worst_interval`.

    Raises ValueError without outcomes, and for NaN and infinities.
    """
    return worst_interval([partial(rate_interval, rows) for rows in outcomes], among=among)


def rows_by_class(rows: NDArray[np.bool_], classes: NDArray[np.int64] | None) -> dict[int, NDArray[np.bool_]]:
    """The `rows (n,)` of each of the `classes (n,)` that is there; empty without classes."""
    return {} if classes is None else {int(each): rows[classes == each] for each in np.unique(classes)}


def larger_rate(tries: Sequence[tuple[NDArray[np.bool_], NDArray[np.int64] | None]]) -> Interval:
    """The largest of the shares of true rows ``(n,)`` in `tries`, each plain or balanced over its classes ``(n,)``.

    Its interval is that of a worst case (`worst_interval`). Raises ValueError without tries.
    """
    plain = [partial(rate_interval, rows) for rows, _ in tries]
    groups = [list(rows_by_class(*each).values()) for each in tries]
    return worst_interval([*plain, *(partial(balanced_rate, each) for each in groups if len(each) > 1)])


def auc_interval(
    scores: ArrayLike, truth: ArrayLike, *, seed: int, groups: ArrayLike | None = None, resamples: int = RESAMPLES
) -> Interval:
    """AUC with a percentile bootstrap that draws members and non-members apart, widened by what neither shows.

    With `groups (n,)`, whose each row is, patients are drawn with all their rows, and counted. Up to a share p of each
    kind, the limit for "none of n", may be of a sort that no row shows, and may rank anywhere. So an AUC of a can be as
    low as (1 - p)(1 - q) a, and 1 - AUC likewise. Scores that tie, and kinds that separate perfectly, are therefore no
    certainty. Raises ValueError for scores that are not finite and when one kind is missing.
    """
    values, members = _finite(scores), np.asarray(truth, bool)
    draws = _auc_draws(values, members, groups, seed, resamples)
    value, (low, high), seen = auc(values, members), _limits(draws), seen_share(members, groups)
    return Interval(value, seen * min(low, value), 1 - seen * (1 - max(high, value)), len(values))


def auc_gain(
    scores: ArrayLike,
    without: ArrayLike,
    truth: ArrayLike,
    *,
    seed: int,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
) -> Interval:
    """AUC of `scores` less that of the scores `without`, both ``(n,)`` of the same rows, drawn together.

    `groups` as in `auc_interval`. Raises ValueError for what is not finite and when one kind is missing.
    """
    first, second, members = _finite(scores), _finite(without), np.asarray(truth, bool)
    value = auc(first, members) - auc(second, members)
    draws = [_auc_draws(each, members, groups, seed, resamples) for each in (first, second)]
    low, high = _limits(draws[0] - draws[1])
    hidden = 1 - seen_share(members, groups)
    return Interval(value, max(-1.0, min(low, value) - hidden), min(1.0, max(high, value) + hidden), len(first))


def seen_share(truth: ArrayLike, groups: ArrayLike | None = None) -> float:
    """The share of pairs of a member and a non-member whose like is in the sample for sure (97.5 % for each kind)."""
    members = np.asarray(truth, bool)
    whose = np.arange(len(members)) if groups is None else np.asarray(groups)
    return math.prod(1 - clopper_pearson(0, len(np.unique(whose[kind]))).high for kind in (members, ~members))


def _auc_draws(
    values: Floats, members: NDArray[np.bool_], groups: ArrayLike | None, seed: int, resamples: int
) -> Floats:
    """AUCs ``(resamples,)`` of bootstrap samples; the same rows and seed draw the same samples."""
    inside, outside = values[members], values[~members]
    if min(len(inside), len(outside)) == 0:
        raise ValueError("an AUC needs members and non-members")
    whose = None if groups is None else np.asarray(groups)
    own, others = (None if whose is None else whose[kind] for kind in (members, ~members))
    order = np.argsort(outside, kind="stable")
    below, upto = (np.searchsorted(outside[order], inside, side) for side in ("left", "right"))
    rng, draws = np.random.default_rng(seed), []
    for size in _chunks(resamples, len(values)):
        won = _group_weights(rng, own, len(inside), size)
        weights = _group_weights(rng, others, len(outside), size)[:, order]
        total = np.concatenate([np.zeros((size, 1)), np.cumsum(weights, axis=1)], axis=1)
        draws.append(np.einsum("bi,bi->b", won, (total[:, below] + total[:, upto]) / 2))
    return np.concatenate(draws)


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Mean of ``first - second``, two columns ``(n,)`` judged on the same rows."""
    rows = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    value = float(rows.mean())
    slack = _slack(rows)
    low, high = (value - slack, value + slack) if slack else _limits(_means(rows[None], seed, resamples)[0])
    return Interval(value, max(-1.0, min(low, value)), min(1.0, max(high, value)), len(rows))


def surviving_share(
    gain: ArrayLike, of: ArrayLike, *, seed: int, resamples: int = RESAMPLES, ceiling: float = 10.0
) -> Interval | None:
    """Mean of `gain (n,)` over mean of `of (n,)`, rows resampled together: the share of a gain that survives.

    None when the mean of `of` is not positive, as nothing was gained. Of a resample without gain the share can be
    anything: it counts as minus `ceiling` at the lower end and as `ceiling` at the upper one, so noise in the
    denominator can only widen the interval.
    """
    top, bottom = np.asarray(gain, np.float64), np.asarray(of, np.float64)
    if bottom.mean() <= 0:
        return None
    value = float(np.clip(top.mean() / bottom.mean(), -ceiling, ceiling))
    tops, bottoms = _means(np.stack([top, bottom]), seed, resamples)
    ratios = np.clip(np.divide(tops, bottoms, out=np.zeros(resamples), where=bottoms > 0), -ceiling, ceiling)
    low, _ = _limits(np.where(bottoms > 0, ratios, -ceiling))
    _, high = _limits(np.where(bottoms > 0, ratios, ceiling))
    slack = _slack(top) / float(bottom.mean())
    return Interval(value, min(low, value - slack), max(high, value + slack), len(top))


def mean_interval(values: ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Mean of `values (n,)` with a percentile bootstrap. Raises ValueError for NaN and infinities."""
    rows = _finite(values)
    value = float(rows.mean())
    low, high = _limits(_means(rows[None], seed, resamples)[0])
    return Interval(value, min(low, value), max(high, value), len(rows))


def median_interval(values: ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Median of `values (n,)` with a percentile bootstrap. Raises ValueError for NaN and infinities."""
    rows = _finite(values)
    index = np.random.default_rng(seed).integers(len(rows), size=(resamples, len(rows)))
    low, high = _limits(np.median(rows[index], axis=1))
    value = float(np.median(rows))
    return Interval(value, min(low, value), max(high, value), len(rows))


def median_ratio(first: ArrayLike, second: ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Median of `first` over median of `second`, measured in turn ``(n,)``, pairs resampled together."""
    top, bottom = np.asarray(first, np.float64), np.asarray(second, np.float64)
    index = np.random.default_rng(seed).integers(len(top), size=(resamples, len(top)))
    low, high = _limits(np.median(top[index], axis=1) / np.median(bottom[index], axis=1))
    value = float(np.median(top) / np.median(bottom))
    return Interval(value, min(low, value), max(high, value), len(top))


def _rate_limits(rate: float, n: int, level: float) -> tuple[float, float]:
    """The Clopper-Pearson limits of a `rate` of `n` rows; the successes need not be a whole number."""
    tail, hits = (1 - level) / 2, rate * n
    low = 0.0 if rate <= 0 else float(special.betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if rate >= 1 else float(special.betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def _finite(values: ArrayLike) -> Floats:
    numbers = np.asarray(values, np.float64)
    if bad := int((~np.isfinite(numbers)).sum()):
        raise ValueError(f"{bad} of {numbers.size} outcomes are not finite numbers")
    return numbers


def _means(rows: Floats, seed: int, resamples: int) -> Floats:
    """Means ``(k, resamples)`` of the columns of `rows (k, n)`, all k drawn with the same rows."""
    rng = np.random.default_rng(seed)
    n = rows.shape[1]
    return np.concatenate([rows @ _weights(rng, n, size).T for size in _chunks(resamples, n)], axis=1)


def _weights(rng: np.random.Generator, n: int, size: int) -> Floats:
    """Bootstrap weights ``(size, n)``; each row sums to one."""
    return rng.multinomial(n, np.full(n, 1 / n), size=size) / n


def _group_weights(rng: np.random.Generator, groups: NDArray[np.generic] | None, n: int, size: int) -> Floats:
    """Bootstrap weights ``(size, n)`` of rows, drawn by `groups (n,)` where given; each row sums to one."""
    if groups is None:
        return _weights(rng, n, size)
    names, place = np.unique(groups, return_inverse=True)
    drawn = _weights(rng, len(names), size)[:, place]
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


def _chunks(resamples: int, n: int) -> list[int]:
    step = max(1, _CHUNK // n)
    return [min(step, resamples - start) for start in range(0, resamples, step)]


def _limits(draws: Floats) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _slack(rows: Floats) -> float:
    """What rows that are all alike may hide: the largest rate of another value that n rows can miss."""
    return clopper_pearson(0, len(rows)).high if np.ptp(rows) == 0 else 0.0
