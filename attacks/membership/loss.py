"""Loss threshold: a record whose true label the model is sure of was probably trained on.

Where only the label is answered the score says whether it is right, which is the gap attack.

Reference: Yeom, Giacomelli, Fredrikson and Jha, "Privacy risk in machine learning", CSF 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.attacks.base import AttackData, AttackResult
from medward.attacks.candidates.signals import ask_confidences, candidate_rows, noisy_copies
from medward.attacks.membership.attack import MembershipAttack, membership_result
from medward.attacks.membership.evidence import Evidence
from medward.attacks.target import Target
from medward.guard.types import Array


def negative_loss(evidence: Evidence) -> Array:
    """The score log p ``(n,)`` of what is true: minus the cross-entropy."""
    return -np.logaddexp(0.0, -evidence.phi)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossThreshold(MembershipAttack):
    """Score = -cross-entropy at the true label, or what the task has for it; see `attacks.candidates.channels`.

    A candidate without an answer scores as an even guess.
    """

    @property
    def technique(self) -> str:
        """``loss``."""
        return "loss"

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Score every candidate; raises `MedwardError` without labelled members and non-members."""
        rows, labels, _ = candidate_rows(data)
        channel, shown = ask_confidences(
            target, noisy_copies(rows.inputs, self.copies, self.noise, target.spec, seed), seed
        )
        phi = channel.phi(shown, labels)
        phi = np.nan_to_num(phi, nan=channel.unknown(phi[np.isfinite(phi)]))
        none = np.zeros((0, len(phi)))
        scores = negative_loss(Evidence(phi=phi, shadows=none, included=none > 0))
        return membership_result(target, data, scores, seed=seed)
