"""What a rule of aggregation is, and how many malicious clients it bears."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.geometry import Geometry
from medward.guard.types import Array

MOST_MALICIOUS = 0.5
MINORITY = 0.4
"""The most of the weight that one client has under rules in which whoever has half of it decides."""


class Reference(Enum):
    """An update beside the clients' that a rule compares them with; it is the last row of the geometry."""

    NONE = "none"
    PREVIOUS = "the last round's aggregate"
    SERVER = "an update that the server learned from rows of its own"


@dataclass(frozen=True, slots=True)
class AggregationPlan:
    """A plan says how an aggregate is made: `mixing` (m, rows) times the updates, then `combine` (m, b) -> (b,).

    `shares` (clients,) say how much of the aggregate each client has where `mixing` does not, as a rule that shortens
    an update makes its coefficient small and leaves it its say.
    """

    mixing: Array
    combine: Callable[[Array], Array]
    shares: Array | None = None

    @property
    def weights(self) -> Array | None:
        """(rows,): how much of each update is taken, where the aggregate is a weighted sum of them."""
        return self.mixing[0] if self.combine is only_mix else None


class Rule(ABC):
    """A rule of aggregation makes a plan from the geometry of a round, so that a large model costs one more pass."""

    name: ClassVar[str]
    reference: ClassVar[Reference] = Reference.NONE
    most_share: ClassVar[float] = 1.0
    """The most of the weight that one client may have for the rule to hold it."""
    looks_back: ClassVar[bool] = False

    @abstractmethod
    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """How the updates of this round are aggregated; `weights` (clients,) are at least 0 and sum to one.

        Raises `MedwardError` where so few clients cannot be judged.
        """


def weighted_sum(coefficients: Array, shares: Array | None = None) -> AggregationPlan:
    """The plan that takes `coefficients` (rows,) of the updates."""
    return AggregationPlan(coefficients[None, :], only_mix, shares)


def only_mix(mixes: Array) -> Array:
    """(b,): the only mix."""
    only: Array = mixes[0]
    return only


def tolerated(clients: int, share: float) -> int:
    """How many of `clients` may be malicious at this share of them, rounded to the nearest and halves up."""
    return int(np.floor(share * clients + 0.5 + 1e-9))


def checked_share(share: float) -> float:
    """`share`, where it is one of malicious clients that a rule can bear; raises `MedwardError`."""
    if not 0 <= share < MOST_MALICIOUS:
        raise MedwardError(f"malicious share: must be at least 0 and below {MOST_MALICIOUS:g}, got {share:g}")
    return share


def require_positive(name: str, value: float) -> None:
    """Raise `MedwardError` unless the setting `name` is finite and above zero."""
    if not 0 < value < np.inf:
        raise MedwardError(f"{name}: must be finite and above 0, got {value:g}")


def require_steps(steps: int) -> None:
    """Raise `MedwardError` unless there is a step to take."""
    if steps < 1:
        raise MedwardError(f"steps: must be 1 or more, got {steps}")


def require_clients(rule: str, clients: int, malicious: int, least: int) -> None:
    """Raise `MedwardError` unless there are `least` clients to bear `malicious` ones."""
    if clients < least:
        borne = f" to bear {malicious} malicious ones" if malicious else ""
        raise MedwardError(
            f"{rule}: needs {least} clients{borne}, and this round has {clients}; "
            "ask more clients, state a smaller malicious share, or take the norm-clipped mean"
        )
