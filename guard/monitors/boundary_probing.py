"""Boundary probing: how near a model's two best classes are to each other, small being strange.

A model with an operating point is undecided at its threshold, so there scores are log odds from the threshold
(`ModelSpec.judged`), and the gap is the distance to it.

Query-based evasion and active thieves ask where the model is undecided, far more often than patients are. The margin of
one answer is a fixed function of the input, so its calibration-conditional p-values (`Thresholds` of minus the margin)
are bet on as the screens' are, with the same guarantee. Who asks about undecided patients alone looks the same.

Reference: Pal et al., "ActiveThief", AAAI 2020, for thieves that choose by uncertainty; Bates et al. 2023 for the
p-values.
"""

from __future__ import annotations

import numpy as np

from medward.guard.types import Array

_DECIMALS = 4


def closeness(scores: Array) -> Array:
    """Minus the gap between the two largest of ``scores (n, K)``, rounded; ``(n,)``, 0 at a tie, K >= 2."""
    top = np.partition(np.asarray(scores, np.float64), -2, axis=1)[:, -2:]
    return np.round(top[:, 0] - top[:, 1], _DECIMALS)
