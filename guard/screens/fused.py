"""Several screens as one: the soft maximum of their scores, so that strange to one is strange, and more so to several.

Each screen's score is centred on its benign median and scaled so that its benign 95th percentile lies at 1, as rows
left out of the fit show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medward.guard.screens.joint import JOINT, JOINT_PARTS, JointScreen
from medward.guard.screens.mahalanobis import MAHALANOBIS_PARTS, Mahalanobis
from medward.guard.types import Array, Outputs, take_rows

FOLDS = 5
SHARPNESS = 1.0  # of the soft maximum
_DECIMALS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedScreen:
    """The fused screen: screens with benign ``centers (S,)`` and ``scales (S,)``."""

    screens: tuple[Mahalanobis | JointScreen, ...]
    centers: Array
    scales: Array

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        inputs: Array,
        outputs: Outputs,
        *,
        seed: int = 0,
        marked: tuple[Array, Outputs] | None = None,
    ) -> FusedScreen:
        """Fit a screen for each of `names`, embeddings or `JOINT`, to benign rows.

        `seed` is of what is drawn; `marked` are the same rows as hospitals mark them, where inputs are images.
        """
        fitted = [_fit_screen(name, (inputs, outputs), seed, marked) for name in names]
        return cls(
            screens=tuple(screen for screen, _, _ in fitted),
            centers=np.array([center for _, center, _ in fitted]),
            scales=np.array([scale for _, _, scale in fitted]),
        )

    def score(self, inputs: Any, outputs: Any, xp: Any = np) -> Any:
        """Fused strangeness ``(n,)``; differentiable when `xp` is torch."""
        parts = [
            (screen.score(inputs, outputs, xp) - float(center)) / float(scale)
            for screen, center, scale in zip(self.screens, self.centers, self.scales, strict=True)
        ]
        scores = xp.stack(parts)
        top = xp.amax(scores, axis=0)
        return top + xp.log(xp.sum(xp.exp(SHARPNESS * (scores - top)), axis=0)) / SHARPNESS

    def strangeness(self, inputs: Array, outputs: Outputs) -> Array:
        """`score`, rounded, so that an input nearly always gets the same value alone and in a batch."""
        return np.round(np.asarray(self.score(inputs, outputs), np.float64), _DECIMALS)

    def arrays(self) -> dict[str, Any]:
        """What was fitted, by name."""
        named = {f"{screen.name}.{key}": value for screen in self.screens for key, value in screen.arrays().items()}
        names = np.array([screen.name for screen in self.screens])
        return {"screens": names, "centers": self.centers, "scales": self.scales, **named}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> FusedScreen:
        """Read back what `arrays` gave."""
        screens = tuple(_read_screen(name, arrays) for name in map(str, arrays["screens"]))
        return cls(screens=screens, centers=arrays["centers"], scales=arrays["scales"])


def _fit_screen(
    name: str, rows: tuple[Array, Outputs], seed: int, marked: tuple[Array, Outputs] | None
) -> tuple[Mahalanobis | JointScreen, float, float]:
    """A screen fitted to all of `rows`; its centre and scale from scores of rows left out of the fit."""
    folds = np.array_split(np.arange(len(rows[0])), FOLDS)
    left_out = []
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(rows[0])), fold)
        own = _fitted(name, take_rows(*rows, rest), seed, None if marked is None else take_rows(*marked, rest))
        left_out.append(own.score(*take_rows(*rows, fold)))
    center, high = np.quantile(np.concatenate(left_out), [0.5, 0.95])
    return _fitted(name, rows, seed, marked), float(center), max(float(high - center), 1e-6)


def _fitted(
    name: str, rows: tuple[Array, Outputs], seed: int, marked: tuple[Array, Outputs] | None
) -> Mahalanobis | JointScreen:
    return JointScreen.fit(*rows, seed=seed) if name == JOINT else Mahalanobis.fit(name, *rows, marked=marked)


def _read_screen(name: str, arrays: Mapping[str, Any]) -> Mahalanobis | JointScreen:
    parts = {part: arrays[f"{name}.{part}"] for part in (JOINT_PARTS if name == JOINT else MAHALANOBIS_PARTS)}
    return JointScreen.from_arrays(parts) if name == JOINT else Mahalanobis.from_arrays(name, parts)
