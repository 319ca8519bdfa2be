"""From measurements to a status. Pure functions; the bounds come from the policy's gate.

A cell counts only if the attack broke the undefended model. A flagged attack can show that a guard is broken but
never that it held. HELD needs the bad end of both the guarded and the adaptive interval within the bound, an
adaptive attacker, and benign users who still get their answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from attacks.base import Family
from attacks.finding import Finding, Status
from attacks.intervals import Interval
from guard.policy import GatePolicy

EVASION_SUCCESS = 0.5
EXTRACTION_GAIN = 0.05
MEMBERSHIP_AUC = 0.55
"""What the lower end must exceed on the undefended model before a cell counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the gate needs of one cell.

    `undefended` is what shows that the attack works: the share fooled, the gain over a clone that never saw the
    victim, or the AUC. `noise` is random noise's share fooled (evasion only). `guarded` and `adaptive` are on the
    scale of the gate's bound. `false_refusal` is the rate on benign rows of the calibrated site.
    """

    undefended: Interval
    guarded: Interval | None
    adaptive: Interval | None
    false_refusal: Interval | None
    noise: Interval | None = None
    flags: tuple[str, ...] = ()


def bound(family: Family, gate: GatePolicy) -> float:
    """What `family` is held to."""
    bounds = {
        "evasion": gate.evasion_success,
        "extraction": gate.extraction_gain,
        "membership": gate.membership_auc,
    }
    return bounds[family]


def judge(family: Family, measured: Measured, gate: GatePolicy) -> tuple[Status, tuple[str, ...]]:
    """The status of one cell and the reasons, in plain sentences."""
    flags = tuple(f"The evaluation is flagged: {flag}." for flag in measured.flags)
    weak = too_weak(family, measured)
    if weak:
        return Status.INCONCLUSIVE, (*weak, *flags)
    limit = bound(family, gate)
    arms = {"the attack": measured.guarded, "the attacker who knows the guard": measured.adaptive}
    broken = [
        f"With the guard, {who} still reaches {arm.low:.3g} or more, above the bound of {limit:g}."
        for who, arm in arms.items()
        if arm is not None and arm.low > limit
    ]
    refusal = measured.false_refusal
    if refusal is not None and refusal.low > gate.false_refusal:
        broken.append(
            f"The guard refuses benign rows: at least {refusal.low:.1%} of them, above the bound of "
            f"{gate.false_refusal:.1%}."
        )
    if broken:
        return Status.BROKEN, (*broken, *flags)
    doubts = [*flags]
    if measured.guarded is None:
        doubts.append("The attack was not run against the guard.")
    if measured.adaptive is None:
        doubts.append("No attacker who knows the guard was run, so the guard is not validated.")
    doubts += [
        _undecided(who, arm, limit) for who, arm in arms.items() if arm is not None and arm.high > limit
    ]
    if refusal is None:
        doubts.append("The cost to benign users was not measured.")
    elif refusal.high > gate.false_refusal:
        doubts.append(_undecided("the rate of refused benign rows", refusal, gate.false_refusal))
    if doubts:
        return Status.INCONCLUSIVE, tuple(doubts)
    worst = max(arm.high for arm in arms.values() if arm is not None)
    return Status.HELD, (f"At most {worst:.3g} with the guard, within the bound of {limit:g}.",)


def too_weak(family: Family, measured: Measured) -> tuple[str, ...]:
    """Why the attack proves nothing: it did not break the undefended model. Empty when it did."""
    seen = measured.undefended
    if family == "extraction":
        if seen.low > EXTRACTION_GAIN:
            return ()
        return (
            f"The clone gains too little over one that never saw the model: {seen.low:.3g} at least, "
            f"more than {EXTRACTION_GAIN:g} is needed.",
        )
    if family == "membership":
        if seen.low > MEMBERSHIP_AUC:
            return ()
        return (
            f"The undefended model does not leak enough to test a defense: AUC {seen.low:.3g} at least, "
            f"more than {MEMBERSHIP_AUC:g} is needed.",
        )
    reasons = []
    if seen.low < EVASION_SUCCESS:
        reasons.append(
            f"The attack is too weak: it fools {seen.low:.1%} of rows at least on the undefended model, "
            f"{EVASION_SUCCESS:.0%} is needed."
        )
    if measured.noise is None:
        reasons.append("There is no random noise beside the attack to compare with.")
    elif seen.low <= measured.noise.high:
        reasons.append(f"The attack is no better than random noise of the same size ({measured.noise}).")
    return tuple(reasons)


def rows_needed(interval: Interval, limit: float) -> int | None:
    """About how many rows would move the interval off `limit`.

    The width shrinks with the square root of n, and with n itself at a rate of none. None when the value sits on
    the limit, where no number of rows decides.
    """
    gap = abs(limit - interval.value)
    half = interval.high - interval.value if interval.value < limit else interval.value - interval.low
    if gap < 1e-9:
        return None
    power = 1 if interval.value == 0 else 2
    return max(interval.n + 1, math.ceil(interval.n * (half / gap) ** power))


def exit_code(findings: Iterable[Finding]) -> int:
    """0 every applicable cell held, 1 any broken, 2 otherwise; nothing applicable is 2."""
    statuses = {finding.status for finding in findings} - {Status.NOT_APPLICABLE}
    if Status.BROKEN in statuses:
        return 1
    return 0 if statuses == {Status.HELD} else 2


def _undecided(who: str, arm: Interval, limit: float) -> str:
    need = rows_needed(arm, limit)
    if need is None:
        more = "it sits on the bound, so no number of rows decides"
    else:
        more = f"n too small: needs about {need} rows, has {arm.n}"
    return f"{who[0].upper()}{who[1:]}: {arm} straddles the bound of {limit:g}; {more}."
