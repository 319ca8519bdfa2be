"""What training changed: every attack on the bare model before and on the bare model after, whatever training claims.

A defense against one attack can help another: adversarial training makes a model easier to ask whose records trained
it, and noise in training makes it easier to fool. So attacks that a certificate does not claim are run on both too.

Reference: Duddu, Szyller and Asokan, "SoK: Unintended interactions among machine learning defenses and risks", IEEE
S&P 2024; Song, Shokri and Mittal, "Privacy risks of securing machine learning models against adversarial examples",
CCS 2019. The difference of two intervals: Zou and Donner, "Construction of confidence limits about effect measures",
Statistics in Medicine 2008.
"""

from __future__ import annotations

import math

import numpy as np

from medward.attacks.base import AttackResult
from medward.attacks.intervals import Interval, auc_gain, paired_difference
from medward.attacks.validation.family import Family
from medward.attacks.validation.record import Interaction
from medward.guard.data.quality import auc
from medward.guard.types import Ints

UNPAIRED = (
    "the two runs were not judged on the same rows one by one, or not by a plain share, so their difference takes them "
    "for independent"
)
"""The flag of a difference that is not paired."""


def compare_models(
    family: Family, name: str, before: AttackResult, after: AttackResult, *, rows: int, claimed: bool, seed: int
) -> Interaction:
    """What the attack called `name` did on the model `before` and on the one `after`, and the difference.

    There were `rows` to judge it on. A run that left some out without saying which, as a targeted one leaves those that
    the model decides so already, may have left out others on the other model: the two are then not paired, and a flag
    says so.
    """
    first, second = family.achieved(before, seed), family.achieved(after, seed)
    paired = None if first is None or second is None else _paired(before, after, first, second, rows, seed)
    loose = None if first is None or second is None else unpaired_difference(second, first)
    apart = (UNPAIRED,) if loose is not None and paired is None else ()
    return Interaction(
        attack=name,
        family=family.name,
        measure=family.measure,
        claimed=claimed,
        before=first,
        after=second,
        difference=paired or loose,
        paired=paired is not None,
        flags=tuple(dict.fromkeys((*before.flags, *after.flags, *apart))),
    )


def unpaired_difference(first: Interval, second: Interval) -> Interval:
    """`first` less `second`, two estimates of independent rows, by the distances of their limits (Zou and Donner)."""
    value = first.value - second.value
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, value - down, value + up, min(first.n, second.n))


def _judged(run: AttackResult, rows: int) -> Ints | None:
    """The places of the rows that a run was judged on, of so many; None where it left out some and says not which."""
    if run.judged is not None:
        return run.judged
    return np.arange(rows) if len(run.outcome) == rows else None


def _paired(
    before: AttackResult, after: AttackResult, first: Interval, second: Interval, rows: int, seed: int
) -> Interval | None:
    """The difference of what was judged on the same rows; None where that is not what the family measures."""
    if len(before.outcome) != len(after.outcome):
        return None
    if before.truth is None:
        first_rows, second_rows = _judged(before, rows), _judged(after, rows)
        if first_rows is None or second_rows is None or not np.array_equal(first_rows, second_rows):
            return None
    if before.truth is not None and after.truth is not None:
        if not np.array_equal(before.truth, after.truth):
            return None
        areas = [auc(run.outcome.astype(np.float64), before.truth) for run in (before, after)]
        if not all(map(_close, areas, (first, second))):
            return None
        return auc_gain(after.outcome, before.outcome, before.truth, seed=seed, groups=after.groups)
    means = [float(run.outcome.astype(np.float64).mean()) for run in (before, after)]
    if not all(map(_close, means, (first, second))):
        return None
    return paired_difference(after.outcome, before.outcome, seed=seed)


def _close(value: float, measured: Interval) -> bool:
    return abs(value - measured.value) < 1e-9
