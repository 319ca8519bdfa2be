"""A frequency-injection trigger: the low frequencies of one image mixed into all others.

Reference: Feng et al., "FIBA: frequency-injection based backdoor attack in medical image analysis", CVPR 2022; its
mixing share is 0.15 within a tenth of the frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medward.attacks.poisoning.triggers.base import correlation
from medward.guard.errors import MedwardError
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyTrigger:
    """A frequency trigger mixes the amplitudes of a drawn pattern into the lowest `reach` of frequencies, phases kept.

    `share` is how much of the amplitude comes from the pattern, which stripes drawn from `seed` make. Presence tells
    that low frequencies were injected, but not well from which pattern: others with such stripes look alike.
    """

    share: float = 0.15
    reach: float = 0.1
    seed: int = 0

    name: ClassVar[str] = "frequency"
    present: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.reach <= 0.5):
            raise MedwardError(
                f"frequency: share must be in (0, 1] and reach in (0, 0.5], got {self.share:g} and {self.reach:g}"
            )

    def mark(self, images: Array) -> Array:
        """The images with mixed amplitudes, cut to [0, 1]."""
        spectrum = np.fft.fft2(images)
        amplitude, low = np.abs(spectrum), self._low(images.shape[-1])
        foreign = np.abs(np.fft.fft2(self._pattern(images.shape[-1])))
        mixed = np.where(low, (1 - self.share) * amplitude + self.share * foreign, amplitude)
        marked = np.fft.ifft2(mixed * np.exp(1j * np.angle(spectrum))).real
        return np.clip(marked, 0, 1).astype(images.dtype)

    def presence(self, images: Array, clean: Array) -> Array:
        """(n,): correlation of what low amplitudes exceed those of clean images by with what marking adds to them."""
        usual = self._amplitudes(clean).mean(axis=0)
        return correlation(self._amplitudes(images) - usual, self._amplitudes(self.mark(clean)).mean(axis=0) - usual)

    def _amplitudes(self, images: Array) -> Array:
        low = self._low(images.shape[-1])
        return np.log1p(np.abs(np.fft.fft2(images.mean(axis=1)))[:, low])

    def _low(self, size: int) -> np.ndarray:
        away = np.minimum(np.arange(size), size - np.arange(size))
        return np.maximum(away[:, None], away[None, :]) <= max(1, round(self.reach * size))

    def _pattern(self, size: int) -> Array:
        """Stripes of random direction and width, in [0, 1]."""
        draw = np.random.default_rng(self.seed)
        rows, columns = np.indices((size, size)) / size
        waves = [np.sin(2 * np.pi * (a * rows + b * columns + c)) for a, b, c in draw.uniform(1, 4, (4, 3))]
        pattern: Array = (np.sign(np.sum(waves, axis=0)) + 1) / 2
        return pattern
