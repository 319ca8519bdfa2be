"""The floor of a distance: what two halves of the real images themselves are apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class RealFloor:
    """A real floor is the mean distance between disjoint halves of the real images, and how much it varies."""

    mean: float
    deviation: float
    rows: int
    """Of each half: distances of more or fewer rows have another floor."""


def real_floor(distance: Callable[[Array, Array], float], real: Array, *, seed: int, draws: int = 8) -> RealFloor:
    """The floor of `distance` on features (n, d) of real images, over `draws` random divisions of them."""
    rng, rows = np.random.default_rng(seed), len(real) // 2
    found = []
    for _ in range(draws):
        order = rng.permutation(len(real))
        found.append(distance(real[order[:rows]], real[order[rows : 2 * rows]]))
    return RealFloor(mean=float(np.mean(found)), deviation=float(np.std(found)), rows=rows)
