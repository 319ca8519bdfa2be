"""Monte Carlo membership: how much of what a generator makes falls near a candidate.

Reference: Hilprecht, Härterich and Bernau, "Monte Carlo and reconstruction membership inference attacks against
generative models", PoPETs 2019: the share within a radius, which is the median of the candidates' least distances.
"""

from __future__ import annotations

import numpy as np

from medward.guard.types import Array


def monte_carlo_score(distances: Array) -> Array:
    """(n,): the share of generated images within the radius of each candidate, from distances (n, m)."""
    radius = np.median(distances.min(axis=1))
    return np.asarray((distances <= radius).mean(axis=1))
