"""From measurements to a status. Pure functions; the bounds come from the policy's gate.

The arms are looked at first: where the good end of an interval shows that an attacker passes the guard, the cell is
BROKEN, however weak or flagged the attack was on the undefended model. Only HELD rests on the attack: it must break
the undefended model and carry no flag. HELD also needs the bad end of both the guarded and the adaptive interval
within the bound, an adaptive attacker, and benign users who still get their answers. An AUC below one half leaks as
much as its mirror image, so membership is judged on max(AUC, 1 - AUC).

An attack that leaves nothing of one class breaks a model however rare that class is, so evasion is judged on the rows
of each class too: emptying one is a strong attack on the undefended model, and behind the guard it is BROKEN. An
attack that owes its strength to one class must also be held on that class.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from medward.attacks.base import Family
from medward.attacks.intervals import Interval
from medward.attacks.validation.finding import Arm, Finding, Status
from medward.guard.policy import GatePolicy

EVASION_SUCCESS = 0.5
EXTRACTION_GAIN = 0.05
MEMBERSHIP_AUC = 0.55
"""What the lower end must exceed on the undefended model before a cell counts."""
EMPTIED, SURELY = 0.9, 0.75
"""The share of a class's rows that must be fooled, and the least that its lower end must say, before it is emptied."""
ATTACKERS: dict[Arm, str] = {"guarded": "The attack", "adaptive": "The attacker who knows the guard"}

Classes = Mapping[str, Interval]
"""The share fooled of the rows of each class, the lower ends corrected for how many classes there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellIntervals:
    """What the gate needs of one cell.

    `undefended` is what shows that the attack works: the share fooled, the gain over a clone that never saw
    the victim, or the AUC; None where it was judged on no row. `noise` is random noise's share fooled (evasion only).
    `guarded` and `adaptive` are on the scale of the gate's bound. `classes` gives the arms of evasion, and
    `noise_classes` its noise, class by class; `gains` the agreement that a clone behind the guard gained over one that
    never saw the victim (extraction only). `false_refusal` is the rate at which single benign rows of the
    calibrated site are refused. `accounts` is the share of benign accounts there that the monitor ever acts
    on: its lower end can break a cell, but its upper end is not asked to hold, as that would take hundreds of
    accounts; what bounds it is the e-process.
    """

    undefended: Interval | None
    guarded: Interval | None
    adaptive: Interval | None
    false_refusal: Interval | None
    accounts: Interval | None = None
    noise: Interval | None = None
    classes: Mapping[Arm, Classes] = field(default_factory=dict)
    noise_classes: Classes = field(default_factory=dict)
    gains: Mapping[Arm, Interval] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def run(self) -> dict[Arm, Interval]:
        """The arms behind the guard that were judged."""
        arms: dict[Arm, Interval | None] = {"guarded": self.guarded, "adaptive": self.adaptive}
        return {arm: interval for arm, interval in arms.items() if interval is not None}


def gate_bound(family: Family, gate: GatePolicy) -> float:
    """What `family` is held to."""
    bounds = {
        "evasion": gate.evasion_success,
        "extraction": gate.extraction_gain,
        "membership": gate.membership_auc,
    }
    return bounds[family]


def judge_cell(family: Family, measured: CellIntervals, gate: GatePolicy) -> tuple[Status, tuple[str, ...]]:
    """The status of one cell and the reasons, in plain sentences."""
    if family == "membership":
        measured = replace(
            measured,
            undefended=measured.undefended and leak_interval(measured.undefended),
            guarded=measured.guarded and leak_interval(measured.guarded),
            adaptive=measured.adaptive and leak_interval(measured.adaptive),
        )
    flags = tuple(f"The evaluation is flagged: {flag}." for flag in measured.flags)
    limit, weak = gate_bound(family, gate), too_weak(family, measured)
    if broken := (*passing_sentences(family, measured, limit, weak=bool(weak)), *_harm(measured, gate)):
        return Status.BROKEN, (*broken, *weak, *flags)
    if weak:
        return Status.INCONCLUSIVE, (*weak, *flags)
    if doubts := (*flags, *_doubts(family, measured, gate)):
        return Status.INCONCLUSIVE, doubts
    worst = max(arm.high for arm in measured.run.values())
    alone = "".join(
        f', and of class "{name}", which is emptied unguarded, at most '
        f"{max(measured.classes[arm][name].high for arm in measured.run):.1%}"
        for name in _judged_alone(family, measured)
    )
    return Status.HELD, (
        f"Behind the guard at most {scale_text(family, worst)}{alone}, the bound is {scale_text(family, limit)}.",
    )


def passing_sentences(family: Family, measured: CellIntervals, limit: float, *, weak: bool) -> tuple[str, ...]:
    """What shows that an attacker passes the guard, one sentence each; empty where nothing does.

    A class that is emptied shows it too, though the share of all rows may stay within the `limit`. What survives of a
    stolen gain is a ratio, and without a gain worth the name on the undefended model (`weak`) a ratio of noise: then
    the gain behind the guard must itself be one, and its lower end exceed the limit's share of all that the undefended
    gain may be.
    """
    held = f"the bound is {scale_text(family, limit)}"
    if family == "extraction" and weak:
        most = 0.0 if measured.undefended is None else max(0.0, measured.undefended.high)
        return tuple(
            f"{ATTACKERS[arm]} passes the guard: the clone gains at least {gain.low:.1%} of agreement behind it, at "
            f"most {most:.1%} without it; {held}."
            for arm, gain in measured.gains.items()
            if gain.low > max(EXTRACTION_GAIN, limit * most)
        )
    reasons = []
    for arm, interval in measured.run.items():
        if interval.low > limit:
            reasons.append(f"{ATTACKERS[arm]} passes the guard: at least {scale_text(family, interval.low)}, {held}.")
            continue
        reasons += [
            f"{ATTACKERS[arm]} passes the guard: {_of_class(name, share)}, though the share of all rows may be within "
            f"the bound of {limit:.1%}."
            for name, share in measured.classes.get(arm, {}).items()
            if empties_class(share) and share.low > limit
        ]
    return tuple(reasons)


def _harm(measured: CellIntervals, gate: GatePolicy) -> tuple[str, ...]:
    """What shows that the guard turns on benign users, one sentence each."""
    refusal, accounts, reasons = measured.false_refusal, measured.accounts, []
    if refusal is not None and refusal.low > gate.false_refusal:
        reasons.append(
            f"The guard refuses benign rows: at least {refusal.low:.1%} of them, the bound is {gate.false_refusal:.1%}."
        )
    if accounts is not None and accounts.low > gate.false_refusal:
        reasons.append(
            f"The guard turns on benign accounts: at least {accounts.low:.1%} of them are coarsened or "
            f"withheld, the bound is {gate.false_refusal:.1%}."
        )
    return tuple(reasons)


def _doubts(family: Family, measured: CellIntervals, gate: GatePolicy) -> tuple[str, ...]:
    """Why a cell that is not broken, and whose attack is strong, does not hold either; empty when it does."""
    limit, refusal, doubts = gate_bound(family, gate), measured.false_refusal, []
    held = f"the bound is {scale_text(family, limit)}"
    if measured.guarded is None:
        doubts.append("The attack was not run against the guard.")
    if measured.adaptive is None:
        doubts.append("No attacker who knows the guard was run, so the guard is not validated.")
    for arm, interval in measured.run.items():
        if interval.high > limit:
            doubts.append(
                f"{ATTACKERS[arm]}: {scale_text(family, interval.low)} to {scale_text(family, interval.high)}, {held}; "
                f"{_more(interval, limit)}."
            )
        doubts += [
            f'{ATTACKERS[arm]} fools {lost.value:.1%} of the {lost.n} rows of class "{name}", at least {lost.low:.1%}; '
            "give more rows of it to tell whether it leaves anything of it."
            for name, lost in _nearly_emptied(family, measured, arm, limit).items()
        ]
        for name in _judged_alone(family, measured):
            share = measured.classes.get(arm, {}).get(name)
            if share is None:
                doubts.append(f'{ATTACKERS[arm]} was judged on no row of class "{name}", which it empties unguarded.')
            elif share.high > limit:
                doubts.append(
                    f'{ATTACKERS[arm]}, on class "{name}" alone, which it empties unguarded: {max(0.0, share.low):.1%} '
                    f"to {share.high:.1%} of its rows, {held}; {_more(share, limit)}."
                )
    if refusal is None:
        doubts.append("The cost to benign users was not measured.")
    elif refusal.high > gate.false_refusal:
        doubts.append(
            f"Refused benign rows: {refusal.low:.1%} to {refusal.high:.1%}, "
            f"the bound is {gate.false_refusal:.1%}; {_more(refusal, gate.false_refusal)}."
        )
    return tuple(doubts)


def leak_interval(auc: Interval) -> Interval:
    """The interval of max(AUC, 1 - AUC): a signal that is the wrong way round tells as much."""
    return Interval(max(auc.value, 1 - auc.value), max(0.5, auc.low, 1 - auc.high), max(auc.high, 1 - auc.low), auc.n)


def scale_text(family: Family, value: float) -> str:
    """A number on the gate's scale of `family`, in words."""
    words = {
        "evasion": f"{value:.1%} of rows fooled",
        "extraction": f"{value:.0%} of the stolen gain",
        "membership": f"an AUC of {value:.3f}, either way round",
    }
    return words[family]


def empties_class(share: Interval) -> bool:
    """Whether an attack leaves next to nothing of a class, `share` of whose rows it fools.

    What chance may have done is left to the lower end, which a handful of rows cannot bring that far: it takes about
    twenty, all of them fooled.
    """
    return share.value >= EMPTIED and share.low >= SURELY


def proven_emptied(measured: CellIntervals) -> tuple[str, ...]:
    """The classes that the attack empties on the undefended model, and random noise of the same size does not."""
    noise = measured.noise_classes
    return tuple(
        name
        for name, share in measured.classes.get("undefended", {}).items()
        if empties_class(share) and name in noise and share.low > noise[name].high
    )


def too_weak(family: Family, measured: CellIntervals) -> tuple[str, ...]:
    """Why the attack proves nothing: it did not break the undefended model. Empty when it did."""
    seen = measured.undefended
    if seen is None:
        return ("There is no row this attack could be judged on.",)
    if family == "extraction":
        if seen.low > EXTRACTION_GAIN:
            return ()
        return (
            f"The clone gains too little over one that never saw the model: {seen.low:.1%} of agreement at "
            f"least, more than {EXTRACTION_GAIN:.0%} is needed.",
        )
    if family == "membership":
        if seen.low > MEMBERSHIP_AUC:
            return ()
        return (
            "The undefended model does not leak enough to test a defense: "
            f"its AUC may be as near chance as {seen.low:.3g}, more than {MEMBERSHIP_AUC:g} is needed.",
        )
    if _breaks(measured) or proven_emptied(measured):
        return ()
    reasons = []
    if seen.low < EVASION_SUCCESS:
        reasons.append(
            f"The attack is too weak: it fools {seen.low:.1%} of rows at least on the undefended model, "
            f"{EVASION_SUCCESS:.0%} is needed, or nearly all rows of one class."
        )
    if measured.noise is None:
        reasons.append("There is no random noise beside the attack to compare with.")
    elif seen.low <= measured.noise.high:
        reasons.append(
            "The attack is no better than random noise of the same size, "
            f"which fools up to {measured.noise.high:.1%} of rows."
        )
    return tuple(reasons)


def rows_to_prove(interval: Interval, limit: float) -> int | None:
    """About how many rows would move the interval off `limit`.

    The width shrinks with the square root of n, and with n itself at a rate of none. None when the value
    sits on the limit, where no number of rows decides.
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


def _breaks(measured: CellIntervals) -> bool:
    """Whether evasion fools half of all rows of the undefended model, and more than random noise does."""
    seen, noise = measured.undefended, measured.noise
    return seen is not None and noise is not None and seen.low >= EVASION_SUCCESS and seen.low > noise.high


def _judged_alone(family: Family, measured: CellIntervals) -> tuple[str, ...]:
    """The classes that an attack owes its strength to, and so must be held on."""
    return () if family != "evasion" or _breaks(measured) else proven_emptied(measured)


def _nearly_emptied(family: Family, measured: CellIntervals, arm: Arm, limit: float) -> Mapping[str, Interval]:
    """Classes that lost nearly every row in an arm, surely more than the limit, on too few rows to call it broken."""
    alone = _judged_alone(family, measured)
    shares = measured.classes.get(arm, {}) if family == "evasion" else {}
    return {
        name: share
        for name, share in shares.items()
        if share.value >= EMPTIED and share.low > limit and name not in alone
    }


def _of_class(name: str, share: Interval) -> str:
    """How much of a class is fooled, in words."""
    fooled = "every row" if share.value == 1 else f"{share.value:.1%} of the rows"
    verb = "is" if share.value == 1 else "are"
    return f'{fooled} of class "{name}" {verb} decided otherwise ({share.n} rows, so at least {share.low:.1%})'


def _more(interval: Interval, limit: float) -> str:
    need = rows_to_prove(interval, limit)
    if need is None:
        return "the value sits on the bound, so no number of rows decides"
    return f"n too small: needs about {need} rows, has {interval.n}"
