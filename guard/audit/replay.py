"""Re-runs the monitors over an audit log, to show that every e-process in it follows from what was observed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medward.guard.accounts.monitors import AccountMonitors, BetValues, check_monitors, fold_bets, parts_of
from medward.guard.accounts.names import by_folded, folded_name
from medward.guard.audit.record import REPORT_ENDED, AuditRecord, is_query_record
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.monitors.base import SCREEN
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.statistics.combined_eprocess import CombinedEProcess, CombinedState, Part
from medward.guard.statistics.strata import STRATUM
from medward.guard.types import Action, Verdict

_WINDOW = 256  # how many of an account's records one may lie behind another that follows from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A log whose monitors were re-run: how many verdicts agree, and at which records accounts began anew.

    `unfinished` are the records of reports that were admitted, and charged, and did not leave to their end: who asked
    stopped, the model failed, or the process was killed.
    """

    verdicts: int
    restarts: Mapping[str, Sequence[int]]
    unfinished: Sequence[int] = ()


def replay_log(
    records: Iterable[Mapping[str, Any]],
    policies: Iterable[Policy],
    profile: Profile,
    sites: Mapping[str, Profile] | None = None,
) -> Replay:
    """Re-run every account's e-processes from what they bet on.

    `policies` are those the records were made under, `profile` and `sites` what the guard was calibrated with, by
    organisation as in `Guard`. Raises `IntegrityError` naming the first record with an action or evidence that does not
    follow from its account's records, `MedwardError` for a record made under another policy.

    Concurrent queries are logged out of order: a record may lie up to `_WINDOW` of its account's records
    behind one that follows from it; the count of inputs in the evidence restores the order.

    Limits. The p-value of a repeated input is not used, so not checked. What was bet on, p-values and cells, is taken
    from the log: what it follows from (inputs, an account's direction and repeats) is not in it. The screen's verdict
    and the release levels need scores that are not recorded; verdicts of the budget and of near-duplicates are passed
    over, for they rest on other accounts too. A record that follows from an empty account is taken for
    a new start and listed in `restarts`, to be compared with the resets and expiries one knows of. A query that
    moved a state but left no complete record (killed in between, a store or log that failed, a log that
    starts later) is a gap: the account's next record is named. A log replays up to a change of
    calibration and not across it. Whoever can rewrite the log can make it consistent; see `guard.audit.log.verify`.
    Queries of commissioning move no account and are no records of queries.
    """
    known = {policy.fingerprint: policy for policy in policies}
    accounts: dict[str, _Account] = {}
    verdicts, begun = 0, dict[str, int]()
    for record in records:
        if record.get("event") == REPORT_ENDED and record.get("ended") == "finished":
            begun.pop(str(record.get("stream")), None)
        elif is_query_record(record) and record.get("stream"):
            begun[str(record["stream"])] = int(record.get("seq", 0))
        for claim in _claims(record, known, profile, by_folded(sites or {}, "sites")):
            accounts.setdefault(claim.key, _Account(claim.key)).add(claim)
            verdicts += 1
    wrong = [failed for account in accounts.values() if (failed := account.settle())]
    if wrong:
        raise IntegrityError(min(wrong)[1])
    restarts = {account.key: sorted(account.restarts) for account in accounts.values() if account.restarts}
    return Replay(verdicts=verdicts, restarts=restarts, unfinished=sorted(begun.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """What one record says of one account."""

    seq: int
    key: str
    monitor: CombinedEProcess
    most: Action
    values: BetValues
    count: int
    action: str
    evidence: Mapping[str, float]

    def agrees(self, verdict: Verdict) -> bool:
        """Whether the record says what replay found; logarithms may differ in the last digits."""
        return (
            self.action == min(verdict.action, self.most).label
            and self.evidence.keys() == verdict.evidence.keys()
            and all(
                math.isclose(value, self.evidence[name], rel_tol=1e-9, abs_tol=1e-9)
                for name, value in verdict.evidence.items()
            )
        )


@dataclass(slots=True)
class _Account:
    """The account `key` as it is re-run: its state, the claims to place, the first that cannot be."""

    key: str
    state: CombinedState | None = None
    waiting: list[_Claim] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    failed: tuple[int, str] | None = None

    def add(self, claim: _Claim) -> None:
        """Take one more claim, and place one once more than `_WINDOW` wait."""
        if self.failed is None:
            self.waiting.append(claim)
            if len(self.waiting) > _WINDOW:
                self._place()

    def settle(self) -> tuple[int, str] | None:
        """Place what still waits; return the number of the first record that does not fit, and why."""
        while self.waiting:
            self._place()
        return self.failed

    def _place(self) -> None:
        """Step by the earliest claim that continues the account or, failing that, that starts it anew."""
        queues: list[tuple[CombinedState | None, list[_Claim]]] = [(None, self.waiting)]
        if self.state is not None:
            queues.insert(0, (self.state, sorted(self.waiting, key=lambda claim: claim.evidence.get("n", 0))))
        for before, claims in queues:
            for claim in claims:
                state, verdict = fold_bets(claim.monitor, before, claim.values, claim.count)
                if claim.agrees(verdict):
                    if before is None and self.state is not None:
                        self.restarts.append(claim.seq)
                    self.state = state
                    self.waiting.remove(claim)
                    return
        claim = min(self.waiting, key=lambda claim: claim.seq)
        _, verdict = fold_bets(claim.monitor, self.state, claim.values, claim.count)
        reason = (
            f"record {claim.seq}: account {claim.key!r}: recorded {claim.action} {dict(claim.evidence)}, "
            f"replayed {verdict.action.label} {dict(verdict.evidence)}; "
            "it was changed, or a record before it is missing"
        )
        self.failed = (claim.seq, reason)
        self.waiting.clear()


def _claims(
    record: Mapping[str, Any], policies: Mapping[str, Policy], profile: Profile, sites: Mapping[str, Profile]
) -> Iterator[_Claim]:
    """One claim per account whose state moved; none when the record is not of a query."""
    if not is_query_record(record):
        return
    where = f"record {record.get('seq')}"
    try:
        read = AuditRecord.recorded(record)
        errors = [each for each in read.verdicts if each.error]
        if (policy := policies.get(read.policy)) is None:
            if any(each.part == SCREEN for each in errors):
                return
            raise MedwardError(f"{where}: made under policy {read.policy}; give that policy too")
        profile = sites.get(folded_name(read.organisation), profile)
        check_monitors(policy, profile, f"{where}: the profile", "give the profile it was made with")
        monitor = AccountMonitors.of(policy, profile, len(read.accounts)).combined
        silent = parts_of({each.part for each in errors}, profile.plugins)
        parts = [part for part in monitor.parts if part.name not in silent]
        found = {(each.part, each.account): each for each in read.verdicts if not each.error}
        for key in read.accounts:
            if any(each.part == "account" and each.account == key for each in errors):
                continue
            verdict, values = found[monitor.name, key], read.bets[key]
            _check(where, monitor.strata, parts, values, read)
            yield _Claim(
                seq=record["seq"],
                key=key,
                monitor=monitor,
                most=Action.WITHHOLD if key == read.principal else Action[policy.monitor.parents.upper()],
                values=values,
                count=len(read.inputs),
                action=verdict.action.label,
                evidence=verdict.evidence,
            )
    except MedwardError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise IntegrityError(f"{where}: not the record of a query: {error!r}") from None


def _check(where: str, strata: int, parts: Sequence[Part], values: BetValues, record: AuditRecord) -> None:
    """Refuse bets that no guard makes: other parts, another count, values that no part knows."""
    names = {part.name for part in parts} | ({STRATUM} if strata > 1 else set())
    if values.keys() != names:
        raise IntegrityError(f"{where}: bets by {sorted(values)}, needs them by {sorted(names)}")
    own = values.get(STRATUM, [0] * len(record.inputs))
    if len(own) != len(record.inputs) or any(each not in range(strata) for each in own):
        raise IntegrityError(f"{where}: needs for each input which of {strata} strata it is of")
    for part in parts:
        column = values[part.name]
        if not column or len(column) != len(record.inputs):
            raise IntegrityError(f"{where}: needs as many values of {part.name} as inputs, and at least one")
        if strays := [value for value in column if not part.knows(value)]:
            raise IntegrityError(f"{where}: {part.name} knows no value {strays[0]!r}")
