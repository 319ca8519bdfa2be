"""The honest evaluation of membership scores: what an attack found, how sure that is, and what explains it besides.

The AUC averages over a whole population; what harms a patient is to be named with few false alarms. So the true
positive rate at a small false positive rate stands beside, its threshold chosen on non-members that are used for
nothing else. It is looked for either way round, as the AUC is: a defense that makes a few members less sure than
anybody else gives these away at an AUC near one half. What scores without the model reach, and what shadows or
references reach without the target, stands beside too.

References: Carlini, Chien, Nasr, Song, Terzis and Tramer, "Membership inference attacks from first principles", IEEE
S&P 2022 (rates at few false positives); Jebreel et al., "Revisiting the LiRA membership inference attack under
realistic assumptions", 2026 (precision at a prior).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from medward.attacks.candidates.blind import shift_flags
from medward.attacks.intervals import LEVEL, Interval, auc_gain, auc_interval, clopper_pearson, seen_share
from medward.guard.types import Array, Ints

FALSE_POSITIVE_RATES = (0.01, 0.001)
"""Where the true positive rate is read."""
POWER = 0.8
"""The chance of showing a leak of the detectable size."""
_RISK = (1 - LEVEL) / 4
"""Of each of the four ways in which the interval of a true positive rate can fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipEvaluation:
    """A membership evaluation says what scores of candidates tell about who was a member, larger saying member.

    `true_positive_rates` has, for each false positive rate, what `rate_at` says, None where it is not resolvable at
    this number of non-members; `either_way` is what `either_rate_at` says at 1 %. `precision` is the share of true
    members among those accused at a false positive rate of 1 % where one in 1/`prior` is a member. `detectable` is the
    least AUC that this many candidates would have shown (with a chance of 80 %). `blind` is the AUC without the model,
    `without_target` that of shadows or references alone,
    and `gain` how far the AUC exceeds the latter. `flags` say why the figures are no measure of the model.
    """

    auc: Interval
    true_positive_rates: Mapping[float, Interval | None]
    either_way: Interval | None
    precision: float | None
    prior: float
    detectable: float
    blind: Interval | None = None
    without_target: Interval | None = None
    gain: Interval | None = None
    flags: tuple[str, ...] = ()


def evaluate_scores(
    scores: ArrayLike,
    truth: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    blind: ArrayLike | None = None,
    without_target: ArrayLike | None = None,
    prior: float = 0.01,
) -> MembershipEvaluation:
    """Evaluate `scores (n,)` of candidates against the `truth (n,)`; `groups (n,)` say whose each candidate is.

    `blind` and `without_target` are scores of the same candidates. Raises ValueError for scores that are not finite
    numbers, without members or non-members, and for a prior outside of (0, 1).
    """
    if not 0 < prior < 1:
        raise ValueError(f"a prior is a share of members between 0 and 1, got {prior}")
    values, members = np.asarray(scores, np.float64), np.asarray(truth, bool)
    found = auc_interval(values, members, seed=seed, groups=groups)
    rates = {rate: rate_at(values, members, rate, groups=groups, seed=seed) for rate in FALSE_POSITIVE_RATES}
    at = FALSE_POSITIVE_RATES[0]
    hit = rates[at]
    unseen = None if blind is None else auc_interval(blind, members, seed=seed, groups=groups)
    alone = gain = None
    if without_target is not None:
        alone = auc_interval(without_target, members, seed=seed, groups=groups)
        gain = auc_gain(values, without_target, members, seed=seed, groups=groups)
    flags = () if unseen is None else shift_flags(unseen)
    if alone is not None and gain is not None and found.low > 0.5 and gain.low <= 0:
        explained = "that explains it" if alone.low > 0.5 else "these few candidates do not show that it adds anything"
        flags = (*flags, f"without the target its shadows or references alone reach an AUC of {alone}: {explained}")
    return MembershipEvaluation(
        auc=found,
        true_positive_rates=rates,
        either_way=either_rate_at(values, members, at, groups=groups, seed=seed),
        precision=None if hit is None else precision_at_prior(hit.value, at, prior),
        prior=prior,
        detectable=detectable_auc(members, groups),
        blind=unseen,
        without_target=alone,
        gain=gain,
        flags=flags,
    )


def rate_at(
    scores: Array,
    truth: NDArray[np.bool_],
    false_positive_rate: float,
    *,
    groups: ArrayLike | None = None,
    seed: int,
    among: int = 1,
) -> Interval | None:
    """The true positive rate at a `false_positive_rate`, its threshold chosen on a random half of the non-members.

    The half shares no patient with the other one; where `groups` are known, one row of each patient counts, drawn at
    random, so that rows are independent. The interval covers the rate at the threshold whose *true* false positive rate
    is the one asked for, with 95 %: the lower end is Clopper-Pearson's at a threshold that order statistics show to
    have at most that rate (0 where the half is too small to show it), the upper end at one shown to have at least that
    rate, each of the four statements failing with at most 1.25 %. Where this is one of `among` rates of which the
    largest is picked, the two of the lower end fail with at most that over `among`. None, not resolvable, when the half
    has fewer than one over the rate non-members.
    """
    kept = one_row_each(truth, groups, seed)
    values, members = scores[kept], truth[kept]
    outside, inside = values[~members], values[members]
    half = np.random.default_rng(seed).permutation(len(outside))[: len(outside) // 2]
    chosen = np.sort(outside[half])[::-1]
    m = len(chosen)
    if m * false_positive_rate < 1 or not len(inside):
        return None
    risk = _RISK / among
    surely, hardly = _rank_exceeded(m, false_positive_rate, risk), _rank_reached(m, false_positive_rate, _RISK)
    hits = int((inside > chosen[math.floor(m * false_positive_rate)]).sum())
    low = clopper_pearson(int((inside > chosen[surely - 1]).sum()), len(inside), 1 - 2 * risk).low if surely else 0.0
    high = (
        clopper_pearson(int((inside >= chosen[hardly - 1]).sum()), len(inside), 1 - 2 * _RISK).high
        if hardly <= m
        else 1.0
    )
    value = hits / len(inside)
    return Interval(value, min(low, value), max(high, value), len(inside))


def either_rate_at(
    scores: Array, truth: NDArray[np.bool_], false_positive_rate: float, *, groups: ArrayLike | None = None, seed: int
) -> Interval | None:
    """The larger of the true positive rates of `scores (n,)` and of their negatives, as an attacker may take either.

    The interval has the larger of both upper ends, which fails only if that of the truly larger rate does, and the
    larger of both lower ends, which are corrected for the choice. None where `rate_at` is.
    """
    upright, inverted = (
        rate_at(each, truth, false_positive_rate, groups=groups, seed=seed, among=2) for each in (scores, -scores)
    )
    if upright is None or inverted is None:
        return None
    return Interval(
        max(upright.value, inverted.value),
        max(upright.low, inverted.low),
        max(upright.high, inverted.high),
        upright.n,
    )


def one_row_each(truth: NDArray[np.bool_], groups: ArrayLike | None, seed: int) -> Ints:
    """The places of one row of each patient on each side, drawn at random; of all rows where nobody is known."""
    if groups is None:
        return np.arange(len(truth))
    order = np.random.default_rng(seed).permutation(len(truth))
    pairs = np.stack([np.unique(np.asarray(groups), return_inverse=True)[1], truth])[:, order]
    return np.asarray(np.sort(order[np.unique(pairs, axis=1, return_index=True)[1]]))


def precision_at_prior(true_positive_rate: float, false_positive_rate: float, prior: float) -> float:
    """The share of true members among those accused, where a share `prior` are members; 0 where nobody is accused."""
    right, wrong = prior * true_positive_rate, (1 - prior) * false_positive_rate
    return right / (right + wrong) if right + wrong else 0.0


def detectable_auc(truth: NDArray[np.bool_], groups: ArrayLike | None = None) -> float:
    """The least AUC whose interval would exclude 0.5 with a chance of 80 %, by the normal limit of Mann and Whitney.

    Counts patients where `groups` are known; 1 when no AUC would.
    """
    whose = np.arange(len(truth)) if groups is None else np.asarray(groups)
    inside, outside = (len(np.unique(whose[kind])) for kind in (truth, ~truth))
    spread = math.sqrt((inside + outside + 1) / (12 * inside * outside))
    z = special.ndtri((1 + LEVEL) / 2) + special.ndtri(POWER)
    return min(1.0, float(0.5 / seen_share(truth, groups) + z * spread))


def _rank_exceeded(m: int, rate: float, risk: float) -> int:
    """The last rank of m non-members' scores, largest first, that at most `rate` of all non-members exceed, but for a
    `risk`; 0 where there is none.

    The share above the k-th largest score is at most a Beta(k, m - k + 1) variable, and the share at or above it at
    least one.
    """
    ranks = np.arange(1, m + 1)
    return int((stats.beta.sf(rate, ranks, m - ranks + 1) <= risk).sum())


def _rank_reached(m: int, rate: float, risk: float) -> int:
    """The first such rank that at least `rate` of all non-members reach, but for a `risk`; m + 1 where none is."""
    ranks = np.arange(1, m + 1)
    return int((stats.beta.cdf(rate, ranks, m - ranks + 1) > risk).sum()) + 1
