"""How many bits an answer can carry: log2 of how many different answers a level can give.

Whoever sees one of N possible answers learns at most log2 N bits from it, about anything, whatever the question, and a
series of answers at most the sum (the number of possible series is the product). Label and scores are counted together:
where scores leave, the label is the first of their largest, and the filters keep those. What is not counted is which
level an answer came at. That is a choice among at most three, the ordinary level, label, withheld, and says something
of the defenses and of the account's own past rather than of the model. Where a row is withheld because no certificate
covers it, that does say something of the model, and is charged (`WITHHELD_BITS`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import comb, log2

APART = 8  # so many rising winners and more are bounded together, which keeps it quick for a thousand classes
WITHHELD_BITS = 1.0  # nothing of the content; that it was withheld is visible


def label_bits(classes: int) -> float:
    """log2 K: the label is one of K classes."""
    return log2(classes)


def full_bits(classes: int, width: int = 32) -> float:
    """The width of a score, K times: no K numbers of `width` bits take more than 2^(K width) values."""
    return float(classes * width)


@cache
def rounded_bits(classes: int, decimals: int) -> float:
    """log2 of a bound on how many rows ``round_keeping_winners`` gives for probabilities that sum to 1.

    Proof. Let M = 10^decimals; a released row is n / M with whole numbers n_i >= 0.

    Before any winner rises, n_i = M p_i + e_i with abs(e_i) <= 1/2, and e_i <= 0 where n_i = 0, so with j positive n_i
    the sum S of n lies between M - K/2 and M + j/2. It need not be M. Rows with j given positive places and sum S
    number C(S - 1, j - 1), and summing over S from a to b gives C(b, j) - C(a - 1, j).

    Where a loser ties, the w < K winners rise from t to t + 1. Such a row has j positive places too, of which w < j
    rose, so it was counted unless its sum is one of the next w: a first bound on what is left. The second: the row is
    given by its winners, a loser at t, the K - w - 1 other values, and t. No value was above t, so K t is at least
    M - K/2, the others sum to at most M + K/2 - (w + 1) t, and given them (w + 1) t lies in a window of width K.
    The lesser bound is taken, for each w below `APART` and for all others together. If all n_i are 0, there are 2^K
    rows more at most.

    Floating point moves the sum of M p_i by less than 1e-6: no whole S passes a bound that is a multiple of 1/2.
    """
    k, m, spare = classes, int(10**decimals), classes // 2

    def plain(upto: Callable[[int], int], above: Callable[[int], int]) -> int:
        """Rows by their j positive places, of sums beyond ``above(j)`` up to ``upto(j)``."""
        return sum(comb(k, j) * (comb(upto(j), j) - comb(above(j), j)) for j in range(1, k + 1))

    def tied(w: int) -> int:
        others, rest = k - w - 1, max(0, m + spare - (w + 1) * -(-(m - spare) // k))
        choices = comb(k, w) * (k - w) * (2 * spare // (w + 1) + 1)
        return choices * comb(rest + others, others)

    def top(j: int) -> int:
        return m + j // 2

    def beyond(w: int) -> int:
        return plain(lambda j: top(j) + min(w, j - 1), top)

    count = plain(top, lambda _: max(0, m - spare - 1))
    if m <= spare:
        return log2(count + beyond(k) + 1 + 2**k)
    few = sum(min(beyond(w), tied(w)) for w in range(1, min(k, APART)))
    return log2(count + few + min(beyond(k), sum(map(tied, range(APART, k)))))


@cache
def top_bits(classes: int, decimals: int, top: int) -> float:
    """log2 of a bound on how many rows ``keep_top`` gives on rounded rows; at most `rounded_bits`, whose rows it maps.

    Proof. With M = 10^decimals and the k places shown, the values there sum to at most 1 before rounding, so the n_i
    to at most M + k/2, and to M + k/2 + k once winners rose: C(that + k, k) rows for each of C(K, k) choices. More
    than k places are shown only where s > k winners tie. Then one value v says all, s v <= M + s/2 + s, so there are
    at most M/s + 5/2 values for each of C(K, s) choices.
    """
    if top >= classes:
        return rounded_bits(classes, decimals)
    m = 10**decimals
    ordinary = comb(classes, top) * comb(m + top // 2 + 2 * top, top)
    tied = sum(comb(classes, s) * (m // s + 3) for s in range(top + 1, classes + 1))
    return min(log2(ordinary + tied), rounded_bits(classes, decimals))


def side_bits(decimals: int) -> float:
    """log2 (10^decimals + 1): ``round_keeping_side`` releases one step of the second class, which says all the rest.

    The first class is what is missing to 1, the label the side of the threshold, and which classes are among the
    largest and so shown at level top follows from the step too.
    """
    return log2(10**decimals + 1)


def code_bits(classes: int, codes: int) -> float:
    """log2 (m + K): one of m codes, each of which has one winner, or a label alone."""
    return log2(codes + classes)


def radius_bits(radii: int, findings: int = 1) -> float:
    """log2 of how many certified radii an answer can carry: 0 or one of a grid of `radii`, for each of `findings`."""
    return findings * log2(radii + 1)


def interval_bits(width: int) -> float:
    """Two numbers of `width` bits, the ends of a certified interval."""
    return 2.0 * width


def text_bits(tokens: int, vocabulary: int) -> float:
    """log2 of how many texts have at most `tokens` tokens, or characters, of `vocabulary` kinds; about tokens x log2.

    `tokens` is the limit a report may reach, not the length it has: the length tells something too. The sum of V^i
    over i <= n is below V^(n + 1) / (V - 1).
    """
    return (tokens + 1) * log2(vocabulary) - log2(vocabulary - 1) if vocabulary > 1 else log2(tokens + 1)
