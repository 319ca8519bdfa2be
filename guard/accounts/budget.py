"""A budget of bits: an account is told finely while that fits, then labels only, then, visibly, nothing.

Guarantee. Every answer is charged log2 of how many answers there could have been (`guard.release.capacity`), so a
budget of B bits admits at most 2^B series of answers, however the questions are chosen: in the tree of all series every
branch point has at most 2^cost branches, and along no path do the costs exceed B. Whatever is computed from the
answers, a clone included, is one of 2^B. That holds for a thief with patients' own images too, whom watching queries
cannot tell from a client. Not counted is what the other defenses' choice of a level tells.

`label_share` of each limit is kept for labels. Without it, finer answers would use up the limit, and a site would go
from scores to refusals within a few answers.

An exact repeat among an account's last `REMEMBERED_ANSWERS` answers is free at the same level, and as a label at any.
The same bytes, model and release give the same answer, and a finer answer names the label, so nothing new is told. A
new model, calibration or release forgets what may be repeated; it gives back no bit.

Charged is what is released. What others withhold costs nothing, unless a row is offered as withheld at a price, where
certificates decide it. That the budget withholds follows from its own count and tells nothing of the input. Counts are
whole thousandths of a bit, rounded up, so that sums are exact.

Days are UTC days of the clock handed in, and clocks jump. Each of the last `DAYS` days that were spent on keeps its own
count, so a clock that jumps to and fro finds on either side what was spent there, and a wrong one locks nobody out once
it is right again. Going back to a day without a count gives nothing back: it takes over the count of the day left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from medward.guard.errors import MedwardError
from medward.guard.policy import BudgetPolicy
from medward.guard.types import Action, Level, Principal, Verdict

REMEMBERED_ANSWERS = 16
DAYS = 8
UPLOADS_PART = "leakage-uploads"
UNIT = 1000  # thousandths of a bit
_DAY = 86400.0
Offers = tuple[tuple[Level, float], ...]
"""The levels a row may leave at with their bits, finest first, the bits falling; none where it is withheld anyway."""


class LeakState(TypedDict):
    """One account: what released its answers, its day, thousandths of bits on it and ever, the last answers.

    `others` are the days before it that something was spent on, latest last, each with what was spent.
    """

    release: str
    day: int
    today: int
    total: int
    recent: list[list[str]]
    others: NotRequired[list[list[int]]]  # missing in states that older versions wrote


@dataclass(frozen=True, slots=True)
class PriceRequest:
    """One row: the digest of its bytes and the levels it may leave at."""

    digest: str
    offers: Offers

    @property
    def finest(self) -> Level:
        """What it gets when the budget does not object."""
        return self.offers[0][0] if self.offers else Level.WITHHELD


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """The budget of one account; pure, state in, state out.

    `daily` and `total` are limits in bits, 0 for none. `release` names the model, its calibration and the release
    settings. Guarantee: the bits charged never exceed a limit, ever and on any UTC day (of the last `DAYS` the clock
    has said), and no bit is given back.
    """

    daily: float = 0.0
    total: float = 0.0
    label_share: float = 0.5
    release: str = ""
    account: str = ""
    part: str = "leakage"

    def start(self) -> LeakState:
        """An account that was told nothing."""
        return LeakState(release=self.release, day=0, today=0, total=0, recent=[], others=[])

    def resume(self, state: LeakState | None, day: int) -> LeakState:
        """`state` on `day`; under another release it keeps what was spent and forgets what may be repeated."""
        state = self.start() if state is None else state
        if state["release"] != self.release:
            state = LeakState({**state, "release": self.release, "recent": []})
        return state if day == state["day"] else _turned(state, day)

    def allowed(self, state: LeakState, ask: PriceRequest) -> Level:
        """The finest of the offers that still fits."""
        for level, bits in ask.offers:
            cost = _cost(state, ask.digest, level, bits)
            if cost == 0 or cost <= self._room(state, level):
                return level
        return Level.WITHHELD

    def spend(self, state: LeakState, ask: PriceRequest, level: Level) -> LeakState:
        """The state once `ask` was answered at `level`."""
        bits = dict(ask.offers).get(level)
        if bits is None:
            return state
        cost = _cost(state, ask.digest, level, bits)
        if level is Level.WITHHELD and cost > self._room(state, level):
            return state
        told = level.label if cost else _told(state, ask.digest) or level.label
        recent = [each for each in state["recent"] if each[0] != ask.digest]
        return LeakState(
            {
                **state,
                "today": state["today"] + cost,
                "total": state["total"] + cost,
                "recent": [*recent, [ask.digest, told]][-REMEMBERED_ANSWERS:],
            }
        )

    def step(self, state: LeakState | None, day: int, asks: Sequence[PriceRequest]) -> tuple[LeakState, list[Level]]:
        """Answer `asks` in order, each at the finest level that fits; a batch is as good as its rows one by one."""
        (after,), (levels, _) = charge_accounts([self], day, asks, [state])
        return after, levels

    def left(self, state: LeakState) -> float:
        """Bits until nothing leaves, by the nearer limit."""
        return max(0, self._room(state, Level.LABEL)) / UNIT

    def verdict(self, state: LeakState, action: Action) -> Verdict:
        """`action`, with the count beside it."""
        spent = {"bits_today": state["today"] / UNIT, "bits_total": state["total"] / UNIT}
        return Verdict(
            part=self.part, account=self.account, action=action, evidence={**spent, "left": self.left(state)}
        )

    def _room(self, state: LeakState, level: Level) -> float:
        """Thousandths of bits that answers at `level` may still take."""
        share = 1.0 if level >= Level.LABEL else 1 - self.label_share
        spent = ((self.daily, state["today"]), (self.total, state["total"]))
        return min((math.floor(limit * share * UNIT) - used for limit, used in spent if limit), default=math.inf)


def starved_level(budget: BudgetPolicy, prices: Offers) -> str:
    """Say that not even the first answer of an account leaves at its finest level; empty where it does.

    `prices` are the levels an answer may leave at with their bits, finest first, and at least one.
    """
    new = Leakage(daily=budget.daily_bits, total=budget.total_bits, label_share=budget.label_share)
    left = new.allowed(new.start(), PriceRequest("", prices))
    (finest, bits), (_, least) = prices[0], prices[-1]
    if left is finest:
        return ""
    limit = min(each for each in (budget.daily_bits, budget.total_bits) if each)
    if left is Level.WITHHELD:
        return (
            f"the budget admits no answer: one costs {price_words(least)} bits at least, and the limit is {limit:g}; "
            "every answer is withheld"
        )
    return (
        f"the budget admits no answer at level {finest.label}: one costs {price_words(bits)} bits, and "
        f"{(1 - budget.label_share) * limit:g} of the limit are for such; answers leave at level {left.label}"
    )


def most_answers(budget: BudgetPolicy, bits: float, days: int, *, organisation: bool = False) -> float:
    """The most new answers of `bits` bits each that leave within `days` UTC days; infinite without a limit.

    For one account, or for all accounts of an `organisation` together, however many there are. Guarantee: `Leakage`
    gives out no more on any `days` days of a clock that only goes forward. With the bits of the cheapest level it holds
    for answers of every level, for who is told labels only pays for labels only.
    """
    price = math.ceil(bits * UNIT)
    factor = budget.parents if organisation else 1.0
    if not budget.limited or not factor or not price:
        return math.inf
    a_day, in_all = (math.floor(limit * factor * UNIT) // price for limit in (budget.daily_bits, budget.total_bits))
    return min(days * a_day if budget.daily_bits else math.inf, in_all if budget.total_bits else math.inf)


def price_words(bits: float) -> str:
    """A price as it is charged, in whole thousandths of a bit, rounded up."""
    return f"{math.ceil(bits * UNIT) / UNIT:,.3f}"


def charge_accounts(
    budgets: Sequence[Leakage], day: int, asks: Sequence[PriceRequest], states: Sequence[LeakState | None]
) -> tuple[list[LeakState], tuple[list[Level], list[Verdict]]]:
    """Charge `asks` on `day` (`utc_day`) to an account and its parents: a step for ``Store.transact_all``.

    A row leaves at the coarsest of the levels its accounts allow, and each of them is charged for that one. Gives the
    states after, the level each row may leave at, and a verdict per account with the strictest thing it asked for.
    """
    after = [budget.resume(state, day) for budget, state in zip(budgets, states, strict=True)]
    actions = [Action.ALLOW] * len(budgets)
    levels = []
    for ask in asks:
        own = [budget.allowed(state, ask) for budget, state in zip(budgets, after, strict=True)]
        level = max(own, default=ask.finest)
        actions = [max(action, _action(ask, each)) for action, each in zip(actions, own, strict=True)]
        after = [budget.spend(state, ask, level) for budget, state in zip(budgets, after, strict=True)]
        levels.append(level)
    verdicts = [budget.verdict(state, action) for budget, state, action in zip(budgets, after, actions, strict=True)]
    return after, (levels, verdicts)


def budgets_for(policy: BudgetPolicy, principal: Principal, release: str, part: str = "leakage") -> dict[str, Leakage]:
    """The limited accounts on a path, from the organisation down, by the keys of their states; empty without limits.

    `part` keeps limits apart that bound different things.

    The keys are apart from those of the monitors' states, which a person may reset, and are to be kept without a time
    to live: what was told stays told. No principal has an empty level, so none is mistaken for a key.
    """
    factors = [policy.parents] * (len(principal) - 1) + [1.0]
    names = ["/".join(principal[:depth]) for depth in range(1, len(principal) + 1)]
    return {
        f"{name}//{part}": Leakage(
            daily=policy.daily_bits * factor,
            total=policy.total_bits * factor,
            label_share=policy.label_share,
            release=release,
            account=name,
            part=part,
        )
        for name, factor in zip(names, factors, strict=True)
        if factor and policy.limited
    }


def upload_budgets(policy: BudgetPolicy, upload_bits: float, principal: Principal, release: str) -> dict[str, Leakage]:
    """The limits of uploads on a path, of `upload_bits` a day, beside those of `policy`; empty without a limit."""
    own = BudgetPolicy(daily_bits=upload_bits, parents=policy.parents, label_share=policy.label_share)
    return budgets_for(own, principal, release, UPLOADS_PART)


def utc_day(seconds: float) -> int:
    """The number of the UTC day at `seconds` of Unix time. Raises `MedwardError` for a clock that says no number."""
    if not math.isfinite(seconds):
        raise MedwardError(f"clock: expected a finite number of Unix seconds, got {seconds}")
    return math.floor(seconds / _DAY)


def _action(ask: PriceRequest, level: Level) -> Action:
    if level <= ask.finest:
        return Action.ALLOW
    return Action.WITHHOLD if level is Level.WITHHELD else Action.COARSEN


def _turned(state: LeakState, day: int) -> LeakState:
    """`state` on another `day`, with what was spent on it; else nothing on a later, the last day's on an earlier."""
    spent = {each: bits for each, bits in [*state.get("others", []), [state["day"], state["today"]]] if bits}
    today = spent.pop(day, 0 if day > state["day"] else state["today"])
    return LeakState(
        {**state, "day": day, "today": today, "others": [list(each) for each in spent.items()][-(DAYS - 1) :]}
    )


def _told(state: LeakState, digest: str) -> str | None:
    return next((level for seen, level in state["recent"] if seen == digest), None)


def _cost(state: LeakState, digest: str, level: Level, bits: float) -> int:
    """Thousandths of bits, 0 for a repeat of what was told at this level or, for a label, at any."""
    told = _told(state, digest)
    if told and (told == level.label or level is Level.LABEL):
        return 0
    if not math.isfinite(bits) or bits < 0:
        raise MedwardError(f"leakage: an answer carries 0 bits or more, got {bits}")
    return math.ceil(bits * UNIT)
