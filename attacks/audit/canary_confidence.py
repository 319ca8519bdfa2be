"""The auditor of a training: it asks how sure the model is of the label of each canary.

A canary's label follows from nothing, so only a model that was trained on it is sure of it.

Reference: Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, in the black-box
setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.candidates.signals import ask_confidences, candidate_rows, roc_points
from medward.attacks.target import Target
from medward.guard.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryConfidence:
    """Score = the signal phi at the canary's label (`attacks.candidates.channels`); canaries come in random order."""

    name: ClassVar[str] = "audit-canaries"
    family: ClassVar[str] = "audit"

    @property
    def threat(self) -> ThreatModel:
        """Scores, and the canaries with their labels."""
        return ThreatModel(access=Access.SCORES, knowledge="made-up rows and their labels, but not their coins")

    def adaptive(self, policy: Policy) -> None:
        """None: what is audited is the training, without the guard."""
        return

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Score every canary; raises `MedwardError` without canaries of both sides.

        Ties are broken by the order of rows when guesses are counted, so that order must not tell the coins.
        """
        rows, labels, truth = candidate_rows(data)
        order = np.random.default_rng(seed).permutation(len(rows))
        channel, shown = ask_confidences(target, rows.inputs[order][None], seed)
        phi = channel.phi(shown, labels[order])
        scores = np.nan_to_num(phi, nan=channel.unknown(phi[np.isfinite(phi)]))
        return AttackResult(
            outcome=scores,
            truth=truth[order],
            queries=target.queries,
            curves={"roc": roc_points(scores, truth[order])},
        )
