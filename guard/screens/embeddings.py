"""Where strangeness is measured: fixed maps from a batch and its outputs to vectors.

Each takes ``(inputs, outputs, xp)`` and uses only operations NumPy and torch share, so that the deployed code is
differentiable as it stands (`xp` is ``numpy`` or ``torch``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError

THUMBNAIL_GRID = 8  # a thumbnail is GRID x GRID cells per channel
Matrix = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
_FLOOR = 1e-4  # energy floor, in squared input units, so that flat images have finite logs


def feature_embedding(inputs: Any, outputs: Any, xp: Any = np) -> Any:
    """The model's own feature output ``(n, d)``."""
    if outputs.features is None:
        raise MedwardError("screen: this model shows no features; calibrate again without the 'features' screen")
    return outputs.features


def row_embedding(inputs: Any, outputs: Any, xp: Any = np) -> Any:
    """The input itself, flattened to ``(n, d)``; for tables."""
    return inputs.reshape(len(inputs), -1)


def thumbnail_embedding(inputs: Any, outputs: Any, xp: Any = np) -> Any:
    """Area-averaged cells ``(n, C * GRID * GRID)`` of images ``(n, C, H, W)``: layout and exposure."""
    return both_ways(pooling_matrix, THUMBNAIL_GRID, inputs, xp).reshape(len(inputs), -1)


def layout_embedding(inputs: Any, outputs: Any, xp: Any = np) -> Any:
    """The thumbnail without its brightness and contrast: what lies where, whatever exposure and gain."""
    cells = thumbnail_embedding(inputs, outputs, xp)
    cells = cells - cells.sum(axis=1, keepdims=True) / cells.shape[1]
    return cells / xp.sqrt((cells * cells).sum(axis=1, keepdims=True) / cells.shape[1] + _FLOOR)


def texture_embedding(inputs: Any, outputs: Any, xp: Any = np) -> Any:
    """Log energies ``(n, C * 3 * (1 + bands))`` of what finer and finer blurs leave out, in three statistics.

    Per channel and band: mean square, mean absolute value, and mean square of the neighbour difference, which
    separates grain (a perturbation, sensor noise) from edges (anatomy). Neighbours are above one another, in images of
    one line beside one another; a single pixel has none.
    """
    parts = []
    smooth = inputs
    for radius in (1, 2):
        blurred = both_ways(smoothing_matrix, radius, inputs, xp)
        parts.extend(_energies(smooth - blurred, xp))
        smooth = blurred
    parts.extend(_energies(smooth - _area_mean(smooth, keepdims=True), xp))
    return xp.concatenate(parts, axis=1)


def _energies(band: Any, xp: Any) -> list[Any]:
    lines = band if band.shape[2] > 1 else band.swapaxes(2, 3)
    step = lines[:, :, 1:, :] - lines[:, :, :-1, :] if lines.shape[2] > 1 else lines
    return [
        xp.log(_area_mean(band * band) + _FLOOR),
        xp.log(_area_mean(xp.abs(band)) + _FLOOR**0.5),
        xp.log(_area_mean(step * step) + _FLOOR),
    ]


def _area_mean(images: Any, *, keepdims: bool = False) -> Any:
    return images.sum(axis=(2, 3), keepdims=keepdims) / (images.shape[2] * images.shape[3])


def both_ways(make: Callable[[int, int], Matrix], setting: int, images: Any, xp: Any) -> Any:
    """``images (n, C, H, W)``, their columns and their rows multiplied by `make` (their length, `setting`)."""
    if xp is np:
        down, across = (_cast_matrix(make, size, setting, images.dtype) for size in images.shape[2:])
    else:
        made = (make(size, setting) for size in images.shape[2:])
        down, across = (xp.as_tensor(matrix, dtype=images.dtype, device=images.device) for matrix in made)
    return down @ images @ across.T


@lru_cache(64)
def _cast_matrix(make: Callable[[int, int], Matrix], size: int, setting: int, dtype: np.dtype[Any]) -> Any:
    return make(size, setting).astype(dtype)


@lru_cache(64)
def pooling_matrix(size: int, cells: int) -> Matrix:
    """The matrix ``(cells, size)`` that averages `size` samples into `cells` equal parts, at most one for each."""
    cells = min(cells, size)
    edges = np.linspace(0, size, cells + 1)
    left, right = np.arange(size), np.arange(size) + 1
    overlap = np.minimum(right, edges[1:, None]) - np.maximum(left, edges[:-1, None])
    weights = np.clip(overlap, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@lru_cache(64)
def smoothing_matrix(size: int, radius: int) -> Matrix:
    """The matrix ``(size, size)`` of a binomial blur of half-width `radius`, renormalised at the borders."""
    kernel = np.array([1.0])
    for _ in range(2 * radius):
        kernel = np.convolve(kernel, [0.5, 0.5])
    weights = np.zeros((size, size))
    for offset, weight in zip(range(-radius, radius + 1), kernel, strict=True):
        weights += weight * np.eye(size, k=offset)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
