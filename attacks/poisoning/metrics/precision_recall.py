"""Precision and recall of generated images: which look real, and which real ones can be made.

Reference: Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from medward.attacks.poisoning.metrics.frechet_distance import check_features
from medward.guard.errors import MedwardError
from medward.guard.types import Array

_ROWS = 1024  # whose distances are held at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorCoverage:
    """Coverage says how many generated images are among the real (precision), and real among the generated (recall)."""

    precision: float
    recall: float


def generator_coverage(real: Array, made: Array, *, neighbours: int = 3) -> GeneratorCoverage:
    """Precision and recall of features (n, d) and (m, d).

    A point is among others when it is no further from one of them than that one's `neighbours`-th nearest neighbour.
    Raises `MedwardError` where a set has no more than `neighbours` rows.
    """
    check_features(real, made)
    if not 1 <= neighbours < min(len(real), len(made)):
        raise MedwardError(
            f"neighbours: must be at least 1 and fewer than the rows, got {neighbours} for {len(real)} and {len(made)}"
        )
    return GeneratorCoverage(precision=_among(made, real, neighbours), recall=_among(real, made, neighbours))


def _among(points: Array, others: Array, neighbours: int) -> float:
    reach = np.concatenate(
        [np.partition(cdist(part, others), neighbours, axis=1)[:, neighbours] for part in _parts(others)]
    )
    return float(np.concatenate([(cdist(part, others) <= reach).any(axis=1) for part in _parts(points)]).mean())


def _parts(rows: Array) -> list[Array]:
    return [rows[first : first + _ROWS] for first in range(0, len(rows), _ROWS)]
