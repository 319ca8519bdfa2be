"""What drawn tasks are made with: random numbers per image, soft edges, smooth noise."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from medward.guard.types import Array


class Draws:
    """Random numbers, one per image, shaped to broadcast over pixels."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.n, self.rng = n, rng

    def between(self, low: float | Array, high: float | Array) -> Array:
        """One number per image, evenly drawn, ``(n, 1, 1)``; bounds are numbers or ``(n, 1, 1)``."""
        return self.rng.uniform(low, high, (self.n, 1, 1)).astype(np.float32)

    def normal(self, size: int) -> Array:
        """White noise of unit spread, ``(n, size, size)``."""
        return self.rng.standard_normal((self.n, size, size), np.float32)

    def texture(self, size: int, grain: float) -> Array:
        """Smooth noise of unit spread; `grain` is its length as a fraction of the image."""
        noise = gaussian_blur(self.normal(size), grain * size)
        return np.asarray(noise / noise.std(axis=(1, 2), keepdims=True), np.float32)


def soft_step(signed: Array, width: float | Array) -> Array:
    """A step from 0 to 1 where `signed` turns positive, `width` wide (a number, or one per image)."""
    return np.asarray(0.5 * (1 + np.tanh(signed / width)), np.float32)


def gaussian_blur(images: Array, sigma: float) -> Array:
    """`images (n, H, W)` blurred by a Gaussian of `sigma` pixels."""
    return np.asarray(gaussian_filter(images, (0, sigma, sigma), truncate=2.5, mode="nearest"))
