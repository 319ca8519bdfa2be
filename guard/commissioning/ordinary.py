"""What ordinary inputs look like: the small summary of reference rows that commissioning compares a batch with.

Of images it has where things lie and how bright they are, of tables each column by itself. No row of a benign input can
be had back from it: an image is in it as an average and as numbers, a column as quantiles apart from the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from medward.guard.commissioning.exceedance import stand_ins
from medward.guard.commissioning.image_mistakes import moved_images, named_range
from medward.guard.screens.embeddings import layout_embedding
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Outputs

FREQUENT = 16
"""How many of the most frequent values of a column are counted."""
MEASURES = ("layout", "brightness", "contrast")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinaryImages:
    """Ordinary images: their mean ``layout (d,)``, and the values of benign ones that a batch is compared with.

    ``measures (3, q)`` are ascending values of `MEASURES`, ``moves (g, q)`` those of how much nearer to the mean layout
    an image is moved as each of `names` undoes; `low` and `high` are the range that they were in.
    """

    layout: Array
    measures: Array
    moves: Array
    names: tuple[str, ...]
    low: float
    high: float

    @classmethod
    def fit(cls, spec: ModelSpec, fit: Array, reference: Array) -> Self:
        """Learn the mean layout of the images `fit`, and how the images `reference` compare with it."""
        outputs = _NO_OUTPUTS
        layout = np.asarray(layout_embedding(fit, outputs), np.float64).mean(axis=0)
        low, high = named_range(reference)
        if spec.low is not None and spec.high is not None:
            low, high = spec.low, spec.high
        empty = cls(layout=layout, measures=np.empty((0, 0)), moves=np.empty((0, 0)), names=(), low=low, high=high)
        moves = moved_images(spec)
        return cls(
            layout=layout,
            measures=np.stack([stand_ins(each) for each in empty.measured(reference).T]),
            moves=np.array([stand_ins(empty.nearer(reference, each.undo(reference))) for each in moves]),
            names=tuple(each.name for each in moves),
            low=low,
            high=high,
        )

    def distances(self, images: Array) -> Array:
        """How far the layout of each image ``(n,)`` lies from the mean one."""
        return np.asarray(((layout_embedding(images, _NO_OUTPUTS) - self.layout) ** 2).mean(axis=1), np.float64)

    def nearer(self, images: Array, undone: Array) -> Array:
        """How much nearer to the mean layout each image ``(n,)`` lies once a mistake is undone."""
        return self.distances(images) - self.distances(undone)

    def measured(self, images: Array) -> Array:
        """The `MEASURES` of each image ``(n, 3)``: distance from the mean layout, mean value, deviation of values."""
        values = np.asarray(images, np.float64).reshape(len(images), -1)
        return np.stack([self.distances(images), values.mean(axis=1), values.std(axis=1)], axis=1)

    def arrays(self) -> dict[str, Any]:
        """What was fitted, by name."""
        return {
            "layout": self.layout.astype(np.float32),
            "measures": self.measures.astype(np.float32),
            "moves": self.moves.astype(np.float32),
            "names": np.array(self.names),
            "range": np.array([self.low, self.high]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Read back what `arrays` gave."""
        low, high = map(float, arrays["range"])
        return cls(
            layout=arrays["layout"],
            measures=arrays["measures"],
            moves=arrays["moves"],
            names=tuple(map(str, arrays["names"])),
            low=low,
            high=high,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinaryColumns:
    """Ordinary columns: the ascending ``values (d, q)`` of each, and how often its most frequent ones stand there.

    ``frequent (d, FREQUENT)`` are these, NaN where a column has fewer, ``counts (d, FREQUENT)`` in how many of `rows`.
    ``means`` and ``deviations (d,)`` are those of each column; `whole` says which hold whole numbers only.
    """

    values: Array
    frequent: Array
    counts: Array
    means: Array
    deviations: Array
    whole: Array
    rows: int

    @classmethod
    def fit(cls, reference: Array) -> Self:
        """Learn each column of the rows `reference`."""
        rows = np.asarray(reference, np.float64).reshape(len(reference), -1)
        frequent = np.full((rows.shape[1], FREQUENT), np.nan)
        counts = np.zeros((rows.shape[1], FREQUENT))
        for j, column in enumerate(rows.T):
            found, times = np.unique(column, return_counts=True)
            order = np.argsort(-times, kind="stable")[:FREQUENT]
            order = order[times[order] > 1]
            frequent[j, : len(order)], counts[j, : len(order)] = found[order], times[order]
        return cls(
            values=np.stack([stand_ins(column) for column in rows.T]),
            frequent=frequent,
            counts=counts,
            means=rows.mean(axis=0),
            deviations=rows.std(axis=0),
            whole=np.asarray((np.mod(rows, 1) == 0).all(axis=0)),
            rows=len(rows),
        )

    def known(self, column: int, value: float) -> int:
        """In how many benign rows `column` holds `value`, at most: of rare values it is not known better."""
        (at,) = np.nonzero(np.isclose(self.frequent[column], value, rtol=1e-6, atol=1e-9))
        if len(at):
            return int(self.counts[column][at[0]])
        return max(1, int(self.counts[column][-1]))

    def arrays(self) -> dict[str, Any]:
        """What was fitted, by name."""
        return {
            "values": self.values.astype(np.float32),
            "frequent": self.frequent.astype(np.float32),
            "counts": self.counts.astype(np.int32),
            "means": self.means.astype(np.float32),
            "deviations": self.deviations.astype(np.float32),
            "whole": self.whole,
            "rows": np.array(self.rows),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Read back what `arrays` gave."""
        named = {name: arrays[name] for name in ("values", "frequent", "counts", "means", "deviations", "whole")}
        return cls(**named, rows=int(arrays["rows"]))


OrdinaryInputs = OrdinaryImages | OrdinaryColumns
"""What ordinary inputs look like, by the kind of input."""


def fit_ordinary(spec: ModelSpec, fit: Array, reference: Array) -> OrdinaryInputs:
    """What the benign rows `fit` and `reference` look like."""
    return OrdinaryImages.fit(spec, fit, reference) if spec.modality == "image" else OrdinaryColumns.fit(reference)


def read_ordinary(arrays: Mapping[str, Any]) -> OrdinaryInputs | None:
    """Read back what was kept in a profile; None where it has none, as profiles of older releases."""
    if not arrays:
        return None
    return OrdinaryImages.from_arrays(arrays) if "layout" in arrays else OrdinaryColumns.from_arrays(arrays)


_NO_OUTPUTS = Outputs(np.empty((0, 1)))
