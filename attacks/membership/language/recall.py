"""ReCaLL: a text that was trained on grows less likely after texts that were not.

Reference: Xie et al., "ReCaLL: membership inference via relative conditional log-likelihoods", EMNLP 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.tokens import TokenStatistics, mean_losses
from medward.guard.types import Array


def recall_scores(target: Sequence[TokenStatistics], prefixed: Sequence[TokenStatistics]) -> Array:
    """The ratio ``(n,)`` of the mean log-likelihood after known non-members to that without, on the same tokens."""
    return conditional_losses(target, prefixed) / mean_losses(target)


def conditional_losses(target: Sequence[TokenStatistics], prefixed: Sequence[TokenStatistics]) -> Array:
    """The mean cross-entropy ``(n,)`` after a prefix, of those tokens that the target predicted without one too."""
    return np.array(
        [after.losses[-len(alone.tokens) :].mean() for alone, after in zip(target, prefixed, strict=True)], np.float64
    )
