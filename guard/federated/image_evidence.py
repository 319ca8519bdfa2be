"""What the server sees for itself in images that each client's generator makes from the same noise.

A generator that would draw a mark into the federation's images draws it more than the others do, round after round and at
the same place, whatever loss its owner reports; a generator that does not cannot bring the mark in.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import uniform_filter

from medward.guard.types import Array

_AROUND = 3  # a mark is compared with what surrounds it: a square of a third of the side
_LOW = 4  # low frequencies are those up to a quarter of the side
_FINEST = 32  # pixels a side that are looked at: larger images are averaged down


def image_evidence(images: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Three views of the images (n, C, S, S) that each node's generator makes from the same noise and labels.

    "contrast": the mean image less its surroundings, where a patch shows. "spectrum": mean log-amplitudes of low frequencies,
    where what is mixed into all of an image shows. "brightness": the mean image itself.
    """
    return {node: views(np.asarray(made, np.float64)) for node, made in images.items()}


def views(images: Array) -> dict[str, Array]:
    """The three views of images (n, C, S, S), each as a vector."""
    mean = averaged_down(images.mean(axis=0))
    return {
        "contrast": local_contrast(mean).ravel(),
        "spectrum": low_amplitudes(images).ravel(),
        "brightness": mean.ravel(),
    }


def averaged_down(image: Array) -> Array:
    """An image (C, S, S) whose side is at most 32 pixels: means of squares."""
    squares = max(1, image.shape[-1] // _FINEST)
    side = image.shape[-1] // squares
    cut = image[:, : side * squares, : side * squares]
    smaller: Array = cut.reshape(len(image), side, squares, side, squares).mean(axis=(2, 4))
    return smaller


def local_contrast(image: Array) -> Array:
    """An image (C, S, S) less the mean of the square around each pixel."""
    around = max(3, image.shape[-1] // _AROUND)
    contrast: Array = image - uniform_filter(image, size=(1, around, around), mode="nearest")
    return contrast


def low_amplitudes(images: Array) -> Array:
    """(C, f, f): the mean log-amplitude of each low frequency of images (n, C, S, S), that of zero left out."""
    low = min(images.shape[-1], _FINEST) // _LOW
    found = np.log1p(np.abs(np.fft.fft2(images)[:, :, : low + 1, : low + 1])).mean(axis=0)
    found[:, 0, 0] = 0
    return found
