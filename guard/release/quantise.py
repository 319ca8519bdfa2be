"""Deterministic quantisation: what leaves is the nearest of a few typical answers of the same class.

Each class has its own codes, averages of benign calibration outputs the model decided for it. The same output always
gives the same code, so asking again, or averaging over noisy copies, teaches a thief nothing more, except where the
copies fall to either side of the border between two codes.

Codes are found class by class in increments: the group with the largest squared error is split in half along its
widest coordinate, and Lloyd's steps then settle them. Every code averages `LEAST_ROWS` rows or more: it tells of no
single patient. Where the model ties, or a class had too few rows for a code, only the label leaves. With a threshold a
row's class is the decision, and so is a code's.

Reference: in the spirit of ModelGuard-S: Tang et al., "ModelGuard: information-theoretic defense against model
extraction attacks", USENIX Security 2024, sec. 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.release.rounding import round_keeping_side, round_keeping_winners
from medward.guard.release.scores import NDArrayBool, largest_classes
from medward.guard.tasks.decision import decisions
from medward.guard.types import Array, Ints

LEAST_ROWS = 5  # rows behind a code
_DECIMALS = 4
_LLOYD = 50  # steps at most
PROTOTYPE_PARTS = ("codes",)


@dataclass(frozen=True, slots=True, eq=False)
class Prototypes:
    """``codes (m, K)``: probability rows, each with one largest class."""

    codes: Array

    @classmethod
    def fit(cls, outputs: Array, size: int, threshold: float | None = None) -> Prototypes:
        """At most `size` codes per class for benign probabilities ``outputs (n, K)``; no randomness."""
        rows = np.asarray(outputs, np.float64)
        labels = decisions(rows, "probabilities", threshold)
        alone = largest_classes(rows).sum(axis=1) == 1 if threshold is None else np.ones(len(rows), bool)
        found = []
        for each in range(rows.shape[1]):
            mine = rows[alone & (labels == each)]
            if len(mine) >= LEAST_ROWS:
                means = _centroids(mine, size)
                own = np.broadcast_to(np.arange(rows.shape[1]) == each, means.shape)
                if threshold is None:
                    means = round_keeping_winners(means, own, _DECIMALS)
                else:
                    means = round_keeping_side(means, own[:, 1], threshold, _DECIMALS)
                found.append(np.unique(means, axis=0))
        codes = np.concatenate([np.zeros((0, rows.shape[1])), *found])
        return cls(codes[largest_classes(codes).sum(axis=1) == 1])

    def nearest(self, values: Array, best: NDArrayBool, threshold: float | None = None) -> Array:
        """The code ``(n, K)`` next to each row of probabilities `values` that decides the same class, else NaN.

        `best (n, K)` masks the classes of a row; one with several has no code.
        """
        owners, labels = decisions(self.codes, "probabilities", threshold), best.argmax(axis=1)
        alone = best.sum(axis=1) == 1
        released = np.full(values.shape, np.nan)
        for each in np.unique(labels[alone]):
            codes, rows = self.codes[owners == each], alone & (labels == each)
            if len(codes):
                released[rows] = codes[_nearest(values[rows], codes)]
        return released

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by name."""
        return {"codes": self.codes}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Prototypes:
        """Read back what `arrays` gave; raises `MedwardError` for rows that are no codes."""
        codes = arrays["codes"]
        if (
            codes.ndim != 2
            or not np.isfinite(codes).all()
            or (codes < 0).any()
            or (largest_classes(codes).sum(axis=1) != 1).any()
        ):
            raise MedwardError(
                "profile: the output codes are not probabilities with one winner; protect the model again"
            )
        return cls(codes)


def _centroids(rows: Array, size: int) -> Array:
    """At most `size` means ``(m, K)`` of `LEAST_ROWS` or more of `rows (n, K)` each."""
    groups = [rows]
    while len(groups) < size:
        errors = [
            float(group.var(axis=0).sum()) * len(group) if len(group) >= 2 * LEAST_ROWS else 0.0 for group in groups
        ]
        worst = int(np.argmax(errors))
        if errors[worst] <= 0:
            break
        group = groups.pop(worst)
        order = np.argsort(group[:, group.var(axis=0).argmax()], kind="stable")
        groups += [group[half] for half in np.array_split(order, 2)]
    means = np.stack([group.mean(axis=0) for group in groups])
    for _ in range(_LLOYD):
        nearest = _nearest(rows, means)
        counts = np.bincount(nearest, minlength=len(means))
        settled = np.stack(
            [
                rows[nearest == each].mean(axis=0) if counts[each] >= LEAST_ROWS else means[each]
                for each in range(len(means))
            ]
        )
        kept = counts >= LEAST_ROWS
        if kept.all() and np.allclose(settled, means, rtol=0, atol=1e-9):
            break
        means = settled[kept]
    return settled[kept]


def _nearest(rows: Array, codes: Array) -> Ints:
    """The index ``(n,)`` of the code closest to each row; the first of those equally close.

    Row by row the same operations whatever the batch, so that the code of a row never depends on its neighbours.
    """
    return np.asarray(((rows[:, None] - codes[None]) ** 2).sum(axis=2).argmin(axis=1), np.int64)
