"""A patch in a corner.

Reference: Jin and Li 2023, after Saha, Subramanya and Pirsiavash, "Hidden trigger backdoor attacks", AAAI 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from medward.attacks.poisoning.triggers.base import correlation
from medward.guard.errors import MedwardError
from medward.guard.types import Array

Pattern = Literal["chequered", "cross", "noise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchTrigger:
    """A patch trigger pastes a pattern of `size` pixels square at the lower right, `inset` pixels from both edges.

    Patterns are within the range of the images; the published code pasted one of [0, 1] into images of [-1, 1].
    """

    size: int = 4
    inset: int = 1
    pattern: Pattern = "noise"
    opacity: float = 1.0

    name: ClassVar[str] = "patch"
    present: ClassVar[float] = 0.7

    def __post_init__(self) -> None:
        if self.size < 3 or self.inset < 0 or not 0 < self.opacity <= 1:
            raise MedwardError(
                f"patch: size must be 3 or more, inset 0 or more, opacity above 0 and at most 1; "
                f"got {self.size}, {self.inset}, {self.opacity:g}"
            )

    @property
    def template(self) -> Array:
        """(size, size): the pattern in [0, 1]."""
        rows, columns = np.indices((self.size, self.size))
        if self.pattern == "chequered":
            return np.asarray((rows + columns + 1) % 2, np.float64)
        if self.pattern == "cross":
            return np.asarray((rows == columns) | (rows + columns == self.size - 1), np.float64)
        drawn = np.random.default_rng(self.size).integers(0, 2, (self.size, self.size))
        return np.asarray(drawn, np.float64)

    def mark(self, images: Array) -> Array:
        """The images with the patch on every channel. Raises `MedwardError` for images that it does not fit."""
        marked = images.copy()
        area = self._area(images)
        marked[area] = (1 - self.opacity) * marked[area] + self.opacity * self.template
        return marked

    def presence(self, images: Array, clean: Array) -> Array:
        """(n,): correlation of the corner with the pattern, of the mean of all channels."""
        del clean
        corner = images[self._area(images)].mean(axis=1)
        return correlation(corner.reshape(len(images), -1), self.template.ravel())

    def _area(self, images: Array) -> tuple[slice, ...]:
        if images.ndim != 4 or min(images.shape[2:]) < self.size + self.inset:
            raise MedwardError(
                f"patch: {self.size} pixels and {self.inset} to the edge need images (n, C, S, S) of "
                f"{self.size + self.inset} pixels a side or more, got {images.shape}"
            )
        rows, columns = (side - self.inset for side in images.shape[2:])
        return (slice(None), slice(None), slice(rows - self.size, rows), slice(columns - self.size, columns))
