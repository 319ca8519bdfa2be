"""What a thief makes of answers and asks: several views of one input, cover traffic, rows near the mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.guard.spec import ModelSpec
from medward.guard.types import Array

JITTER = 0.02  # noise of a view, in standard deviations of the batch
_SHIFT = 1  # pixels an image's view is moved at most


def average_views(targets: Array, views: int) -> Array:
    """The mean of each `views` successive rows of ``(n * views, K)`` over those that were answered; else NaN."""
    grouped = targets.reshape(-1, views, targets.shape[1])
    known = np.isfinite(grouped).all(axis=2, keepdims=True)
    count = known.sum(axis=1)
    total = np.where(known, grouped, 0.0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def first_text(texts: Sequence[str | None]) -> str | None:
    """The first of the `texts` about one input that left; None where none did."""
    return next((text for text in texts if text is not None), None)


def views_of(inputs: Array, views: int, spec: ModelSpec, rng: np.random.Generator) -> Array:
    """Each of ``(n, *shape)`` as it is, then `views` - 1 times shifted by a pixel (images) and slightly noisy.

    The views of one input follow each other. They keep within the bounds of `spec`.
    """
    if views == 1 or len(inputs) == 0:
        return inputs
    many = np.repeat(inputs, views, axis=0)
    moved = np.arange(len(many)) % views > 0
    if spec.modality == "image":
        for row in np.flatnonzero(moved):
            many[row] = _shifted(many[row], *rng.integers(-_SHIFT, _SHIFT + 1, size=2))
    spread = inputs.std() if spec.modality == "image" else inputs.std(axis=0)
    noise = rng.normal(size=many.shape) * JITTER * spread
    many = many + np.where(moved.reshape(-1, *[1] * (many.ndim - 1)), noise, 0.0)
    low, high = (-np.inf if spec.low is None else spec.low), (np.inf if spec.high is None else spec.high)
    return np.asarray(many.clip(low, high), np.float32)


def _shifted(image: Array, down: int, right: int) -> Array:
    """``(C, H, W)`` moved by up to `_SHIFT` pixels, its border repeated."""
    wide = np.pad(image, ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT)), mode="edge")
    height, width = image.shape[1:]
    return wide[:, _SHIFT - down : _SHIFT - down + height, _SHIFT - right : _SHIFT - right + width]


def own_turns(queries: int, pool_share: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which queries ``(queries,)`` are the strategy's, evenly spaced; the others are cover traffic."""
    due = np.floor(np.arange(queries + 1) * pool_share + 1e-9)
    return np.asarray(np.diff(due) > 0)


def pull_to_mean(pool: Array, pulls: tuple[float, ...]) -> Array:
    """Pool rows ``(n, *shape)`` at the share of their distance from the mean that `pulls` says, taken in turn."""
    if pulls == (1.0,):
        return pool
    mean = pool.mean(axis=0, keepdims=True)
    scale = np.resize(np.asarray(pulls), len(pool)).reshape(-1, *[1] * (pool.ndim - 1))
    return np.asarray(mean + scale * (pool - mean))
