"""Standing difference: what a client keeps differing by from the median client, where chance averages out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.guard.types import Array

_DIGITS = 4  # are kept, in memory as on disk, so that a server that was killed goes on as if it had not been


@dataclass(frozen=True, slots=True)
class Standing:
    """A standing is a client's mean difference in one view, recent rounds first, and the sum of the rounds' weights."""

    values: Array
    weight: float

    @property
    def peak(self) -> float:
        """The largest absolute value."""
        return float(np.abs(self.values).max())


def stand(before: Standing | None, difference: Array, memory: float) -> Standing:
    """The standing after one more round; what came before counts `memory` times as much as it did.

    The first counts as if one round without difference had come before: chance is largest in a single round.
    """
    if before is None or before.values.shape != difference.shape:
        before = Standing(np.zeros(difference.shape), 1 / memory)
    weight = memory * before.weight
    return Standing(np.round((before.values * weight + difference) / (weight + 1), _DIGITS), weight + 1)
