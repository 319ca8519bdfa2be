"""Weakly supervised attack (WSA): a classifier learns from sure non-members and from pairs that look like members.

Pairs of a pool that are more similar than non-members by `MEMBER_MARGIN` standard deviations are taken for members. The
pool holds no candidate: what the attack is judged on it never learned from.

Reference: Ko, Jin, Wang and Jia, "Practical membership inference attacks against large-scale multi-modal models: a
pilot study", ICCV 2023; a logistic regression in the place of their network.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medward.attacks.membership.multimodal.cosine_similarity import cosine_similarity_scores
from medward.guard.errors import MedwardError
from medward.guard.types import Array

MEMBER_MARGIN = 1.0
_FEWEST = 5
FeaturePairs = tuple[Array, Array]
"""Features of images and of their texts, ``(n, d)`` each."""


def weakly_supervised_scores(
    candidates: FeaturePairs, pool: FeaturePairs, nonmembers: FeaturePairs, *, margin: float = MEMBER_MARGIN
) -> Array:
    """The log odds ``(n,)`` of membership of `candidates`; larger says member.

    `pool` are pairs of which some were trained on, `nonmembers` pairs of which none was.
    Raises `MedwardError` when fewer than five of either remain to learn from.
    """
    outside, inside = cosine_similarity_scores(*nonmembers), cosine_similarity_scores(*pool)
    likely = inside >= outside.mean() + margin * outside.std()
    if min(int(likely.sum()), len(outside)) < _FEWEST:
        raise MedwardError(
            f"weak supervision: {int(likely.sum())} pairs of the pool look like members, beside {len(outside)} "
            f"non-members, and {_FEWEST} of each are needed; give more, or a smaller margin"
        )
    learned = np.concatenate([_pair_columns(nonmembers), _pair_columns(pool)[likely]])
    truth = np.arange(len(learned)) >= len(outside)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    return np.asarray(model.fit(learned, truth).decision_function(_pair_columns(candidates)))


def _pair_columns(pairs: FeaturePairs) -> Array:
    """Both features and their product, of unit length, ``(n, 3 d)``; the product sums to the cosine."""
    x, y = (np.asarray(each, np.float64) for each in pairs)
    x, y = x / np.linalg.norm(x, axis=1, keepdims=True), y / np.linalg.norm(y, axis=1, keepdims=True)
    return np.column_stack([x, y, x * y])
