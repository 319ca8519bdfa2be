"""Why a row is neither HELD nor NOT NEEDED, as data: remedies and waivers ask for it, and nobody reads prose for it.

Causes are found in the cell that the gate judged, beside the sentences that the gate says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from medward.attacks.intervals import Interval
from medward.attacks.validation.finding import BEHIND, Finding, Status
from medward.attacks.validation.gate import GOOD, JudgedCell
from medward.guard.policy import GatePolicy


class Cause(StrEnum):
    """A cause is why a row does not have the status that one would wish for.

    PASSED: an attacker passes the bound behind the guard, or a training leaks more than it claims. BENIGN_REFUSED,
    BENIGN_ACCOUNTS, SENSITIVITY_LOST, ATTACKED_REFUSED: the guard harms those who do nothing wrong, by rows, by
    accounts, by class and where an attacker changes their inputs. UNCERTIFIED: a person must read too many clean rows,
    or of a class; DENIED: an attacker takes too many certificates away, or of a class. TOO_FEW_ROWS: nothing but more
    rows is missing.
    FLAGGED: the evaluation cannot be trusted. TOO_WEAK: the attack did not break the undefended model. NO_BASELINE:
    there is nothing without the attack to compare with. NO_ROW: an arm was judged on no row. NO_KNOWING_ATTACKER:
    nobody who knows the guard was run. COST_UNKNOWN: what benign users pay was not measured. NEAR_BOUND: an interval
    lies across its bound, so near that more rows may not decide. NOT_TESTED: the data had no rows for it.
    NOT_RUN: a quick look left it out.
    NOT_APPLICABLE: there is nothing of the model to attack so. UNDECIDED: the sentences alone say why.
    """

    PASSED = "passed"
    BENIGN_REFUSED = "benign refused"
    BENIGN_ACCOUNTS = "benign accounts"
    SENSITIVITY_LOST = "sensitivity lost"
    ATTACKED_REFUSED = "attacked refused"
    UNCERTIFIED = "uncertified"
    DENIED = "denied"
    TOO_FEW_ROWS = "too few rows"
    FLAGGED = "flagged"
    TOO_WEAK = "too weak"
    NO_BASELINE = "no baseline"
    NO_ROW = "no row"
    NO_KNOWING_ATTACKER = "no knowing attacker"
    COST_UNKNOWN = "cost unknown"
    NEAR_BOUND = "near bound"
    NOT_TESTED = "not tested"
    NOT_RUN = "not run"
    NOT_APPLICABLE = "not applicable"
    UNDECIDED = "undecided"


HARM = frozenset(
    {
        *(Cause.BENIGN_REFUSED, Cause.BENIGN_ACCOUNTS, Cause.SENSITIVITY_LOST, Cause.ATTACKED_REFUSED),
        *(Cause.UNCERTIFIED, Cause.DENIED),
    }
)
"""What the guard does to those who do nothing wrong: causes that no waiver of an attack covers."""


def find_causes(cell: JudgedCell, status: Status, limit: float, gate: GatePolicy) -> tuple[Cause, ...]:
    """The causes of the `status` that the gate gave the `cell`, at least one unless it is good."""
    if status in GOOD:
        return ()
    if status is Status.TOO_FEW_ROWS:
        return (Cause.TOO_FEW_ROWS,)
    applies = _breaking(cell, limit, gate) if status is Status.BROKEN else _doubted(cell, limit, gate)
    return tuple(cause for cause, there in applies.items() if there) or (Cause.UNDECIDED,)


def untested_causes(status: Status) -> tuple[Cause, ...]:
    """The cause of the `status` of an attack that was not run."""
    return (Cause.NOT_APPLICABLE if status is Status.NOT_APPLICABLE else Cause.NOT_TESTED,)


def causes_of(finding: Finding) -> tuple[Cause, ...]:
    """The causes of a finding as such; of reports from before there were causes none."""
    return tuple(Cause(each) for each in finding.causes)


def _breaking(cell: JudgedCell, limit: float, gate: GatePolicy) -> dict[Cause, bool]:
    guards = cell.guards
    refused = [cell.refused[arm] for arm in BEHIND if arm in cell.refused]
    return {
        Cause.PASSED: bool(cell.passing(limit)),
        Cause.BENIGN_REFUSED: guards and _beyond(cell.false_refusal, gate.false_refusal),
        Cause.BENIGN_ACCOUNTS: guards and _beyond(cell.accounts, gate.false_refusal),
        Cause.SENSITIVITY_LOST: guards and _any_beyond(cell.sensitivity_lost, gate.sensitivity_loss),
        Cause.ATTACKED_REFUSED: guards and any(_beyond(each, gate.attack_refusal) for each in refused),
        Cause.UNCERTIFIED: guards
        and (_beyond(cell.uncertified, gate.uncertified) or _any_beyond(cell.uncertified_classes, gate.uncertified)),
        Cause.DENIED: guards
        and any(
            _beyond(cell.denied.get(arm), gate.denied) or _any_beyond(cell.denied_classes.get(arm, {}), gate.denied)
            for arm in BEHIND
        ),
    }


def _doubted(cell: JudgedCell, limit: float, gate: GatePolicy) -> dict[Cause, bool]:
    refusal, guards, no_row = cell.false_refusal, cell.guards, cell.undefended is None
    weak = bool(cell.too_weak()) and not cell.at_work(limit)
    unsure = refusal is not None and refusal.high > gate.false_refusal
    across = [arm for arm, interval in cell.compared.items() if interval.high > limit]
    return {
        Cause.NO_ROW: no_row or (guards and cell.guarded is None),
        Cause.FLAGGED: bool(cell.flags),
        Cause.NO_BASELINE: weak and not no_row and cell.baseline is None,
        Cause.TOO_WEAK: weak and not no_row and cell.baseline is not None,
        Cause.NO_KNOWING_ATTACKER: guards and cell.guarded is not None and cell.adaptive is None,
        Cause.COST_UNKNOWN: guards and refusal is None,
        Cause.NEAR_BOUND: not weak and (bool(across) or (guards and (unsure or _uncertain(cell, gate)))),
    }


def _uncertain(cell: JudgedCell, gate: GatePolicy) -> bool:
    """Whether what is not certified, or what an attacker takes away, reaches beyond its bound."""
    pairs = [(cell.uncertified, gate.uncertified), *((cell.denied.get(arm), gate.denied) for arm in BEHIND)]
    return any(share is not None and share.high > bound for share, bound in pairs)


def _beyond(interval: Interval | None, bound: float) -> bool:
    return interval is not None and interval.low > bound


def _any_beyond(intervals: Mapping[str, Interval], bound: float) -> bool:
    return any(_beyond(each, bound) for each in intervals.values())
