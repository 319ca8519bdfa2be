"""A cell of audits: an epsilon that guesses refute beside the one that was claimed, and what could have been seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from medward.attacks.audit.guesses import detectable_bound, fixed_bound
from medward.attacks.audit.one_run import one_run_bound
from medward.attacks.audit.one_run_tradeoff import one_run_tradeoff_bound
from medward.attacks.intervals import LEVEL, Interval
from medward.attacks.validation.gate import NO_ROW, JudgedCell
from medward.guard.certificate import PrivacyCertificate
from medward.guard.types import Array

_RISK = 1 - LEVEL
_MOST_CANARIES = 2**24


@dataclass(frozen=True, kw_only=True)
class AuditCell(JudgedCell):
    """A cell of audits holds the epsilon `found` at least, at `delta`, and the one `claimed` (0 where nothing is).

    `found` is by the trade-off curve of a Gaussian mechanism, which is what the certificate claims to be; `anyhow` is
    what holds of any mechanism. `detectable` is what `found` would be if all guesses were right. Multiples of the claim
    are the scale of the gate.
    """

    guards: ClassVar[bool] = False
    found: float = 0.0
    anyhow: float = 0.0
    detectable: float = 0.0
    claimed: float = 0.0
    delta: float = 0.0

    @classmethod
    def of(cls, auc: Interval, scores: Array, included: NDArray[np.bool_], claim: PrivacyCertificate) -> Self:
        """The cell of `scores (m,)` of canaries, larger where one seems to be `included (m,)`."""
        bounds = {
            bound: fixed_bound(bound, scores, included, risk=_RISK, delta=claim.delta)
            for bound in (one_run_tradeoff_bound, one_run_bound)
        }
        most = detectable_bound(one_run_tradeoff_bound, len(scores), risk=_RISK, delta=claim.delta)
        found, anyhow = bounds[one_run_tradeoff_bound], bounds[one_run_bound]
        return cls(
            undefended=auc,
            guarded=None,
            adaptive=None,
            found=found,
            anyhow=anyhow,
            detectable=most,
            claimed=claim.epsilon,
            delta=claim.delta,
            figures={
                "audited epsilon, at least": found,
                "audited epsilon of any mechanism, at least": anyhow,
                "detectable maximum": most,
                "claimed epsilon": claim.epsilon,
            },
        )

    @property
    def sentence(self) -> str:
        """What the audit shows, beside the claim."""
        m = 0 if self.undefended is None else self.undefended.n
        return (
            f"The audit shows epsilon >= {self.found:.3g} ({LEVEL:.0%}, {m} canaries, detectable maximum "
            f"{self.detectable:.3g}; >= {self.anyhow:.3g} whatever the mechanism); the claim is {self.claimed:.3g} at "
            f"delta {self.delta:.1g}."
        )

    def words(self, value: float) -> str:
        """A multiple of the claim."""
        return f"{value:.2f} times the claimed epsilon"

    def passing(self, limit: float) -> tuple[str, ...]:
        """A training that leaks more than is claimed."""
        return (self.sentence,) if self.claimed and self.found > limit * self.claimed else ()

    def too_weak(self) -> tuple[str, ...]:
        """There must be canaries, a claim, and enough of the first to refute the second."""
        if self.undefended is None:
            return (NO_ROW,)
        if not self.claimed:
            return ("There is no claim that could be audited.",)
        if self.detectable > self.claimed:
            return ()
        return (
            self.sentence,
            f"Even if every guess was right, so few canaries could not refute the claim: {self._needed()} would do.",
        )

    def holding(self, limit: float) -> str:
        """What the audit shows."""
        return self.sentence

    def _needed(self) -> str:
        """How many canaries could refute the claim, in words."""
        low, high = 1, 2
        while self._most(high) <= self.claimed:
            low, high = high, 2 * high
            if high > _MOST_CANARIES:
                return f"not even {_MOST_CANARIES}"
        while high > low + max(1, low // 50):
            middle = (low + high) // 2
            low, high = (middle, high) if self._most(middle) <= self.claimed else (low, middle)
        return f"about {high}"

    def _most(self, canaries: int) -> float:
        return detectable_bound(one_run_tradeoff_bound, canaries, risk=_RISK, delta=self.delta)
