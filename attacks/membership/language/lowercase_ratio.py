"""Lowercase: how much likelier a text is to the model than the same text in lower case.

It tells nothing of texts without capitals, or to a tokenizer that lowers them itself: all scores are then -1.

Reference: Carlini et al., "Extracting training data from large language models", USENIX Security 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

from medward.attacks.membership.language.tokens import TokenStatistics, mean_losses
from medward.guard.types import Array


def lowercase_scores(target: Sequence[TokenStatistics], lowered: Sequence[TokenStatistics]) -> Array:
    """Minus the ratio ``(n,)`` of the cross-entropy of each text to that of the text in lower case."""
    return -mean_losses(target) / mean_losses(lowered)
