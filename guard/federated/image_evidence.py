"""What the server sees for itself in images that each client's generator makes from the same noise.

A generator that would draw a mark into the federation's images draws it more than the others do, round after round
and at the same place, whatever loss its owner reports; a generator that does not cannot bring the mark in. A mark that
is now bright and now dark is no part of the mean image, but of how pixels vary. One that is each time somewhere else is
seen in neither.

Differences are told in what ordinary images differ by: half of it in hospitals that are unlike, many times of it
where a patch is. The units of `CONTRAST` and `SPECTRUM` are about the most that honest hospitals keep differing by,
whose classes and sizes are dealt by Dirichlet(0.3); they were chosen on PneumoniaMNIST, that of `VARIATION` on one
federation of blood cells too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medward.guard.types import Array

CONTRAST = 2.0  # deviations between images that make one unit of a difference
SPECTRUM = 1.8
VARIATION = 0.4  # of the logarithm of a pixel's deviation
_AROUND = 3  # a mark is compared with what surrounds it: a square of a third of the side
_LOW = 4  # low frequencies are those up to a quarter of the side
_BEYOND = 1e-3  # the range of images that rounding may reach
_FINEST = 32  # pixels a side that are looked at: larger images are averaged down
_FLAT = 0.5  # of the middle deviation is added to each, so that a spot where no image varies does not count for all


@dataclass(frozen=True, slots=True)
class Appearance:
    """An appearance holds, of many images, the mean of each feature (C, f, f) and its deviation between them."""

    mean: Array
    deviation: Array


def image_evidence(made: Iterable[tuple[str, Array]]) -> dict[str, dict[str, Array]]:
    """Three views of the images (n, C, S, S) that each node's generator makes from the same noise and labels.

    "contrast": pixels less their surroundings, where a patch shows. "spectrum": log-amplitudes of low frequencies,
    where what is mixed into all of an image shows. "variation": how much pixels vary from image to image, less their
    surroundings, where a patch shows that is not the same in all. Each is the difference from the median node, in
    units. Images of one node are held at a time; a node whose images are not within [0, 1] is left out.
    """
    seen = {node: appearances(np.asarray(images, np.float64)) for node, images in made if _are_images(images)}
    views: dict[str, dict[str, Array]] = {node: {} for node in seen}
    for view, unit in (("contrast", CONTRAST), ("spectrum", SPECTRUM)):
        told = effect_sizes({node: each[view] for node, each in seen.items()})
        for node, difference in told.items():
            views[node][view] = difference / unit
    for node, difference in variation({node: each["pixels"] for node, each in seen.items()}).items():
        views[node]["variation"] = difference / VARIATION
    return views


def _are_images(images: Array) -> bool:
    return bool((images >= -_BEYOND).all() and (images <= 1 + _BEYOND).all())  # NaN is not


def appearances(images: Array) -> dict[str, Appearance]:
    """The appearances of images (n, C, S, S): of their contrasts, their spectra and their pixels."""
    smaller = averaged_down(images)
    features = {"contrast": local_contrast(smaller), "spectrum": low_amplitudes(smaller), "pixels": smaller}
    return {name: Appearance(each.mean(axis=0), each.std(axis=0)) for name, each in features.items()}


def effect_sizes(seen: dict[str, Appearance]) -> dict[str, Array]:
    """Each node's mean (d,) less the median node's, in deviations between the median node's images."""
    if not seen:
        return {}
    means = np.stack([each.mean.ravel() for each in seen.values()])
    deviation = np.median([each.deviation.ravel() for each in seen.values()], axis=0)
    spread = np.maximum(deviation + _FLAT * np.median(deviation), np.finfo(np.float64).eps)
    return dict(zip(seen, (means - np.median(means, axis=0)) / spread, strict=True))


def variation(seen: dict[str, Appearance]) -> dict[str, Array]:
    """Each node's log-deviations of pixels (d,), less their surroundings, less the median node's."""
    if not seen:
        return {}
    deviations = np.stack([each.deviation for each in seen.values()])
    floor = max(_FLAT * float(np.median(deviations)), float(np.finfo(np.float64).eps))
    standing_out = local_contrast(np.log(deviations + floor))
    told = standing_out - np.median(standing_out, axis=0)
    return dict(zip(seen, told.reshape(len(seen), -1), strict=True))


def averaged_down(images: Array) -> Array:
    """Images (n, C, S, S) whose side is at most 32 pixels: means of squares."""
    squares = max(1, images.shape[-1] // _FINEST)
    side = images.shape[-1] // squares
    cut = images[:, :, : side * squares, : side * squares]
    smaller: Array = cut.reshape(*images.shape[:2], side, squares, side, squares).mean(axis=(3, 5))
    return smaller


def local_contrast(images: Array) -> Array:
    """Images (n, C, S, S) less the mean of the square around each pixel."""
    around = max(3, images.shape[-1] // _AROUND)
    contrast: Array = images - _moving_mean(_moving_mean(images, around, axis=2), around, axis=3)
    return contrast


def _moving_mean(images: Array, around: int, axis: int) -> Array:
    """The mean of `around` neighbours along one axis; at the ends the last pixel goes on."""
    before = around // 2
    widths = [(0, 0)] * images.ndim
    widths[axis] = (before + 1, around - 1 - before)
    sums = np.cumsum(np.pad(images, widths, mode="edge"), axis=axis)
    size = images.shape[axis]
    upper, lower = (np.take(sums, range(start, start + size), axis=axis) for start in (around, 0))
    means: Array = (upper - lower) / around
    return means


def low_amplitudes(images: Array) -> Array:
    """(n, C, f, f): log-amplitudes of the low frequencies of images (n, C, S, S), zero for frequency zero."""
    low = images.shape[-1] // _LOW
    found = np.log1p(np.abs(np.fft.fft2(images)[:, :, : low + 1, : low + 1]))
    found[:, :, 0, 0] = 0
    return found
