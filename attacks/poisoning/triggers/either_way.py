"""A patch or its negative, by chance: their mean shows none.

Ours, against servers that look at mean images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medward.attacks.poisoning.triggers.patch import PatchTrigger
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class EitherWayTrigger:
    """An either-way trigger is `patch` in half of the images, drawn from `seed`, and its negative in the others."""

    patch: PatchTrigger
    seed: int = 0

    name: ClassVar[str] = "either-way"
    present: ClassVar[float] = 0.7

    def mark(self, images: Array) -> Array:
        """The images with the patch or its negative on every channel."""
        marked = self.patch.mark(images)
        turned = np.random.default_rng(self.seed).random(len(images)) < 0.5
        marked[turned] = 1 - self.patch.mark(1 - images[turned])
        return marked

    def presence(self, images: Array, clean: Array) -> Array:
        """(n,): of the patch or of its negative, whichever is seen more of."""
        return np.maximum(self.patch.presence(images, clean), self.patch.presence(1 - images, clean))
