"""What the model sees in an input, as a vector whose mean tells distributions apart: whitened random Fourier features.

The embedding (the model's features where it shows them, else the thumbnail of an image; a table's row, its columns
scaled by quantiles) is centred, whitened within classes (by `Mahalanobis`), and mapped by cos and sin of random
projections, so that inner products approximate a Gaussian kernel; the result is centred at its benign mean and whitened
in turn. An account's mean of these vectors is then the witness function of the maximum mean discrepancy between its
inputs and benign ones, with the kernel sharpened where benign inputs vary little. `SharedPerturbation` does the rest
with these vectors as with residuals: the witness that the past gives scores the next input, the calibration rows'
scores bound how often a benign one exceeds a cut, and bets on that make an anytime-valid kernel two-sample test.
Nothing is windowed, so a thief of a few queries in a hundred adds up.

`cells` are for `Coverage`: the nearest of a few anchors (k-means on benign rows), and whether the input lies beyond all
but `FAR` of benign rows from it.

Reference: Rahimi and Recht, NeurIPS 2007; Gretton et al., JMLR 13, 2012, for the witness; Shekhar and Ramdas,
"Nonparametric two-sample testing by betting", IEEE TIT 2023, for betting on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.monitors.base import BenignRows, BetSettings, Monitor, Observations
from medward.guard.monitors.direction_bet import DirectionBet, direction_bet
from medward.guard.monitors.noise_residuals import FAR_DEVIATIONS as BEYOND
from medward.guard.monitors.noise_residuals import REACH_DEVIATIONS, REFERENCE_ROWS, surely_within
from medward.guard.policy import Policy
from medward.guard.screens.mahalanobis import EMBEDDINGS, Mahalanobis, squash_tables
from medward.guard.screens.markings import marking_changes
from medward.guard.screens.whitening import whiten
from medward.guard.types import Array, Ints, Outputs

FREQUENCIES = 64
BANDWIDTH = 2.0  # in median distances of benign rows
RIDGE = 0.05  # of the mean variance of the Fourier features
ANCHORS = 32
ROWS_PER_CELL = 16  # benign rows at least, on average
FAR = 0.1
_LLOYD = 20
_DECIMALS = 5
KERNEL_PARTS = (
    "kind",
    "spread",
    "whitening",
    "frequencies",
    "sphering",
    "anchors",
    "radii",
    "reference",
    "reference_cells",
    "reference_strata",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFeatures:
    """The fitted map and the calibration rows seen through it.

    `kind` names the embedding, of width d; ``spread (2, d)`` centres and scales it, `whitening` (that of
    `guard.screens.whitening`, and the mean in a last row) whitens it, ``frequencies (d, m)`` and ``sphering (2 m + 1,
    k)`` make the vectors; ``anchors (a, d)`` and ``radii (a,)`` the 2 a cells. ``reference (n, k)`` and
    ``reference_cells (n,)`` are calibration rows, of the strata ``reference_strata (n,)``.
    """

    kind: Array
    spread: Array
    whitening: Array
    frequencies: Array
    sphering: Array
    anchors: Array
    radii: Array
    reference: Array
    reference_cells: Ints
    reference_strata: Ints
    fingerprint: str = field(init=False)
    _kind: str = field(init=False, repr=False)
    _sphering: Array = field(init=False, repr=False)
    _anchor_squares: Array = field(init=False, repr=False)
    _radii: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name = hashlib.blake2b(self.reference.tobytes() + self.sphering.tobytes(), digest_size=6).hexdigest()
        object.__setattr__(self, "fingerprint", name)
        object.__setattr__(self, "_kind", str(self.kind))
        object.__setattr__(self, "_sphering", self.sphering.astype(np.float64))  # as waves are
        object.__setattr__(self, "_anchor_squares", (self.anchors * self.anchors).sum(axis=1))
        object.__setattr__(self, "_radii", self.radii.round(_DECIMALS))

    @classmethod
    def fit(
        cls,
        screen: Mahalanobis,
        fit: tuple[Array, Outputs],
        reference: tuple[Array, Outputs],
        *,
        strata: Ints | None = None,
        seed: int = 0,
        marked: tuple[Array, Outputs] | None = None,
    ) -> KernelFeatures:
        """Fit the map to benign rows `fit`, in the coordinates of `screen`, which may be fitted to them.

        What differs between these and their `marked` copies counts little. The rows `reference` take no part in any of
        that; `strata (n,)` are theirs, all 0 by default.
        """
        rng = np.random.default_rng(seed)
        rows = _coordinates(screen, *fit)
        mean = rows.mean(axis=0)
        rows = whiten(rows - mean, screen.whitening)
        scale = BANDWIDTH * _median_distance(rows)
        frequencies = rng.normal(size=(rows.shape[1], FREQUENCIES)) / scale
        waves = _waves(rows, frequencies)
        covariance = np.cov(waves.T)
        if marked is not None:
            moved = _waves(whiten(_coordinates(screen, *marked) - mean, screen.whitening), frequencies)
            changes = marking_changes(waves, moved)
            covariance += changes.T @ changes / len(changes)
        variances, turned = np.linalg.eigh(covariance)
        sphering = turned / np.sqrt(np.maximum(variances, 0) + max(RIDGE * float(variances.mean()), 1e-9))
        anchors = k_means(rows, min(ANCHORS, max(1, len(reference[0]) // (2 * ROWS_PER_CELL))), rng)
        nearest, distances = _nearest(rows, anchors, (anchors * anchors).sum(axis=1))
        radii = [np.quantile(distances[nearest == i], 1 - FAR) for i in range(len(anchors))]
        fitted = cls(
            kind=np.array(screen.name),
            spread=np.stack([screen.center, screen.spread]).astype(np.float32),
            whitening=np.vstack([screen.whitening, mean]).astype(np.float32),
            frequencies=frequencies.astype(np.float32),
            sphering=np.vstack([sphering, waves.mean(axis=0)]).astype(np.float32),
            anchors=anchors.astype(np.float32),
            radii=np.array(radii, np.float32),
            reference=np.zeros((0, 2 * FREQUENCIES), np.float32),
            reference_cells=np.zeros(0, np.int64),
            reference_strata=np.zeros(0, np.int64),
        )
        vectors, cells = fitted.see(*reference)
        strata = np.zeros(len(vectors), np.int64) if strata is None else strata
        kept = np.sort(rng.permutation(len(vectors))[:REFERENCE_ROWS])
        return replace(fitted, reference=vectors[kept], reference_cells=cells[kept], reference_strata=strata[kept])

    @property
    def count(self) -> int:
        """How many cells there are."""
        return 2 * len(self.anchors)

    def see(self, inputs: Array, outputs: Outputs) -> tuple[Array, Ints]:
        """Vectors ``(n, k)``, none longer than sqrt(k) + `REACH_DEVIATIONS`, and cells ``(n,)``."""
        with np.errstate(over="ignore", invalid="ignore"):  # values near the largest float are finite inputs too
            rows = np.asarray(EMBEDDINGS[self._kind](inputs, outputs, np), np.float32)
            rows = squash_tables(self._kind, (rows - self.spread[0]) / self.spread[1], np)
            if not surely_within(rows, BEYOND):
                rows = np.maximum(np.fmin(rows, BEYOND), -BEYOND)  # NaN is beyond
        # A product of finite rows may still raise the processor's flag, in lanes that OpenBLAS only fills up.
        with np.errstate(invalid="ignore"):
            rows = whiten(rows - self.whitening[-1], self.whitening[:-1])
            z = (_waves(rows, self.frequencies) - self._sphering[-1]) @ self._sphering[:-1]
            nearest, distances = _nearest(rows, self.anchors, self._anchor_squares)
            if not surely_within(z, reach := z.shape[1] ** 0.5 + REACH_DEVIATIONS):
                lengths = np.sqrt((z * z).sum(axis=1, keepdims=True))
                z = z * np.minimum(1, reach / np.maximum(lengths, 1e-6))
                if not np.isfinite(z).all():
                    raise MedwardError("embedding: what is seen of an input is not finite; protect the model again")
        cells = 2 * nearest + (distances.round(_DECIMALS) > self._radii[nearest])
        return z.astype(np.float32, copy=False), cells.astype(np.int64, copy=False)

    def at_risk(self, risk: float, strata: int) -> KernelFeatures:  # noqa: ARG002 (each account has its own cuts)
        """The same: nothing here rests on the risk."""
        return self

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by name."""
        return {part: getattr(self, part) for part in KERNEL_PARTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> KernelFeatures:
        """Read back what `arrays` gave; raises `MedwardError` when the parts do not fit one another."""
        parts: dict[str, Any] = {part: arrays[part] for part in KERNEL_PARTS}
        fitted, cells = cls(**parts), parts["reference_cells"]
        if (
            str(fitted.kind) not in EMBEDDINGS
            or fitted.sphering.shape != (2 * fitted.frequencies.shape[1] + 1, fitted.reference.shape[1])
            or fitted.radii.shape != fitted.anchors.shape[:1]
            or not len(cells) == len(fitted.reference) == len(fitted.reference_strata)
            or (len(cells) and not 0 <= cells.min() <= cells.max() < fitted.count)
        ):
            raise MedwardError("profile: the arrays of embedding do not fit one another; protect the model again")
        return fitted


def _coordinates(screen: Mahalanobis, inputs: Array, outputs: Outputs) -> Array:
    """Rows ``(n, d)`` as `screen` centres and scales them."""
    rows = EMBEDDINGS[screen.name](inputs, outputs, np)
    return np.asarray(squash_tables(screen.name, (rows - screen.center) / screen.spread, np))


def k_means(rows: Array, count: int, rng: np.random.Generator) -> Array:
    """At most `count` centres ``(a, d)`` of ``rows (n, d)``, each with rows of its own: Lloyd's steps."""
    centres = rows[rng.permutation(len(rows))[:count]]
    for _ in range(_LLOYD):
        nearest, _ = _nearest(rows, centres, (centres * centres).sum(axis=1))
        centres = np.stack([rows[nearest == i].mean(axis=0) for i in np.unique(nearest)])
    nearest, _ = _nearest(rows, centres, (centres * centres).sum(axis=1))
    return np.asarray(centres[np.unique(nearest)])


def _nearest(rows: Array, centres: Array, lengths: Array) -> tuple[Ints, Array]:
    """The nearest of `centres`, of squared `lengths`, to each row, and how far it is."""
    squares = (rows * rows).sum(axis=1, keepdims=True) - 2 * rows @ centres.T + lengths
    return squares.argmin(axis=1), np.sqrt(np.maximum(squares.min(axis=1), 0))


def _waves(rows: Array, frequencies: Array) -> Array:
    """Random Fourier features ``(n, 2 m)``, of length 1."""
    angles = rows @ frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.float64(frequencies.shape[1] ** 0.5)


def _median_distance(rows: Array, most: int = 300) -> float:
    some = rows[:most]
    squares = np.concatenate([((some[i] - some[i + 1 :]) ** 2).sum(axis=1) for i in range(len(some))])
    return max(float(np.sqrt(np.median(squares))) if len(squares) else 1.0, 1e-6)


def fit_kernel_features(rows: BenignRows) -> KernelFeatures:
    """Fit in the coordinates of the first screen that measures distance; for every monitor that shares the map."""
    screen = next(each for each in rows.screen.screens if isinstance(each, Mahalanobis))
    return KernelFeatures.fit(screen, rows.fit, rows.reference, strata=rows.strata, seed=rows.seed, marked=rows.marked)


def read_kernel_features(arrays: Mapping[str, Array]) -> KernelFeatures | None:
    """Read the map back, None where a profile has none."""
    return KernelFeatures.from_arrays(arrays) if arrays else None


def _observed(fitted: KernelFeatures, seen: tuple[Array, Ints], policy: Policy) -> Observations:  # noqa: ARG001
    return {EMBEDDING.name: seen[0]}


def _bet(fitted: KernelFeatures, settings: BetSettings) -> DirectionBet:
    return direction_bet(EMBEDDING.name, fitted, settings)


EMBEDDING = Monitor(
    name="embedding",
    share=0.06,
    source="embedding",
    prefix="embedding.",
    fit=fit_kernel_features,
    read=read_kernel_features,
    observe=_observed,
    bet=_bet,
)
