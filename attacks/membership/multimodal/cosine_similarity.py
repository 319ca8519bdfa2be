"""Cosine similarity attack (CSA): a contrastive model puts an image and its text closer if it trained on the pair.

Reference: Ko, Jin, Wang and Jia, "Practical membership inference attacks against large-scale multi-modal models: a
pilot study", ICCV 2023. On members and non-members drawn alike it falls to chance (Gomez, "Rethinking membership
inference attacks for CLIP", AAAI 2026): trust it only beside the blind baseline.
"""

from __future__ import annotations

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.types import Array


def cosine_similarity_scores(images: Array, texts: Array) -> Array:
    """The cosine ``(n,)`` of each pair of features ``(n, d)``; larger says member.

    Raises `MedwardError` for features of other shapes, and for one of length zero, which has no direction.
    """
    x, y = np.asarray(images, np.float64), np.asarray(texts, np.float64)
    if x.ndim != 2 or x.shape != y.shape:
        raise MedwardError(f"cosine similarity: needs pairs of features (n, d), got {x.shape} and {y.shape}")
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    if not (lengths > 0).all():
        raise MedwardError(f"cosine similarity: {int((~(lengths > 0)).sum())} features are zero or NaN")
    return np.asarray((x * y).sum(axis=1) / lengths)
