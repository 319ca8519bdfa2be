"""Mahalanobis distance to the benign data, in one embedding; class-conditional in the model's features.

Coordinates are centred and scaled robustly; those of tables then pass through arcsinh, for clinical measurements are
skewed and a few benign outliers would set the scale of everything. The covariance is pooled over classes and shrunk
to its diagonal by the weight under which rows left out are likeliest, for what gives a perturbation away are the
directions in which benign data hardly vary, and too much shrinkage hides them. The class of a row is the model's own
decision: scores come as `ModelSpec.judged` gives them, the largest being what is decided.

Reference: Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution samples and
adversarial attacks", NeurIPS 2018, eq. 1-2; Friedman, "Regularized discriminant analysis", JASA 1989, for choosing
the shrinkage by cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medward.guard.screens import embeddings
from medward.guard.types import Array, Outputs

EMBEDDINGS: dict[str, Callable[..., Any]] = {
    "features": embeddings.feature_embedding,
    "rows": embeddings.row_embedding,
    "layout": embeddings.layout_embedding,
    "thumbnail": embeddings.thumbnail_embedding,
    "texture": embeddings.texture_embedding,
}
MIN_CLASS_ROWS = 5  # a class seen less often borrows the overall mean
SHRINKAGE = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_FOLDS = 5
MIN_VARIANCE = 0.01  # of a column scaled to spread 1
MAHALANOBIS_PARTS = ("center", "spread", "means", "whitening")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mahalanobis:
    """A screen. `name` is the embedding; ``center (d,)`` and ``spread (d,)`` squash it, ``means (K, d)`` are the
    classes', ``whitening (d, d)`` is W with W W^T the precision.
    """

    name: str
    center: Array
    spread: Array
    means: Array
    whitening: Array

    @classmethod
    def fit(cls, name: str, inputs: Array, outputs: Outputs) -> Mahalanobis:
        """Fit to benign rows. Only the "features" embedding is class-conditional."""
        z = np.asarray(EMBEDDINGS[name](inputs, outputs, np), np.float64)
        center, spread = robust_scale(name, z)
        z = squash_tables(name, (z - center) / spread, np)
        classes = outputs.scores.shape[1]
        decided = np.argmax(outputs.scores, axis=1)
        means = np.tile(z.mean(axis=0), (classes, 1))
        if name == "features":
            for label in range(classes):
                if (decided == label).sum() >= MIN_CLASS_ROWS:
                    means[label] = z[decided == label].mean(axis=0)
        return cls(name=name, center=center, spread=spread, means=means, whitening=whitening_matrix(z - means[decided]))

    def score(self, inputs: Any, outputs: Any, xp: Any = np) -> Any:
        """Log distance ``(n,)`` from the mean of the decided class."""
        z = EMBEDDINGS[self.name](inputs, outputs, xp)
        center, spread, means, whitening = (self._cast(getattr(self, part), z, xp) for part in MAHALANOBIS_PARTS)
        decided = xp.argmax(outputs.scores, axis=1)
        whitened = (squash_tables(self.name, (z - center) / spread, xp) - means[decided]) @ whitening
        return 0.5 * xp.log(xp.mean(whitened * whitened, axis=1) + 1e-12)

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by name."""
        return {part: getattr(self, part) for part in MAHALANOBIS_PARTS}

    @classmethod
    def from_arrays(cls, name: str, arrays: dict[str, Array]) -> Mahalanobis:
        """Read back what `arrays` gave."""
        return cls(name=name, **{part: arrays[part] for part in MAHALANOBIS_PARTS})

    @staticmethod
    def _cast(array: Array, like: Any, xp: Any) -> Any:
        return array.astype(like.dtype) if xp is np else xp.as_tensor(array, dtype=like.dtype, device=like.device)


def squash_tables(name: str, z: Any, xp: Any) -> Any:
    """Arcsinh for tables, nothing else: image embeddings have light tails, and far must stay far."""
    return xp.arcsinh(z) if name == "rows" else z


def robust_scale(name: str, z: Array) -> tuple[Array, Array]:
    """Median and spread ``(d,)`` of rows ``(n, d)``: the interquartile range as a normal's standard deviation.

    A column that hardly varies gets a small positive spread: in a table of its own size, since columns have units of
    their own; elsewhere of the other columns', so that a pixel that is nearly always black is not a trap.
    """
    low, center, high = np.quantile(z, [0.25, 0.5, 0.75], axis=0)
    spread = np.maximum((high - low) / 1.349, z.std(axis=0) / 10)
    floor = 1e-6 * (1 + np.abs(center)) if name == "rows" else max(0.1 * float(np.median(spread)), 1e-6)
    return center, np.maximum(spread, floor)


def whitening_matrix(centred: Array) -> Array:
    """W ``(d, d)`` with W W^T the inverse of the shrunk covariance of centred rows ``(n, d)``.

    Where there are more columns than rows, the covariance is a diagonal and a few directions, and costs as much.
    """
    if centred.shape[1] <= len(centred):
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
    Reference: Woodbury, "Inverting modified matrices", 1950; the determinant by Sylvester's identity.
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
        """``D^-1/2 (I + a V V^T)^-1/2``."""
        diagonal, values, vectors = self._spectrum(weight)
        kept = values > values.max(initial=0.0) * 1e-12
        values, vectors = values[kept], vectors[:, kept]
        root = np.sqrt(diagonal)
        turned = (self.rows / root).T @ vectors / np.sqrt(values)
        shrink = 1 / np.sqrt(1 + (1 - weight) / len(self.rows) * values) - 1
        return np.asarray((np.eye(len(root)) + (turned * shrink) @ turned.T) / root[:, None])

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
