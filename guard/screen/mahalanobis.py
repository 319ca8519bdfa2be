"""Mahalanobis distance to the benign data, in one embedding; class-conditional in the model's features.

The covariance is pooled over classes and shrunk to its diagonal (Ledoit and Wolf, JMVA 2004, eq. 14), which keeps
it invertible when there are fewer rows than dimensions. The class of a row is the model's own decision.

Reference: Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution samples and
adversarial attacks", NeurIPS 2018, eq. 1-2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from guard.screen import embeddings
from guard.types import Array, Outputs

EMBEDDINGS: dict[str, Callable[..., Any]] = {
    "features": embeddings.features,
    "rows": embeddings.rows,
    "thumbnail": embeddings.thumbnail,
    "texture": embeddings.texture,
}
MIN_CLASS_ROWS = 5  # a class seen less often borrows the overall mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Mahalanobis:
    """A screen. `name` is the embedding; ``means (K, d)``, and ``whitening (d, d)`` with W W^T the precision."""

    name: str
    means: Array
    whitening: Array

    @classmethod
    def fit(cls, name: str, inputs: Array, outputs: Outputs) -> Mahalanobis:
        """Fit to benign rows. Only the "features" embedding is class-conditional."""
        z = np.asarray(EMBEDDINGS[name](inputs, outputs, np), np.float64)
        classes = outputs.scores.shape[1]
        decided = np.argmax(outputs.scores, axis=1)
        overall = z.mean(axis=0)
        means = np.tile(overall, (classes, 1))
        if name == "features":
            for label in range(classes):
                if (decided == label).sum() >= MIN_CLASS_ROWS:
                    means[label] = z[decided == label].mean(axis=0)
        covariance = shrunk_covariance(z - means[decided])
        values, vectors = np.linalg.eigh(covariance)
        return cls(name=name, means=means, whitening=vectors / np.sqrt(values))

    def score(self, inputs: Any, outputs: Any, xp: Any = np) -> Any:
        """Log distance ``(n,)`` from the mean of the decided class."""
        z = EMBEDDINGS[self.name](inputs, outputs, xp)
        means, whitening = self._cast(self.means, z, xp), self._cast(self.whitening, z, xp)
        decided = xp.argmax(outputs.scores, axis=1)
        whitened = (z - means[decided]) @ whitening
        return 0.5 * xp.log(xp.mean(whitened * whitened, axis=1) + 1e-12)

    def arrays(self) -> dict[str, Array]:
        """``means`` and ``whitening``."""
        return {"means": self.means, "whitening": self.whitening}

    @classmethod
    def from_arrays(cls, name: str, arrays: dict[str, Array]) -> Mahalanobis:
        """Read back what `arrays` gave."""
        return cls(name=name, means=arrays["means"], whitening=arrays["whitening"])

    @staticmethod
    def _cast(array: Array, like: Any, xp: Any) -> Any:
        return array.astype(like.dtype) if xp is np else xp.as_tensor(array, dtype=like.dtype, device=like.device)


def shrunk_covariance(centred: Array) -> Array:
    """Covariance ``(d, d)`` of centred rows ``(n, d)``, shrunk to its diagonal by the Ledoit-Wolf weight.

    Constant columns get a small positive variance, so that any departure from the constant is strange.
    """
    n = len(centred)
    sample = centred.T @ centred / n
    target = np.diag(np.diag(sample))
    off = sample - target
    squares = (centred**2).T @ (centred**2) / n - sample**2
    noise = (squares.sum() - np.trace(squares)) / n
    weight = 1.0 if (off**2).sum() == 0 else float(np.clip(noise / (off**2).sum(), 0, 1))
    floor = 1e-6 * max(float(np.trace(sample)) / len(sample), 1e-12)
    return np.asarray((1 - weight) * sample + weight * target + floor * np.eye(len(sample)))
