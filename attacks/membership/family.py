"""Membership as a family: guesses at whose records trained the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from medward.attacks.base import Attack, AttackData, AttackResult
from medward.attacks.candidates.blind import INVALID_SHIFT
from medward.attacks.candidates.controls import CANARIES, UNTRAINED, control_examinations
from medward.attacks.candidates.evaluation import FALSE_POSITIVE_RATES, MembershipEvaluation, evaluate_scores
from medward.attacks.intervals import Interval, auc_interval
from medward.attacks.membership.cell import MembershipCell, privacy_ceiling
from medward.attacks.membership.holdings import CANDIDATES, NO_COIN, WRITTEN, coin_holdings, split_holdings
from medward.attacks.target import Target
from medward.attacks.threat import ThreatModel
from medward.attacks.threat_catalogue import NAMED_MEMBERS
from medward.attacks.validation.deployment import PRIVACY, Deployment, queried_target
from medward.attacks.validation.family import CurvePlot, NotTested, Runs
from medward.attacks.validation.finding import ARMS, Arm, Controls, Finding, Status
from medward.attacks.validation.record import Provenance
from medward.attacks.validation.splits import SharedRows
from medward.guard.policy import GatePolicy
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Ints

WORDS_UNTESTED = (
    "Of a report its findings were asked about. Whether its words are those of a report that was trained on was not: "
    "medward.attacks.membership.multimodal asks that, and what its probabilities tell, of a network of one's own."
)


@dataclass(frozen=True, slots=True)
class Membership:
    """Membership is judged by the AUC of telling members from others drawn alike."""

    name: ClassVar[str] = "membership"
    measure: ClassVar[str] = "AUC"
    judged_as: ClassVar[str] = "AUC"
    gate_keys: ClassVar[tuple[str, ...]] = ("membership_auc", "membership_tpr")
    share: ClassVar[bool] = False
    claim: ClassVar[str] = PRIVACY
    untested: ClassVar[str] = "Guesses at whose records trained the model."
    reading: ClassVar[tuple[str, str]] = (
        "AUC",
        "how well an attacker tells whose record trained the model; 0.5 is guessing, and less is as telling the other "
        "way round.",
    )
    controls: ClassVar[Controls] = NAMED_MEMBERS

    def bound(self, gate: GatePolicy) -> float:
        """The largest AUC, either way round."""
        return gate.membership_auc

    def holdings(self, deployment: Deployment, shared: SharedRows) -> AttackData | NotTested:
        """By the manifest of a coin flip where there is one: members, those held out, and rows that are neither. Else
        members from "train"; non-members and shadow rows, the two halves of "holdout", which a note says.

        Halves share no patient where patients are known. What the two kinds share all the same is flagged.
        """
        spec = deployment.bundle.model.spec
        if isinstance(spec.task, Opaque):
            reason = f"The model {spec.rule}, so there is no confidence to read a record from."
            return NotTested(reason=reason, status=Status.NOT_APPLICABLE)
        written = isinstance(spec.task, WrittenReport)
        most = WRITTEN if written else CANDIDATES
        coins = deployment.manifest
        divided = split_holdings(shared, most) if coins is None else coin_holdings(coins, shared, most)
        if isinstance(divided, NotTested):
            return divided
        members, nonmembers, shadow, flags, notes = divided
        notes = (*notes, WORDS_UNTESTED) if written else notes
        held = replace(shared.data, members=members, nonmembers=nonmembers, shadow=shadow, flags=flags, notes=notes)
        taught = None if written else deployment.network  # a network that writes does so at each step of a control
        return replace(held, examinations=control_examinations(taught, spec, held, seed=shared.seed))

    def target(self, deployment: Deployment, arm: Arm, attack: Attack, data: AttackData) -> Target:
        """The model, or its guard; undefended as it was before training with privacy, where there is such a one."""
        return queried_target(deployment, arm, attack, claim=self.claim)

    def achieved(self, result: AttackResult, seed: int) -> Interval | None:
        """The AUC of the candidates' scores."""
        if len(result.outcome) == 0 or result.truth is None:
            return None
        return auc_interval(result.outcome, result.truth, seed=seed, groups=result.groups)

    def judge(self, runs: Runs) -> MembershipCell:
        """What each arm tells of members, with what explains it besides, and what is found on the examiner's models."""
        groups = candidate_groups(runs.held)
        found = {
            arm: _evaluated(result, runs.seed, groups, first=arm == ARMS[0]) for arm, result in runs.results.items()
        }
        examined = {name: self.achieved(result, runs.seed) for name, result in runs.examined.items()}
        notes = () if runs.held is None else runs.held.notes
        ceiling = None
        if groups is None or (runs.privacy is not None and runs.privacy.unit == "patient"):
            ceiling = privacy_ceiling(runs.privacy, FALSE_POSITIVE_RATES[0])
        bare = None
        if ceiling is not None and runs.bare is not None and runs.held is not None and NO_COIN not in notes:
            one = _evaluated(runs.bare, runs.seed, groups, first=False)
            bare = None if one is None else one.true_positive_rates[FALSE_POSITIVE_RATES[0]]
        shifted = any(flag.startswith(INVALID_SHIFT) for result in runs.results.values() for flag in result.flags)
        return MembershipCell.of(
            {arm: each for arm, each in found.items() if each is not None},
            canaries=examined.get(CANARIES),
            untrained=examined.get(UNTRAINED),
            ceiling=ceiling,
            bare_rate=bare,
            shifted=shifted,
            notes=notes,
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


def candidate_groups(held: AttackData | None) -> Ints | None:
    """Whose each candidate is, members first; None where that is not known of all."""
    if held is None or held.members is None or held.nonmembers is None:
        return None
    members, others = held.members.patients, held.nonmembers.patients
    return None if members is None or others is None else np.concatenate([members, others])


def _evaluated(result: AttackResult, seed: int, groups: Ints | None, *, first: bool) -> MembershipEvaluation | None:
    """One arm's scores; what explains them besides is looked at on the first alone, as it is the same on all."""
    if len(result.outcome) == 0 or result.truth is None:
        return None
    known = result.groups if groups is None or len(groups) != len(result.outcome) else groups
    return evaluate_scores(
        result.outcome,
        result.truth,
        groups=known,
        seed=seed,
        blind=result.baseline if first else None,
        without_target=result.without_target,
    )
