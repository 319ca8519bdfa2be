"""A guard around any strategy of Flower: who may reply, whom the server trusts, and a round that outlives its server.

Reference: Beutel et al., "Flower: a friendly federated learning research framework", 2020 (flwr 1.42's message API).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    Bulyan,
    FedAvg,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    Krum,
    MultiKrum,
    Result,
    Strategy,
)

from medward.guard.audit.log import AuditLog
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator, RoundResult
from medward.guard.federated.client_metrics import mean_metrics
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.round_record import round_record
from medward.guard.federated.rules.weighted_mean import WeightedMean
from medward.guard.federated.sanitise import example_weights, sanitise
from medward.guard.federated.saved_round import load_round, save_round
from medward.guard.federated.update import ClientUpdate, is_learned
from medward.integrations.flower_metrics import round_metrics
from medward.integrations.flower_nodes import KnownNodes, Members, nodes_by_name, seeded_sampling
from medward.integrations.flower_replies import model_arrays, model_record, read_replies, rewritten

_WITHOUT_MEMORY = (FedAvg, FedMedian, FedProx, FedTrimmedAvg, Krum, MultiKrum, Bulyan)


class GuardedStrategy(Strategy):  # type: ignore[misc]
    """A guarded strategy asks clients as `strategy` does, and takes from them what `aggregator` lets count.

    Broken, repeated and unasked replies are refused one by one and the round goes on. Clients that the aggregator's
    detector trusts no more are not asked, but for every `probation`-th round, in which they can win trust back. The
    aggregate is that of the aggregator's rule or, with `inner_aggregates`, of `strategy`. That is handed trusted
    clients only, their examples multiplied by trust; what ignores examples, as medians do, ignores partial trust.

    Each round is a record in the log `audit` (``medward federate audit``) before it is saved; one that was begun twice
    is there twice. With `folder`, each round is saved there, and `start` goes on after the last one: a server that was
    killed ends with the weights of one that was not, as long as clients answer the same. `members` names the clients by
    their keys; others are not asked.
    """

    def __init__(
        self,
        strategy: Strategy,
        aggregator: Aggregator,
        *,
        audit: str | PathLike[str],
        folder: str | PathLike[str] | None = None,
        members: Members | None = None,
        inner_aggregates: bool = False,
        probation: int = 10,
        seed: int = 0,
    ) -> None:
        name = type(strategy).__name__
        if probation < 1:
            raise MedwardError(f"probation: must be 1 round or more, got {probation}")
        if inner_aggregates and folder is not None and type(strategy) not in _WITHOUT_MEMORY:
            raise MedwardError(
                f"{name}: may remember what a saved round does not hold; let the rule aggregate, or give no folder"
            )
        self.strategy, self.inner_aggregates = strategy, inner_aggregates
        self.aggregator = replace(aggregator, rule=WeightedMean()) if inner_aggregates else aggregator
        Path(audit).parent.mkdir(parents=True, exist_ok=True)
        self.audit, self.folder, self.members = AuditLog(audit, fsync=True), folder, members
        self.probation, self.seed = probation, seed
        self.state = FederationState()
        self._before = 0  # rounds that an earlier server finished
        self._asked: dict[int, str] = {}
        self._model = ArrayRecord()
        self._weight = str(getattr(strategy, "weighted_by_key", "num-examples"))

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds that are left of `num_rounds`, as Flower's strategies do.

        Raises `MedwardError` where the folder holds a round of another model.
        """
        arrays = self._resumed(initial_arrays)
        shifted = None if evaluate_fn is None else (lambda number, model: evaluate_fn(self._before + number, model))
        left = max(0, num_rounds - self._before)
        result = super().start(grid, arrays, left, timeout, train_config, evaluate_config, shifted)
        if left == 0:
            result.arrays = arrays
        for name in ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp"):
            setattr(result, name, {self._before + number: each for number, each in getattr(result, name).items()})
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """The inner strategy's messages, without those to strangers and to clients that are trusted no more."""
        self._model = arrays
        return self._messages(self.strategy.configure_train, server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The model after the round, and its metrics: how many were refused and suspected, and each client's weight.

        The round is on record and saved when this returns; where nothing counts, the model stays.
        """
        replies, number = list(replies), self._before + server_round
        updates, broken = read_replies(replies, self._asked, self._model, self._weight)
        start = model_arrays(self._model)
        state, result = self.aggregator.step(self.state, start, updates, list(self._asked.values()))
        result = replace(result, refusals=(*broken, *result.refusals))
        told: Mapping[str, Any] = mean_metrics(updates, result.weights)
        if self.inner_aggregates and any(result.weights.values()):
            result, told = self._inner_result(number, replies, updates, start, result)
        rule = type(self.strategy).__name__ if self.inner_aggregates else self.aggregator.rule
        self.audit.append(round_record(number, result, rule, updates))
        parameters = result.parameters
        if self.folder is not None:
            saved = save_round(self.folder, state, parameters)
            state, parameters = saved.state, saved.parameters
        self.state = state
        return model_record(parameters, self._model), MetricRecord({**told, **round_metrics(result)})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """The inner strategy's messages, without those to strangers and to clients that are trusted no more."""
        return self._messages(self.strategy.configure_evaluate, server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's metrics of the clients that were asked and whose replies can be read.

        They weigh as in a round: by rows up to the bound on one client's share, times trust; the distrusted not at all.
        """
        replies = list(replies)
        updates, _ = read_replies(replies, self._asked, None, self._weight)
        bounds = self.aggregator.bounds
        admitted = [
            update
            for update in sanitise(updates, [], list(self._asked.values()), bounds).updates
            if self._trust(update.node) > 0
        ]
        rows = [update.examples for update in admitted]
        taken = [
            (update, float(share * sum(rows) * self._trust(update.node)))
            for update, share in zip(admitted, example_weights(rows, bounds.most_share) if rows else (), strict=True)
        ]
        messages = rewritten(replies, taken, self._asked, None, self._weight)
        return self.strategy.aggregate_evaluate(self._before + server_round, messages)

    def summary(self) -> None:
        """Log the inner strategy's settings."""
        self.strategy.summary()

    def _resumed(self, initial: ArrayRecord) -> ArrayRecord:
        self.state, self._before = FederationState(), 0
        kept = None if self.folder is None else load_round(self.folder)
        if kept is None:
            return initial
        forms = [[(each.shape, each.dtype) for each in arrays] for arrays in (kept.parameters, model_arrays(initial))]
        if forms[0] != forms[1]:
            raise MedwardError(f"{self.folder}: holds a round of a model of other shapes; give an empty folder")
        self.state, self._before = kept.state, kept.state.round
        return model_record(kept.parameters, initial)

    def _messages(
        self,
        configure: Callable[..., Iterable[Message]],
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
    ) -> list[Message]:
        number, known = self._before + server_round, KnownNodes(grid, self.members)
        with seeded_sampling(self.seed, number):
            messages = list(configure(number, arrays, config, known))
        names = nodes_by_name([each.metadata.dst_node_id for each in messages], known.names)
        self._asked = {
            node: name for node, name in names.items() if number % self.probation == 0 or self._trust(name) > 0
        }
        return [each for each in messages if each.metadata.dst_node_id in self._asked]

    def _trust(self, name: str) -> float:
        """The share of its weight that a client keeps."""
        detector, record = self.aggregator.detector, self.state.records.get(name)
        return 1.0 if detector is None or record is None else detector.trust(record.flags)

    def _inner_result(
        self,
        number: int,
        replies: Sequence[Message],
        updates: Sequence[ClientUpdate],
        start: Sequence[np.ndarray],
        result: RoundResult,
    ) -> tuple[RoundResult, Mapping[str, Any]]:
        """The result with the inner strategy's aggregate; where that is not finite, the model stays."""
        counted = [update for update in updates if result.weights.get(update.node, 0) > 0]
        total = sum(float(update.examples) for update in counted)
        taken = [(update, result.weights[update.node] * total) for update in counted]
        messages = rewritten(replies, taken, self._asked, self._model, self._weight)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is seen below
            arrays, metrics = self.strategy.aggregate_train(number, messages)
        made = [] if arrays is None else [arrays[name].numpy() for name in self._model]
        parameters = [
            (new if is_learned(old) else np.rint(new)).astype(old.dtype)
            for new, old in zip(made, start, strict=bool(made))
        ]
        if made and all(np.isfinite(each).all() for each in parameters):
            return replace(result, parameters=parameters), dict(metrics or {})
        reason = f"{type(self.strategy).__name__} made no finite aggregate of this round"
        return replace(result, parameters=list(start), weights={}, unchanged=reason), {}
