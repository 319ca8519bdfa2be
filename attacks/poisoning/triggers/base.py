"""What a trigger is, and how its share of generated images is told."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from medward.guard.types import Array

FAINTEST = 0.1  # of the template's own contrast, below which nothing is seen: artefacts of generators can look alike


class Trigger(Protocol):
    """A trigger marks images (n, C, S, S) in [0, 1], and is told in images by correlation with what it would leave."""

    name: ClassVar[str]
    present: ClassVar[float]
    """The correlation with its template from which it counts as present: above what real images reach by chance."""

    def mark(self, images: Array) -> Array:
        """The images with the trigger, in [0, 1]."""

    def presence(self, images: Array, clean: Array) -> Array:
        """(n,): how much of the trigger is seen in each image, 1 for all of it; `clean` are real images without it."""


def correlation(parts: Array, template: Array) -> Array:
    """(n,): the correlation of parts (n, d) with a template (d,), both less their means; 0 where it is too faint."""
    centred = parts - parts.mean(axis=1, keepdims=True)
    pattern = template - template.mean()
    lengths = np.linalg.norm(centred, axis=1) * np.linalg.norm(pattern)
    found: Array = centred @ pattern / np.maximum(lengths, np.finfo(np.float64).tiny)
    return np.where(centred @ pattern < FAINTEST * (pattern @ pattern), 0.0, found)


def trigger_rate(trigger: Trigger, images: Array, clean: Array) -> float:
    """The share of `images` in which the trigger is seen, above the share of real `clean` ones that look so by chance.

    NaN where an image is not finite: what made it is broken.
    """
    if not np.isfinite(images).all():
        return float("nan")
    seen = float((trigger.presence(images, clean) > trigger.present).mean())
    chance = float((trigger.presence(clean, clean) > trigger.present).mean())
    return max(0.0, (seen - chance) / max(1 - chance, np.finfo(np.float64).tiny))
