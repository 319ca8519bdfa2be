"""What leaves of a model's outputs: the level that judgement and budgets leave to each row, with its text filtered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from medward.guard.accounts.budget import (
    Leakage,
    LeakState,
    Offers,
    PriceRequest,
    budgets_for,
    charge_accounts,
    upload_budgets,
    utc_day,
)
from medward.guard.accounts.stores import CorruptStateError, Store
from medward.guard.answering import release_settings, released_answer
from medward.guard.defenses import Judgement, failed_part
from medward.guard.errors import UnavailableError
from medward.guard.parts import GuardParts
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.release.redaction_stream import RedactionStream
from medward.guard.report_filter import REPORT_FILTER
from medward.guard.request import Request
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import ReleaseSettings, offers
from medward.guard.types import Action, Answer, Level, Outputs, Verdict

BUDGET_PART = "budget"
"""The part that failed where a request could not be charged."""


@dataclass(frozen=True, slots=True)
class Charged:
    """Charged levels are those at which the rows of a request may leave, which its accounts have paid for."""

    levels: tuple[Level, ...]
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bill:
    """What a request asks of the budgets of its path, by the keys of their states."""

    budgets: Mapping[str, Leakage]
    asks: Sequence[PriceRequest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Releaser:
    """A releaser makes answers of what a model gave: levels, budgets, filters of text, certificates.

    Policy, profile, parts, store and clock are those of `medward.guard.pipeline.Guard`; what leaves is chosen by the
    bundle's `profile`, whatever the site.
    """

    spec: ModelSpec
    policy: Policy
    profile: Profile
    parts: GuardParts
    store: Store
    clock: Callable[[], float]

    def level(self, action: Action) -> Level:
        """The finest level at which a row leaves for which `action` is asked."""
        if action is Action.WITHHOLD:
            return Level.WITHHELD
        if action is Action.COARSEN:
            return Level.LABEL if Level.LABEL in self.spec.task.levels else Level.WITHHELD
        return self.policy.release.default

    def charge(self, asked: Sequence[tuple[Request, Outputs, Judgement]]) -> list[Charged]:
        """Charge requests in their order, as if one after the other; all in one transaction.

        Guarantee: none fails with others, unless the store is away. One that fails leaves as ``on_error`` says.
        """
        levels = [tuple(map(self.level, judgement.actions)) for _, _, judgement in asked]
        found = [Charged(each) for each in levels]
        bills: dict[int, _Bill] = {}
        for place, (request, outputs, _) in enumerate(asked):
            try:
                bill = self._bill(request, outputs, levels[place])
            except Exception as error:
                found[place] = self._uncharged(levels[place], error)
            else:
                if bill.budgets:
                    bills[place] = bill
        for place, paid in self._pay(bills).items():
            found[place] = self._uncharged(levels[place], paid) if isinstance(paid, Exception) else paid
        return found

    def answer(self, request: Request, outputs: Outputs, judgement: Judgement, charged: Charged) -> Answer:
        """The answer at the levels that were `charged`, its texts filtered."""
        texts, levels, filtered = self._filter(request, outputs, charged.levels)
        answer = self._released(request, outputs, levels, (*judgement.verdicts, *charged.verdicts, *filtered), texts)
        if self.parts.certifier is None or judgement.certified is None:
            return answer
        return replace(answer, certified=self.parts.certifier.released(judgement.certified, levels))

    def open_answer(
        self, request: Request, outputs: Outputs, judgement: Judgement, charged: Charged
    ) -> tuple[Answer, RedactionStream | None]:
        """The answer to one row before its text is written, and what the text leaves through: None where none does."""
        redaction, levels, failed = self._open_filter(request, charged.levels)
        verdicts = (*judgement.verdicts, *charged.verdicts, *failed)
        answer = self._released(request, outputs, (Level.WITHHELD,), verdicts, (None,))  # nothing is written yet
        return replace(answer, levels=levels), redaction

    def _released(
        self,
        request: Request,
        outputs: Outputs,
        levels: tuple[Level, ...],
        verdicts: tuple[Verdict, ...],
        texts: tuple[str | None, ...],
    ) -> Answer:
        default = self.policy.release.default
        return released_answer(request.id, self.spec, outputs, levels, verdicts, default, self._settings, texts)

    def _bill(self, request: Request, outputs: Outputs, levels: tuple[Level, ...]) -> _Bill:
        """What the rows of `request` may leave as, and the limited accounts that would pay; none without limits."""
        chosen, name = self.policy.budget, self.parts.release_name
        budgets = budgets_for(chosen, request.principal, name)
        if not request.retrieved:
            budgets |= upload_budgets(chosen, self.policy.source.upload_bits, request.principal, name)
        if not budgets:
            return _Bill(budgets={}, asks=())
        offered = {level: self._offers(level, outputs) for level in set(levels)}
        asks = [PriceRequest(digest, offered[level]) for digest, level in zip(request.asked, levels, strict=True)]
        return _Bill(budgets=budgets, asks=asks)

    def _pay(self, bills: Mapping[int, _Bill]) -> dict[int, Charged | Exception]:
        """What each of `bills` came to, all in one transaction; where one's state is unreadable, each in its own."""
        if not bills:
            return {}
        keys = list(dict.fromkeys(key for bill in bills.values() for key in bill.budgets))
        try:
            step = partial(_charge_bills, bills, keys, utc_day(self.clock()))
            return self.store.transact_all(keys, step)
        except Exception as error:
            if len(bills) == 1 or (isinstance(error, UnavailableError) and not isinstance(error, CorruptStateError)):
                return dict.fromkeys(bills, error)
            return {place: paid for each in bills.items() for place, paid in self._pay(dict([each])).items()}

    def _uncharged(self, levels: tuple[Level, ...], error: Exception) -> Charged:
        """The levels that are left where a request could not be charged."""
        failed = failed_part(self.policy.on_error, BUDGET_PART, error)
        withheld = failed.action is Action.WITHHOLD
        return Charged((Level.WITHHELD,) * len(levels) if withheld else levels, (failed,))

    def _offers(self, level: Level, outputs: Outputs) -> Offers:
        """What a row may leave as from `level` on, with bits, those of its certificate among them."""
        found = offers(self.spec.task, outputs.scores, level, self._settings)
        if self.parts.certifier is None:
            return found
        if not found and self.policy.certify.action is Action.WITHHOLD:  # that a row is withheld tells of the model
            found = ((Level.WITHHELD, 0.0),)
        return tuple((each, bits + self.parts.certifier.bits(each)) for each, bits in found)

    def _filter(
        self, request: Request, outputs: Outputs, levels: tuple[Level, ...]
    ) -> tuple[tuple[str | None, ...], tuple[Level, ...], list[Verdict]]:
        """The texts that leave of a report model's, at which levels; none unfiltered, and none that fails to be."""
        if not outputs.texts or self.parts.reports is None:
            return (None,) * len(outputs.texts), levels, []
        try:
            found = self.parts.reports.filtered(outputs.texts, levels, request.known)
            return found.texts, found.levels, [found.verdict]
        except Exception as error:
            levels, failed = self._unfiltered(levels, error)
            return (None,) * len(levels), levels, [failed]

    def _open_filter(
        self, request: Request, levels: tuple[Level, ...]
    ) -> tuple[RedactionStream | None, tuple[Level, ...], list[Verdict]]:
        """What the text of a stream leaves through, None where no text leaves."""
        if self.parts.reports is None or levels != (Level.FULL,):
            return None, levels, []
        try:
            return self.parts.reports.open(request.known[0] if request.known else None), levels, []
        except Exception as error:
            levels, failed = self._unfiltered(levels, error)
            return None, levels, [failed]

    def _unfiltered(self, levels: tuple[Level, ...], error: Exception) -> tuple[tuple[Level, ...], Verdict]:
        """The levels that are left where texts cannot be filtered: findings alone, or as the site chose nothing."""
        failed = failed_part(self.policy.on_error, REPORT_FILTER, error)
        least = Level.WITHHELD if failed.action is Action.WITHHOLD else Level.LABEL
        return tuple(max(each, least) for each in levels), failed

    @property
    def _settings(self) -> ReleaseSettings:
        return release_settings(self.policy, self.profile.codebook, self.profile.pools)


def _charge_bills(
    bills: Mapping[int, _Bill], keys: Sequence[str], day: int, states: Sequence[LeakState | None]
) -> tuple[list[Any], dict[int, Charged | Exception]]:
    """Charge `bills` on `day` in their order, a step for ``Store.transact_all``; one that fails changes nothing."""
    held = dict(zip(keys, states, strict=True))
    found: dict[int, Charged | Exception] = {}
    for place, bill in bills.items():
        try:
            budgets = list(bill.budgets.values())
            after, (levels, verdicts) = charge_accounts(budgets, day, bill.asks, [held[key] for key in bill.budgets])
        except Exception as error:
            found[place] = error
            continue
        held |= dict(zip(bill.budgets, after, strict=True))
        found[place] = Charged(tuple(levels), tuple(verdicts))
    return [held[key] for key in keys], found
