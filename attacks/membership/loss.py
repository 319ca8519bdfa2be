"""Loss threshold: a record whose true label the model is sure of was probably trained on.

Where only the label is answered the score says whether it is right, which is the gap attack.

Reference: Yeom, Giacomelli, Fredrikson and Jha, "Privacy risk in machine learning", CSF 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.candidates.blind import blind_flags, blind_scores, labelled_rows
from medward.attacks.candidates.signals import ask_confidences, candidate_rows, check_copies, noisy_copies, roc_points
from medward.attacks.target import Target
from medward.guard.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class LossThreshold:
    """Score = -cross-entropy at the true label, or what the task has for it; see `attacks.candidates.channels`.

    A candidate without an answer scores as an even guess.

    Each candidate is asked about `copies` times: once as it is, then with Gaussian noise of `noise` times the
    candidates' spread.
    """

    copies: int = 1
    noise: float = 0.3
    family: ClassVar[str] = "membership"

    def __post_init__(self) -> None:
        check_copies(self.copies, self.noise)

    @property
    def name(self) -> str:
        """``membership-loss``, with ``+averaged`` where noisy copies are asked about too."""
        return "membership-loss" + ("+averaged" if self.copies > 1 else "")

    @property
    def threat(self) -> ThreatModel:
        """Scores, and the candidates' true labels."""
        return ThreatModel(access=Access.SCORES, knowledge="each candidate's input and true label")

    def adaptive(self, policy: Policy) -> LossThreshold:
        """The attacker that knows answers are coarse: averaging over noisy copies wins back confidence.

        From labels alone the average is how often noise leaves the label right, a distance to the boundary
        (Choquette-Choo, Tramer, Carlini and Papernot, ICML 2021).
        """
        return replace(self, copies=16)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Score every candidate; raises `MedwardError` without labelled members and non-members."""
        rows, labels, truth = candidate_rows(data)
        channel, shown = ask_confidences(
            target, noisy_copies(rows.inputs, self.copies, self.noise, target.spec, seed), seed
        )
        phi = channel.phi(shown, labels)
        phi = np.nan_to_num(phi, nan=channel.unknown(phi[np.isfinite(phi)]))
        scores = -np.logaddexp(0.0, -phi)
        blind = blind_scores(labelled_rows(rows, target.spec.task), truth, seed=seed)
        return AttackResult(
            outcome=scores,
            baseline=blind,
            truth=truth,
            queries=target.queries,
            flags=blind_flags(blind, rows, truth, seed=seed),
            curves={"roc": roc_points(scores, truth)},
        )
