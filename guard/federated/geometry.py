"""Lengths and angles between the updates of one round, read block by block so that no copy of all of them is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

import numpy as np

from medward.guard.federated.update import ModelParameters, is_learned
from medward.guard.types import Array

BLOCK = 1 << 20  # numbers of all clients in a block: four mebibytes in float32, near the caches of a core
_ROW = 1 << 18  # numbers of one client whose length is summed at a time


class Geometry:
    """Geometry of a round: inner products of its updates, one row a client, and last a reference where one is given.

    A rule needs no more than this to say how much of each client it takes. What nobody asks for is not computed:
    `blocks` reads the updates anew as (rows, b) blocks of columns, `lengths` gives their norms.
    """

    def __init__(
        self,
        rows: int,
        blocks: Callable[[], Iterable[Array]],
        lengths: Callable[[], Array],
        history: Array | None = None,
    ) -> None:
        self._blocks, self._lengths = blocks, lengths
        self.rows = rows
        self.history = history
        """(n, n): inner products of the sums of all updates so far, for rules that look back."""

    @cached_property
    def norms(self) -> Array:
        """(rows,): the length of each update, to six digits for models in float32 and twelve in float64."""
        return self._lengths()

    @cached_property
    def products(self) -> Array:
        """(rows, rows): inner products of the updates."""
        products = np.zeros((self.rows, self.rows))
        for block in self._blocks():
            products += block @ block.T
        return products

    @cached_property
    def squared_distances(self) -> Array:
        """(rows, rows): squared distances between updates."""
        return squared_distances(self.products)

    def mixed(self, mixing: Array) -> Geometry:
        """The geometry of `mixing` (m, rows) times the updates; it has no history."""
        products = mixing @ self.products @ mixing.T
        mixed = Geometry(len(mixing), tuple, lambda: np.sqrt(np.maximum(np.diag(products), 0)))
        mixed.products = products
        return mixed


def squared_distances(products: Array) -> Array:
    """(n, n) squared distances from (n, n) inner products; rounding never makes one negative."""
    squares = np.diag(products)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    np.fill_diagonal(distances, 0)
    return distances


def matrix_geometry(updates: Array, history: Array | None = None) -> Geometry:
    """The geometry of updates (n, d) that are held as one matrix."""
    return Geometry(len(updates), lambda: (updates,), lambda: np.asarray(np.linalg.norm(updates, axis=1)), history)


def round_geometry(
    start: ModelParameters,
    models: Sequence[ModelParameters],
    *,
    norms: Array | None = None,
    history: Array | None = None,
) -> Geometry:
    """The geometry of what `models` changed in `start`; a reference model, where there is one, comes last.

    `norms` are the lengths of the changes, where they are known already.
    """
    lengths = partial(change_lengths, start, models) if norms is None else lambda: norms
    return Geometry(len(models), partial(update_blocks, start, models), lengths, history)


def change_lengths(start: ModelParameters, models: Sequence[ModelParameters]) -> Array:
    """(n,): how far each of `models` is from `start` in the learned arrays; not finite where one of them is not.

    The length of one model does not depend on the others, to the last bit.
    """
    squares = _squared_changes(start, models, exact=False)
    large = np.flatnonzero(~np.isfinite(squares))  # or not finite: float64 tells
    if large.size:
        squares[large] = _squared_changes(start, [models[row] for row in large.tolist()], exact=True)
    return np.sqrt(squares)


def _squared_changes(start: ModelParameters, models: Sequence[ModelParameters], *, exact: bool) -> Array:
    squares = np.zeros(len(models))
    for place, array in enumerate(start):
        if not is_learned(array):
            continue
        origin, flat = array.reshape(-1), [model[place].reshape(-1) for model in models]
        held = np.empty(min(_ROW, origin.size), np.float64 if exact else np.promote_types(array.dtype, np.float32))
        for first in range(0, origin.size, _ROW):
            old = origin[first : first + _ROW]
            change = held[: len(old)]
            with np.errstate(over="ignore", invalid="ignore"):
                for row, values in enumerate(flat):
                    np.subtract(values[first : first + _ROW], old, out=change, dtype=held.dtype)
                    squares[row] += np.dot(change, change)
    return squares


def update_blocks(start: ModelParameters, models: Sequence[ModelParameters]) -> Iterator[Array]:
    """(n, b) blocks of what each of `models` changed in the learned arrays of `start`; the next overwrites one."""
    for place, array in enumerate(start):
        if not is_learned(array):
            continue
        origin, flat = array.reshape(-1), [model[place].reshape(-1) for model in models]
        columns = block_columns(len(models), origin.size)
        held = np.empty((len(models), columns))
        for first in range(0, origin.size, columns):
            part = slice(first, first + columns)
            block = held[:, : len(origin[part])]
            for row, values in zip(block, flat, strict=True):
                np.subtract(values[part], origin[part], out=row, dtype=np.float64)
            yield block


def block_columns(rows: int, size: int) -> int:
    """How many numbers of each of `rows` updates are read at a time, of arrays of `size`."""
    return max(1, min(size, max(1 << 10, BLOCK // max(1, rows))))
