"""Inputs that no patient has, made from ordinary ones: by them a bundle measures what it can notice.

Reference: scrambled phases keep the power spectrum of an image and nothing else; Theiler et al., "Testing for
nonlinearity in time series: the method of surrogate data", Physica D 58, 1992, in two dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medward.guard.screens.joint import normal_rows, shuffled_rows
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

FAR_SCANNER = "a scanner far from any calibrated (half the contrast, brighter)"
CHANGED_UNIT = "another unit in one column"
MISTAKES = (FAR_SCANNER, CHANGED_UNIT)
"""Kinds that no thief sends: a site's own mistakes look so."""


def invented_inputs(spec: ModelSpec) -> dict[str, Callable[[Array, np.random.Generator], Array]]:
    """By kind how inputs that no patient has are made of ordinary ones, for a model of `spec`."""
    if spec.modality == "image":
        return {
            "noise": noise_like,
            "images without anatomy": scrambled_phases,
            FAR_SCANNER: lambda images, _: far_scanned(images),
        }
    return {
        "rows drawn from normals": lambda rows, rng: normal_rows(rows, len(rows), rng),
        "rows of shuffled columns": lambda rows, rng: shuffled_rows(rows, len(rows), rng),
        CHANGED_UNIT: unit_changed,
    }


def noise_like(images: Array, rng: np.random.Generator) -> Array:
    """Uniform noise between the least and the largest value of ``images (n, C, H, W)``."""
    return rng.uniform(images.min(), images.max(), size=images.shape)


def scrambled_phases(images: Array, rng: np.random.Generator) -> Array:
    """The images with the phases of noise: their grain and smoothness without what they show."""
    spectrum = np.fft.fft2(images)
    phases = np.angle(np.fft.fft2(rng.normal(size=images.shape)))
    mean = images.mean(axis=(2, 3), keepdims=True)
    scrambled = np.fft.ifft2(np.abs(spectrum) * np.exp(1j * phases)).real
    return np.asarray(scrambled - scrambled.mean(axis=(2, 3), keepdims=True) + mean)


def far_scanned(images: Array) -> Array:
    """The images at half the contrast and a fifth of their range brighter: more than drift forgives."""
    low, high = images.min(), images.max()
    return np.asarray(low + 0.2 * (high - low) + 0.5 * (images - low))


def unit_changed(rows: Array, rng: np.random.Generator) -> Array:
    """The rows ``(n, d)`` with one column, another one in each, ten times as large."""
    changed = np.array(rows, np.float64)
    changed[np.arange(len(rows)), rng.integers(rows.shape[1], size=len(rows))] *= 10
    return changed


def within_range(made: Array, spec: ModelSpec) -> Array:
    """`made`, within the range that `spec` admits."""
    if spec.low is None and spec.high is None:
        return np.asarray(made, np.float32)
    return np.asarray(np.clip(made, spec.low, spec.high), np.float32)
