"""The table of scores: what each is called, how it is computed from evidence, and which evidence it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medward.attacks.membership.base_attack import offline_base, online_base
from medward.attacks.membership.bavaria import (
    offline_bavaria,
    offline_bavaria_normal,
    online_bavaria,
    online_bavaria_normal,
)
from medward.attacks.membership.evidence import Evidence
from medward.attacks.membership.lira import offline_lira, online_lira
from medward.attacks.membership.loss import negative_loss
from medward.attacks.membership.quantile import gaussian_quantile, pinball_quantile
from medward.attacks.membership.reference import calibrated_loss
from medward.attacks.membership.rmia import offline_rmia, online_rmia
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipScore:
    """A score is a function of evidence, larger for members, and what it needs.

    `shadows`: models of known rows; `online`: half of them learned each candidate; `population`: how many rows, at
    most, that the model did not learn it asks the model about.
    """

    function: Callable[[Evidence], Array]
    shadows: bool = True
    online: bool = False
    population: int = 0


COMPARED = 500  # rows that RMIA compares each candidate with, at most
LEARNED = 5000  # rows that a regression learns from, at most

MEMBERSHIP_SCORES: Mapping[str, MembershipScore] = {
    "loss": MembershipScore(function=negative_loss, shadows=False),
    "reference": MembershipScore(function=calibrated_loss),
    "lira": MembershipScore(function=offline_lira),
    "lira-online": MembershipScore(function=online_lira, online=True),
    "rmia": MembershipScore(function=offline_rmia, population=COMPARED),
    "rmia-online": MembershipScore(function=online_rmia, online=True, population=COMPARED),
    "base": MembershipScore(function=offline_base),
    "base-online": MembershipScore(function=online_base, online=True),
    "bavaria": MembershipScore(function=offline_bavaria),
    "bavaria-n": MembershipScore(function=offline_bavaria_normal),
    "bavaria-online": MembershipScore(function=online_bavaria, online=True),
    "bavaria-n-online": MembershipScore(function=online_bavaria_normal, online=True),
    "quantile": MembershipScore(function=gaussian_quantile, shadows=False, population=LEARNED),
    "quantile-pinball": MembershipScore(function=pinball_quantile, shadows=False, population=LEARNED),
}


def score_evidence(evidence: Evidence) -> dict[str, Array]:
    """Every score ``(n,)`` that this evidence lets be computed, by name."""
    both = bool(len(evidence.shadows)) and bool(evidence.included.any(axis=0).all())
    apart = bool(len(evidence.shadows)) and not evidence.included.any()
    return {
        name: score.function(evidence)
        for name, score in MEMBERSHIP_SCORES.items()
        if not score.shadows or (both if score.online else apart or both)
        if not score.population or evidence.population is not None
        if score.shadows or not score.population or evidence.features is not None
    }
