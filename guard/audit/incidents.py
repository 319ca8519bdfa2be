"""Incidents, from the audit log: which account alarmed, since when, what saw it, what left, and what became of it.

An incident begins with the first verdict that asks for an action on an account, and rises with stricter ones; it ends
where a person resets the account. What the log says is all there is: nothing is judged anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medward.guard.accounts.monitors import DUPLICATES
from medward.guard.accounts.suspension import ACCOUNT_SUSPENDED, SUSPENSION_LIFTED
from medward.guard.alarm import SHARE_OF
from medward.guard.audit.record import RESET, AuditRecord, is_query_record
from medward.guard.errors import MedwardError
from medward.guard.types import Action, Verdict

EPROCESS = "e-process"
_LOOK = {
    "strange": "look at its latest inputs: foreign images are a thief's, and so is a new scanner or a wrong unit",
    "embedding": "look at its latest inputs: a new population, or a thief who asks from elsewhere",
    "shared": "many inputs share one change: a perturbation for all images, or a scanner's mark on each",
    DUPLICATES: "it asks around the same images: a search for the model's border, or a loop of tests",
}
_OTHER = "look at its latest inputs and at whose key it is"
_THEN = {
    True: "; it stands suspended: lift that with `medward accounts release`, or revoke its keys",
    False: "; stop it with `medward accounts suspend`, or clear it with `medward accounts reset`",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """An incident is the alarm of one `account`, as far as the log goes.

    It `began` (UTC) with answer `query`; `action` is the strictest that was asked for, `part` what saw it first and
    `evidence` what it said when the alarm rose last. ``left_before`` and ``left_since`` count rows by the level at
    which they left, before the alarm and from it on, since the account's first record or its last reset. `ended` is
    when a person reset it, "" while it stands, `suspended` whether the account is suspended now.
    """

    account: str
    began: str
    query: str
    action: Action
    part: str
    evidence: Mapping[str, float]
    left_before: Mapping[str, int]
    left_since: Mapping[str, int]
    ended: str
    suspended: bool

    @property
    def seen_by(self) -> str:
        """The monitor of which most of the e-value is; near-duplicates by their name."""
        shares = {name: each for name, each in self.evidence.items() if name.startswith(SHARE_OF)}
        return max(shares, key=lambda name: shares[name]).removeprefix(SHARE_OF) if shares else self.part

    @property
    def remedy(self) -> str:
        """What a person does now; "" where it has ended."""
        return "" if self.ended else _LOOK.get(self.seen_by, _OTHER) + _THEN[self.suspended]

    @property
    def content(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "account": self.account,
            "began": self.began,
            "query": self.query,
            "action": self.action.label,
            "part": self.part,
            "seen_by": self.seen_by,
            "evidence": dict(self.evidence),
            "left_before": dict(self.left_before),
            "left_since": dict(self.left_since),
            "ended": self.ended,
            "suspended": self.suspended,
            "remedy": self.remedy,
        }


@dataclass(slots=True)
class _Account:
    """One account while the log is read."""

    left: Counter[str] = field(default_factory=Counter)
    open: _Open | None = None


@dataclass(slots=True)
class _Open:
    """An incident that may still rise."""

    began: str
    query: str
    part: str
    action: Action
    evidence: Mapping[str, float]
    before: Counter[str]


def incidents(records: Iterable[Mapping[str, Any]]) -> list[Incident]:
    """The incidents in a log, in the order in which they began.

    Raises `MedwardError` for a record of a query that is none.
    """
    accounts: dict[str, _Account] = {}
    found: list[tuple[str, _Open, Counter[str], str]] = []
    suspended: set[str] = set()
    for record in records:
        event, name = record.get("event"), str(record.get("principal", ""))
        if event == RESET and name in accounts:
            _end(found, name, accounts.pop(name), str(record["time"]))
        elif event == ACCOUNT_SUSPENDED:
            suspended.add(name)
        elif event == SUSPENSION_LIFTED:
            suspended.discard(name)
        elif is_query_record(record):
            _count(accounts, record)
    for name, account in accounts.items():
        _end(found, name, account, "")
    found.sort(key=lambda each: each[1].began)
    return [
        Incident(
            account=name,
            began=seen.began,
            query=seen.query,
            action=seen.action,
            part=seen.part,
            evidence=seen.evidence,
            left_before=dict(seen.before),
            left_since=dict(left - seen.before),
            ended=ended,
            suspended=not ended and any(name == each or name.startswith(f"{each}/") for each in suspended),
        )
        for name, seen, left, ended in found
    ]


def _count(accounts: dict[str, _Account], content: Mapping[str, Any]) -> None:
    """Take in one query: an alarm that rises, and what left to each account of its path."""
    try:
        record = AuditRecord.recorded(content)
    except (KeyError, TypeError, ValueError) as error:
        raise MedwardError(f"audit record {content.get('seq')}: not one of a query ({error})") from None
    raised: dict[str, Verdict] = {}
    for verdict in record.verdicts:
        if verdict.part in (EPROCESS, DUPLICATES) and verdict.account and not verdict.error:
            before = raised.get(verdict.account)
            if verdict.action > (Action.ALLOW if before is None else before.action):
                raised[verdict.account] = verdict
    for name in record.accounts:
        account = accounts.setdefault(name, _Account())
        if name in raised:
            _rise(account, raised[name], record)
        account.left.update(record.levels)


def _rise(account: _Account, verdict: Verdict, record: AuditRecord) -> None:
    if account.open is None:
        account.open = _Open(
            began=record.time,
            query=record.query,
            part=verdict.part,
            action=verdict.action,
            evidence=verdict.evidence,
            before=Counter(account.left),
        )
    elif verdict.action > account.open.action:
        account.open.action, account.open.evidence = verdict.action, verdict.evidence


def _end(found: list[tuple[str, _Open, Counter[str], str]], name: str, account: _Account, time: str) -> None:
    if account.open is not None:
        found.append((name, account.open, account.left, time))
