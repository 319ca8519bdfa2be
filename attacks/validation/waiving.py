"""Rows that a person lives with: a policy's waivers are checked before anything is run, and then laid over findings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta

from medward.attacks.validation.cause import WAIVABLE, causes_of
from medward.attacks.validation.finding import Acceptance, Finding, Status
from medward.attacks.validation.gate import GOOD
from medward.guard.errors import MedwardError
from medward.guard.waiver_policy import Waiver

LONGEST_WAIVER = timedelta(days=366)
"""How far ahead a waiver may end: a risk that is accepted is looked at again each year."""


def today_utc() -> date:
    """The day by which waivers end."""
    return datetime.now(UTC).date()


def check_waivers(waivers: Sequence[Waiver], known: Collection[str], today: date) -> None:
    """Refuse waivers that could hide more than is meant.

    Raises `MedwardError` for an attack that is not among `known`, for two waivers of one attack, and for a day too far
    ahead of `today`.
    """
    names = [waiver.attack for waiver in waivers]
    for waiver in waivers:
        where = f"policy: accept: attack = {waiver.attack!r}"
        if waiver.attack not in known:
            raise MedwardError(f"{where}: no attack of this model is called so; there are {', '.join(known)}")
        if names.count(waiver.attack) > 1:
            raise MedwardError(f"{where}: is accepted {names.count(waiver.attack)} times; leave one [[accept]] of it")
        if waiver.until > today + LONGEST_WAIVER:
            raise MedwardError(
                f"{where}: until = {waiver.until} is over {LONGEST_WAIVER.days} days from {today}; name an earlier "
                "day and look at the risk again then"
            )


def lay_waivers(findings: Sequence[Finding], waivers: Sequence[Waiver], today: date) -> tuple[Finding, ...]:
    """The `findings` with those accepted that `waivers` name, and these first.

    A waiver ends after its last day. It changes nothing of a row that is good by itself or was not applicable. It
    covers what the attack does and nothing beside it: a row that would not be good if the attack reached nothing, for
    what the guard costs, a flag, or because nothing was run, keeps its status.
    """
    named = {waiver.attack: waiver for waiver in waivers}
    laid = [_laid(each, named[each.attack], today) if each.attack in named else each for each in findings]
    return tuple(sorted(laid, key=lambda each: each.status is not Status.ACCEPTED))


def _laid(finding: Finding, waiver: Waiver, today: date) -> Finding:
    """One finding under the waiver of its attack."""
    status = finding.status
    if status in GOOD or status is Status.NOT_APPLICABLE:
        said = f"The waiver by {waiver.by} until {waiver.until} is not needed: the row is {status.words}."
        return _told(finding, said, last=True)
    if today > waiver.until:
        return _told(
            finding, f"The waiver by {waiver.by} expired on {waiver.until} ({waiver.reason}): {status.words} again."
        )
    beside = [cause for cause in causes_of(finding) if cause not in WAIVABLE]
    if beside or not finding.causes:
        words = ", ".join(beside) or "the row says no cause"
        return _told(finding, f"The waiver by {waiver.by} covers what the attack does, not what is beside it: {words}.")
    accepted = Acceptance(reason=waiver.reason, by=waiver.by, until=waiver.until, status=status)
    return finding.model_copy(update={"status": Status.ACCEPTED, "accepted": accepted})


def _told(finding: Finding, sentence: str, *, last: bool = False) -> Finding:
    reasons = (*finding.reasons, sentence) if last else (sentence, *finding.reasons)
    return finding.model_copy(update={"reasons": reasons})
