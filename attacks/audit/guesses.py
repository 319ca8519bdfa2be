"""How many canaries an auditor guesses at: fixed beforehand, or chosen in a way that the bound pays for.

Guessing at fewer canaries, those of the largest scores, is right more often and says less. To take the number that
looks best is to choose by the coins, and the bound must be corrected: for the number of choices (Bonferroni), or by
choosing on one part of the canaries and judging on the other.

Reference: Meinshausen, Meier and Buehlmann, "p-values for high-dimensional regression", JASA 2009, theorem 3.1, for the
median over many splits at half the risk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medward.attacks.intervals import clopper_pearson
from medward.guard.types import Array, Ints

SHARES = (0.05, 0.1, 0.2, 0.5)
"""Of the canaries that an auditor guesses at, unless it is told otherwise."""
SPLITS = 100
_Mask = NDArray[np.bool_]


class CountBound(Protocol):
    """A count bound is a lower bound on epsilon from counts, as `one_run_bound` and `one_run_tradeoff_bound` are."""

    def __call__(
        self, correct: int, guesses: int, canaries: int, *, risk: float, delta: float, least: float = 0.0
    ) -> float:
        """The bound, at least `least`."""
        ...


def fixed_bound(
    bound: CountBound, scores: Array, included: _Mask, *, risk: float, delta: float, shares: Sequence[float] = SHARES
) -> float:
    """The largest bound over numbers of guesses fixed beforehand as `shares` of the canaries, corrected for these.

    Ties are broken by the order of rows, so that must not tell the coins.
    """
    right = np.cumsum(included[np.argsort(-scores, kind="stable")])
    counts = fixed_counts(len(scores), shares)
    return _largest(bound, right[counts - 1].astype(np.int64), counts, len(scores), risk / len(counts), delta)[0]


def fixed_counts(canaries: int, shares: Sequence[float] = SHARES) -> Ints:
    """The different numbers of guesses that are `shares` of the canaries, at least one."""
    return np.unique(np.maximum(1, np.round(np.asarray(shares) * canaries).astype(np.int64)))


def detectable_bound(
    bound: CountBound, canaries: int, *, risk: float, delta: float, shares: Sequence[float] = SHARES
) -> float:
    """What `fixed_bound` would be if every guess was right: the most that so many canaries can show."""
    counts = fixed_counts(canaries, shares)
    return _largest(bound, counts, counts, canaries, risk / len(counts), delta)[0]


def bonferroni_bound(bound: CountBound, scores: Array, included: _Mask, *, risk: float, delta: float) -> float:
    """The largest bound over the thresholds on the convex hull of the ROC curve, corrected for their number.

    The hull depends on the coins, so unlike the others this correction is customary and not proven.
    """
    guesses, correct = hull_counts(scores, included)
    return _largest(bound, correct, guesses, len(scores), risk / len(guesses), delta)[0]


def split_bound(
    bound: CountBound, scores: Array, included: _Mask, *, risk: float, delta: float, seed: int, share: float = 0.5
) -> float:
    """The bound where as many canaries are guessed at as is best on a random `share` of them, judged on the others."""
    chosen = np.random.default_rng(seed).random(len(scores)) < share
    first, rest = int(chosen.sum()), int((~chosen).sum())
    if min(first, rest) == 0:
        return 0.0
    guesses, correct = hull_counts(scores[chosen], included[chosen])
    _, best = _largest(bound, correct, guesses, first, risk, delta)
    named = float(guesses[best]) / first
    return fixed_bound(bound, scores[~chosen], included[~chosen], risk=risk, delta=delta, shares=(named,))


def multi_split_bound(
    bound: CountBound, scores: Array, included: _Mask, *, risk: float, delta: float, seed: int, splits: int = SPLITS
) -> float:
    """The median of `split_bound` over many splits, each at half the risk."""
    one: Callable[..., float] = partial(split_bound, bound, scores, included, risk=risk / 2, delta=delta)
    return float(np.median([one(seed=seed + split) for split in range(splits)]))


def hull_counts(scores: Array, included: _Mask) -> tuple[Ints, Ints]:
    """Numbers of guesses and of right ones ``(k,)`` on the upper hull of the ROC curve, both its corners among them."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    right = np.append(0, np.cumsum(included[order])[ends])
    wrong = np.append(0, ends + 1) - right
    hull: list[int] = []
    for point in range(len(right)):
        while len(hull) > 1 and _under(right, wrong, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return (right + wrong)[hull], right[hull]


def _under(right: Ints, wrong: Ints, before: int, middle: int, after: int) -> bool:
    """Whether the middle of three points of a ROC curve is on or under the line between the others."""
    rise, run = right[middle] - right[before], wrong[middle] - wrong[before]
    return bool(rise * (wrong[after] - wrong[before]) <= run * (right[after] - right[before]))


def _largest(
    bound: CountBound, correct: Ints, guesses: Ints, canaries: int, risk: float, delta: float
) -> tuple[float, int]:
    """The largest bound over pairs of counts, and the place of its pair (of the most promising one, if all are 0)."""
    sure = [clopper_pearson(int(v), int(r)).low if r else 0.0 for v, r in zip(correct, guesses, strict=True)]
    order = np.argsort(-np.array(sure), kind="stable")
    found, best = 0.0, int(order[0])
    for place in order:
        if guesses[place] and 2 * correct[place] > guesses[place]:
            value = bound(int(correct[place]), int(guesses[place]), canaries, risk=risk, delta=delta, least=found)
            found, best = (value, int(place)) if value > found else (found, best)
    return found, best
