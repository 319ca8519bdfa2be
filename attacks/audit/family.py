"""Audits as a family: does a training leak more than its certificate claims?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from medward.attacks.audit.cell import AuditCell
from medward.attacks.base import Attack, AttackData, AttackResult
from medward.attacks.intervals import Interval, auc_interval, clopper_pearson
from medward.attacks.target import Target
from medward.attacks.threat import ThreatModel
from medward.attacks.threat_catalogue import NAMED_MEMBERS
from medward.attacks.validation.cause import Cause
from medward.attacks.validation.deployment import Deployment, queried_target
from medward.attacks.validation.family import CurvePlot, NotTested, Runs
from medward.attacks.validation.finding import Arm, Controls, Finding, Status
from medward.attacks.validation.record import Provenance
from medward.attacks.validation.splits import SharedRows
from medward.guard.data.split import Split
from medward.guard.policy import GatePolicy
from medward.guard.tasks.report import WrittenReport

_FAIR = 1 - 1e-6  # level at which coins must not be told from fair ones


@dataclass(frozen=True, slots=True)
class Audit:
    """An audit is judged by the epsilon that guesses at the coins of canaries refute, over the epsilon claimed."""

    name: ClassVar[str] = "audit"
    measure: ClassVar[str] = "AUC on canaries"
    judged_as: ClassVar[str] = "audited over claimed epsilon"
    gate_keys: ClassVar[tuple[str, ...]] = ("audit_ratio",)
    share: ClassVar[bool] = False
    claim: ClassVar[str] = ""
    untested: ClassVar[str] = "Whether a training with differential privacy leaks more than its certificate claims."
    reading: ClassVar[tuple[str, str]] = (
        "Audited epsilon",
        "the least epsilon that the training can have had, with 95 % confidence, as guesses at which canaries it saw "
        "were right so often; the detectable maximum is what all guesses being right would have shown.",
    )
    controls: ClassVar[Controls] = NAMED_MEMBERS

    def bound(self, gate: GatePolicy) -> float:
        """The largest epsilon that an audit may show, over the claimed one."""
        return gate.audit_ratio

    def holdings(self, deployment: Deployment, shared: SharedRows) -> AttackData | NotTested:
        """The canaries, those trained on as members."""
        if deployment.privacy is None:
            reason = "The bundle has no certificate of a training with differential privacy, so nothing is claimed; "
            reason += "where the model has one, protect it again with --certificate."
            return NotTested(reason=reason, status=Status.NOT_APPLICABLE)
        if isinstance(deployment.bundle.model.spec.task, WrittenReport):
            reason = "not tested: canaries are rows with a class, and the model writes reports."
            return NotTested(reason=reason, cause=Cause.NO_ATTACK)
        canaries, shape = deployment.canaries, deployment.bundle.model.spec.shape
        if canaries is None:
            return NotTested(
                reason="not tested: an audit needs the canaries that training was given, with their coins; give "
                "--canaries canaries.npz."
            )
        if tuple(canaries.inputs.shape[1:]) != tuple(shape):
            return NotTested(
                reason=f"not tested: the canaries are of shape {tuple(canaries.inputs.shape[1:])}, the model takes "
                f"{tuple(shape)}; give those that training was given."
            )
        if min(canaries.included.sum(), (~canaries.included).sum()) == 0:
            return NotTested(reason=f"not tested: all {len(canaries)} canaries have the same coin; train with more.")
        inside = clopper_pearson(int(canaries.included.sum()), len(canaries), _FAIR)
        if not inside.low <= 0.5 <= inside.high:
            return NotTested(
                reason=f"not tested: {inside.value:.0%} of {len(canaries)} canaries were trained on, and the bound "
                "needs fair coins; train with canaries of guard.data.canaries."
            )
        members, others = (
            Split(canaries.inputs[side].astype(np.float32), canaries.labels[side])
            for side in (canaries.included, ~canaries.included)
        )
        return replace(shared.data, members=members, nonmembers=others)

    def target(self, deployment: Deployment, arm: Arm, attack: Attack, data: AttackData) -> Target:
        """The deployed model, or its guard."""
        return queried_target(deployment, arm, attack)

    def achieved(self, result: AttackResult, seed: int) -> Interval | None:
        """The AUC of telling canaries that were trained on from others."""
        if len(result.outcome) == 0 or result.truth is None:
            return None
        return auc_interval(result.outcome, result.truth, seed=seed)

    def judge(self, runs: Runs) -> AuditCell:
        """What the guesses on the model without its guard refute; see `attacks.audit.cell`."""
        bare, privacy = runs.results["undefended"], runs.privacy
        found = self.achieved(bare, runs.seed)
        if found is None or privacy is None or bare.truth is None:
            return AuditCell(undefended=found, guarded=None, adaptive=None)
        return AuditCell.of(found, np.asarray(bare.outcome, np.float64), bare.truth, privacy)

    def without_network(self, threat: ThreatModel, why: str) -> tuple[ThreatModel, Controls]:
        """As declared: nobody here needs the network."""
        return threat, self.controls

    def show(self, finding: Finding, facts: Provenance) -> CurvePlot:
        """The ROC on canaries."""
        return CurvePlot(
            title=f"{finding.attack}: ROC on canaries, logarithmic axes",
            caption="Canaries that the training saw, told from those it did not.",
            x="canaries left out called seen",
            y="canaries seen that are found",
            least=1 / max(finding.n, 10),
            guessing=True,
        )

    def absent(self, findings: Sequence[Finding], facts: Provenance) -> list[str]:
        """None."""
        return []
