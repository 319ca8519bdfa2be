"""Agreement of suspects with a model on a fingerprint's inputs, and how surprising it is for an independent model.

Agreement is the mean over the classes that the model decides of the share of their inputs on which the suspect decides
alike: one less the Hamming distance, every class counting the same. So who favours one class agrees no more for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from medward.guard.types import Array, Ints

LEAST_FIT = 0.05
"""The p-value of the Shapiro-Wilk test below which log odds of agreements are not called normal."""
FEWEST_FITTED = 8
"""Independent models below which no distribution is fitted."""
_HALF = 0.5  # of an input, so that agreements of 0 and 1 have log odds


def balanced_agreement(own: Ints, decided: Ints) -> Array:
    """Agreement ``(m,)`` of decisions ``(m, n)``, -1 where nothing was answered, with a model's `own (n,)`.

    No answer is a disagreement, so whoever leaves one out never agrees more for it.
    """
    return np.asarray(np.mean([np.mean(decided[:, own == label] == label, axis=1) for label in np.unique(own)], axis=0))


def agreement_log_odds(agreement: Array, inputs: int) -> Array:
    """Log odds of shares of so many `inputs`."""
    return np.asarray(np.log((agreement * inputs + _HALF) / ((1 - agreement) * inputs + _HALF)))


def chance_p_value(agreement: Array, counts: Ints) -> Array:
    """P(an agreement as large or larger) at most ``(m,)`` of who answers without looking at the inputs.

    ``counts (k,)`` are inputs of each class that the model decides. Whatever the shares of classes that are guessed,
    balanced agreement is 1 / k on average; it exceeds that by t with a probability of at most
    exp(-2 t^2 / sum(1 / (k^2 n_i))), whether answers are drawn or a list of them falls on the inputs by chance.
    Reference: Hoeffding, "Probability inequalities for sums of bounded random variables", JASA 58, 1963, Theorem 2 and
    section 6.
    """
    above = np.maximum(agreement - 1 / len(counts), 0.0)
    return np.asarray(np.exp(-2 * above**2 / np.sum(1 / (len(counts) ** 2 * counts))))


def prominence(null: Array, suspect: Array, inputs: Array) -> tuple[Array, Array]:
    """How far each of the `null (w, m)` stands out in the way in which it does most, and the `suspect (w,)` in each.

    Rows are ways with `inputs (w,)` each. Log odds of agreement are taken from the mean of all models of a way, the
    suspect among them: whoever it is, it is treated as any other, so the rank of the largest of an independent one
    among the null is uniform. Who agrees more never stands out less.
    """
    both = np.column_stack([null, suspect])
    odds = np.array([agreement_log_odds(way, count) for way, count in zip(both, inputs, strict=True)])
    out = odds - odds.mean(axis=1, keepdims=True)
    return out[:, :-1].max(axis=0), out[:, -1]


def rank_p_value(null: Array, suspect: Array, chance: Array) -> float:
    """(1 + how many of the `null (m,)` are as large or larger) / (1 + m), which is never below 1 / (1 + m).

    Of the ways in which a suspect stands out, ``(w,)``, the best, where none counts for more than its `chance (w,)`
    allows, times their number. So P(p <= a) <= a for a suspect that is exchangeable with the null's models, whatever
    the distribution, and for one who guesses.
    """
    ranks = (1 + np.sum(null[None] >= suspect[:, None], axis=1)) / (1 + len(null))
    return float(np.minimum(1.0, np.maximum(ranks, len(chance) * chance)).min())


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedNull:
    """A fitted null is a p-value under a stated distribution, and whether the null's models contradict that.

    The distribution is normal, of the log odds of independent models' agreements in each way. `p_value` is by Student's
    t, since mean and deviation are estimated from the null, the smallest of all ways times their number. `fit` is the
    smallest p-value of the Shapiro-Wilk test of normality over the ways.
    """

    p_value: float
    fit: float

    @property
    def plausible(self) -> bool:
        """Whether the null's models do not contradict the distribution."""
        return self.fit >= LEAST_FIT


def fitted_p_value(null: Array, suspect: Array, inputs: Array, chance: Array) -> FittedNull | None:
    """The p-value of `suspect (w,)` under a normal distribution fitted to `null (w, m)`; see `FittedNull`.

    In no way is it below `chance (w,)`.

    None of too few models, and where all of a way agree alike.
    """
    models = null.shape[1]
    if models < FEWEST_FITTED or (np.ptp(null, axis=1) == 0.0).any():
        return None
    tails, fits = [], []
    for way, one, count, guessed in zip(null, suspect, inputs, chance, strict=True):
        odds, mine = agreement_log_odds(way, count), agreement_log_odds(one, count)
        scaled = (mine - odds.mean()) / (odds.std(ddof=1) * np.sqrt(1 + 1 / models))
        tails.append(max(float(stats.t.sf(scaled, models - 1)), float(guessed)))
        fits.append(float(stats.shapiro(odds).pvalue))
    return FittedNull(p_value=min(1.0, len(tails) * min(tails)), fit=min(fits))
