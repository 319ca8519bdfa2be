"""ModRényi: an entropy that counts what is put on the true word as certainty, and on the others as error.

Reference: Li, Wu, Chen, Tonin, Abad Rocamora and Cevher, "Membership inference attacks against large vision-language
models", NeurIPS 2024, sec. 5.2; at alpha = 1 the modified entropy of Song and Mittal, "Systematic evaluation of
privacy risks of machine learning models", USENIX Security 2021.
"""

from __future__ import annotations

import math

import numpy as np

from medward.attacks.membership.multimodal.max_renyi import clamped_probabilities
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

MODIFIED_ORDERS = (0.5, 1.0, 2.0)


def modified_renyi_score(probabilities: Array, tokens: Ints, *, alpha: float) -> float:
    """Minus the mean modified entropy of ``probabilities (T, V)`` at the true ``tokens (T,)``; larger says member."""
    return -float(modified_renyi_entropies(probabilities, tokens, alpha).mean())


def modified_renyi_entropies(probabilities: Array, tokens: Ints, alpha: float) -> Array:
    """The modified Rényi entropy ``(T,)``, 0 or more: 0 where all is on the true token.

    With a = abs(1 - alpha) and y the true token it is
    -[(1 - p_y) p_y^a - (1 - p_y) + sum_{j != y} (p_j (1 - p_j)^a - p_j)] / a; its limit at alpha = 1 is
    -(1 - p_y) log p_y - sum_{j != y} p_j log(1 - p_j).
    Raises `MedwardError` unless alpha is positive and finite, and for tokens that are no columns.
    """
    if not 0 < alpha < math.inf:
        raise MedwardError(f"modified renyi entropy: alpha must be positive and finite, got {alpha}")
    p = clamped_probabilities(probabilities)
    true = np.asarray(tokens, np.int64)
    if true.shape != p.shape[:1] or true.min() < 0 or true.max() >= p.shape[1]:
        raise MedwardError(
            f"modified renyi entropy: needs one token below {p.shape[1]} a row, got {true.shape} of them"
        )
    rows, power = np.arange(len(p)), abs(1 - alpha)
    own = p[rows, true]
    others = _lost(1 - p, power) * p
    return np.asarray(-(_lost(own, power) * (1 - own) + others.sum(axis=1) - others[rows, true]))


def _lost(p: Array, power: float) -> Array:
    """(p^a - 1) / a, log p at a = 0."""
    return np.asarray(np.log(p) if power == 0 else (p**power - 1) / power)
