"""Where strangeness is measured: fixed maps from a batch and its outputs to vectors.

Each takes ``(inputs, outputs, xp)`` and uses only operations NumPy and torch share, so that the deployed code is
differentiable as it stands (`xp` is ``numpy`` or ``torch``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError

THUMBNAIL_GRID = 8  # a thumbnail is GRID x GRID cells per channel
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
    height, width = inputs.shape[2:]
    down = _like(pooling_matrix(height, min(THUMBNAIL_GRID, height)), inputs, xp)
    across = _like(pooling_matrix(width, min(THUMBNAIL_GRID, width)), inputs, xp)
    return (down @ inputs @ across.T).reshape(len(inputs), -1)


def layout_embedding(inputs: Any, outputs: Any, xp: Any = np) -> Any:
    """The thumbnail without its brightness and contrast: what lies where, whatever exposure and gain."""
    cells = thumbnail_embedding(inputs, outputs, xp)
    cells = cells - xp.mean(cells, axis=1, keepdims=True)
    return cells / xp.sqrt(xp.mean(cells * cells, axis=1, keepdims=True) + _FLOOR)


def texture_embedding(inputs: Any, outputs: Any, xp: Any = np) -> Any:
    """Log energies ``(n, C * 3 * (1 + bands))`` of what finer and finer blurs leave out, in three statistics.

    Per channel and band: mean square, mean absolute value, and mean square of the neighbour difference, which
    separates grain (a perturbation, sensor noise) from edges (anatomy). Neighbours are above one another, in images of
    one line beside one another; a single pixel has none.
    """
    parts = []
    smooth = inputs
    for radius in (1, 2):
        blurred = _blur(inputs, radius, xp)
        parts.extend(_energies(smooth - blurred, xp))
        smooth = blurred
    parts.extend(_energies(smooth - xp.mean(smooth, axis=(2, 3), keepdims=True), xp))
    return xp.concatenate(parts, axis=1)


def _energies(band: Any, xp: Any) -> list[Any]:
    lines = band if band.shape[2] > 1 else band.swapaxes(2, 3)
    step = lines[:, :, 1:, :] - lines[:, :, :-1, :] if lines.shape[2] > 1 else lines
    return [
        xp.log(xp.mean(band * band, axis=(2, 3)) + _FLOOR),
        xp.log(xp.mean(xp.abs(band), axis=(2, 3)) + _FLOOR**0.5),
        xp.log(xp.mean(step * step, axis=(2, 3)) + _FLOOR),
    ]


def _blur(images: Any, radius: int, xp: Any) -> Any:
    height, width = images.shape[2:]
    down, across = (
        _like(smoothing_matrix(height, radius), images, xp),
        _like(smoothing_matrix(width, radius), images, xp),
    )
    return down @ images @ across.T


def _like(matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]], inputs: Any, xp: Any) -> Any:
    if xp is np:
        return matrix.astype(inputs.dtype)
    return xp.as_tensor(matrix, dtype=inputs.dtype, device=inputs.device)


@lru_cache(64)
def pooling_matrix(size: int, cells: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The matrix ``(cells, size)`` that averages `size` samples into `cells` equal parts."""
    edges = np.linspace(0, size, cells + 1)
    left, right = np.arange(size), np.arange(size) + 1
    overlap = np.minimum(right, edges[1:, None]) - np.maximum(left, edges[:-1, None])
    weights = np.clip(overlap, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@lru_cache(64)
def smoothing_matrix(size: int, radius: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The matrix ``(size, size)`` of a binomial blur of half-width `radius`, renormalised at the borders."""
    kernel = np.array([1.0])
    for _ in range(2 * radius):
        kernel = np.convolve(kernel, [0.5, 0.5])
    weights = np.zeros((size, size))
    for offset, weight in zip(range(-radius, radius + 1), kernel, strict=True):
        weights += weight * np.eye(size, k=offset)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
