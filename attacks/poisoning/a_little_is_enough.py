"""A little is enough (ALIE).

Reference: Baruch, Baruch and Goldberg, "A little is enough: circumventing defenses for distributed learning", NeurIPS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from medward.attacks.poisoning.crafted import Floats, checked_updates


@dataclass(frozen=True, slots=True, kw_only=True)
class ALittleIsEnough:
    """A little is enough shifts every number of the mean by so many standard deviations as still look honest.

    Without `deviations` their number is the paper's: so many honest clients lie further out that they and the malicious
    are a majority.
    """

    deviations: float | None = None

    name = "a-little-is-enough"

    def craft(self, honest: Floats, *, clients: int, malicious: int) -> Floats:
        """(d,): the mean less z standard deviations."""
        checked_updates(self.name, honest, 2)
        z = largest_shift(clients, malicious) if self.deviations is None else self.deviations
        return honest.mean(axis=0) - z * honest.std(axis=0, ddof=1)


def largest_shift(clients: int, malicious: int) -> float:
    """The quantile of a normal number below which enough honest clients lie: z_max of the paper."""
    supporters = clients // 2 + 1 - malicious
    share = (clients - malicious - supporters) / max(1, clients - malicious)
    return float(norm.ppf(np.clip(share, 0.5, 1 - 1e-6)))
