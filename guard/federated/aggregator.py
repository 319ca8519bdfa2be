"""A federation's server: one round after another, each sanitised, judged, weighed, aggregated and written down."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.aggregation import aggregated, round_geometry
from medward.guard.federated.robust_feddetect import (
    ClientRecord,
    Judgement,
    RobustFedDetect,
    Views,
    records_from_json,
    records_to_json,
)
from medward.guard.federated.rules.base import Reference, Rule
from medward.guard.federated.rules.norm_clipped_mean import NormClippedMean
from medward.guard.federated.sanitise import Refusal, UpdateBounds, example_weights, sanitise
from medward.guard.federated.update import ClientUpdate, Parameters

Probe = Callable[[Parameters, Sequence[ClientUpdate], int], Mapping[str, Views]]
"""What the server sees for itself: the parameters before, the updates that count and the round -> views of each node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationState:
    """What a server keeps from round to round, so that one that was killed goes on as if it had not been."""

    round: int = 0
    records: Mapping[str, ClientRecord] = field(default_factory=dict)
    previous: Parameters | None = None
    """The last aggregate's change, for rules that compare with it; not part of the JSON."""

    def to_json(self) -> dict[str, Any]:
        """The state as JSON has it, without arrays of the model's size."""
        return {"round": self.round, "records": records_to_json(self.records)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> FederationState:
        """The state that `to_json` wrote."""
        return cls(round=int(kept["round"]), records=records_from_json(kept["records"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """A round's result: the new parameters, how much of each client was taken, and why not more."""

    parameters: list[np.ndarray]
    weights: Mapping[str, float]
    judgement: Judgement | None
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregator:
    """An aggregator refuses broken updates, lowers the weight of suspects, and aggregates the rest by `rule`.

    Without `probe` no client is judged, and the result says so by having no judgement.
    """

    rule: Rule = field(default_factory=NormClippedMean)
    detector: RobustFedDetect | None = None
    probe: Probe | None = None
    bounds: UpdateBounds = field(default_factory=UpdateBounds)

    def __post_init__(self) -> None:
        if (self.detector is None) != (self.probe is None):
            raise MedwardError("aggregator: a detector needs a probe to see clients by, and a probe a detector; give both")

    def step(
        self,
        state: FederationState,
        start: Parameters,
        updates: Sequence[ClientUpdate],
        selected: Collection[str],
        server: Parameters | None = None,
    ) -> tuple[FederationState, RoundResult]:
        """One round: the state after it, and its result; `server` is the server's own model for rules that need one.

        Where no update counts, the parameters stay. Raises `MedwardError` where the rule lacks its reference.
        """
        admitted, refusals = sanitise(updates, start, selected, self.bounds)
        state = replace(state, round=state.round + 1)
        judgement, trust = None, np.ones(len(admitted))
        if admitted and self.detector is not None and self.probe is not None:
            seen = self.probe(start, admitted, state.round)
            records, judgement = self.detector.judge(state.records, seen)
            state = replace(state, records=records)
            trust = np.array([judgement.trust[update.node] for update in admitted])
        if not (trust > 0).any():
            same = [np.array(array) for array in start]
            return state, RoundResult(parameters=same, weights={}, judgement=judgement, refusals=tuple(refusals))
        counted = [update for update, kept in zip(admitted, trust, strict=True) if kept > 0]
        weights = example_weights([update.examples for update in counted], self.bounds.most_share)
        weights = weights * trust[trust > 0]
        weights /= weights.sum()
        models = [update.parameters for update in counted]
        plan = self.rule.plan(*self._compared(state, start, models, server, weights))
        models += self._reference(state, start, server)
        parameters = aggregated(start, models, plan)
        if self.rule.reference is Reference.PREVIOUS:
            state = replace(state, previous=[new - old for new, old in zip(parameters, start, strict=True)])
        shares = weights if plan.weights is None else plan.weights[: len(counted)]
        total = float(np.abs(shares).sum()) or 1.0
        taken = {update.node: float(share) / total for update, share in zip(counted, shares, strict=True)}
        taken = {update.node: taken.get(update.node, 0.0) for update in admitted}
        result = RoundResult(parameters=parameters, weights=taken, judgement=judgement, refusals=tuple(refusals))
        return state, result

    def _compared(
        self, state: FederationState, start: Parameters, models: list[Parameters], server: Parameters | None, weights: Any
    ) -> tuple[Any, Any]:
        return round_geometry(start, [*models, *self._reference(state, start, server)]), weights

    def _reference(self, state: FederationState, start: Parameters, server: Parameters | None) -> list[Parameters]:
        if self.rule.reference is Reference.NONE:
            return []
        if self.rule.reference is Reference.SERVER:
            if server is None:
                raise MedwardError(f"{self.rule.name}: needs {self.rule.reference.value}; give server")
            return [server]
        before = state.previous or [np.zeros_like(array) for array in start]
        return [[old + change for old, change in zip(start, before, strict=True)]]
