"""BASE: the log probability of what is true of a record under the model, against its mean over shadows.

Bayes-optimal where the loss alone decides. Online it orders records exactly as RMIA does.

Reference: Lassila, Ostman, Le and Graell i Amat, "Practical Bayes-optimal membership inference attacks", NeurIPS 2025.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_expit, logsumexp

from medward.attacks.membership.evidence import Evidence
from medward.attacks.membership.rmia import RATIO_OFFSET, TEMPERATURE
from medward.guard.types import Array


def offline_base(evidence: Evidence, *, weight: float = RATIO_OFFSET, temperature: float = TEMPERATURE) -> Array:
    """The score log p - `weight` log mean p_k ``(n,)`` over the shadows k that did not learn a row."""
    outside = ~evidence.included
    likely = log_expit(evidence.shadows / temperature)
    expected = logsumexp(likely, axis=0, b=outside) - np.log(outside.sum(axis=0))
    return np.asarray(log_expit(evidence.phi / temperature) - weight * expected)


def online_base(evidence: Evidence, *, temperature: float = TEMPERATURE) -> Array:
    """The same over all shadows, half of which learned each row, with weight 1."""
    everyone = np.zeros_like(evidence.included)
    return offline_base(
        Evidence(phi=evidence.phi, shadows=evidence.shadows, included=everyone), weight=1.0, temperature=temperature
    )
