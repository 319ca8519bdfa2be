"""FedDetect as published: an isolation forest on the generators' losses, counts of flags, and weights that decay.

It is here to be measured. It takes a client's word for its loss, always finds "outliers", and never forgives: without
any attacker it lowers honest clients to nothing. `robust_feddetect` is what to use.

Reference: Jin and Li, "Backdoor attack and defense in federated generative adversarial network-based medical image
synthesis", Medical Image Analysis 2023, Algorithm 1; constants are those of the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.models.base import require_extra


@dataclass(frozen=True, slots=True, kw_only=True)
class FedDetectState:
    """What FedDetect keeps from round to round: how often each client was flagged, and its weight."""

    round: int = 0
    flags: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> FedDetectState:
        """The state that `to_json` wrote."""
        return cls(round=int(kept["round"]), flags=dict(kept["flags"]), weights=dict(kept["weights"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class FedDetect:
    """FedDetect multiplies the weight of a client flagged for the c-th time by `decay` to the power c.

    For `warm_up` rounds nothing is counted, nor in a round that flags half of the clients or more. Both ends of the
    losses are flagged, and counts never fall. Where the published code has every client in every round, here who is
    absent keeps its flags and weight, and weights of all clients known sum to one.
    """

    warm_up: int = 10
    decay: float = 0.9
    trees: int = 100
    seed: int = 999

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise MedwardError(f"decay: must be above 0 and below 1, got {self.decay:g}")
        if self.warm_up < 0 or self.trees < 1:
            raise MedwardError(f"warm-up {self.warm_up} and trees {self.trees}: must be at least 0 and at least 1")

    def detect(self, state: FedDetectState, losses: Mapping[str, float]) -> tuple[FedDetectState, frozenset[str]]:
        """The state after a round in which clients reported `losses`, and whom the forest flagged.

        Raises `MedwardError` where a loss is not finite.
        """
        for node, loss in losses.items():
            if not np.isfinite(loss):
                raise MedwardError(f"loss of {node}: must be finite, got {loss}")
        known = [*state.weights, *(node for node in losses if node not in state.weights)]
        weights = {node: state.weights.get(node, 1 / len(known)) for node in known}
        flags = {node: state.flags.get(node, 0) for node in known}
        suspects = self.suspects(losses)
        if state.round + 1 > self.warm_up and len(suspects) < len(losses) // 2:
            for node in suspects:
                flags[node] += 1
                weights[node] *= self.decay ** flags[node]
        total = math.fsum(weights.values())
        moved = {node: weight / total for node, weight in weights.items()}
        return FedDetectState(round=state.round + 1, flags=flags, weights=moved), suspects

    def suspects(self, losses: Mapping[str, float]) -> frozenset[str]:
        """The clients whose loss the isolation forest takes for an outlier."""
        ensemble = require_extra("sklearn.ensemble", "sklearn")
        points = np.array([[0.0, abs(loss)] for loss in losses.values()])
        forest = ensemble.IsolationForest(n_estimators=self.trees, max_samples=len(points), random_state=self.seed)
        return frozenset(node for node, side in zip(losses, forest.fit_predict(points), strict=True) if side == -1)
