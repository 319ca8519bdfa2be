"""The servers of the table: plain rules, FedDetect as published, and the aggregator that Medward ships."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medward.attacks.benchmarks.generators.base import ImageGenerator
from medward.attacks.poisoning.federation import Server
from medward.guard.data.split import Split
from medward.guard.federated.aggregation import aggregated
from medward.guard.federated.aggregator import Aggregator, RoundResult
from medward.guard.federated.feddetect import FedDetect, FedDetectState
from medward.guard.federated.generator_probe import GeneratorProbe
from medward.guard.federated.robust_feddetect import ClientJudgement, RobustFedDetect, Suspicion
from medward.guard.federated.rules import RULES
from medward.guard.federated.rules.base import Reference, Rule, weighted_sum
from medward.guard.federated.rules.bucketing import Bucketing
from medward.guard.federated.rules.trimmed_mean import TrimmedMean
from medward.guard.federated.update import ClientUpdate, ModelParameters

PUBLISHED = "feddetect"
ROBUST = "robust-feddetect"
SERVERS = (*RULES, PUBLISHED, ROBUST)
"""Names of servers, in the order of the table."""
REPORTED_LOSS = "loss"
"""What a client reports of its last batch, as FedDetect reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedServer:
    """A published server aggregates as FedDetect does: by its own weights alone, which start alike."""

    detector: FedDetect = field(default_factory=FedDetect)

    def step(
        self,
        state: Any,
        start: ModelParameters,
        updates: Sequence[ClientUpdate],
        selected: Collection[str],
        server: ModelParameters | None = None,
    ) -> tuple[Any, RoundResult]:
        """One round; the state is `FedDetectState`, whatever was given before the first."""
        del selected, server
        before = state if isinstance(state, FedDetectState) else FedDetectState()
        after, suspects = self.detector.detect(
            before, {each.node: abs(each.metrics[REPORTED_LOSS]) for each in updates}
        )
        weights = np.array([after.weights[each.node] for each in updates])
        parameters = aggregated(start, [each.parameters for each in updates], weighted_sum(weights))
        judgement = ClientJudgement(
            trust=dict(after.weights),
            suspects=tuple(
                Suspicion(node=node, view=REPORTED_LOSS, peak=0.0, threshold=0.0) for node in sorted(suspects)
            ),
        )
        return after, RoundResult(parameters=parameters, weights=dict(after.weights), judgement=judgement, refusals=())


def build_server(name: str, generator: ImageGenerator, *, clients: int, malicious: int, seed: int) -> Server:
    """The server called `name`; a rule that asks for it is told the true share of malicious hospitals, at least one.

    Raises `MedwardError` for a name that is not in `SERVERS`, or a rule that cannot bear that share.
    """
    if name == PUBLISHED:
        return PublishedServer()
    if name == ROBUST:
        probe = GeneratorProbe(make=generator.images, classes=generator.classes, seed=seed)
        return Aggregator(detector=RobustFedDetect(), probe=probe)
    return Aggregator(rule=build_rule(name, max(1, malicious) / clients))


def build_rule(name: str, share: float) -> Rule:
    """The rule called `name` against such a share of malicious clients."""
    if name == Bucketing.name:
        return Bucketing(rule=TrimmedMean(malicious_share=min(2 * share, 0.49)))
    settings: Mapping[str, Any] = {"malicious_share": share} if hasattr(RULES[name], "malicious_share") else {}
    return RULES[name](**settings)


def rows_for(server: Server, rows: Split) -> Split | None:
    """The rows that a server learns from itself, where its rule compares clients with that."""
    return rows if isinstance(server, Aggregator) and server.rule.reference is Reference.SERVER else None
