"""Augmentation robustness: what a model learned it still decides rightly when it is shifted, mirrored or noisy.

The score is the share of altered versions that are decided rightly, the row itself among them.

Reference: Choquette-Choo, Tramer, Carlini and Papernot, "Label-only membership inference attacks", ICML 2021; they
train a classifier on which versions were right, this counts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medward.attacks.membership.labels import Asker, LabelOnlyAttack
from medward.guard.errors import MedwardError
from medward.guard.types import Array

SHIFTS = ((0, 1), (0, -1), (1, 0), (-1, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationRobustness(LabelOnlyAttack):
    """Score = how many of all versions are decided rightly.

    `noisy` versions have Gaussian noise of up to `noise` times each value's spread over the candidates; images are also
    shifted by `shift` pixels to four sides, and mirrored.
    """

    noisy: int = 24
    noise: float = 0.5
    shift: int = 1

    def __post_init__(self) -> None:
        if self.noisy < 1 or self.noise <= 0 or self.shift < 1:
            raise MedwardError(
                "augmentation: needs noisy >= 1, noise > 0 and shift >= 1, "
                f"got {self.noisy}, {self.noise}, {self.shift}"
            )

    @property
    def name(self) -> str:
        """``membership-augmentation``."""
        return "membership-augmentation"

    def scored(self, asker: Asker, inputs: Array, seed: int) -> Array:
        """The share ``(n,)`` of versions that are decided rightly."""
        return np.asarray(np.mean([asker.right(asker.bounded(each)) for each in self.versions(inputs, seed)], axis=0))

    def versions(self, inputs: Array, seed: int) -> Iterator[Array]:
        """The rows ``(n, ...)`` themselves, and altered."""
        rng = np.random.default_rng(seed)
        yield inputs
        if inputs.ndim == 4:
            yield from (shifted_images(inputs, down * self.shift, right * self.shift) for down, right in SHIFTS)
            yield inputs[..., ::-1]
        spread = inputs.std(axis=0)
        for step in range(self.noisy):
            width = self.noise * (step + 1) / self.noisy
            yield np.asarray(inputs + width * spread * rng.standard_normal(inputs.shape), np.float32)


def shifted_images(images: Array, down: int, right: int) -> Array:
    """Images ``(n, C, H, W)`` shifted by whole pixels; what comes in repeats the edge."""
    rows = np.clip(np.arange(images.shape[2]) - down, 0, images.shape[2] - 1)
    columns = np.clip(np.arange(images.shape[3]) - right, 0, images.shape[3] - 1)
    return images[:, :, rows][..., columns]
