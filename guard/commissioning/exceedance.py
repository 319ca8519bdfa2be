"""The exceedance test: whether more of a batch lies above the largest benign values than chance would put there.

With n benign values and m of a batch, all exchangeable, the number of the batch above the r-th largest benign one has a
known distribution, whatever that of the values: k or more lie there with the probability ``exceedance_tail``. It is
asked at a few places r at once, so that a few very large values show as well as many that are a little large.

Reference: Balakrishnan and Ng, Precedence-Type Tests and Applications, 2006, ch. 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from medward.guard.types import Array

EXCEEDANCE_PLACES = (0.02, 0.1, 0.25, 0.5)
"""Shares of the benign values above the places at which a batch is compared."""
STAND_INS = 65
"""How many quantiles stand for the benign values at most."""


def exceedance_p_value(batch: Array, benign: Array) -> float:
    """How likely exchangeable values put as many of ``batch (m,)`` above ascending ``benign (n,)`` as lie there.

    At the place where that is least likely, times the number of places, which keeps P(p <= a) <= a. Ties count for
    the benign side. 1 where either is empty.
    """
    n, m = len(benign), len(batch)
    if not n or not m:
        return 1.0
    least = 1.0
    for place in {max(1, int(n * share)) for share in EXCEEDANCE_PLACES}:
        above = int((batch > benign[n - place]).sum())
        least = min(least, exceedance_tail(above, m, place, n))
    return min(1.0, least * len(EXCEEDANCE_PLACES))


@lru_cache(4096)
def exceedance_tail(above: int, batch: int, place: int, benign: int) -> float:
    """P(`above` or more of a `batch` lie above the value at `place` from the top of `benign` ones)."""
    if above <= 0:
        return 1.0
    total = _log_choices(benign + batch, batch)
    each = (
        _log_choices(j + place - 1, j) + _log_choices(batch - j + benign - place, batch - j) - total
        for j in range(above, batch + 1)
    )
    return min(1.0, math.fsum(map(math.exp, each)))


def shared_value_p_value(count: int, batch: int, known: int, benign: int) -> float:
    """How likely a batch has `count` or more of the ``count + known`` rows that share one value, of all rows.

    The value is looked for in the batch, so the probability is multiplied by how many values so frequent there can be.
    Reference: Fisher's exact test, one-sided.
    """
    rows, holders = benign + batch, count + known
    total = _log_choices(rows, batch)
    most = min(holders, batch)
    each = (_log_choices(holders, j) + _log_choices(rows - holders, batch - j) - total for j in range(count, most + 1))
    return min(1.0, math.fsum(map(math.exp, each)) * rows / holders)


def stand_ins(values: Array) -> Array:
    """At most `STAND_INS` ascending values for the benign ones: all of them, or their quantiles.

    Quantiles of many values vary less than so few values would, so that a test beside them is more cautious.
    """
    found = np.sort(np.asarray(values, np.float64))
    if len(found) > STAND_INS:
        found = np.quantile(found, (np.arange(STAND_INS) + 0.5) / STAND_INS)
    return found


def corrected_p_value(p_values: Iterable[float], tests: int) -> float:
    """The smallest of `tests` p-values, corrected for their number (Bonferroni)."""
    return min(1.0, min(p_values, default=1.0) * max(tests, 1))


def _log_choices(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
