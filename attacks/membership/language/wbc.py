"""WBC: in how many windows of neighbouring tokens does the reference lose more than the target?

A few memorised places sway many windows and a few odd tokens only few, so that the vote is robust to both.

Reference: "Window-based comparison", arXiv 2601.02751, 2026; the window lengths are those of its configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.reference_ratio import require_same_tokens
from medward.attacks.membership.language.tokens import TokenStatistics
from medward.guard.types import Array

WINDOWS = (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)


def wbc_scores(target: Sequence[TokenStatistics], reference: Sequence[TokenStatistics]) -> Array:
    """The share ``(n,)`` of windows that the target wins, averaged over the lengths `WINDOWS`.

    A length above that of the text is the text's. A tie counts one half (the paper has no rule for it), so that a
    reference which is the target scores one half everywhere. Raises `MedwardError` where the tokens differ.
    """
    require_same_tokens(target, reference, "wbc")
    gains = [other.losses - own.losses for own, other in zip(target, reference, strict=True)]
    return np.array([np.mean([window_votes(gain, width) for width in WINDOWS]) for gain in gains])


def window_votes(gains: Array, width: int) -> float:
    """The share of windows of `width` tokens over which `gains (T,)` sum to more than 0; a sum of 0 is half a vote."""
    sums = np.convolve(gains, np.ones(min(width, len(gains))), mode="valid")
    return float((np.sign(sums) + 1).mean() / 2)
