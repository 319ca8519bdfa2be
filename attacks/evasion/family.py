"""Evasion as a family: inputs changed so that the model decides otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from medward.attacks.base import PER_CLASS, Attack, AttackData, AttackResult
from medward.attacks.evasion.ceiling import model_ceiling
from medward.attacks.evasion.cell import EvasionCell
from medward.attacks.evasion.certificate_notes import (
    byproduct_note,
    certified_rows_note,
    counted_note,
    largest_attempt,
    unfollowed_note,
)
from medward.attacks.evasion.class_shares import by_class, by_direction, denied_by_class
from medward.attacks.evasion.control import control_times, larger_attack
from medward.attacks.evasion.fooled_share import (
    changed_share,
    class_counts,
    denied_share,
    fooled_interval,
    fooled_shares,
    freely_fooled,
    noise_shares,
    refused_share,
)
from medward.attacks.evasion.per_image import PerImage
from medward.attacks.evasion.proof import CertificateProof, beyond_certificates, find_proof, with_certificates
from medward.attacks.intervals import Interval, larger_rate, rate_interval
from medward.attacks.target import Target
from medward.attacks.threat import Access, ThreatModel
from medward.attacks.threat_catalogue import CHANGED_INPUTS, TRANSFERRED_INPUTS
from medward.attacks.validation.certified_share import DENIABLE, rates_by_class
from medward.attacks.validation.deployment import ROBUSTNESS, Deployment, queried_target
from medward.attacks.validation.family import CurvePlot, NotTested, Runs
from medward.attacks.validation.finding import ARMS, Arm, Controls, Finding, Status
from medward.attacks.validation.record import Provenance
from medward.attacks.validation.sample_size import short_groups, shortage_note
from medward.attacks.validation.splits import SharedRows
from medward.guard.policy import GatePolicy
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification

CHANGED = "changed, certified or not"
"""What the share of changed answers is called, those among them that go to a person."""


@dataclass(frozen=True, slots=True)
class Evasion:
    """Evasion is judged at its worst radius and class by class; hardening defends against it."""

    name: ClassVar[str] = "evasion"
    measure: ClassVar[str] = "share of rows fooled, plain or balanced"
    judged_as: ClassVar[str] = "share of rows fooled, plain or balanced"
    gate_keys: ClassVar[tuple[str, ...]] = ("evasion_success",)
    share: ClassVar[bool] = True
    claim: ClassVar[str] = ROBUSTNESS
    untested: ClassVar[str] = "Inputs changed so that the model decides otherwise."
    reading: ClassVar[tuple[str, str]] = (
        "Fooled",
        "the model's answer changed from what it says without the attack. A refused row is not fooled. The attacker "
        "takes the size of change that serves best, up to the largest allowed. The plain share counts rows, the "
        "balanced one is the mean over the classes that rows are labelled as; the larger is judged, for a rare class "
        "weighs little in the one and a common one in the other. The interval allows for both choices. Where answers "
        "are certified, one that is not goes to a person and is not fooled, but counts among what is denied.",
    )
    controls: ClassVar[Controls] = CHANGED_INPUTS

    def bound(self, gate: GatePolicy) -> float:
        """The largest share of rows that may be fooled."""
        return gate.evasion_success

    def holdings(self, deployment: Deployment, shared: SharedRows) -> AttackData | NotTested:
        """Rows to craft on, and rows that are changed."""
        bundle = deployment.bundle
        if not deployment.readable:
            rule = bundle.model.spec.rule
            reason = f"The model {rule}: say what it decides (--decide package:function) to have it attacked."
            return NotTested(reason=reason, status=Status.NOT_APPLICABLE)
        held = with_certificates(shared.data, deployment)
        return replace(
            held,
            flags=(*shared.copied, *shared.tested),
            notes=(*held.notes, *counted_note(bundle.policy), *unfollowed_note(deployment)),
            shortages=_shortages(held, bundle.model.spec.task, self.bound(bundle.policy.gate)),
            control=larger_attack,
        )

    def target(self, deployment: Deployment, arm: Arm, attack: Attack, data: AttackData) -> Target:
        """The model, or its guard; undefended as it was before hardening, where it was hardened."""
        return queried_target(deployment, arm, attack, claim=self.claim)

    def achieved(self, result: AttackResult, seed: int) -> Interval | None:
        """The share of rows fooled, plain or balanced, whichever is larger, at the worst radius."""
        return _worst(result, noise=False)

    def judge(self, runs: Runs) -> EvasionCell:
        """Shares fooled on all rows and on those of each class, random noise beside."""
        results = runs.results
        arms = {arm: self.achieved(result, runs.seed) for arm, result in results.items()}
        bare = results["undefended"]
        task = runs.spec.task
        classes = {arm: by_class(result.attempts, task) for arm, result in results.items()}
        behind: list[Arm] = [arm for arm in results if arm != "undefended"]
        ceiling = None
        if isinstance(runs.attack, PerImage) and runs.held is not None:
            ceiling = model_ceiling(runs.attack, runs.spec, runs.held)
        refused, denied, changed = (
            {arm: found for arm in behind if (found := share(results[arm].attempts)) is not None}
            for share in (refused_share, denied_share, changed_share)
        )
        proof, contradictions, farther = _proven(runs, behind)
        told = (
            ("refused under attack", refused),
            ("certificates denied", denied),
            (DENIABLE, {} if proof is None else dict.fromkeys(behind, proof.deniable)),
            (CHANGED, changed),
        )
        return EvasionCell(
            undefended=arms["undefended"],
            guarded=arms.get("guarded"),
            adaptive=arms.get("adaptive"),
            baseline=_worst(bare, noise=True),
            freely=freely_fooled(bare.attempts),
            classes=classes,
            directions={arm: by_direction(found, task) for arm, found in classes.items()},
            noise_classes=by_class(bare.attempts, task, noise=True),
            measures={
                arm: beside | noise_shares(results[arm].attempts) | fooled_shares(results[arm].attempts, task)
                for arm in results
                for beside in [{name: shares[arm] for name, shares in told if arm in shares}]
            },
            **_uncertified(results, behind, task),
            refused=refused,
            denied=denied,
            denied_classes={arm: denied_by_class(results[arm].attempts, task) for arm in behind},
            labelled={arm: class_counts(result.attempts, task) for arm, result in results.items()},
            proof=proof,
            contradictions=contradictions,
            about_rows=() if runs.held is None else runs.held.flags,
            ceiling=ceiling,
            figures={} if ceiling is None else ceiling.figures,
            notes=(
                *(() if runs.held is None else runs.held.notes),
                *certified_rows_note(results, task, runs.policy),
                *byproduct_note(runs.attack, runs.policy),
                *farther,
            ),
            control=None if runs.control is None else self.achieved(runs.control, runs.seed),
            control_times=1.0 if runs.control is None else control_times(runs.attack, runs.control),
            control_noise=None if runs.control is None else _worst(runs.control, noise=True),
            control_classes={} if runs.control is None else by_class(runs.control.attempts, task),
            control_noise_classes={} if runs.control is None else by_class(runs.control.attempts, task, noise=True),
        )

    def without_network(self, threat: ThreatModel, why: str) -> tuple[ThreatModel, Controls]:
        """The attack transfers from a surrogate, which is another technique to the catalogues."""
        known = f"attacks by transfer from a surrogate, not white-box: {why}"
        return replace(threat, access=Access.SCORES, knowledge=known), TRANSFERRED_INPUTS

    def show(self, finding: Finding, facts: Provenance) -> CurvePlot:
        """Rows fooled over the size of the change."""
        grey = facts.modality == "image" and facts.high is not None and facts.low is not None
        unit = 255 / (facts.high - facts.low) if facts.high is not None and facts.low is not None and grey else 1.0
        return CurvePlot(
            title=f"{finding.attack}: success over perturbation size",
            caption=(
                "Higher is worse. Every point is a judged run, and the verdict is about the worst size up to the "
                "largest allowed. Random noise of the same size stands beside the attack."
                f"{_by_class_text(finding)}"
            ),
            x="size of the change, in grey levels of 255" if grey else "size of the change, in spreads of each feature",
            y="rows fooled",
            scale=unit,
            bound=finding.bound,
            largest=finding.threat.epsilon,
        )

    def absent(self, findings: Sequence[Finding], facts: Provenance) -> list[str]:
        """Attackers who hold the model, where nobody followed its own gradients."""
        if not findings or max(finding.threat.access for finding in findings) >= Access.GRADIENTS:
            return []
        how = "only asked questions" if facts.white_box else "was judged by transfer from a surrogate"
        return [f"Attackers who hold the model itself: evasion {how}."]


def _shortages(data: AttackData, task: Task, limit: float) -> tuple[str, ...]:
    """Of which rows "test" holds too few to hold evasion to the `limit`, if an attack fools half as many as may be.

    Where answers are certified, a row that is held by proof needs no number of them.
    """
    row = "the row" if data.certifier is None else "a row that is not held by proof"
    known = data.reference if data.test.labels is None else data.test.labels
    counts = {"rows": len(data.test)}
    if isinstance(task, Classification) and known is not None:
        counts = {f'rows labelled "{name}"': int((known == i).sum()) for i, name in enumerate(task.classes)}
    return tuple(
        shortage_note(f"{rows} to hold evasion to {limit:.0%}", *found, row)
        for rows, found in short_groups(counts, limit).items()
    )


def _worst(result: AttackResult, *, noise: bool) -> Interval | None:
    if result.attempts:
        return fooled_interval(result.attempts, noise=noise)
    rows = result.baseline if noise else result.outcome
    return None if rows is None or len(rows) == 0 else rate_interval(rows)


def _uncertified(results: Mapping[Arm, AttackResult], behind: Sequence[Arm], task: Task) -> dict[str, Any]:
    """Of the attacked rows those that were not certified as they were: of all, plain or balanced, and of each class."""
    most = largest_attempt([each for arm in behind for each in results[arm].attempts if each.certified is not None])
    if most is None or most.certified is None:
        return {}
    rows, kinds = ~most.certified, most.decided if most.classes is None else most.classes
    return {
        "uncertified": larger_rate([(rows, most.classes)]),
        "uncertified_classes": rates_by_class(task, [(rows, kinds)]),
    }


def _proven(runs: Runs, behind: Sequence[Arm]) -> tuple[CertificateProof | None, int, tuple[str, ...]]:
    """What certificates prove, how many answers contradict it, and a sentence where the attack goes beyond them."""
    held, attacks = runs.held, [each for each in (runs.attack, runs.adaptive) if each is not None]
    if held is None or held.certifier is None:
        return None, 0, ()
    if farther := beyond_certificates(attacks, held, runs.spec):
        return None, 0, (f"Not held by proof: {farther}.",)
    contradictions = sum(runs.results[arm].contradictions for arm in behind)
    return find_proof(attacks, held, runs.spec), contradictions, ()


def _by_class_text(finding: Finding) -> str:
    """What the perturbation of each class attains at full size, arm by arm, in one sentence."""
    arms = []
    for arm in ARMS:
        found = finding.curves.get(arm, {}).items()
        shares = [f"{name.split(PER_CLASS)[1]} {100 * ys[-1]:.1f}%" for name, (_, ys) in found if PER_CLASS in name]
        arms += [f"{arm}: {', '.join(shares)}"] if shares else []
    return f" Each class on its own, {'; '.join(arms)}." if arms else ""
