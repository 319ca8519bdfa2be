"""What the guard knows of an account, in one place: what it asked, its alarms, its budget, whether it is suspended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medward.guard.accounts.budget import budgets_for
from medward.guard.accounts.monitors import DUPLICATES, AccountMonitors
from medward.guard.accounts.stores import JsonValue, Store
from medward.guard.accounts.suspension import Suspension, suspensions
from medward.guard.alarm import SHARE_OF
from medward.guard.monitors.near_duplicates import DuplicateCount
from medward.guard.policy import Policy
from medward.guard.types import Action, Principal

RESERVED = "//"
"""In the keys of states that are no account's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOverview:
    """An overview of `account`, from the states that a store holds of it.

    `queries` are rows since its monitors began under this calibration; `log_e` and `peak` the natural logarithms of its
    e-value now and of the largest ever, `shares` what part of it is of which monitor. `action` is what its alarms ask
    for; of one with accounts below it, what they ask for on those, by the thresholds of the deepest. `near_duplicates`
    is the count of those it sent. `bits_left` are those until nothing leaves, None without a limit. `suspension` is its
    own or that of one above it.
    """

    account: str
    queries: int
    log_e: float
    peak: float
    action: Action
    shares: Mapping[str, float]
    near_duplicates: float
    bits_total: float
    bits_left: float | None
    suspension: Suspension | None

    @property
    def acted_upon(self) -> bool:
        """Whether answers to it are coarser than they would be, or it is suspended."""
        return self.action > Action.FLAG or self.suspension is not None

    @property
    def content(self) -> dict[str, Any]:
        """As plain data."""
        held = self.suspension
        return {
            "account": self.account,
            "queries": self.queries,
            "log_e": self.log_e,
            "peak": self.peak,
            "action": self.action.label,
            "shares": dict(self.shares),
            "near_duplicates": self.near_duplicates,
            "bits_total": self.bits_total,
            "bits_left": self.bits_left,
            "suspended": None if held is None else {"by": held.operator, "reason": held.reason, "since": held.time},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReader:
    """Reads overviews from `store`, by the `policy` and the monitors (`monitors_of` a principal) of a guard.

    `release` names what was released, and `day` is the UTC day of its budget.
    """

    store: Store
    policy: Policy
    monitors_of: Callable[[Principal], AccountMonitors]
    release: str
    day: int

    def overviews(self) -> Iterator[AccountOverview]:
        """Of every account that the store knows, by name; they are read one by one."""
        names, held = known_accounts(self.store), suspensions(self.store)
        for name in names:
            yield self._read(name, _deepest(name, names), held)

    def overview(self, account: str) -> AccountOverview | None:
        """Of one account, None where it has asked nothing and nobody suspended it."""
        names, held = known_accounts(self.store), suspensions(self.store)
        return self._read(account, _deepest(account, names), held) if account in {*names, *held} else None

    def _read(self, name: str, deepest: str, held: Mapping[str, Suspension]) -> AccountOverview:
        principal, asks = tuple(name.split("/")), tuple(deepest.split("/"))
        state: JsonValue = self.store.get(name) or {}
        combined = self.monitors_of(asks).combined
        most = Action.WITHHOLD if name == deepest else Action[self.policy.monitor.parents.upper()]
        seen = combined.verdict(combined.resume(state.get(combined.name)))
        counted = state.get(DUPLICATES)
        ladder = tuple((limit.count, Action[limit.action.upper()]) for limit in self.policy.duplicates.ladder)
        near = None if counted is None else DuplicateCount(ladder=ladder).verdict(counted)
        budget = budgets_for(self.policy.budget, asks, self.release).get(f"{name}//leakage")
        spent = None if budget is None else budget.resume(self.store.get(f"{name}//leakage"), self.day)
        bits = None if budget is None or spent is None else budget.verdict(spent, Action.ALLOW).evidence
        own = [held[each] for each in _path(principal) if each in held]
        shares = {
            part.removeprefix(SHARE_OF): share for part, share in seen.evidence.items() if part.startswith(SHARE_OF)
        }
        return AccountOverview(
            account=name,
            queries=int(seen.evidence["n"]),
            log_e=seen.evidence["log_e"],
            peak=seen.evidence["peak"],
            action=max(min(seen.action, most), Action.ALLOW if near is None else near.action),
            shares=shares,
            near_duplicates=0.0 if near is None else near.evidence.get("count", 0.0),
            bits_total=0.0 if bits is None else bits["bits_total"],
            bits_left=None if bits is None else bits["left"],
            suspension=own[0] if own else None,
        )


def known_accounts(store: Store) -> list[str]:
    """The accounts that a store has states of, by name."""
    return sorted(key for key in store.state_keys() if RESERVED not in key)


def _path(principal: Principal) -> list[str]:
    return ["/".join(principal[:depth]) for depth in range(1, len(principal) + 1)]


def _deepest(name: str, names: Iterable[str]) -> str:
    """The account at or below `name` with the most levels: its thresholds are the strictest of the branch."""
    return max((each for each in names if each.startswith(f"{name}/")), key=lambda each: each.count("/"), default=name)
