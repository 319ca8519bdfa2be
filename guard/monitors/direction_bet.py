"""How an account bets on vectors: by the directions of what it asked before (`SharedPerturbation`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from medward.guard.monitors.base import BetSettings
from medward.guard.monitors.shared_perturbation import DRIFT_SLACK, SharedPerturbation, VectorSeen
from medward.guard.statistics.eprocess import EProcess
from medward.guard.types import Array, Ints


class VectorReference(Protocol):
    """Calibration rows as vectors ``reference (n, k)``, of ``reference_strata (n,)``, and the name of the map."""

    @property
    def reference(self) -> Array:
        """The vectors."""
        ...

    @property
    def reference_strata(self) -> Ints:
        """Their strata."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names the map and its calibration rows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionBet:
    """A direction bet turns vectors into p-values by the account's own past, which it keeps.

    With `chains` near-duplicates are judged by their change, and only exact repeats count as unremarkable.
    """

    part: EProcess
    directions: SharedPerturbation
    chains: bool = False
    repeat_radius: int = 0

    @property
    def repeats(self) -> tuple[str, ...]:
        """Which repeats count as unremarkable."""
        return ("exact",) if self.chains else ("exact", "near")

    def values(
        self, state: Any, column: Sequence[Any], codes: Sequence[str], strata: Sequence[int]
    ) -> tuple[Any, list[float]]:
        """p-values, row by row."""
        own = codes if self.chains else [""] * len(codes)
        sightings = [VectorSeen(*each) for each in zip(column, own, strata, strict=True)]
        return self.directions.judge(self.directions.resume(state), sightings)


def direction_bet(
    name: str,
    fitted: VectorReference,
    settings: BetSettings,
    *,
    chains: bool = False,
    radius: int = 0,
    repeat_radius: int = 0,
    places: Array | None = None,
) -> DirectionBet:
    """The bet of the monitor `name` on the vectors of `fitted`.

    Directions are each account's own, so the risk is split over a path, evenly over the longest there can be: accounts
    below a parent may lie at different depths, and the parent's thresholds must not change with who asks.
    """
    found = direction_monitor(
        fitted,
        settings.risk / settings.longest,
        DRIFT_SLACK * settings.drift,
        count=settings.strata,
        radius=radius,
        places=places,
    )
    part = EProcess(
        name=name,
        levels=found.levels,
        rare=found.rare,
        calibration=found.calibration,
        contamination=settings.contamination,
    )
    return DirectionBet(part=part, directions=found, chains=chains, repeat_radius=repeat_radius)


def direction_monitor(
    fitted: VectorReference, risk: float, slack: float, *, count: int = 1, radius: int = 0, places: Array | None = None
) -> SharedPerturbation:
    """The directions of one account in the vectors of `fitted`, of `count` strata, at its `risk`."""
    return SharedPerturbation(
        reference=fitted.reference,
        strata=fitted.reference_strata,
        count=count,
        risk=risk,
        slack=slack,
        radius=radius,
        places=places,
        calibration=f"{fitted.fingerprint}:{risk:g}:{slack:g}",
    )
