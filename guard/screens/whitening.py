"""Whitening: the linear map after which benign rows vary by one in every direction, so that lengths are distances.

The covariance is shrunk to its diagonal by the weight under which rows left out are likeliest, for what gives a
perturbation away are the directions in which benign data hardly vary, and too much shrinkage hides them.

With no more columns than rows, a whitening is a matrix W ``(d, d)`` with W W^T the precision. With more, the covariance
of n rows is a diagonal D and r <= n directions, and so is its whitening: W = D^-1/2 (I - U^T U). Then what is fitted,
kept and applied grows with d and not with its square: ``(1 + r, d)``, the first row D^-1/2, the others U. As r + 1 < d
there, the shape tells the two apart.

Reference: Friedman, "Regularized discriminant analysis", JASA 1989, for choosing the shrinkage by cross-validation;
Woodbury, "Inverting modified matrices", 1950; the determinant by Sylvester's identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medward.guard.types import Array

SHRINKAGE = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_FOLDS = 5
MIN_VARIANCE = 0.01  # of a column scaled to spread 1


def whiten(rows: Any, whitening: Any) -> Any:
    """``rows (n, d)`` times W, of NumPy or torch; differentiable."""
    if whitening.shape[0] == whitening.shape[1]:
        return rows @ whitening
    scaled, directions = rows * whitening[0], whitening[1:]
    return scaled - (scaled @ directions.T) @ directions


def fit_whitening(centred: Array) -> Array:
    """That of the shrunk covariance of centred rows ``(n, d)``: ``(d, d)``, or ``(1 + r, d)`` where d > n + 1."""
    if centred.shape[1] <= len(centred) + 1:
        values, vectors = np.linalg.eigh(shrunk_covariance(centred))
        return np.asarray(vectors / np.sqrt(values))
    folds = [
        (np.delete(centred, fold, axis=0), centred[fold])
        for fold in np.array_split(np.arange(len(centred)), min(_FOLDS, len(centred)))
    ]
    fitted = [(WideCovariance.of(rest), rows) for rest, rows in folds]
    best = max(SHRINKAGE, key=lambda weight: sum(wide.likelihood(rows, weight) for wide, rows in fitted))
    return WideCovariance.of(centred).whitening(best)


@dataclass(frozen=True, slots=True)
class WideCovariance:
    """The covariance `blended_covariance` of rows X ``(n, d)``, d > n, never written out: diag(D) + a X^T X, a = (1 -
    weight) / n.

    With V = D^-1/2 X^T everything is said by V V^T, whose eigenvectors follow from those of the small matrix V^T V.
    `gram` is V^T V ``(n, n)`` of the columns that lack no variance, at weight 1: there D is proportional to the weight.
    """

    rows: Array
    variances: Array
    missing: Array
    gram: Array

    @classmethod
    def of(cls, centred: Array) -> WideCovariance:
        """The parts that no weight changes."""
        variances = np.mean(centred * centred, axis=0)
        missing = np.maximum(MIN_VARIANCE - variances, 0)
        plain = np.where(missing > 0, 0.0, 1 / np.maximum(variances, MIN_VARIANCE))
        return cls(centred, variances, missing, (centred * plain) @ centred.T)

    def likelihood(self, rows: Array, weight: float) -> float:
        """Twice the Gaussian log likelihood of `rows`, up to a constant."""
        diagonal, values, vectors = self._spectrum(weight)
        scaled = rows / diagonal
        along = (scaled @ self.rows.T) @ vectors
        inside = (1 - weight) / len(self.rows)
        squares = (scaled * rows).sum() - inside * (along**2 / (1 + inside * values)).sum()
        volume = np.log(diagonal).sum() + np.log1p(inside * values).sum()
        return -float(squares) - len(rows) * float(volume)

    def whitening(self, weight: float) -> Array:
        """``(1 + r, d)``: D^-1/2, and U with I - U^T U = (I + a V V^T)^-1/2."""
        diagonal, values, vectors = self._spectrum(weight)
        kept = values > values.max(initial=0.0) * 1e-12
        values, vectors = values[kept], vectors[:, kept]
        root = 1 / np.sqrt(diagonal)
        shrink = 1 - 1 / np.sqrt(1 + (1 - weight) / len(self.rows) * values)
        return np.vstack([root, (vectors * np.sqrt(shrink / values)).T @ (self.rows * root)])

    def _spectrum(self, weight: float) -> tuple[Array, Array, Array]:
        """D ``(d,)``, and the eigenvalues and eigenvectors of V^T V."""
        diagonal = weight * self.variances + self.missing
        lacking = self.missing > 0
        some = self.rows[:, lacking]
        values, vectors = np.linalg.eigh(self.gram / weight + (some / diagonal[lacking]) @ some.T)
        return diagonal, np.maximum(values, 0), vectors


def shrunk_covariance(centred: Array) -> Array:
    """Covariance ``(d, d)`` of centred rows ``(n, d)``, shrunk to its diagonal by the likeliest of `SHRINKAGE`."""
    folds = np.array_split(np.arange(len(centred)), min(_FOLDS, len(centred)))

    def likelihood(weight: float) -> float:
        total = 0.0
        for fold in folds:
            covariance = blended_covariance(np.delete(centred, fold, axis=0), weight)
            rows = centred[fold]
            total -= float((rows @ np.linalg.inv(covariance) * rows).sum())
            total -= len(rows) * float(np.linalg.slogdet(covariance)[1])
        return total

    return blended_covariance(centred, max(SHRINKAGE, key=likelihood))


def blended_covariance(centred: Array, weight: float) -> Array:
    """``(1 - weight) S + weight diag(S)``, S the covariance of `centred` with variances of at least `MIN_VARIANCE`."""
    sample = centred.T @ centred / len(centred)
    variances = np.diag(sample)
    missing = np.maximum(MIN_VARIANCE - variances, 0)
    return np.asarray((1 - weight) * sample + np.diag(weight * variances + missing))
