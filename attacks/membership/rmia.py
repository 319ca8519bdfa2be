"""RMIA: does the model favour this record over others from the population more than any model would?

P(x) is the mean probability of what is true of x over shadows, LR(x, z) = [P(x | model) / P(x)] / [P(z | model) /
P(z)], and the score is the share of the population z with LR(x, z) > gamma. Offline no shadow learned x, and P(x) is
that mean moved towards 1 by what learning would do to it.

The population must hold no candidate and nothing that the model learned; shadows that learned a z do not count for it
offline.

Reference: Zarifzadeh, Liu and Shokri, "Low-cost high-power membership inference attacks", ICML 2024.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from medward.attacks.membership.evidence import Evidence, side_moments
from medward.guard.errors import MedwardError
from medward.guard.types import Array

TEMPERATURE = 2.0
"""Signals are divided by it before they become probabilities, as are logits by softmax at a temperature."""
RATIO_OFFSET = 0.33
"""The `offset` a: (1 + a) P_out / 2 + (1 - a) / 2 stands for the mean over models that did and did not learn a row."""


def offline_rmia(
    evidence: Evidence, *, gamma: float = 1.0, offset: float = RATIO_OFFSET, temperature: float = TEMPERATURE
) -> Array:
    """The share ``(n,)`` of the population that each row dominates; no shadow needs to have learned a row."""
    return dominated_share(evidence, gamma, temperature, offset)


def online_rmia(evidence: Evidence, *, gamma: float = 1.0, temperature: float = TEMPERATURE) -> Array:
    """The same where half of the shadows learned each row: P(x) is the mean of the means of both sides.

    Of the population, which is not divided in halves, P(z) is what it is offline.
    """
    return dominated_share(evidence, gamma, temperature, None)


def dominated_share(evidence: Evidence, gamma: float, temperature: float, offset: float | None) -> Array:
    """The share of the population with a likelihood ratio above `gamma`; `offset` is None online.

    Rows that dominate equally many are ordered by their own ratio, less than one row of the population apart: above
    the largest z all would be alike, and there the surest members are.

    Raises `MedwardError` without population.
    """
    if evidence.population is None or not len(evidence.population.phi):
        raise MedwardError("rmia: needs a population of at least 1 row that the model did not learn, got 0; give some")
    own = probability_ratios(evidence, temperature, offset)
    others = np.sort(probability_ratios(evidence.population, temperature, RATIO_OFFSET if offset is None else offset))
    share = np.searchsorted(others, own / gamma, side="left") / len(others)
    return np.asarray(share + own / (1 + own) / len(others))


def probability_ratios(evidence: Evidence, temperature: float, offset: float | None) -> Array:
    """P(x | model) / P(x) ``(n,)``."""
    likely = expit(evidence.shadows / temperature)
    _, expected, _ = side_moments(likely, ~evidence.included)
    if offset is None:
        expected = (expected + side_moments(likely, evidence.included)[1]) / 2
    else:
        expected = ((1 + offset) * expected + (1 - offset)) / 2
    return np.asarray(expit(evidence.phi / temperature) / np.maximum(expected, np.finfo(float).tiny))
