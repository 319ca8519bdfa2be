"""LOSS: a text that the model finds likely was probably trained on.

Reference: Yeom, Giacomelli, Fredrikson and Jha, "Privacy risk in machine learning", CSF 2018, on texts as in Carlini et
al., "Extracting training data from large language models", USENIX Security 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

from medward.attacks.membership.language.tokens import TokenStatistics, mean_losses
from medward.guard.types import Array


def likelihood_scores(target: Sequence[TokenStatistics]) -> Array:
    """Minus the mean cross-entropy ``(n,)`` of each text."""
    return -mean_losses(target)
