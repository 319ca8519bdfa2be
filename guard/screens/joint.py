"""Joint screen: how much likelier an invented row of a table is than a benign one, by a classifier of the two.

Who owns no patients invents rows: columns drawn one by one, from normals or from what each column has. Every column
then looks ordinary; that columns depend on one another is what such rows get wrong. So benign rows are told from rows
made of them in both ways, by logistic regression on what a row shows: its columns, its Mahalanobis distance,
`UNITS` random functions of up to `COLUMNS_PER_UNIT` columns, and how far columns of a few values are from all of them.
The score is the log odds. Where columns do not depend on one another nothing can tell invented rows; how well this
screen tells them is stated of each bundle (`guard.bundle.power`).

The classifier is fitted to benign rows of the fit alone, so ranks and p-values of its scores are valid whatever it
learns. All of it is smooth but for corners, and differentiable as it stands.

Reference: Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017; Rahimi and Recht, "Weighted sums of
random kitchen sinks", NIPS 2008, for the random functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medward.guard.screens.embeddings import row_embedding
from medward.guard.screens.mahalanobis import robust_scale
from medward.guard.screens.whitening import fit_whitening, whiten
from medward.guard.types import Array, Ints, Outputs

JOINT = "joint"
UNITS = 128
COLUMNS_PER_UNIT = 4
INVENTED = 5  # rows of each kind to a benign one
PENALTY = 0.00005  # on squared weights, beside a loss that is a mean over both sides
FEW_VALUES = 10  # of a column that has codes
MOST_COLUMNS = 200  # that have weights of their own
_REACH = 6.0  # standard deviations: what is beyond counts as that
_NEWTON_STEPS = 8
JOINT_PARTS = ("center", "spread", "mean", "whitening", "units", "offsets", "codes", "coded", "weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class JointScreen:
    """A joint screen. ``center, spread, mean (d,)`` scale and centre columns, `whitening` measures how far a row is.

    ``units (d, U)`` and ``offsets (U,)`` are the random functions; ``codes (c, FEW_VALUES)`` the values of the columns
    ``coded (c,)``, the last repeated; ``weights (w,)`` those of the regression, the first its constant.
    """

    center: Array
    spread: Array
    mean: Array
    whitening: Array
    units: Array
    offsets: Array
    codes: Array
    coded: Ints
    weights: Array
    name: str = JOINT

    @classmethod
    def fit(cls, inputs: Array, outputs: Outputs, *, seed: int = 0) -> JointScreen:
        """Fit to benign rows ``(n, d)``; `seed` draws the random functions and invented rows."""
        rng = np.random.default_rng(seed)
        rows = np.asarray(row_embedding(inputs, outputs), np.float64)
        center, spread = robust_scale("rows", rows)
        benign = np.arcsinh((rows - center) / spread)
        mean = benign.mean(axis=0)
        units, offsets = random_units(rows.shape[1], rng)
        coded = np.array([j for j in range(rows.shape[1]) if len(np.unique(rows[:, j])) <= FEW_VALUES], np.int64)
        screen = cls(
            center=center,
            spread=spread,
            mean=mean,
            whitening=fit_whitening(benign - mean),
            units=units,
            offsets=offsets,
            codes=column_codes(benign[:, coded]),
            coded=coded,
            weights=np.zeros(0),
        )
        count = INVENTED * len(rows)
        made = np.concatenate([shuffled_rows(rows, count, rng), normal_rows(rows, count, rng)])
        shown = np.concatenate([screen.shown(each, np) for each in (rows, made)])
        weights = logistic_weights(shown, np.arange(len(shown)) >= len(rows))
        return cls(**{**{part: getattr(screen, part) for part in JOINT_PARTS}, "weights": weights})

    def shown(self, rows: Any, xp: Any) -> Any:
        """What the regression sees of rows ``(n, d)``: ``(n, w)``."""
        cast = {part: _cast(getattr(self, part), rows, xp) for part in JOINT_PARTS if part != "coded"}
        squashed = xp.arcsinh((rows - cast["center"]) / cast["spread"])
        centred = squashed - cast["mean"]
        whitened = whiten(centred, cast["whitening"])
        distance = xp.mean(whitened * whitened, axis=1)[:, None]
        centred = xp.clip(centred, -_REACH, _REACH)
        parts = [distance * 0 + 1, xp.log(distance + 1e-3), xp.clip(distance, 0, _REACH**2) / _REACH]
        parts.append(xp.tanh(centred @ cast["units"] + cast["offsets"]))
        if centred.shape[1] <= MOST_COLUMNS:
            parts.append(centred)
        if len(self.coded):
            apart = xp.abs(squashed[:, self.coded][:, :, None] - cast["codes"])
            parts.append(xp.mean(xp.clip(xp.amin(apart, axis=2), 0, 1), axis=1)[:, None])
        return xp.concatenate(parts, axis=1)

    def score(self, inputs: Any, outputs: Any, xp: Any = np) -> Any:
        """Log odds ``(n,)`` that a row is invented."""
        rows = row_embedding(inputs, outputs, xp)
        if xp is np:  # so that a row scores the same alone and in a batch
            rows = rows.astype(np.float64)
        return self.shown(rows, xp) @ _cast(self.weights, rows, xp)

    def arrays(self) -> dict[str, Any]:
        """What was fitted, by name."""
        return {part: getattr(self, part) for part in JOINT_PARTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> JointScreen:
        """Read back what `arrays` gave."""
        return cls(**{part: arrays[part] for part in JOINT_PARTS})


def random_units(columns: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Weights ``(d, UNITS)`` of random functions, each of a few of `columns`, and their offsets ``(UNITS,)``."""
    units = np.zeros((columns, UNITS))
    for unit in range(UNITS):
        some = rng.permutation(columns)[: int(rng.integers(1, COLUMNS_PER_UNIT + 1))]
        units[some, unit] = rng.normal(size=len(some)) * rng.choice((0.5, 1.0, 2.0)) / len(some) ** 0.5
    return units, rng.normal(size=UNITS)


def column_codes(rows: Array) -> Array:
    """The values of each column of ``rows (n, c)``: ``(c, FEW_VALUES)``, the last one repeated."""
    codes = np.zeros((rows.shape[1], FEW_VALUES))
    for column in range(rows.shape[1]):
        own = np.unique(rows[:, column])
        codes[column] = own[np.minimum(np.arange(FEW_VALUES), len(own) - 1)]
    return codes


def shuffled_rows(rows: Array, count: int, rng: np.random.Generator) -> Array:
    """`count` rows whose columns are drawn one by one from those of ``rows (n, d)``."""
    return np.stack([rng.choice(rows[:, column], count) for column in range(rows.shape[1])], axis=1)


def normal_rows(rows: Array, count: int, rng: np.random.Generator) -> Array:
    """`count` rows whose columns are drawn one by one from normals of the mean and deviation of ``rows (n, d)``."""
    return rng.normal(rows.mean(axis=0), rows.std(axis=0), size=(count, rows.shape[1]))


def logistic_weights(shown: Array, invented: Any) -> Array:
    """Weights of a ridge logistic regression by Newton's steps; both sides of ``invented (n,)`` weigh alike."""
    share = np.where(invented, 0.5 / invented.sum(), 0.5 / (~invented).sum())
    penalty = np.full(shown.shape[1], PENALTY)
    penalty[0] = 1e-6
    weights = np.zeros(shown.shape[1])
    for _ in range(_NEWTON_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(shown @ weights, -30, 30)))
        slope = shown.T @ (share * (likely - invented)) + penalty * weights
        curve = share * np.maximum(likely * (1 - likely), 1e-3)
        weights = weights - np.linalg.solve((shown * curve[:, None]).T @ shown + np.diag(penalty), slope)
    return weights


def _cast(array: Array, like: Any, xp: Any) -> Any:
    if xp is np:
        return array.astype(like.dtype, copy=False)
    return xp.as_tensor(array, dtype=like.dtype, device=like.device)
