"""Re-runs the monitors over an audit log, to show that every verdict in it follows from what was observed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guard.errors import IntegrityError, MedwardError
from guard.monitor import EProcess, Residuals
from guard.monitor.eprocess import EState
from guard.pipeline import SHARED, eprocess_for, fold, shared_for
from guard.policy import Policy
from guard.types import Action, Observation, Verdict

WINDOW = 256  # how many of an account's records one may lie behind another that follows from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A log whose monitors were re-run: how many verdicts agree, and at which records accounts began anew."""

    verdicts: int
    restarts: Mapping[str, Sequence[int]]


def replay(
    records: Iterable[Mapping[str, Any]],
    policies: Iterable[Policy],
    levels: tuple[float, ...],
    residuals: Residuals | None = None,
) -> Replay:
    """Re-run every account's e-processes from the recorded p-values and digests.

    `policies` are those the records were made under, `levels` the one p-value grid of the profile, `residuals` its
    residuals where a policy watches for shared perturbations. Raises
    `IntegrityError` naming the first record with an action or evidence that does not follow from its
    account's records, `MedwardError` for a record made under another policy.

    Concurrent queries are logged out of order: a record may lie up to `WINDOW` of its account's records
    behind one that follows from it; the count of inputs in the evidence restores the order.

    Limits. The p-value of a repeated input is not used, so not checked. The p-values themselves are taken from the
    log: what they follow from (inputs, an account's direction) is not in it. The screen's verdict and the release
    levels need scores that are not recorded. A record that follows from an empty account is taken for a new
    start and listed in `restarts`, to be compared with the resets and expiries one knows of. A query that
    moved a state but left no complete record (killed in between, a store or log that failed, a log that
    starts later) is a gap: the account's next record is named. Whoever can rewrite the log can make it
    consistent; see `guard.audit.verify`.
    """
    known = {policy.fingerprint: policy for policy in policies}
    accounts: dict[str, _Account] = {}
    verdicts = 0
    for record in records:
        for claim in _claims(record, known, levels, residuals):
            accounts.setdefault(f"{claim.monitor.name}:{claim.key}", _Account(claim.key)).add(claim)
            verdicts += 1
    wrong = [failed for account in accounts.values() if (failed := account.settle())]
    if wrong:
        raise IntegrityError(min(wrong)[1])
    restarts: dict[str, set[int]] = {}
    for account in accounts.values():
        if account.restarts:
            restarts.setdefault(account.key, set()).update(account.restarts)
    return Replay(verdicts=verdicts, restarts={key: sorted(found) for key, found in restarts.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """What one record says of one account."""

    seq: int
    key: str
    monitor: EProcess
    most: Action
    observations: list[Observation]
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
    """One monitor of the account `key` as it is re-run: its state, the claims to place, the first that cannot be."""

    key: str
    state: EState | None = None
    waiting: list[_Claim] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    failed: tuple[int, str] | None = None

    def add(self, claim: _Claim) -> None:
        """Take one more claim, and place one once more than `WINDOW` wait."""
        if self.failed is None:
            self.waiting.append(claim)
            if len(self.waiting) > WINDOW:
                self._place()

    def settle(self) -> tuple[int, str] | None:
        """Place what still waits; return the number of the first record that does not fit, and why."""
        while self.waiting:
            self._place()
        return self.failed

    def _place(self) -> None:
        """Step by the earliest claim that continues the account or, failing that, that starts it anew."""
        queues: list[tuple[EState | None, list[_Claim]]] = [(None, self.waiting)]
        if self.state is not None:
            queues.insert(0, (self.state, sorted(self.waiting, key=lambda claim: claim.evidence.get("n", 0))))
        for before, claims in queues:
            for claim in claims:
                state, verdict = fold(claim.monitor, before, claim.observations)
                if claim.agrees(verdict):
                    if before is None and self.state is not None:
                        self.restarts.append(claim.seq)
                    self.state = state
                    self.waiting.remove(claim)
                    return
        claim = min(self.waiting, key=lambda claim: claim.seq)
        _, verdict = fold(claim.monitor, self.state, claim.observations)
        reason = (
            f"record {claim.seq}: account {claim.key!r}: recorded {claim.action} {dict(claim.evidence)}, "
            f"replayed {verdict.action.label} {dict(verdict.evidence)}; "
            "it was changed, or a record before it is missing"
        )
        self.failed = (claim.seq, reason)
        self.waiting.clear()


def _claims(
    record: Mapping[str, Any], policies: Mapping[str, Policy], levels: tuple[float, ...], residuals: Residuals | None
) -> Iterator[_Claim]:
    """One claim per account and monitor whose state moved; none when the record is not of a query."""
    if "verdicts" not in record:
        return
    where = f"record {record.get('seq')}"
    try:
        verdicts = {verdict["source"]: verdict for verdict in record["verdicts"]}
        failed = {part for part in ("screen", "residuals") if any(s.startswith(f"error:{part}:") for s in verdicts)}
        if (policy := policies.get(record["policy"])) is None:
            if "screen" in failed:
                return
            raise MedwardError(f"{where}: made under policy {record['policy']}; give that policy too")
        if policy.monitor.shared and residuals is None:
            raise MedwardError(f"{where}: its policy watches for shared perturbations; give the profile's residuals")
        names = record["principal"].split("/")
        bets = []
        if "screen" not in failed:
            monitor = eprocess_for(policy, levels, len(names))
            bets.append((monitor, dict.fromkeys(_keys(names), record["p_values"])))
        if policy.monitor.shared and residuals is not None and "residuals" not in failed:
            watched = shared_for(policy, residuals).levels
            bets.append((eprocess_for(policy, watched, len(names), name=SHARED), record["shared"]))
        for monitor, p_values in bets:
            for key in _keys(names):
                if any(each.startswith(f"error:account:{key}:") for each in verdicts):
                    continue
                verdict = verdicts[f"{monitor.name}:{key}"]
                yield _Claim(
                    seq=record["seq"],
                    key=key,
                    monitor=monitor,
                    most=Action.WITHHOLD if key == record["principal"] else Action[policy.monitor.parents.upper()],
                    observations=_observed(where, p_values[key], record["inputs"], monitor.levels),
                    action=verdict["action"],
                    evidence={name: float(value) for name, value in verdict["evidence"].items()},
                )
    except MedwardError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"{where}: not the record of a query: {error!r}") from None


def _keys(names: Sequence[str]) -> list[str]:
    """The accounts on a path, from the organisation down."""
    return ["/".join(names[:depth]) for depth in range(1, len(names) + 1)]


def _observed(where: str, p_values: Any, digests: Any, levels: tuple[float, ...]) -> list[Observation]:
    if strays := [p for p in p_values if p not in (*levels, 1.0)]:
        raise IntegrityError(f"{where}: the p-value {strays[0]!r} is not on the grid {levels}")
    if not p_values or len(p_values) != len(digests):
        raise IntegrityError(f"{where}: needs as many p-values as inputs, and at least one")
    return list(map(Observation, p_values, digests))
