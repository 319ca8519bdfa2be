"""Searches for each row within several radii: the largest first, a smaller one only where that can bring something.

A ball holds every smaller one around the same row. So a search that won nothing within the larger would win nothing
within the smaller, and only rows that fell go on; some go on all the same, and show whether that is so. Behind screens
it is not: they see a small change less. Who knows them therefore searches every radius anew, of the rows that fall
there once nobody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medward.attacks.whitebox.ascent import Ascent
from medward.attacks.whitebox.ball import Ball

ALWAYS = 256
"""The first rows, which are searched within every radius: on them success must not fall as the radius grows (C7)."""


@dataclass(frozen=True, slots=True)
class SearchedRadius:
    """What a search `found` within a `ball`, `factor` times the largest, of the `rows` (indices) that it was run on."""

    factor: float
    ball: Ball
    rows: Tensor
    found: Ascent

    @property
    def fallen(self) -> Tensor:
        """The rows that were won, as indices."""
        return self.rows[self.found.won]

    def won_of(self, count: int) -> float:
        """The share of the first `count` rows that were won."""
        return float((self.fallen < count).sum()) / max(count, 1)

    def history(self, count: int) -> list[float]:
        """The share won per step, of `count` rows, as many as there are in all."""
        return [share * len(self.rows) / max(count, 1) for share in self.found.history]

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Of `rows` those that were searched, and their adversarial iterates."""
        here = torch.isin(self.rows, rows)
        return self.rows[here], self.found.adversarial[here]


def search_radii(
    balls: Sequence[tuple[float, Ball]],
    rows: Tensor,
    search: Callable[[Ball, Tensor], Ascent],
    always: int,
    every: bool,
) -> list[SearchedRadius]:
    """Search `rows` within each of the `balls`, which grow, the largest first; in their own order again.

    A smaller one is tried on the rows that fell in the next larger one and on the first `always`, or with `every` on
    all: where what falls on a stand-in tells nothing of the target.
    """
    searched: list[SearchedRadius] = []
    for factor, ball in reversed(balls):
        one = SearchedRadius(factor, ball, rows, search(ball, rows))
        searched.append(one)
        rows = rows if every else rows[one.found.won | (rows < always)]
    return searched[::-1]
