"""A little is enough (ALIE).

Reference: Baruch, Baruch and Goldberg, "A little is enough: circumventing defenses for distributed learning", NeurIPS
2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import norm

from medward.attacks.poisoning.crafted import checked_updates
from medward.guard.errors import MedwardError
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ALittleIsEnough:
    """A little is enough shifts every number of the mean by so many standard deviations as still look honest.

    Without `deviations` their number is the paper's: so many honest clients lie further out that they and the malicious
    are a majority. Where a quarter of the clients or fewer are malicious that number is about zero: give one, then.
    """

    deviations: float | None = None

    name: ClassVar[str] = "a-little-is-enough"

    def craft(self, honest: Array, *, clients: int, malicious: int) -> Array:
        """(d,): the mean less z standard deviations. Raises `MedwardError` where no z above zero finds a majority."""
        checked_updates(self.name, honest, 2)
        z = largest_shift(clients, malicious) if self.deviations is None else self.deviations
        if z <= 0:
            raise MedwardError(
                f"{self.name}: {malicious} malicious of {clients} clients win no majority, the paper's z is {z:.3g}; "
                "give deviations, 1.5 say"
            )
        return np.asarray(honest.mean(axis=0) - z * honest.std(axis=0, ddof=1))


def largest_shift(clients: int, malicious: int) -> float:
    """z_max of the paper: the normal quantile that enough honest clients exceed; negative with few malicious."""
    supporters = clients // 2 + 1 - malicious
    share = (clients - malicious - supporters) / max(1, clients - malicious)
    return float(norm.ppf(np.clip(share, 1e-6, 1 - 1e-6)))
