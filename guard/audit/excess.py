"""A report on a stretch of the audit log: nothing, drift, an attack, both, or too little to say, by organisation.

It counts what the monitors of each account bet on and has `guard.audit.drift` read the counts; `medward drift` puts
that into words. Intervals are exact for independent queries; bursts and series of one patient make them too narrow.
Nothing here is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from medward.guard.accounts.monitors import DUPLICATES, AccountMonitors
from medward.guard.accounts.names import by_folded, folded_name
from medward.guard.audit.drift import RISK, EventKind, Spread, bet_events, count_events, read_drift
from medward.guard.audit.record import AuditRecord, is_query_record
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.statistics.binomial import log_tail, rate_limits
from medward.guard.statistics.combined_eprocess import CombinedEProcess
from medward.guard.statistics.eprocess import Event
from medward.guard.statistics.strata import STRATUM
from medward.guard.types import Ints

_DAY = len("2026-01-31")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often an event was seen: `hits` of `n`, with exact 95 % limits."""

    event: Event
    hits: int
    n: int
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """The clearest excess of a part: how it is spread, and when it was there, `days` as (day, hits, queries).

    `standing` (hits, queries) is that of the accounts that stand out. Days count these accounts, or the others in a
    part where most moved; `began` is the first day that alone is clearly above what is allowed, "" where none is.
    """

    rate: Rate
    spread: Spread
    standing: tuple[int, int]
    days: tuple[tuple[str, int, int], ...]
    began: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """One organisation. `rungs` holds (alpha, action, accounts at or above it); an alarm once raised stands.

    `alarms` are the accounts whose wealth was at a rung in this stretch, with the part that most of it was of, or that
    were at a limit of near-duplicates; `parents` the levels above them whose wealth was at one. `begin` and `end` are
    the times of the first and last query; `left_out` are queries recorded under another policy or on other levels than
    the bundle's.
    """

    organisation: str
    begin: str
    end: str
    accounts: int
    queries: int
    left_out: int
    rungs: tuple[tuple[float, str, int], ...]
    alarms: dict[str, tuple[str, ...]]
    parents: tuple[str, ...]
    kind: EventKind
    standing: tuple[str, ...]
    moved: tuple[str, ...]
    rates: tuple[Rate, ...]
    excesses: tuple[Excess, ...]


def drift_reports(
    records: Iterable[Mapping[str, Any]],
    policy: Policy,
    profile: Profile,
    sites: Mapping[str, Profile] | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[DriftReport]:
    """One report for each organisation in `records`, from `since` on and before `until`, by name.

    `sites` are the profiles of organisations with a calibration of their own. A record does not name its calibration:
    begin after the last one. Raises `IntegrityError` for a record that no guard writes.
    """
    found: dict[str, _Organisation] = {}
    sites = by_folded(sites or {}, "sites")
    for record in records:
        if not is_query_record(record):
            continue
        try:
            read = AuditRecord.recorded(record)
            time = datetime.fromisoformat(read.time)
            if (since is None or time >= since) and (until is None or time < until):
                name = folded_name(read.organisation)
                if name not in found:
                    found[name] = _Organisation(name, policy, sites.get(name, profile))
                found[name].add(read)
        except MedwardError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"record {record.get('seq')}: not the record of a query: {error!r}") from None
    return [found[name].report() for name in sorted(found)]


@dataclass(slots=True)
class _Account:
    """Rungs reached so far, the parts behind alarms in this stretch, hits and queries ``(2, E)`` by day."""

    rungs: int = 0
    alarms: set[str] = field(default_factory=set)
    days: dict[str, Ints] = field(default_factory=dict)

    @property
    def counts(self) -> Ints:
        """Of all days."""
        return np.asarray(sum(self.days.values()))


@dataclass(slots=True)
class _Organisation:
    name: str
    policy: Policy
    profile: Profile
    monitors: dict[int, CombinedEProcess] = field(default_factory=dict)
    watched: tuple[Event, ...] = ()
    accounts: dict[str, _Account] = field(default_factory=dict)
    parents: set[str] = field(default_factory=set)
    times: list[str] = field(default_factory=list)  # first and last
    queries: int = 0
    left_out: int = 0

    def add(self, record: AuditRecord) -> None:
        """Count one record, or leave it out."""
        key, rows, depth = record.principal, len(record.inputs), len(record.accounts)
        if depth not in self.monitors:
            self.monitors[depth] = AccountMonitors.of(self.policy, self.profile, depth).combined
            self.watched = bet_events(self.monitors[depth].parts)
        monitor = self.monitors[depth]
        values = record.bets.get(key, {})
        parts = {part.name: part for part in monitor.parts}
        bets = {name: column for name, column in values.items() if name != STRATUM}
        known = all(name in parts and all(map(parts[name].knows, column)) for name, column in bets.items())
        known &= all(each in range(monitor.strata) for each in values.get(STRATUM, ()))
        if record.policy != self.policy.fingerprint or not known:
            self.left_out += rows
            return
        self.queries += rows
        times = [*self.times, record.time]
        self.times = [min(times), max(times)]
        account, day = self.accounts.setdefault(key, _Account()), record.time[:_DAY]
        account.days[day] = account.days.get(day, 0) + count_events(self.watched, values)
        for verdict in record.verdicts:
            if verdict.error:
                continue
            if verdict.part == DUPLICATES and verdict.evidence["count"] >= self.policy.duplicates.ladder[0].count:
                account.alarms.add(DUPLICATES)
            elif verdict.part == monitor.name:
                self._look(account if verdict.account == key else None, verdict.account, verdict.evidence, monitor)

    def _look(
        self, account: _Account | None, key: str, evidence: Mapping[str, float], monitor: CombinedEProcess
    ) -> None:
        """Note what the verdict on the account, or on its parent `key`, says of alarms."""
        needed = [-math.log(alpha) for alpha, _ in monitor.ladder]
        alarmed = evidence["log_e"] >= needed[0]
        if account is None:
            self.parents |= {key} if alarmed else set()
            return
        account.rungs = max(account.rungs, sum(evidence["peak"] >= each for each in needed))
        if alarmed:
            account.alarms.add(max((part.name for part in monitor.parts), key=lambda name: evidence[f"share:{name}"]))

    def report(self) -> DriftReport:
        """Read the counts."""
        keys = sorted(self.accounts)
        accounts = [self.accounts[key] for key in keys]
        counts = np.array([account.counts for account in accounts], np.int64).reshape(-1, 2, len(self.watched))
        hits, n = counts[:, 0], counts[:, 1]
        reading = read_drift(
            self.watched,
            hits,
            n,
            [bool(account.alarms) for account in accounts],
            apart=[DUPLICATES in account.alarms for account in accounts],
            parents=bool(self.parents),
        )
        rates = [_rate(event, int(hits[:, e].sum()), int(n[:, e].sum())) for e, event in enumerate(self.watched)]
        standing = [accounts[a] for a in reading.standing]
        others = [account for a, account in enumerate(accounts) if a not in set(reading.standing)]
        excesses = []
        for spread in reading.spreads:
            counted = standing if standing and self.watched[spread.event].part not in reading.moved else others
            excesses.append(_excess(rates[spread.event], spread, standing, counted))
        ladder = self.policy.monitor.ladder
        return DriftReport(
            organisation=self.name,
            begin=min(self.times, default=""),
            end=max(self.times, default=""),
            accounts=len(keys),
            queries=self.queries,
            left_out=self.left_out,
            rungs=tuple(
                (rung.false_alarm, rung.action, sum(account.rungs > i for account in accounts))
                for i, rung in enumerate(ladder)
            ),
            alarms={key: tuple(sorted(self.accounts[key].alarms)) for key in keys if self.accounts[key].alarms},
            parents=tuple(sorted(self.parents)),
            kind=reading.kind,
            standing=tuple(keys[a] for a in reading.standing),
            moved=reading.moved,
            rates=tuple(rates),
            excesses=tuple(excesses),
        )


def _rate(event: Event, hits: int, n: int) -> Rate:
    low, high = rate_limits(hits, n)
    return Rate(event=event, hits=hits, n=n, low=low, high=high)


def _excess(rate: Rate, spread: Spread, standing: Sequence[_Account], counted: Sequence[_Account]) -> Excess:
    """What there is of an excess in the accounts `standing`, and by day in those `counted`."""
    own = [account.counts[:, spread.event] for account in standing]
    by_day: dict[str, Ints] = {}
    for account in counted:
        for day, counts in account.days.items():
            by_day[day] = by_day.get(day, 0) + counts[:, spread.event]
    days = [(day, int(by_day[day][0]), int(by_day[day][1])) for day in sorted(by_day)]
    clear = math.log(RISK / max(len(days), 1))
    began = next((day for day, hits, n in days if log_tail(hits, n, rate.event.allowed) <= clear), "")
    total = (sum(int(hits) for hits, _ in own), sum(int(n) for _, n in own))
    return Excess(rate=rate, spread=spread, standing=total, days=tuple(days), began=began)
