"""Min-K %++: Min-K % on log-probabilities that are standardised by what the model expected at each place.

Reference: Zhang et al., "Min-K%++: improved baseline for detecting pre-training data from large language models", ICLR
2025.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.min_k import LOWEST_SHARE, lowest_mean
from medward.attacks.membership.language.tokens import TokenStatistics
from medward.guard.types import Array

_SURE = 1e-6  # the least deviation: where the model is sure of one token every other is far off


def min_k_plus_plus_scores(target: Sequence[TokenStatistics], *, share: float = LOWEST_SHARE) -> Array:
    """The mean ``(n,)`` of the lowest `share` of ``(log p - mean) / deviation`` over each text's tokens."""
    return np.array([lowest_mean(standardised_tokens(each), share) for each in target])


def standardised_tokens(text: TokenStatistics) -> Array:
    """How many deviations ``(T,)`` each token's log-probability lies above what the model expected."""
    return (text.log_probabilities - text.mean) / np.maximum(text.deviation, _SURE)
