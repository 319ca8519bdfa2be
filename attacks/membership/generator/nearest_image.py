"""Nearest image: a generator that learned an image makes some that are near it.

Reference: Chen, Yu, Zhang and Fritz, "GAN-Leaks: a taxonomy of membership inference attacks against generative models",
CCS 2020: the full black-box attack, and its calibration by a reference generator.
"""

from __future__ import annotations

import numpy as np

from medward.guard.types import Array


def nearest_image_score(distances: Array) -> Array:
    """(n,): minus the least of distances (n, m) from each candidate to generated images; larger says member."""
    return np.asarray(-distances.min(axis=1))


def calibrated_nearest_image_score(distances: Array, reference: Array) -> Array:
    """(n,): how much nearer the generator comes than a reference that learned none of the candidates does.

    `reference` (n, k) are the distances to images that the reference made. What any generator of the domain comes near
    is then no member for that.
    """
    return nearest_image_score(distances) - nearest_image_score(reference)
