"""Lengths and angles between the updates of one round, read block by block so that no copy of all of them is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.federated.update import Parameters, is_learned
from medward.guard.types import Array

Blocks = Callable[[bool], Iterable[NDArray[Any]]]
"""Reads the updates anew: (n, b) blocks of columns, exact in float64 or, told False, as precise as the model itself."""
BLOCK = 1 << 19  # numbers of all clients in a block: four mebibytes, near a core's cache


class Geometry:
    """Geometry of a round: inner products of its updates, one row a client, and last a reference where one is given.

    A rule needs no more than this to say how much of each client it takes. What nobody asks for is not computed.
    """

    def __init__(self, blocks: Blocks, rows: int, history: Array | None = None) -> None:
        self._blocks = blocks
        self.rows = rows
        self.history = history
        """(n, n): inner products of the sums of all updates so far, for rules that look back."""

    @cached_property
    def norms(self) -> Array:
        """(rows,): the length of each update, to six digits for models in float32 and twelve in float64."""
        squares = self._squares(exact=False)
        return np.sqrt(squares if np.isfinite(squares).all() else self._squares(exact=True))

    @cached_property
    def products(self) -> Array:
        """(rows, rows): inner products of the updates."""
        products = np.zeros((self.rows, self.rows))
        for block in self._blocks(True):
            products += block @ block.T
        return products

    @cached_property
    def squared_distances(self) -> Array:
        """(rows, rows): squared distances between updates."""
        return squared_distances(self.products)

    def mixed(self, mixing: Array) -> Geometry:
        """The geometry of `mixing` (m, rows) times the updates; it has no history."""
        mixed = Geometry(lambda _exact: (), len(mixing))
        mixed.products = mixing @ self.products @ mixing.T
        mixed.norms = np.sqrt(np.maximum(np.diag(mixed.products), 0))
        return mixed

    def _squares(self, *, exact: bool) -> Array:
        squares = np.zeros(self.rows)
        for block in self._blocks(exact):
            with np.errstate(over="ignore", invalid="ignore"):
                squares += [float(np.dot(row, row)) for row in block]
        return squares


def squared_distances(products: Array) -> Array:
    """(n, n) squared distances from (n, n) inner products; rounding never makes one negative."""
    squares = np.diag(products)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    np.fill_diagonal(distances, 0)
    return distances


def matrix_geometry(updates: Array, history: Array | None = None) -> Geometry:
    """The geometry of updates (n, d) that are held as one matrix."""
    return Geometry(lambda _exact: (updates,), len(updates), history)


def round_geometry(
    start: Parameters, models: Sequence[Parameters], *, norms: Array | None = None, history: Array | None = None
) -> Geometry:
    """The geometry of what `models` changed in `start`; a reference model, where there is one, comes last.

    `norms` are the lengths of the changes, where they are known already.
    """
    geometry = Geometry(lambda exact: update_blocks(start, models, exact=exact), len(models), history)
    if norms is not None:
        geometry.norms = norms
    return geometry


def update_blocks(start: Parameters, models: Sequence[Parameters], *, exact: bool) -> Iterator[NDArray[Any]]:
    """(n, b) blocks of what each of `models` changed in the learned arrays of `start`.

    They are in float64 where `exact`, else in float32 for models in it: twice as fast, and beyond 1e38 infinite. A
    block is overwritten by the next.
    """
    for place, array in enumerate(start):
        if not is_learned(array):
            continue
        dtype = np.float64 if exact else np.promote_types(array.dtype, np.float32)
        origin, flat = array.reshape(-1), [model[place].reshape(-1) for model in models]
        columns = block_columns(len(models), origin.size)
        held = np.empty((len(models), columns), dtype)
        for first in range(0, origin.size, columns):
            part = slice(first, first + columns)
            block = held[:, : len(origin[part])]
            with np.errstate(over="ignore"):
                for row, values in zip(block, flat, strict=True):
                    np.subtract(values[part], origin[part], out=row, dtype=dtype)
            yield block


def block_columns(rows: int, size: int) -> int:
    """How many numbers of each of `rows` updates are read at a time, of arrays of `size`."""
    return max(1, min(size, max(1 << 10, BLOCK // max(1, rows))))
