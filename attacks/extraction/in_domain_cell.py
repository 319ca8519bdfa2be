"""A thief of ordinary cases as the gate judges it: by the answers a copy needs, and the days they take under a budget.

What leaves for an account, or for all of an organisation, in so many days is bounded by the budget whoever asks and
however (`guard.accounts.budget`), so the clones of the bare model's finest answers bound what a copy of these answers
can be. The thief who went through the guard shows only what one did; who is told labels only, on purpose, gets more
answers for the same bits, and the bound counts these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from medward.attacks.extraction.budget_proposal import BudgetProposal, days_needed, propose_budget
from medward.attacks.extraction.cell import TheftCell
from medward.attacks.extraction.in_domain import ANSWERED
from medward.attacks.extraction.theft_curve import AnswersNeeded, answers_needed
from medward.attacks.validation.family import Runs
from medward.attacks.validation.finding import BEHIND, Arm
from medward.attacks.validation.gate import ATTACKERS
from medward.attacks.validation.traffic import DeclaredTraffic
from medward.guard.accounts.budget import most_answers
from medward.guard.policy import BudgetPolicy, GatePolicy, Policy

WHO: dict[Arm, str] = {"guarded": "an account", "adaptive": "an organisation"}
"""Who is limited on each arm."""
ANSWERS_LEFT = "answers that left"
"""Begins the names of the figures that say how many, arm by arm."""
ANSWERS_NEEDED = "answers that a copy needs"
DAYS_NEEDED = "days that an account needs for them"
"""Figures: how many are surely enough, and how long they take at the declared traffic."""


@dataclass(frozen=True, kw_only=True)
class InDomainCell(TheftCell):
    """A cell of a thief of ordinary cases; `needed` is None where nothing was gained that answers could be counted for.

    `limits` are the policy's, `days` those for which the gate holds them to the bound, and `cheapest` the bits of an
    answer at the level that takes the fewest.
    """

    needed: AnswersNeeded | None = None
    limits: BudgetPolicy = field(default_factory=BudgetPolicy)
    days: int = GatePolicy.model_fields["extraction_days"].default
    cheapest: float = 0.0

    def unjudged(self) -> str:
        """Without a budget nothing stands in the way of this thief, and there is nothing to judge."""
        if self.limits.limited:
            return ""
        return (
            "Not judged: the policy sets no [budget], and nothing else keeps a thief who asks about ordinary cases "
            "from a copy."
        )

    def admitted(self, arm: Arm) -> float:
        """The most answers that leave within the days, in the cheapest form, for whom an arm is about."""
        return most_answers(self.limits, self.cheapest, self.days, organisation=arm == "adaptive")

    def doubts(self, arm: Arm, limit: float, gate: GatePolicy) -> tuple[str, ...]:
        """More answers may leave than are surely too few."""
        most = self.admitted(arm)
        if self.needed is None:
            return (
                "How many answers a copy needs cannot be told: no copy of the bare model's answers gained anything.",
            )
        if most <= self.needed.within:
            return ()
        return (
            f"{ATTACKERS[arm]} may get {answers_text(most)} in {self.days} days as {WHO[arm]}, in the cheapest "
            f"form; only up to {self.needed.within:,} are shown to keep a copy within {self.words(limit)}.",
        )

    def alone(self) -> str:
        """That the days are the promise."""
        return f", which {answers_text(self.admitted('adaptive'))} in {self.days} days cannot exceed"


def in_domain_cell(runs: Runs, **judged: Any) -> InDomainCell:
    """The cell of `runs`, `judged` as any theft: with what its curve, the budget and the traffic come to."""
    policy = runs.policy or Policy(on_error="withhold")
    gate, limits = policy.gate, policy.budget
    needed = answers_needed(runs.results["undefended"].curves, gate.extraction_gain)
    cheapest = min((bits for _, bits in runs.prices), default=0.0)
    proposal = None
    if needed is not None and runs.traffic is not None:
        proposal = propose_budget(needed, runs.prices, runs.traffic, days=gate.extraction_days)
    figures = {
        f"{ANSWERS_LEFT}, {arm}": runs.results[arm].curves[ANSWERED][1][-1]
        for arm in BEHIND
        if arm in runs.results and ANSWERED in runs.results[arm].curves
    }
    if needed is not None and needed.reached is not None:
        figures[ANSWERS_NEEDED] = needed.reached
        if runs.traffic is not None:
            figures[DAYS_NEEDED] = math.ceil(needed.reached / runs.traffic.answers)
    return InDomainCell(
        needed=needed,
        limits=limits,
        days=gate.extraction_days,
        cheapest=cheapest,
        figures=figures,
        notes=() if needed is None else needed_sentences(needed, limits, cheapest, runs.traffic, proposal),
        proposal="" if proposal is None else proposal.to_toml(),
        **judged,
    )


def needed_sentences(
    needed: AnswersNeeded,
    limits: BudgetPolicy,
    cheapest: float,
    traffic: DeclaredTraffic | None,
    proposal: BudgetProposal | None,
) -> tuple[str, ...]:
    """How many answers a copy needs, how many days they take, and what buys the same without the model."""
    if needed.reached is None:
        return (f"All {needed.measured} answers that were asked for do not surely bring a copy to the bound.",)
    own = (
        "labelling so many rows oneself was not seen to buy the same"
        if needed.own_labels is None
        else f"labelling {needed.own_labels:,} row{'' if needed.own_labels == 1 else 's'} oneself buys the same"
    )
    said = [f"A copy of ordinary cases is beyond the bound with {answers_text(needed.reached)}; {own}."]
    if limits.limited:
        said.append(f"At the cap {_both_days(limits, cheapest, needed.reached)}.")
    if traffic is not None:
        alone, together = (
            math.ceil(needed.reached / each) for each in (traffic.answers, traffic.answers * traffic.accounts)
        )
        said.append(
            f"At the declared traffic ({traffic.text}) an account {days_text(alone)}, an organisation "
            f"{days_text(together)}."
        )
    elif not limits.limited:
        said.append(
            "How many days that takes is not said, for nobody said how much accounts ask: give --traffic and "
            "--accounts, and a [budget] is proposed."
        )
    if proposal is not None and not proposal.keeps:
        said.append(
            f"No cap that this traffic allows prevents it for {proposal.days} days: under the tightest one, which is "
            f"proposed, {_both_days(proposal.budget, cheapest, needed.reached)}."
        )
    return tuple(said)


def _both_days(limits: BudgetPolicy, bits: float, answers: int) -> str:
    """How long `answers` take at the caps, for one account and for an organisation."""
    alone, together = (days_text(days_needed(limits, bits, answers, organisation=each)) for each in (False, True))
    return f"an account {alone}, an organisation {together}"


def days_text(days: float) -> str:
    """That so many days are needed, in words; infinitely many are never enough."""
    return "never gets so many" if math.isinf(days) else f"needs {days:,.0f} day{'' if days == 1 else 's'}"


def answers_text(count: float) -> str:
    """A number of answers in words; infinitely many are any number."""
    return f"{'any number of' if math.isinf(count) else f'{count:,.0f}'} answer{'' if count == 1 else 's'}"
