"""Where trees may split a table, and on which sides of each such cut a row with room to move can come to lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True, eq=False)
class RowSpans:
    """A row's span in a column is where it lies among that column's cuts, with the room that it has.

    It can lie left of cuts from `least` ``(n, d)`` on, and right of those before `most` ``(n, d)``: between, on both.
    """

    least: Ints
    most: Ints

    def left(self, column: int, cut: int) -> NDArray[np.bool_]:
        """Which rows ``(n,)`` can lie left of a cut."""
        return self.least[:, column] <= cut

    def right(self, column: int, cut: int) -> NDArray[np.bool_]:
        """Which rows ``(n,)`` can lie right of a cut."""
        return self.most[:, column] > cut


def candidate_cuts(x: Array, most: int) -> NDArray[np.float32]:
    """Up to `most` cuts ``(d, most)`` between values of each column of ``x (n, d)``, in order, filled up with infinity.

    Where a column has more values than that, cuts stand between those at even shares of the rows.
    """
    found = np.full((x.shape[1], most), np.inf, np.float32)
    for place, column in enumerate(x.T):
        values = np.unique(column.astype(np.float64))
        at = np.arange(1, len(values))
        if len(at) > most:
            shares = np.quantile(column.astype(np.float64), np.linspace(0, 1, most + 2)[1:-1])
            at = np.unique(np.searchsorted(values, shares, side="right").clip(1, len(values) - 1))
        cuts = np.unique(((values[at - 1] + values[at]) / 2).astype(np.float32))
        found[place, : len(cuts)] = cuts
    return found


def row_spans(x: Array, cuts: NDArray[np.float32], room: Array) -> RowSpans:
    """The spans of rows ``x (n, d)`` among `cuts`, each value moved by up to `room (d,)`; left is x <= cut."""
    low, high = x.astype(np.float64) - room, x.astype(np.float64) + room
    least, most = (
        np.stack([np.searchsorted(own, side[:, place], side="left") for place, own in enumerate(cuts)], axis=1)
        for side in (low, high)
    )
    return RowSpans(least.astype(np.int64), most.astype(np.int64))


def joined_spans(first: RowSpans, second: RowSpans) -> RowSpans:
    """The spans of rows one after another."""
    return RowSpans(np.concatenate([first.least, second.least]), np.concatenate([first.most, second.most]))


def side_sums(spans: RowSpans, rows: Ints, terms: Array, cuts: int) -> tuple[Array, Array]:
    """Sums ``(t, d, cuts)`` of `terms (n, t)` over `rows` that can only lie left of each cut, and only right of it."""
    columns, bins = spans.least.shape[1], cuts + 1
    offset = bins * np.arange(columns)
    at_least, at_most = ((each[rows] + offset).ravel() for each in (spans.least, spans.most))

    def summed(at: Ints, values: Array) -> Array:
        counted = np.bincount(at, np.repeat(values, columns), minlength=columns * bins)
        return counted.reshape(columns, bins).cumsum(axis=1)[:, :cuts]

    some = terms[rows]
    left = np.stack([summed(at_most, each) for each in some.T])
    total = some.sum(axis=0)[:, None, None]
    return left, total - np.stack([summed(at_least, each) for each in some.T])
