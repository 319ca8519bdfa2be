"""Extraction as a family: theft of the model by its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from medward.attacks.base import Attack, AttackData, AttackResult
from medward.attacks.extraction.cell import TheftCell
from medward.attacks.extraction.in_domain import InDomainTheft
from medward.attacks.extraction.in_domain_cell import ANSWERS_LEFT, in_domain_cell
from medward.attacks.intervals import Interval, paired_difference, rate_interval, surviving_share
from medward.attacks.target import Target
from medward.attacks.threat import ThreatModel
from medward.attacks.threat_catalogue import COPIED_MODEL
from medward.attacks.validation.deployment import Deployment, queried_target
from medward.attacks.validation.family import CurvePlot, NotTested, Runs
from medward.attacks.validation.finding import Arm, Controls, Finding, Status
from medward.attacks.validation.record import Provenance
from medward.attacks.validation.splits import SharedRows
from medward.guard.policy import GatePolicy
from medward.guard.tasks.opaque import Opaque

ORDINARY = ("semi-supervised", "in-domain")
"""How the names of thefts begin whose thief asks about nothing but rows like the model's own."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """Extraction is judged by what a clone gains behind the guard of what it gains without one."""

    name: ClassVar[str] = "extraction"
    measure: ClassVar[str] = "agreement with the model"
    judged_as: ClassVar[str] = "share of the thief's gain that survives"
    gate_keys: ClassVar[tuple[str, ...]] = ("extraction_gain",)
    share: ClassVar[bool] = True
    claim: ClassVar[str] = ""
    untested: ClassVar[str] = "Theft of the model by its answers."
    reading: ClassVar[tuple[str, str]] = (
        "Agreement",
        "how often the thief's copy decides as the model does. The bound is on the share of its gain over a copy made "
        "without the model.",
    )
    controls: ClassVar[Controls] = COPIED_MODEL

    def bound(self, gate: GatePolicy) -> float:
        """The largest share of the gain that may survive."""
        return gate.extraction_gain

    def holdings(self, deployment: Deployment, shared: SharedRows) -> AttackData | NotTested:
        """The thief's own rows and a pool, and rows to judge its clone on."""
        spec = deployment.bundle.model.spec
        if isinstance(spec.task, Opaque):
            reason = f"The model {spec.rule}, so there is no answer that a copy could be compared by."
            return NotTested(reason=reason, status=Status.NOT_APPLICABLE)
        craft, asked = shared.data.craft, shared.splits.get("train", shared.splits["test"])
        if asked.labels is None:  # the model's own decisions stand in for labels there, which no thief has
            craft = replace(craft, labels=None)
        return replace(shared.data, craft=craft, flags=(*shared.copied, *shared.tested))

    def target(self, deployment: Deployment, arm: Arm, attack: Attack, data: AttackData) -> Target:
        """The deployed model, or its guard, which a thief of ordinary cases asks for as long as the gate speaks of."""
        if isinstance(attack, InDomainTheft) and arm != "undefended":
            attack = attack.patient(len(data.craft), deployment.bundle.policy.gate.extraction_days)
        return queried_target(deployment, arm, attack)

    def achieved(self, result: AttackResult, seed: int) -> Interval | None:
        """The share of rows that the clone decides as the model does."""
        return rate_interval(result.outcome) if len(result.outcome) else None

    def judge(self, runs: Runs) -> TheftCell:
        """The gain over a thief without a victim, and what survives of it."""
        bare = runs.results["undefended"]
        judged: Any = {
            "undefended": _gained(bare, runs.seed),
            "guarded": self._surviving(runs, "guarded"),
            "adaptive": self._surviving(runs, "adaptive"),
            "baseline": rate_interval(bare.baseline) if bare.baseline is not None and len(bare.baseline) else None,
            "gains": {
                arm: gain
                for arm, result in runs.results.items()
                if arm != "undefended" and (gain := _gained(result, runs.seed)) is not None
            },
        }
        return in_domain_cell(runs, **judged) if isinstance(runs.attack, InDomainTheft) else TheftCell(**judged)

    def without_network(self, threat: ThreatModel, why: str) -> tuple[ThreatModel, Controls]:
        """As declared: no thief needs the network."""
        return threat, self.controls

    def show(self, finding: Finding, facts: Provenance) -> CurvePlot:
        """Agreement over what was asked."""
        return CurvePlot(
            title=f"{finding.attack}: agreement over query budget",
            caption="Higher is worse. What lies above the thief without a victim was stolen.",
            x="rows asked",
            y="agreement with the model",
            log_x=True,
        )

    def absent(self, findings: Sequence[Finding], facts: Provenance) -> list[str]:
        """The thieves that none of the thefts was by."""
        absent, threats = [], [threat for finding in findings for threat in _threats(finding)]
        if not any(finding.attack.startswith(ORDINARY) for finding in findings):
            absent.append("A thief who only ever sends ordinary cases.")
        if all(threat.accounts == 1 for threat in threats):
            absent.append("Thieves with several accounts that work together.")
        patient = any(name.startswith(ANSWERS_LEFT) for finding in findings for name in finding.figures)
        if not patient and all(threat.per_day is None for threat in threats):
            absent.append("Thieves who spread their queries over days.")
        return absent

    def _surviving(self, runs: Runs, arm: Arm) -> Interval | None:
        """The share of the undefended gain that survives on an arm. A thief's gain is over its own baseline."""
        if arm not in runs.results or not len(runs.results[arm].outcome):
            return None
        mine, free = _gain(runs.results[arm]), _gain(runs.results["undefended"])
        if mine is None or free is None or len(mine) != len(free):
            return None
        return surviving_share(mine, free, seed=runs.seed)


def _gained(result: AttackResult, seed: int) -> Interval | None:
    """What a clone gained over a thief without a victim."""
    if result.baseline is None or not len(result.outcome):
        return None
    return paired_difference(result.outcome, result.baseline, seed=seed)


def _gain(result: AttackResult) -> NDArray[np.float64] | None:
    """Per row, agreement of the clone less that of the thief without a victim."""
    if result.baseline is None:
        return None
    return np.asarray(result.outcome, np.float64) - np.asarray(result.baseline, np.float64)


def _threats(finding: Finding) -> list[ThreatModel]:
    """Whom the finding's arms were judged with."""
    knowing = [] if finding.adaptive is None or finding.adaptive_threat is None else [finding.adaptive_threat]
    return [finding.threat, *knowing]
