"""Mahalanobis distance to the benign data, in one embedding; class-conditional in the model's features.

Coordinates are centred and scaled robustly; those of tables then pass through arcsinh, for clinical measurements are
skewed and a few benign outliers would set the scale of everything. The covariance is pooled over classes and shrunk
to its diagonal (`guard.screens.whitening`). The class of a row is the model's own decision: scores come as
`ModelSpec.judged` gives them, the largest being what is decided.

Reference: Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution samples and
adversarial attacks", NeurIPS 2018, eq. 1-2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.plugins import Plugin, checked_plugins
from medward.guard.screens import embeddings
from medward.guard.screens.markings import marking_changes
from medward.guard.screens.whitening import fit_whitening, whiten
from medward.guard.types import Array, Modality, Outputs

EMBEDDINGS: dict[str, Callable[..., Any]] = {
    "features": embeddings.feature_embedding,
    "rows": embeddings.row_embedding,
    "layout": embeddings.layout_embedding,
    "thumbnail": embeddings.thumbnail_embedding,
    "texture": embeddings.texture_embedding,
}
"""Medward's own; see `find_embedding` for all."""
MIN_CLASS_ROWS = 5  # a class seen less often borrows the overall mean
MAHALANOBIS_PARTS = ("center", "spread", "means", "whitening")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenEmbedding:
    """A screen's embedding is what another package adds to the screens of models of one `modality`.

    `embed` maps ``(inputs, outputs, xp)`` to ``(n, d)`` with operations that NumPy and torch share, as those of
    `guard.screens.embeddings`.
    """

    name: str
    modality: Modality
    embed: Callable[..., Any]


def plugin_screens() -> tuple[Plugin, ...]:
    """The screens of other packages that are installed. Raises `MedwardError` for one that cannot be used."""
    return checked_plugins(
        "screens",
        EMBEDDINGS,
        lambda value: (
            "" if isinstance(value, ScreenEmbedding) else f"is a {type(value).__name__} and not a ScreenEmbedding"
        ),
    )


def find_embedding(name: str) -> Callable[..., Any]:
    """The embedding called `name`. Raises `MedwardError` where it is of a package that is not installed."""
    if name in EMBEDDINGS:
        return EMBEDDINGS[name]
    for plugin in plugin_screens():
        if plugin.name == name:
            found: Callable[..., Any] = plugin.value.embed
            return found
    raise MedwardError(f"screen {name!r}: no installed package has it; install the one it was calibrated with")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mahalanobis:
    """A screen. `name` is the embedding; ``center (d,)`` and ``spread (d,)`` squash it, ``means (K, d)`` are the
    classes', `whitening` is that of `guard.screens.whitening`.
    """

    name: str
    center: Array
    spread: Array
    means: Array
    whitening: Array

    @classmethod
    def fit(
        cls, name: str, inputs: Array, outputs: Outputs, *, marked: tuple[Array, Outputs] | None = None
    ) -> Mahalanobis:
        """Fit to benign rows. Only the "features" embedding is class-conditional.

        What differs between them and their `marked` copies, where there are such, counts little in distances.
        """
        z = np.asarray(find_embedding(name)(inputs, outputs, np), np.float64)
        center, spread = robust_scale(name, z)
        z = squash_tables(name, (z - center) / spread, np)
        classes = outputs.scores.shape[1]
        decided = np.argmax(outputs.scores, axis=1)
        means = np.tile(z.mean(axis=0), (classes, 1))
        if name == "features":
            for label in range(classes):
                if (decided == label).sum() >= MIN_CLASS_ROWS:
                    means[label] = z[decided == label].mean(axis=0)
        deviations = z - means[decided]
        if marked is not None:
            moved = squash_tables(name, (np.asarray(find_embedding(name)(*marked, np)) - center) / spread, np)
            deviations = np.concatenate([deviations, marking_changes(z, moved)])
        return cls(name=name, center=center, spread=spread, means=means, whitening=fit_whitening(deviations))

    def score(self, inputs: Any, outputs: Any, xp: Any = np) -> Any:
        """Log distance ``(n,)`` from the mean of the decided class."""
        z = find_embedding(self.name)(inputs, outputs, xp)
        center, spread, means, whitening = (self._cast(getattr(self, part), z, xp) for part in MAHALANOBIS_PARTS)
        decided = xp.argmax(outputs.scores, axis=1)
        whitened = whiten(squash_tables(self.name, (z - center) / spread, xp) - means[decided], whitening)
        return 0.5 * xp.log(xp.mean(whitened * whitened, axis=1) + 1e-12)

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by name."""
        return {part: getattr(self, part) for part in MAHALANOBIS_PARTS}

    @classmethod
    def from_arrays(cls, name: str, arrays: dict[str, Array]) -> Mahalanobis:
        """Read back what `arrays` gave."""
        find_embedding(name)
        return cls(name=name, **{part: arrays[part] for part in MAHALANOBIS_PARTS})

    @staticmethod
    def _cast(array: Array, like: Any, xp: Any) -> Any:
        if xp is np:
            return array.astype(like.dtype, copy=False)
        return xp.as_tensor(array, dtype=like.dtype, device=like.device)


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
