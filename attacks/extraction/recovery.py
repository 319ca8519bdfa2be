"""Recovering the model's probabilities from what a coarse release left of them.

The thief knows how answers are released, and its first clone tells it what answers look like before that: released in
the same way, the clone's own answers show which fine ones stand behind a coarse one.

Reference: Tang et al., "ModelGuard", USENIX Security 2024, sec. 3 (recovery-based attacks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medward.attacks.extraction.bayes import posterior_mean
from medward.attacks.extraction.denoise import denoised_probabilities
from medward.guard.errors import MedwardError
from medward.guard.policy import ReleasePolicy
from medward.guard.release.quantise import Prototypes
from medward.guard.release.scores import largest_classes
from medward.guard.release.topk import spread_rest
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import decisions, kept_side
from medward.guard.types import Array, Level

METHODS = ("bayes", "denoise")
MARGIN = 1e-6
FINE = 2  # decimals from which rounding hides next to nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """One way to recover, against the release with these settings; see `guard.policy.ReleasePolicy`."""

    method: Literal["bayes", "denoise"] = "bayes"
    level: Level = Level.ROUNDED
    decimals: int = 2
    top: int = 3
    temperature: float = 1.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise MedwardError(f"method: must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.level >= Level.LABEL:
            raise MedwardError(f"level: a label holds no scores to recover, got {self.level.label!r}")

    @classmethod
    def against(cls, release: ReleasePolicy) -> Recovery | None:
        """What a thief who knows the policy does; None where scores leave fine, as codes, which are means, or not."""
        level = release.default
        fine = level is Level.ROUNDED and release.decimals >= FINE and release.temperature == 1
        if level in (Level.FULL, Level.CODES, Level.LABEL) or fine:
            return None
        return cls(level=level, decimals=release.decimals, top=release.top, temperature=release.temperature)

    def recover(self, released: Array, targets: Array, shadow: Array, *, seed: int) -> Array:
        """`targets (n, K)` with an estimate where scores were `released (n, K)`, from the thief's `shadow (m, K)`.

        Rows of which no score left, or every one of which left in full, stay. The largest class stays the largest, or
        with a `threshold` the second class on its side of it.
        """
        rows = np.isfinite(released).any(axis=1)
        if self.level is Level.FULL or not rows.any():
            return targets
        seen = released[rows]
        coarse = self.simulate(shadow, seen)
        usable = np.isfinite(coarse).any(axis=1)
        if not usable.any():
            return targets
        known, clean = spread_rest(coarse[usable]), shadow[usable]
        if self.method == "bayes":
            found = posterior_mean(spread_rest(seen), known, clean)
        else:
            found = denoised_probabilities(spread_rest(seen), known, clean, seed=seed)
        recovered = targets.copy()
        if self.threshold is None:
            recovered[rows] = _keep_winners(found, largest_classes(np.nan_to_num(seen, nan=-1.0)))
        else:
            positive = decisions(spread_rest(seen), "probabilities", self.threshold) == 1
            likely = kept_side(found[:, 1], positive, self.threshold)
            recovered[rows] = np.stack([1 - likely, likely], axis=1)
        return recovered

    def simulate(self, clean: Array, seen: Array) -> Array:
        """What the release leaves of probabilities `clean (m, K)`; the codes are those that were `seen (n, K)`."""
        whole = seen[np.isfinite(seen).all(axis=1)]
        book = Prototypes(np.unique(whole, axis=0)) if self.level is Level.CODES else None
        names = tuple(map(str, range(clean.shape[1])))
        task = Classification(classes=names, output="probabilities", threshold=self.threshold)
        settings = ReleaseSettings(decimals=self.decimals, top=self.top, temperature=self.temperature, codebook=book)
        return task.release(clean, self.level, settings)


def _keep_winners(values: Array, best: NDArray[np.bool_]) -> Array:
    """Probabilities ``(n, K)`` of which the classes in the mask `best` are larger than any other."""
    top = np.where(best, 0.0, values).max(axis=1, keepdims=True) * (1 + MARGIN)
    raised = np.where(best, np.maximum(values, top), values)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
