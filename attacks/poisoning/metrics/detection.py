"""What a detector did: whom it flagged rightly and wrongly, and how much of the model the malicious still had."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Weights = Mapping[str, float]
"""Of each client in one round; they need not sum to one."""
SUPPRESSED = 0.01
"""The share of the total weight up to which the malicious count as suppressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionRates:
    """Detection rates of one round are the flagged shares of malicious and of honest clients, None without any."""

    true_positive: float | None
    false_positive: float | None


def detection_rates(flagged: Collection[str], clients: Collection[str], malicious: Collection[str]) -> DetectionRates:
    """The rates of a round in which `flagged` of `clients` were suspected."""
    guilty, innocent = set(clients) & set(malicious), set(clients) - set(malicious)
    return DetectionRates(
        true_positive=len(guilty & set(flagged)) / len(guilty) if guilty else None,
        false_positive=len(innocent & set(flagged)) / len(innocent) if innocent else None,
    )


def malicious_weight(weights: Weights, malicious: Collection[str]) -> float:
    """The share of all weight that malicious clients have; 0 where nobody has any."""
    total = sum(weights.values())
    return sum(weight for node, weight in weights.items() if node in set(malicious)) / total if total else 0.0


def effective_clients(weights: Weights) -> float:
    """How many clients of equal weight these are worth: 1 over the sum of squared shares; 0 where nobody has any."""
    shares = np.array(list(weights.values()), np.float64)
    return float(shares.sum() ** 2 / (shares @ shares)) if shares.any() else 0.0


def rounds_to_suppress(
    rounds: Sequence[Weights], malicious: Collection[str], *, begin: int = 1, share: float = SUPPRESSED
) -> int | None:
    """How many rounds from round `begin` on it took until malicious weight stayed at or below `share` to the end.

    0 where it was never above; None where the last round is still above, or where there is no round.
    """
    above = [malicious_weight(each, malicious) > share for each in rounds[begin - 1 :]]
    if not above or above[-1]:
        return None
    return max((place + 1 for place, each in enumerate(above) if each), default=0)
