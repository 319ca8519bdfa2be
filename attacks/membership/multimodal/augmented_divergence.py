"""Augmented KL: do the model's predictions stay what they are when the image is changed a little?

It reads the rows of the image alone. The sign is that of the published code: a model is taken to be steadier about
an image it trained on; where a model memorised exact pixels the reverse may hold, so read its AUC both ways round.

Reference: Li, Wu, Chen, Tonin, Abad Rocamora and Cevher, "Membership inference attacks against large vision-language
models", NeurIPS 2024, sec. 5.3 (a baseline there).
"""

from __future__ import annotations

import numpy as np

from medward.attacks.membership.multimodal.max_renyi import clamped_probabilities
from medward.guard.errors import MedwardError
from medward.guard.types import Array


def augmented_divergence_score(probabilities: Array, augmented: Array) -> float:
    """Minus the mean of KL(p || q) over positions and changes: ``(T, V)`` before, ``(k, T, V)`` after."""
    changes = np.asarray(augmented)
    if changes.ndim != 3 or not len(changes) or changes.shape[1:] != np.shape(probabilities):
        raise MedwardError(
            f"augmented divergence: needs changes (k, T, V) of predictions {np.shape(probabilities)}, "
            f"got {changes.shape}"
        )
    return -float(np.mean([position_divergences(probabilities, each) for each in changes]))


def position_divergences(before: Array, after: Array) -> Array:
    """KL(p || q) ``(T,)`` in nats of each row of two predictions ``(T, V)``, clamped."""
    p, q = clamped_probabilities(before), clamped_probabilities(after)
    return np.asarray((p * (np.log(p) - np.log(q))).sum(axis=1))
