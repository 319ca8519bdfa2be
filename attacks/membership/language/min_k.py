"""Min-K %: a text that was trained on has few tokens that surprise the model.

Reference: Shi et al., "Detecting pretraining data from large language models", ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.tokens import TokenStatistics
from medward.guard.errors import MedwardError
from medward.guard.types import Array

LOWEST_SHARE = 0.2
"""K as published; never tuned on candidates."""


def min_k_scores(target: Sequence[TokenStatistics], *, share: float = LOWEST_SHARE) -> Array:
    """The mean log-probability ``(n,)`` of the least likely `share` of each text's tokens, one token at least."""
    return np.array([lowest_mean(each.log_probabilities, share) for each in target])


def lowest_mean(values: Array, share: float) -> float:
    """The mean of the lowest `share` of `values`; raises `MedwardError` unless 0 < share <= 1."""
    if not 0 < share <= 1:
        raise MedwardError(f"min-k: the share of tokens must be in (0, 1], got {share:g}")
    return float(np.sort(values)[: max(1, int(share * len(values)))].mean())
