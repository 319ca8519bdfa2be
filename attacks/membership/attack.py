"""What membership attacks have in common: whom they ask about, how, and how their scores are reported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar, Self

import numpy as np

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.candidates.blind import blind_flags, blind_scores, labelled_rows
from medward.attacks.candidates.channels import Mask
from medward.attacks.candidates.signals import candidate_rows, check_copies, roc_points
from medward.attacks.target import Target
from medward.guard.data.split import Split, split_digest
from medward.guard.policy import Policy
from medward.guard.types import Array

COPIES = 16  # that an attacker who knows the guard asks about


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipAttack(ABC):
    """A membership attack asks about each candidate, `copies` times where no score is answered.

    First as it is, then with Gaussian noise of `noise` times the candidates' spread.
    """

    copies: int = 1
    noise: float = 0.3
    family: ClassVar[str] = "membership"

    def __post_init__(self) -> None:
        check_copies(self.copies, self.noise)

    @property
    @abstractmethod
    def technique(self) -> str:
        """What follows ``membership-`` in its name."""

    @property
    def name(self) -> str:
        """``membership-`` and the technique, with ``+averaged`` where noisy copies are asked about too."""
        return f"membership-{self.technique}" + ("+averaged" if self.copies > 1 else "")

    @property
    def threat(self) -> ThreatModel:
        """Scores, and the candidates' true labels."""
        return ThreatModel(access=Access.SCORES, knowledge="each candidate's input and true label")

    def adaptive(self, policy: Policy) -> Self:
        """The attacker that knows answers are coarse: averaging over noisy copies wins back confidence.

        From labels alone the average is how often noise leaves the label right, a distance to the boundary
        (Choquette-Choo, Tramer, Carlini and Papernot, ICML 2021).
        """
        return replace(self, copies=COPIES)


def membership_result(
    target: Target,
    data: AttackData,
    scores: Array,
    *,
    seed: int,
    without_target: Array | None = None,
    flags: tuple[str, ...] = (),
) -> AttackResult:
    """The result of `scores (n,)` of the candidates of `data`, with those of a guesser who never asked the model."""
    rows, _, truth = candidate_rows(data)
    blind, shift = guess_blindly(_Candidates.of(labelled_rows(rows, target.spec.task), truth, seed))
    return AttackResult(
        outcome=scores,
        baseline=blind.copy(),
        truth=truth,
        without_target=without_target,
        groups=rows.patients,
        queries=target.queries,
        flags=(*flags, *shift),
        curves={"roc": roc_points(scores, truth)},
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Candidates, compared by their digest."""

    digest: str
    seed: int
    rows: Split = field(compare=False)
    truth: Mask = field(compare=False)

    @classmethod
    def of(cls, rows: Split, truth: Mask, seed: int) -> Self:
        """With a digest of all that a guesser sees."""
        whose = Split(np.zeros((0, 1)), rows.patients)
        return cls(split_digest(rows, whose, Split(truth[:, None].astype(np.float64))), seed, rows, truth)


@lru_cache(maxsize=4)
def guess_blindly(candidates: _Candidates) -> tuple[Array, tuple[str, ...]]:
    """Scores without the model, and what is wrong with candidates that it tells apart; once for all attacks and arms.

    See `attacks.candidates.blind`.
    """
    rows, truth, seed = candidates.rows, candidates.truth, candidates.seed
    blind = blind_scores(rows, truth, seed=seed)
    return blind, blind_flags(blind, rows, truth, seed=seed)


def spread_scores(scores: Array, known: Mask) -> Array:
    """Scores ``(n,)`` of all candidates from those of the `known` ones; the others score as the median, or 0.

    Who was not answered is then neither surer nor less sure a member than most.
    """
    spread = np.full(len(known), float(np.median(scores)) if len(scores) else 0.0)
    spread[known] = scores
    return spread
