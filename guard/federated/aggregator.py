"""A federation's server: one round after another, each sanitised, judged, weighed, aggregated and written down."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.aggregation import aggregated, saturated
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.geometry import change_lengths, round_geometry
from medward.guard.federated.robust_feddetect import ClientJudgement, ClientViews, RobustFedDetect
from medward.guard.federated.rules.base import AggregationPlan, Reference, Rule
from medward.guard.federated.rules.norm_clipped_mean import NormClippedMean, clipped, lower_median
from medward.guard.federated.sanitise import (
    Admission,
    Refusal,
    UpdateBounds,
    bounded_shares,
    example_weights,
    form_fault,
    require_sound_model,
    sanitise,
)
from medward.guard.federated.update import ClientUpdate, ModelParameters, is_learned
from medward.guard.federated.update_evidence import excess_losses, opposition
from medward.guard.federated.update_sums import inner_products, model_change, with_updates
from medward.guard.types import Array

ClientProbe = Callable[[ModelParameters, Iterable[ClientUpdate], int], Mapping[str, ClientViews]]
"""What the server sees for itself: parameters before, updates that count and the round -> views of each node.

Updates longer than the median come shortened to it, as the default rule takes them, so that a hospital with many rows
does not stand out for the steps it makes; each is made when it is asked for.
"""
MOST_SEEN = 1e30  # the largest number of a view with which clients can still be compared


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """A round's result: the new parameters, how much of each client was taken, and why not more.

    `weights` of admitted clients sum to one where anything was taken; of rules by rank they say whose numbers were
    compared. `lengths` are those of their updates as they came, in lengths of the median one. `unchanged` says why the
    parameters stayed as they were, where they did.
    """

    parameters: list[np.ndarray]
    weights: Mapping[str, float]
    judgement: ClientJudgement | None
    refusals: tuple[Refusal, ...]
    unchanged: str | None = None
    lengths: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregator:
    """An aggregator refuses broken updates, lowers the weight of suspects, and aggregates the rest by `rule`.

    Without `probe` no client is judged, and the result says so by having no judgement. Beside what the probe sees, the
    detector is told who pulls against the others, and the metric called `loss`, where clients report it.
    """

    rule: Rule = field(default_factory=NormClippedMean)
    detector: RobustFedDetect | None = None
    probe: ClientProbe | None = None
    bounds: UpdateBounds = field(default_factory=UpdateBounds)
    loss: str = "loss"

    def __post_init__(self) -> None:
        if self.probe is not None and not callable(self.probe):
            raise MedwardError(f"probe: must be a function of parameters, updates and round, got {self.probe!r}")
        if (self.detector is None) != (self.probe is None):
            raise MedwardError(
                "aggregator: a detector needs a probe to see clients by, and a probe a detector; give both"
            )

    def step(
        self,
        state: FederationState,
        start: ModelParameters,
        updates: Sequence[ClientUpdate],
        selected: Collection[str],
        server: ModelParameters | None = None,
    ) -> tuple[FederationState, RoundResult]:
        """One round: the state after it, and its result; `server` is the server's own model for rules that need one.

        Whatever clients send, only the probe can raise, and every number of the result is finite; where no update
        counts, or too few for the rule, the parameters stay, and the result says why. Raises `MedwardError` where the
        server's own parameters are broken or the rule lacks its reference.
        """
        if not isinstance(state, FederationState):
            raise MedwardError(
                f"state: must be a FederationState, that of a new federation at first, got {type(state).__name__}"
            )
        admission = sanitise(updates, start, selected, self.bounds)
        lengths = _relative_lengths(admission)
        references = self._references(state, start, server)
        state, admission, judgement = self._judged(replace(state, round=state.round + 1), start, admission)
        trust = np.array([1.0 if judgement is None else judgement.trust[each.node] for each in admission.updates])
        counted = admission.where(trust > 0)
        if self.rule.looks_back:
            state = replace(state, sums=with_updates(state.sums, start, counted.updates))
        weights, unchanged = {update.node: 0.0 for update in admission.updates}, None
        plan = self._plan(state, start, counted, trust[trust > 0], references) if counted.updates else None
        if isinstance(plan, AggregationPlan):
            models = [*(update.parameters for update in counted.updates), *references]
            parameters = aggregated(start, models, plan)
            weights |= zip(
                (update.node for update in counted.updates), _shares(plan, len(counted.updates)), strict=True
            )
            if self.rule.reference is Reference.PREVIOUS:
                state = replace(state, previous=[_change(*pair) for pair in zip(start, parameters, strict=True)])
        else:
            parameters = [np.array(array) for array in start]
            unchanged = plan or ("every client is distrusted" if admission.updates else "no update counts")
        result = RoundResult(
            parameters=parameters,
            weights=weights,
            judgement=judgement,
            refusals=admission.refusals,
            unchanged=unchanged,
            lengths={node: lengths[node] for node in weights if node in lengths},
        )
        return state, result

    def _plan(
        self,
        state: FederationState,
        start: ModelParameters,
        counted: Admission,
        trust: Array,
        references: Sequence[ModelParameters],
    ) -> AggregationPlan | str:
        """The plan of the rule for the updates that count, or why there is none."""
        # Shares are bounded before trust lowers them, and for rules that half of the weight decides once more after:
        # what others lost makes a client's share larger.
        most = min(self.bounds.most_share, self.rule.most_share)
        shares: Array = example_weights([update.examples for update in counted.updates], most) * trust
        shares = bounded_shares(shares, self.rule.most_share)
        geometry = round_geometry(
            start,
            [*(update.parameters for update in counted.updates), *references],
            norms=np.append(counted.norms, change_lengths(start, references)),
            history=inner_products(state.sums, [each.node for each in counted.updates])
            if self.rule.looks_back
            else None,
        )
        try:
            plan = self.rule.plan(geometry, shares)
        except MedwardError as error:
            return str(error)
        return plan if plan.mixing.any() else f"{self.rule.name}: takes nothing of any client"

    def _judged(
        self, state: FederationState, start: ModelParameters, admission: Admission
    ) -> tuple[FederationState, Admission, ClientJudgement | None]:
        """The state with new records, who can be seen, and the judgement of them."""
        if self.detector is None or self.probe is None or not admission.updates:
            return state, admission, None
        seen, admission = _sight(self.probe, start, admission, state.round)
        if not admission.updates:
            return state, admission, None
        geometry = round_geometry(start, [update.parameters for update in admission.updates], norms=admission.norms)
        away = opposition(geometry.products)
        losses = excess_losses([update.metrics for update in admission.updates], self.loss)
        evidence = {
            update.node: {**seen[update.node], "opposition": against, "loss": loss}
            for update, against, loss in zip(admission.updates, away[:, None], losses[:, None], strict=True)
        }
        records, judgement = self.detector.judge(state.records, evidence)
        return replace(state, records=records), admission, judgement

    def _references(
        self, state: FederationState, start: ModelParameters, server: ModelParameters | None
    ) -> list[ModelParameters]:
        """The model that the rule compares with, if it does."""
        if self.rule.reference is Reference.NONE:
            return []
        if self.rule.reference is Reference.SERVER:
            if server is None:
                raise MedwardError(f"{self.rule.name}: needs {self.rule.reference.value}; give server")
            if reason := form_fault(server, start):
                raise MedwardError(f"server: {reason}")
            require_sound_model("server", server)
            return [server]
        changes = state.previous or [np.zeros_like(array) for array in start]
        return [[_moved(*pair) for pair in zip(start, changes, strict=True)]]


def _sight(
    probe: ClientProbe, start: ModelParameters, admission: Admission, number: int
) -> tuple[Mapping[str, ClientViews], Admission]:
    """What the probe sees, and who can be seen: the others are refused, and those left are seen as if alone."""
    while True:
        seen = probe(start, shortened(start, admission), number)
        broken = _unseen(seen, [update.node for update in admission.updates])
        admission = admission.without(broken)
        if not broken or not admission.updates:
            return seen, admission


def shortened(start: ModelParameters, admission: Admission) -> Iterator[ClientUpdate]:
    """The admitted updates, none longer than the median one."""
    factors = clipped(admission.norms, lower_median(admission.norms))
    for update, factor in zip(admission.updates, factors, strict=True):
        if factor == 1:
            yield update
        else:
            nearer = [_nearer(*pair, factor) for pair in zip(start, update.parameters, strict=True)]
            yield replace(update, parameters=nearer)


def _relative_lengths(admission: Admission) -> dict[str, float]:
    """How long each admitted update is, in lengths of the median one; none where that is no length."""
    median = lower_median(admission.norms) if len(admission.norms) else 0.0
    if not median > 0:
        return {}
    return {update.node: float(norm / median) for update, norm in zip(admission.updates, admission.norms, strict=True)}


def _nearer(old: np.ndarray, new: np.ndarray, factor: float) -> np.ndarray:
    return saturated(old + factor * model_change(old, new), old.dtype) if is_learned(old) else new


def _change(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return model_change(old, new) if is_learned(old) else np.zeros_like(old)


def _moved(old: np.ndarray, change: np.ndarray) -> np.ndarray:
    return saturated(np.add(old, change, dtype=np.float64), old.dtype) if is_learned(old) else old


def _shares(plan: AggregationPlan, clients: int) -> list[float]:
    """How much of the aggregate each client has or, behind a rule by rank, how much of it is compared."""
    taken = np.abs(plan.mixing[:, :clients]).sum(axis=0) if plan.shares is None else plan.shares
    shares: list[float] = (taken / max(float(taken.sum()), np.finfo(np.float64).tiny)).tolist()
    return shares


def _unseen(seen: Mapping[str, ClientViews], nodes: Sequence[str]) -> dict[str, str]:
    """Why some of `nodes` cannot be judged: they are not seen in all views, or by numbers that cannot be compared."""
    if not isinstance(seen, Mapping):
        raise MedwardError(f"probe: must give a mapping of nodes to views, got {type(seen).__name__}")
    for node in nodes:
        _require_views(node, seen.get(node, {}))
    names = {view for node in nodes for view in seen.get(node, {})}
    if not names:
        return dict.fromkeys(nodes, "the probe sees no client: look at the probe, or at what all of them make")
    reasons = {}
    for node in nodes:
        views = seen.get(node, {})
        if missing := sorted(names - set(views)):
            reasons[node] = f"the probe does not see it in view {missing[0]!r}, as it does others"
        elif broken := [view for view, each in views.items() if not _comparable(each)]:
            reasons[node] = f"view {broken[0]!r} of it is not finite or beyond {MOST_SEEN:g}"
    return reasons


def _require_views(node: str, views: Any) -> None:
    """Raise `MedwardError` unless what the probe says of a node is a mapping of names to vectors of real numbers."""
    if not isinstance(views, Mapping):
        raise MedwardError(f"probe: must give views of {node} by name, a mapping, got {type(views).__name__}")
    for name, view in views.items():
        if not isinstance(view, np.ndarray) or view.ndim != 1 or not len(view) or view.dtype.kind not in "fiu":
            got = f"shape {view.shape} of {view.dtype}" if isinstance(view, np.ndarray) else type(view).__name__
            raise MedwardError(
                f"probe: view {name!r} of {node} must be an array (n,) of real numbers, each a difference from the "
                f"other clients, got {got}"
            )


def _comparable(view: Array) -> bool:
    return bool((np.abs(view) <= MOST_SEEN).all())
