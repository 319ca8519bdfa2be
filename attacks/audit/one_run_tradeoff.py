"""The one-run audit by trade-off curve: tighter, as it holds a mechanism to its whole curve and not to one point of it.

A Gaussian mechanism with parameter mu leaves every test the false positive rate f(t) = Phi(Phi^-1(t) - mu) at least, t
being the true positive rate. If c guesses at the coins of m canaries can be right more than v times with a chance of
`risk`, then a recursion over the numbers of right guesses ends within the share c / m.

Reference: Mahloujifar, Melis and Chaudhuri, "Auditing f-differential privacy in one run", ICML 2025, algorithm 3.
"""

from __future__ import annotations

import math

from scipy.special import log_ndtr, ndtr, ndtri

from medward.attacks.audit.one_run import check_counts, largest_refuted

MOST = 40.0
"""The largest mu that is told from no privacy at all."""


def refutes_mu(correct: int, guesses: int, canaries: int, mu: float, risk: float) -> bool:
    """Whether `correct` of `guesses` on `canaries` refute that the mechanism is `mu`-Gaussian, wrongly at `risk`."""
    right, wrong = risk * correct / canaries, risk * (guesses - correct) / canaries
    for hits in range(correct - 1, -1, -1):
        least = float(ndtr(ndtri(right) - mu))
        if least <= wrong:
            break  # and nothing changes any more
        right, wrong = min(1.0, right + hits / (guesses - hits) * (least - wrong)), least
    return right + wrong > guesses / canaries


def one_run_tradeoff_bound(
    correct: int, guesses: int, canaries: int, *, risk: float, delta: float, least: float = 0.0
) -> float:
    """The epsilon at `delta` of the Gaussian mechanisms that these guesses refute; `least` if none above it.

    Wrong with a chance of at most `risk`; the number of guesses must not depend on the coins. Raises ValueError unless
    0 <= correct <= guesses <= canaries and 0 < delta < 1.
    """
    check_counts(correct, guesses, canaries)
    floor = gaussian_mu(least, delta)
    found = largest_refuted(lambda mu: mu < MOST and refutes_mu(correct, guesses, canaries, mu, risk), least=floor)
    return least if found == floor else gaussian_epsilon(found, delta)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of a `mu`-Gaussian mechanism at `delta`; 0 where delta alone covers it."""
    return largest_refuted(lambda epsilon: gaussian_delta(mu, epsilon) > delta)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The mu of the Gaussian mechanism that is (`epsilon`, `delta`) private and no more so.

    Raises ValueError unless 0 < delta < 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"need 0 < delta < 1, got {delta}")
    return largest_refuted(lambda mu: gaussian_delta(mu, epsilon) <= delta)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The delta of a `mu`-Gaussian mechanism at `epsilon` (Balle and Wang, ICML 2018, theorem 8)."""
    if mu == 0:
        return 0.0
    middle = epsilon / mu
    return float(ndtr(mu / 2 - middle)) - math.exp(epsilon + float(log_ndtr(-middle - mu / 2)))
