"""Why a row is neither HELD nor NOT NEEDED, as data: remedies and waivers ask for it, and nobody reads prose for it.

Causes are found in the cell that the gate judged, beside the sentences that the gate says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from medward.attacks.intervals import Interval
from medward.attacks.validation.finding import BEHIND, Finding, Status
from medward.attacks.validation.gate import GOOD, JudgedCell, harm_doubts
from medward.attacks.validation.ordinary.verdict import acted_upon
from medward.guard.policy import GatePolicy


class Cause(StrEnum):
    """A cause is why a row does not have the status that one would wish for.

    CONTRADICTED: a certified answer was changed, so that certificates prove nothing. PASSED: an attacker passes the
    bound behind the guard, or a training leaks more than it claims. BENIGN_REFUSED, BENIGN_ACCOUNTS, ORDINARY_ACCOUNTS,
    SENSITIVITY_LOST, ATTACKED_REFUSED: the guard harms those who do nothing wrong, by rows, by accounts, by accounts
    that do something ordinary, by class and where an attacker changes their inputs. UNCERTIFIED: a person must read too
    many clean rows, or of a class; DENIED: an attacker takes too many certificates away, or of a class.
    TOO_FEW_ROWS: nothing but more rows is missing.
    FLAGGED: the evaluation cannot be trusted. TOO_WEAK: the attack did not break the undefended model. NO_BASELINE:
    there is nothing without the attack to compare with. NO_ROW: an arm was judged on no row. NO_KNOWING_ATTACKER:
    nobody who knows the guard was run. COST_UNKNOWN: what benign users pay was not measured. HARM_NEAR_BOUND: an
    interval of what the guard does to those who do nothing wrong lies across its bound. NEAR_BOUND: an attacker's does,
    so near that more rows may not decide. NOT_TESTED: the data had no rows for it.
    NO_ATTACK: no attack here is one on such a model. NOT_RUN: a quick look left it out.
    NOT_APPLICABLE: there is nothing of the model to attack so, or nothing in the policy that could be judged by it.
    UNDECIDED: the sentences alone say why.
    """

    CONTRADICTED = "contradicted"
    PASSED = "passed"
    BENIGN_REFUSED = "benign refused"
    BENIGN_ACCOUNTS = "benign accounts"
    ORDINARY_ACCOUNTS = "ordinary accounts"
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
    HARM_NEAR_BOUND = "harm near bound"
    NEAR_BOUND = "near bound"
    NOT_TESTED = "not tested"
    NO_ATTACK = "no attack"
    NOT_RUN = "not run"
    NOT_APPLICABLE = "not applicable"
    UNDECIDED = "undecided"


WAIVABLE = frozenset({Cause.PASSED, Cause.NEAR_BOUND, Cause.TOO_FEW_ROWS, Cause.UNDECIDED})
"""What the attack itself does: all that a waiver of it covers. Beside any other cause the row keeps its status, as it
would be neither HELD nor NOT NEEDED if the attack reached nothing."""


def find_causes(cell: JudgedCell, status: Status, limit: float, gate: GatePolicy) -> tuple[Cause, ...]:
    """The causes of the `status` that the gate gave the `cell`, at least one unless it is good.

    What would keep the cell from a good status if the attack reached nothing is always among them.
    """
    if status in GOOD:
        return ()
    if status is Status.NOT_APPLICABLE:
        return (Cause.NOT_APPLICABLE,)
    applies = _beside(cell, gate)
    if status is Status.BROKEN:
        applies = _breaking(cell, limit, gate) | applies
    elif status is Status.TOO_FEW_ROWS:
        applies = {Cause.TOO_FEW_ROWS: True} | applies
    else:
        applies |= _doubted(cell, limit)
    found = tuple(cause for cause in Cause if applies.get(cause))
    return found or (Cause.UNDECIDED,)


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
        Cause.CONTRADICTED: cell.contradictions > 0,
        Cause.PASSED: bool(cell.passing(limit)),
        Cause.BENIGN_REFUSED: guards and _beyond(cell.false_refusal, gate.false_refusal),
        Cause.BENIGN_ACCOUNTS: guards and _beyond(cell.accounts, gate.false_refusal),
        Cause.ORDINARY_ACCOUNTS: guards and bool(acted_upon(cell.ordinary, gate.ordinary_alarms)),
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


def _beside(cell: JudgedCell, gate: GatePolicy) -> dict[Cause, bool]:
    """What keeps the cell from a good status whatever the attack reaches, and is not beyond its bound for sure."""
    costly, unsettled = harm_doubts(cell, gate)
    unmeasured = cell.guards and cell.false_refusal is None
    return {
        Cause.FLAGGED: bool(cell.flags),
        Cause.COST_UNKNOWN: unmeasured,
        Cause.HARM_NEAR_BOUND: len(costly) + len(unsettled) > unmeasured,
    }


def _doubted(cell: JudgedCell, limit: float) -> dict[Cause, bool]:
    guards, no_row = cell.guards, cell.undefended is None
    weak = bool(cell.too_weak()) and not cell.at_work(limit)
    return {
        Cause.NO_ROW: no_row or (guards and cell.guarded is None),
        Cause.NO_BASELINE: weak and not no_row and cell.baseline is None,
        Cause.TOO_WEAK: weak and not no_row and cell.baseline is not None,
        Cause.NO_KNOWING_ATTACKER: guards and cell.guarded is not None and cell.adaptive is None,
        Cause.NEAR_BOUND: not weak and any(interval.high > limit for interval in cell.compared.values()),
    }


def _beyond(interval: Interval | None, bound: float) -> bool:
    return interval is not None and interval.low > bound


def _any_beyond(intervals: Mapping[str, Interval], bound: float) -> bool:
    return any(_beyond(each, bound) for each in intervals.values())
