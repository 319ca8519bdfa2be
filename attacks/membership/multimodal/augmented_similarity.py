"""Augmentation-enhanced attack (AEA): similarity of an image's changes with its text, beside that of the image.

Two readings of one set of queries. The mean is steadier than a single similarity. The drop is how much similarity a
change costs: a pair that was memorised as it is loses more.

Reference: Ko, Jin, Wang and Jia, "Practical membership inference attacks against large-scale multi-modal models: a
pilot study", ICCV 2023.
"""

from __future__ import annotations

import numpy as np

from medward.guard.types import Array


def augmented_mean_scores(similarity: Array, augmented: Array) -> Array:
    """The mean ``(n,)`` of ``similarity (n,)`` and of those ``(k, n)`` after each change; larger says member."""
    return np.asarray(np.vstack([similarity, augmented]).mean(axis=0))


def augmented_drop_scores(similarity: Array, augmented: Array) -> Array:
    """Similarity plus what the changes ``(k, n)`` cost of it, summed: larger says member."""
    own = np.asarray(similarity, np.float64)
    return np.asarray(own + (own - np.asarray(augmented, np.float64)).sum(axis=0))
