"""What a membership attacker sees of its candidates, and the one signal that is read from it.

The signal is phi = log p_y - log sum_{c != y} p_c at the true label y (Carlini et al., S&P 2022, sec. V).
Answers come exact, rounded, as a label only or not at all, row by row. A `Channel` remembers which, so that shadow
models can be looked at just as coarsely as the target was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attacks.base import AttackData
from attacks.target import Response, Target
from guard.data import Split
from guard.errors import MedwardError
from guard.types import Array, Ints, ModelSpec

TINY = 1e-30  # the smallest probability told from 0 when answers are exact
MAX_DECIMALS = 6

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Channel:
    """How the answers came; all rows ``(copies, n)``, the first copy being the candidate itself.

    `decimals` is how far released probabilities are rounded, None when they are exact.
    """

    decimals: int | None
    released: Mask
    answered: Mask

    @classmethod
    def of(cls, response: Response, copies: int) -> Channel:
        """Read it off the answers ``(copies * n,)``, as any client could."""
        released = np.isfinite(response.scores).all(axis=1)
        return cls(
            rounded_to(response.probabilities[released]),
            released.reshape(copies, -1),
            (response.labels >= 0).reshape(copies, -1),
        )

    def coarsen(self, probabilities: Array) -> Array:
        """Exact probabilities ``(..., copies, n, K)`` as this channel would have shown them."""
        labels = one_hot(probabilities.argmax(axis=-1), probabilities.shape[-1])
        shown = probabilities if self.decimals is None else probabilities.round(self.decimals)
        return np.where(self.released[..., None], shown, labels)

    def phi(self, shown: Array, labels: Ints) -> Array:
        """The signal ``(..., n)`` of what was shown ``(..., copies, n, K)``, confidences averaged over copies.

        No confidence counts as closer to 0 than half the unit it was shown in; a label's unit is 1. NaN where no
        copy was answered.
        """
        count = np.maximum(self.answered.sum(axis=0), 1)
        mean = np.where(self.answered[..., None], shown, 0.0).sum(axis=-3) / count[:, None]
        unit = 0.0 if self.decimals is None else 10.0**-self.decimals
        floor = np.where(self.released, unit, 1.0).max(axis=0) / 2 / count
        return np.where(self.answered.any(axis=0), log_odds(mean, labels, np.maximum(floor, TINY)), np.nan)


def log_odds(probabilities: Array, labels: Ints, floor: Array) -> Array:
    """log p_y - log sum_{c != y} p_c ``(..., n)``; neither side counts as less than ``floor (n,)``."""
    true = one_hot(labels, probabilities.shape[-1]) > 0
    own = np.where(true, probabilities, 0).sum(axis=-1)
    rest = np.where(true, 0, probabilities).sum(axis=-1)
    return np.asarray(np.log(np.maximum(own, floor)) - np.log(np.maximum(rest, floor)))


def rounded_to(probabilities: Array) -> int | None:
    """The fewest decimals that hold every value, None when more than `MAX_DECIMALS` are needed."""
    for decimals in range(1, MAX_DECIMALS + 1):
        if np.abs(probabilities - probabilities.round(decimals)).max(initial=0) < 1e-7:
            return decimals
    return None


def one_hot(labels: Ints, classes: int) -> Array:
    """Rows of the identity ``(..., classes)``; a withheld label (-1) gives a row that must not be used."""
    return np.asarray(np.eye(classes)[labels])


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows whose membership is in question, members first: ``truth (n,)`` says which."""

    rows: Split
    labels: Ints
    truth: Mask


def candidates(data: AttackData) -> Candidates:
    """Members and non-members as one batch. Raises `MedwardError` when either is missing or has no labels."""
    for name, split in (("members", data.members), ("nonmembers", data.nonmembers)):
        if split is None or len(split) == 0 or split.labels is None:
            raise MedwardError(f"membership: needs labelled {name}, got none")
