"""Membership as a family: guesses at whose records trained the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from medward.attacks.base import Attack, AttackData, AttackResult
from medward.attacks.intervals import Interval, auc_interval
from medward.attacks.target import Target
from medward.attacks.threat import ThreatModel
from medward.attacks.validation.deployment import PRIVACY, Deployment, queried_target
from medward.attacks.validation.family import CurvePlot, NotTested, Runs
from medward.attacks.validation.finding import Arm, Controls, Finding, Status
from medward.attacks.validation.gate import NO_ROW, JudgedCell
from medward.attacks.validation.record import Provenance
from medward.attacks.validation.splits import FEWEST_ROWS, SharedRows, divide_rows, halve_rows, row_patients, some_rows
from medward.guard.data.split import Split
from medward.guard.policy import GatePolicy
from medward.guard.tasks.opaque import Opaque

MEMBERSHIP_AUC = 0.55
"""What the lower end must exceed on the undefended model before a cell counts."""
CANDIDATES = 500  # of each kind


@dataclass(frozen=True, kw_only=True)
class MembershipCell(JudgedCell):
    """A cell of membership holds AUCs; one below one half leaks as much as its mirror image, and is judged as that."""

    @property
    def compared(self) -> dict[Arm, Interval]:
        """The arms behind the guard, either way round."""
        arms: dict[Arm, Interval | None] = {"guarded": self.guarded, "adaptive": self.adaptive}
        return {arm: leak_interval(auc) for arm, auc in arms.items() if auc is not None}

    def words(self, value: float) -> str:
        """An AUC."""
        return f"an AUC of {value:.3f}, either way round"

    def too_weak(self) -> tuple[str, ...]:
        """The undefended model must leak."""
        if self.undefended is None:
            return (NO_ROW,)
        low = leak_interval(self.undefended).low
        if low > MEMBERSHIP_AUC:
            return ()
        return (
            "The undefended model does not leak enough to test a defense: "
            f"its AUC may be as near chance as {low:.3g}, more than {MEMBERSHIP_AUC:g} is needed.",
        )


@dataclass(frozen=True, slots=True)
class Membership:
    """Membership is judged by the AUC of telling members from others drawn alike."""

    name: ClassVar[str] = "membership"
    measure: ClassVar[str] = "AUC"
    judged_as: ClassVar[str] = "AUC"
    share: ClassVar[bool] = False
    claim: ClassVar[str] = PRIVACY
    untested: ClassVar[str] = "Guesses at whose records trained the model."
    reading: ClassVar[tuple[str, str]] = (
        "AUC",
        "how well an attacker tells whose record trained the model; 0.5 is guessing, and less is as telling the other "
        "way round.",
    )
    controls: ClassVar[Controls] = {
        "MITRE ATLAS": ("AML.T0024.000",),
        "NIST AI 100-2": ("NISTAML.033",),
        "OWASP ML": ("ML04",),
    }

    def bound(self, gate: GatePolicy) -> float:
        """The largest AUC, either way round."""
        return gate.membership_auc

    def holdings(self, deployment: Deployment, shared: SharedRows) -> AttackData | NotTested:
        """Members from "train"; non-members and shadow rows, the two halves of "holdout".

        Halves share no patient where patients are known.
        """
        spec = deployment.bundle.model.spec
        if isinstance(spec.task, Opaque):
            reason = f"The model {spec.rule}, so there is no confidence to read a record from."
            return NotTested(reason=reason, status=Status.NOT_APPLICABLE)
        splits = shared.splits
        if reason := _lacking(splits):
            return NotTested(reason=reason)
        rng = np.random.default_rng(shared.seed)
        divide_rows(splits, rng)  # candidates are drawn after these
        first, second = halve_rows(splits["holdout"], rng)
        nonmembers = splits["holdout"].take(np.sort(first[:CANDIDATES]))
        return replace(
            shared.data,
            members=some_rows(splits["train"], len(nonmembers), rng),
            nonmembers=nonmembers,
            shadow=splits["holdout"].take(np.sort(second)),
            flags=shared.copied,
        )

    def target(self, deployment: Deployment, arm: Arm, attack: Attack, data: AttackData) -> Target:
        """The model, or its guard; undefended as it was before training with privacy, where there is such a one."""
        return queried_target(deployment, arm, attack, claim=self.claim)

    def achieved(self, result: AttackResult, seed: int) -> Interval | None:
        """The AUC of the candidates' scores."""
        if len(result.outcome) == 0 or result.truth is None:
            return None
        return auc_interval(result.outcome, result.truth, seed=seed)

    def judge(self, runs: Runs) -> MembershipCell:
        """The AUC of each arm; that of scores which never saw the model beside."""
        arms = {arm: self.achieved(result, runs.seed) for arm, result in runs.results.items()}
        bare = runs.results["undefended"]
        blind = None if bare.baseline is None else self.achieved(replace(bare, outcome=bare.baseline), runs.seed)
        return MembershipCell(
            undefended=arms["undefended"], guarded=arms.get("guarded"), adaptive=arms.get("adaptive"), baseline=blind
        )

    def without_network(self, threat: ThreatModel, why: str) -> tuple[ThreatModel, Controls]:
        """As declared: nobody here needs the network."""
        return threat, self.controls

    def show(self, finding: Finding, facts: Provenance) -> CurvePlot:
        """The ROC on logarithmic axes, where the few certain identifications show."""
        return CurvePlot(
            title=f"{finding.attack}: ROC on logarithmic axes",
            caption="The left edge is what matters: members found while almost no one is accused wrongly.",
            x="non-members called members",
            y="members found",
            least=1 / max(finding.n, 10),
            guessing=True,
        )

    def absent(self, findings: Sequence[Finding], facts: Provenance) -> list[str]:
        """None."""
        return []


def leak_interval(auc: Interval) -> Interval:
    """The interval of max(AUC, 1 - AUC): a signal that is the wrong way round tells as much."""
    return Interval(max(auc.value, 1 - auc.value), max(0.5, auc.low, 1 - auc.high), max(auc.high, 1 - auc.low), auc.n)


def _lacking(splits: Mapping[str, Split]) -> str:
    """Why these splits do not let membership be tested; empty when they do."""
    for name, what in (
        ("train", "rows the model was trained on"),
        ("holdout", "rows from the same draw it never saw"),
    ):
        split = splits.get(name)
        if split is None:
            return f'not tested: membership needs {what}; the data has no split "{name}".'
        if split.labels is None:
            return f'not tested: membership needs labels, the split "{name}" has none.'
        if (few := len(np.unique(row_patients(split)))) < 2 * FEWEST_ROWS:
            rows = "rows" if split.patients is None else "patients"
            return f'not tested: membership needs at least {2 * FEWEST_ROWS} {rows} in "{name}", got {few}.'
    return ""
