"""The `[budget]` that a measured curve and a site's declared traffic come to, or why there is none that helps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medward.attacks.extraction.theft_curve import AnswersNeeded
from medward.attacks.validation.traffic import DeclaredTraffic
from medward.guard.accounts.budget import UNIT, Offers, most_answers
from medward.guard.policy import BudgetPolicy
from medward.guard.types import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetProposal:
    """A budget proposal is the tightest `budget` that declared traffic allows; `keeps` says whether that is enough.

    Kept is that all accounts of an organisation together get, in so many `days` or ever, fewer answers than a copy
    needs; `needed` says how many that are, of which `answers` is the most that leave, in the cheapest form. `prices`
    are the levels an answer leaves at with their bits, finest first.
    """

    budget: BudgetPolicy
    keeps: bool
    days: int
    answers: float
    needed: AnswersNeeded
    traffic: DeclaredTraffic
    prices: Offers

    @property
    def most_words(self) -> tuple[str, ...]:
        """The most answers that an organisation gets, in lines: with scores, and as labels where these cost less."""
        cost, (cheap, least) = self.prices[0][1], min(self.prices, key=lambda each: each[1])
        within = f"in {self.days} days at most"
        if least >= cost or cheap is not Level.LABEL:
            return (f"an organisation gets {self.answers:,.0f} answers {within}",)
        scored = most_answers(self.budget, cost, self.days, organisation=True)
        bits = "bit" if least == 1 else "bits"
        return (
            f"an organisation gets {scored:,.0f} answers with scores {within},",
            f"or {self.answers:,.0f} as labels ({least:.3g} {bits} each where scores take {cost:.3g})",
        )

    def to_toml(self) -> str:
        """The section, with what it does as comments; `Policy.from_toml` reads it back equal."""
        if self.keeps:
            told = [
                *self.most_words,
                f"and ever; a copy of ordinary cases stays within the gate's bound up to {self.needed.within:,}.",
                "After that keys must be new",
            ]
        else:
            told = [
                "No limit that this traffic allows keeps copies of ordinary cases within the gate's bound:",
                *self.most_words,
                f"{self.needed.within:,} would be few enough. These limits only slow a thief down; the report says by "
                "how much",
            ]
        return "\n".join(
            [
                "# in policy.toml replace these keys of [budget]",
                *(f"# {line}" for line in (f"for {self.traffic.text}", *told)),
                "[budget]",
                f"daily_bits = {self.budget.daily_bits!r}",
                f"total_bits = {self.budget.total_bits!r}" if self.budget.total_bits else "total_bits = 0  # no limit",
                f"parents = {self.budget.parents!r}",
                f"label_share = {self.budget.label_share!r}",
            ]
        )


def propose_budget(
    needed: AnswersNeeded, prices: Offers, traffic: DeclaredTraffic, *, days: int
) -> BudgetProposal | None:
    """The tightest limits under which `traffic` leaves at its finest level; None where answers have no price.

    `prices` are the levels an answer leaves at with their bits, finest first. A day's limit is what an account asks on
    its busiest ordinary day, an organisation's that of its accounts. A limit in all is set only where it can keep the
    promise: it holds as many answers as are few enough, and lasts for `days` days of such traffic. Nothing is kept for
    labels (`label_share` 0), as a thief would get many times as many of these.
    """
    if not prices or prices[0][1] <= 0:
        return None
    fine, cheap = (math.ceil(bits * UNIT) for bits in (prices[0][1], min(bits for _, bits in prices)))
    daily, parents = traffic.answers * fine, float(traffic.accounts)
    enough = needed.within * cheap // traffic.accounts
    keeps = enough >= days * daily
    budget = BudgetPolicy(
        daily_bits=_limit_of(daily, parents),
        total_bits=enough / UNIT if keeps else 0.0,
        parents=parents,
        label_share=0.0,
    )
    most = most_answers(budget, cheap / UNIT, days, organisation=True)
    return BudgetProposal(
        budget=budget, keeps=keeps, days=days, answers=most, needed=needed, traffic=traffic, prices=prices
    )


def _limit_of(thousandths: int, parents: float) -> float:
    """The least limit in bits that holds so many thousandths of one, also `parents` times, as limits are rounded."""
    bits = thousandths / UNIT
    while any(math.floor(bits * factor * UNIT) < thousandths * factor for factor in (1.0, parents)):
        bits = math.nextafter(bits, math.inf)
    return bits


def days_needed(budget: BudgetPolicy, bits: float, answers: int, *, organisation: bool) -> float:
    """Days until `answers` of `bits` bits have left at the limits of a budget; infinite where they never do."""
    a_day = most_answers(budget, bits, 1, organisation=organisation)
    if most_answers(budget, bits, 10**9, organisation=organisation) < answers:
        return math.inf
    return 1 if math.isinf(a_day) else max(1, math.ceil(answers / a_day)) if a_day else math.inf
