"""Four changes of an image that keep what it shows: cropped, turned, brighter, of less contrast.

They have no randomness, so that a score is the same whenever it is computed.
"""

from __future__ import annotations

import math

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.types import Array

_CROP = 0.8  # of each side
_TURN = math.radians(15)
_BRIGHTER = 0.2  # of an image's own span of values
_CONTRAST = 0.6


def augmented_images(images: Array) -> Array:
    """The four changes ``(4, n, C, H, W)`` of ``images (n, C, H, W)``, within each image's own span of values."""
    x = np.asarray(images)
    if x.ndim != 4 or not x.size:
        raise MedwardError(f"augmentations: need images of shape (n, channels, height, width), got {x.shape}")
    low, high = x.min(axis=(1, 2, 3), keepdims=True), x.max(axis=(1, 2, 3), keepdims=True)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    changed = [
        _moved(x, angle=0.0, scale=_CROP),
        _moved(x, angle=_TURN, scale=1.0),
        np.clip(x + _BRIGHTER * (high - low), low, high),
        mean + _CONTRAST * (x - mean),
    ]
    return np.stack(changed).astype(x.dtype)


def _moved(x: Array, angle: float, scale: float) -> Array:
    """Images turned by `angle` about their centre, and with `scale` below 1 the middle enlarged; nearest pixels."""
    height, width = x.shape[2:]
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    rows, columns = rows - (height - 1) / 2, columns - (width - 1) / 2
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    source = cosine * rows - sine * columns + (height - 1) / 2, sine * rows + cosine * columns + (width - 1) / 2
    row = np.clip(np.round(source[0]), 0, height - 1).astype(np.int64)
    column = np.clip(np.round(source[1]), 0, width - 1).astype(np.int64)
    return x[:, :, row, column]
