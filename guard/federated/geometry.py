"""Lengths and angles between the updates of one round, read block by block so that no copy of all of them is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medward.guard.federated.update import Parameters, is_learned

Floats = NDArray[np.float64]
Blocks = Callable[[], Iterable[Floats]]
"""Reads the updates anew: (n, b) blocks of columns, of which only one is held at a time."""
BLOCK = 1 << 15  # numbers of one client in a block: ten clients' fit the cache of a core


class Geometry:
    """Geometry of a round: inner products of its updates, one row a client, and last a reference where one is given.

    A rule needs no more than this to say how much of each client it takes. What nobody asks for is not computed.
    """

    def __init__(self, blocks: Blocks, rows: int, history: Floats | None = None) -> None:
        self._blocks = blocks
        self.rows = rows
        self.history = history
        """(n, n): inner products of the sums of all updates so far, for rules that look back."""

    @cached_property
    def norms(self) -> Floats:
        """(rows,): the length of each update."""
        squares = np.zeros(self.rows)
        for block in self._blocks():
            squares += np.einsum("ij,ij->i", block, block)
        return np.sqrt(squares)

    @cached_property
    def products(self) -> Floats:
        """(rows, rows): inner products of the updates."""
        products = np.zeros((self.rows, self.rows))
        for block in self._blocks():
            products += block @ block.T
        return products

    @cached_property
    def squared_distances(self) -> Floats:
        """(rows, rows): squared distances between updates."""
        return squared_distances(self.products)

    def mixed(self, mixing: Floats) -> Geometry:
        """The geometry of `mixing` (m, rows) times the updates."""
        mixed = Geometry(tuple, len(mixing), None if self.history is None else mixing @ self.history @ mixing.T)
        mixed.products = mixing @ self.products @ mixing.T
        mixed.norms = np.sqrt(np.maximum(np.diag(mixed.products), 0))
        return mixed


def squared_distances(products: Floats) -> Floats:
    """(n, n) squared distances from (n, n) inner products; rounding never makes one negative."""
    squares = np.diag(products)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    np.fill_diagonal(distances, 0)
    return distances


def matrix_geometry(updates: Floats, history: Floats | None = None) -> Geometry:
    """The geometry of updates (n, d) that are held as one matrix."""
    return Geometry(lambda: (updates,), len(updates), history)


def update_blocks(start: Parameters, models: Sequence[Parameters]) -> Iterator[Floats]:
    """(n, b) blocks of what each of `models` changed in the learned arrays of `start`, in float64."""
    for place, array in enumerate(start):
        if not is_learned(array):
            continue
        origin = array.reshape(-1)
        flat = [np.reshape(model[place], -1) for model in models]
        for first in range(0, origin.size, BLOCK):
            block = np.empty((len(models), min(BLOCK, origin.size - first)))
            for row, values in zip(block, flat, strict=True):
                np.subtract(values[first : first + BLOCK], origin[first : first + BLOCK], out=row, dtype=np.float64)
            yield block
