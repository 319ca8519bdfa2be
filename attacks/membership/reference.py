"""Reference attack: how much smaller the model's loss on a record is than that of models that never saw it.

The difficulty of each record is taken off, and nothing else is modelled.

Reference: Watson, Guo, Cormode and Sablayrolles, "On the importance of difficulty calibration in membership inference
attacks", ICLR 2022.
"""

from __future__ import annotations

import numpy as np

from medward.attacks.membership.evidence import Evidence, side_moments
from medward.guard.types import Array


def calibrated_loss(evidence: Evidence) -> Array:
    """The mean loss of shadows that did not learn a row, less the model's ``(n,)``; a loss is -log p."""
    _, expected, _ = side_moments(np.logaddexp(0.0, -evidence.shadows), ~evidence.included)
    return np.asarray(expected - np.logaddexp(0.0, -evidence.phi))
