"""User inference: were texts of this patient or author trained on, whichever they were?

The texts at hand need not be those that were trained on; they only need to come from the same hand.

Reference: Kandpal, Pillutla, Oprea, Kairouz, Choquette-Choo and Xu, "User inference attacks on large language models",
EMNLP 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.tokens import TokenStatistics
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints


def user_scores(
    target: Sequence[TokenStatistics], reference: Sequence[TokenStatistics], users: Ints
) -> tuple[Ints, Array]:
    """Users ``(k,)`` and the mean ``(k,)`` over each one's texts of ``log p(text) - log p_reference(text)``.

    `users (n,)` say whose each text is. Raises `MedwardError` unless every text has a user.
    """
    if len(users) != len(target):
        raise MedwardError(f"user inference: needs one user per text, got {len(users)} for {len(target)} texts")
    ratios = np.array(
        [
            own.log_probabilities.sum() - other.log_probabilities.sum()
            for own, other in zip(target, reference, strict=True)
        ]
    )
    who, index = np.unique(users, return_inverse=True)
    return who, np.bincount(index, ratios) / np.bincount(index)
