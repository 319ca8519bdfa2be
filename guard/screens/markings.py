"""Markings are what hospitals draw on images, side markers and letters; what they change counts little in distances.

A marking moves an image far in a few directions of every embedding, and on all images of a hospital alike, as if all of
them were strange. So copies of benign images are marked, each in its own way, and the covariance that measures
distance gets `MARKING_WEIGHT` squared times the second moment of what that changed. Only fits see such copies;
calibration rows are compared with as they are, and what is bounded of them stays so.
"""

from __future__ import annotations

import numpy as np

from medward.guard.types import Array

MARKING_WEIGHT = 4.0  # of what a marking changes to what benign inputs differ in
SMALLEST_SIDE = 8  # pixels, below which a marking would be most of the image
_SIDES = (0.05, 0.16)  # of a marking, over that of the image
_MARGIN = 0.15  # of the image, in which the nearest edge lies
_SOLID = 0.7  # of markings, the others have gaps as letters have
_BRIGHT, _DARK = (0.8, 1.0), (0.0, 0.2)  # of the range
_BRIGHT_SHARE = 0.8


def can_be_marked(inputs: Array) -> bool:
    """Whether inputs are images ``(n, C, H, W)`` with room for a marking."""
    return inputs.ndim == 4 and min(inputs.shape[2:]) >= SMALLEST_SIDE


def marked_images(images: Array, low: float, high: float, rng: np.random.Generator) -> Array:
    """Copies of ``images (n, C, H, W)`` of values from `low` to `high`, each with one marking near an edge."""
    marked = np.array(images)
    height, width = images.shape[2:]
    for image in marked:
        tall, wide = (max(2, round(side * rng.uniform(*_SIDES))) for side in (height, width))
        y, x = _near_an_end(height, tall, rng), _near_an_end(width, wide, rng)
        if rng.random() < 0.5:  # beside the image instead of in its corner
            y = int(rng.integers(height - tall + 1))
        ink = (rng.random((tall, wide)) < 0.5) | (rng.random() < _SOLID)
        share = rng.uniform(*(_BRIGHT if rng.random() < _BRIGHT_SHARE else _DARK))
        image[:, y : y + tall, x : x + wide][:, ink] = low + (high - low) * share
    return marked


def marking_changes(plain: Array, marked: Array) -> Array:
    """What markings changed in rows ``(n, d)``, weighed to stand beside the deviations of benign rows."""
    return np.asarray(MARKING_WEIGHT * (marked - plain))


def _near_an_end(side: int, size: int, rng: np.random.Generator) -> int:
    """Where something of `size` begins that lies near either end of `side`."""
    near = int(rng.integers(max(1, min(side - size, round(_MARGIN * side)))))
    return near if rng.random() < 0.5 else side - size - near
