"""The one-run audit: a lower bound on epsilon from guesses at the coins of many canaries of a single training.

Of m canaries, each trained on by a fair coin, an auditor names r that were, and is right v times. Under (epsilon,
delta)-differential privacy that has at most the probability beta + 2 m delta alpha, with beta = P(Bin(r, q) >= v), q =
e^epsilon / (1 + e^epsilon) and alpha = max over i of (P(Bin(r, q) >= v - i) - beta) / i.

Reference: Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, theorem 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special, stats

_STEPS = 60  # of a bisection


def one_run_p_value(correct: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """The largest probability of at least `correct` of `guesses` on `canaries` under (`epsilon`, `delta`) privacy."""
    q = special.expit(epsilon)
    beta = float(stats.binom.sf(correct - 1, guesses, q))
    if delta == 0 or correct == 0:
        return beta
    lost = np.arange(1, correct + 1)
    alpha = float(((stats.binom.sf(correct - lost - 1, guesses, q) - beta) / lost).max())
    return min(1.0, beta + 2 * canaries * delta * max(alpha, 0.0))


def one_run_bound(correct: int, guesses: int, canaries: int, *, risk: float, delta: float, least: float = 0.0) -> float:
    """The epsilon that these guesses refute, at most with a chance of `risk` wrongly; `least` if none above it.

    The number of guesses must not depend on the coins. Raises ValueError unless 0 <= correct <= guesses <= canaries.
    """
    check_counts(correct, guesses, canaries)
    return largest_refuted(
        lambda epsilon: one_run_p_value(correct, guesses, canaries, epsilon, delta) <= risk, least=least
    )


def largest_refuted(refuted: Callable[[float], bool], *, least: float = 0.0) -> float:
    """The largest value from `least` on that is `refuted`, as all smaller ones are, by bisection; `least` if none."""
    low, high = least, max(1.0, 2 * least)
    if not refuted(low):
        return least
    while refuted(high):
        low, high = high, 2 * high
        if math.isinf(high):
            return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def check_counts(correct: int, guesses: int, canaries: int) -> None:
    """Refuse counts that no audit can have."""
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"need 0 <= correct <= guesses <= canaries, got {correct}, {guesses} and {canaries}")
