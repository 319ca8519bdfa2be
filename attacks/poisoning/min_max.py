"""Min-max.

Reference: Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021, Section IV-C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from medward.attacks.poisoning.crafted import checked_updates
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class MinMax:
    """Min-max goes along a harmful direction until it is as far from some honest update as any two are apart.

    `direction`: "deviation" (minus the standard deviation of each number), "sign" or "unit" of the mean.
    """

    direction: Literal["deviation", "sign", "unit"] = "deviation"

    name: ClassVar[str] = "min-max"

    def craft(self, honest: Array, *, clients: int, malicious: int) -> Array:
        """(d,): the mean and the largest step that stays among them."""
        del clients, malicious
        mean = checked_updates(self.name, honest, 2).mean(axis=0)
        away = _direction(self.direction, honest, mean)
        return np.asarray(mean + largest_step(honest, mean, away) * away)


def largest_step(honest: Array, mean: Array, away: Array) -> float:
    """The largest g for which no distance from mean + g * away to an honest update exceeds the largest between two.

    Each bound is a quadratic in g and the least of its roots is exact, so nothing is searched.
    """
    squares = np.einsum("ij,ij->i", honest, honest)
    widest = float((squares[:, None] + squares[None, :] - 2 * honest @ honest.T).max())
    offsets = mean - honest
    length = float(away @ away)
    if length == 0:
        return 0.0
    half = offsets @ away
    room = np.maximum(half**2 - length * (np.einsum("ij,ij->i", offsets, offsets) - widest), 0)
    return float(((-half + np.sqrt(room)) / length).min())


def _direction(kind: str, honest: Array, mean: Array) -> Array:
    if kind == "sign":
        return -np.sign(mean)
    return -honest.std(axis=0, ddof=1) if kind == "deviation" else -mean / max(float(np.linalg.norm(mean)), 1e-300)
