"""Two reports side by side: what changed row by row, and what an older one no longer shows.

A figure is of one bundle, one policy and one data set, under one code, and of what else was said of the validation.
Where any of them is another, what was tested then says nothing of now, and attacks that were not run again must be. So
must those that were not good then.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from medward.attacks.families import find_family
from medward.attacks.intervals import Interval
from medward.attacks.membership.cell import leak_interval
from medward.attacks.membership.family import Membership
from medward.attacks.validation.cause import Cause, causes_of
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.gate import GOOD
from medward.attacks.validation.record import SETTING_NAMES, Report
from medward.attacks.validation.waiving import today_utc
from medward.guard.errors import MedwardError

Shift = Literal["better", "worse", "as before", "cannot be told"]
_FACTS = ("bundle", "policy", "data", "code", "seed", "versions")
_ORDER = (Status.BROKEN, Status.INCONCLUSIVE, Status.TOO_FEW_ROWS, Status.ACCEPTED, Status.HELD, Status.NOT_NEEDED)


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowChange(_Entry):
    """A row change is what became of one attack: its status and its worst interval behind the guard, then and now.

    `shift` says where the interval went: better or worse only if the two do not overlap.
    """

    attack: str
    before: Status
    after: Status
    was: Interval | None
    now: Interval | None
    shift: Shift


class Comparison(_Entry):
    """A comparison is an old report beside a new one.

    `differs` names what is another now, and `policy_keys` the keys of the policy that are, where both reports tell
    theirs. `rows` are attacks that both ran, those whose status became worse first, `new`
    those that only the new one ran. `again` are those that only the old one ran and that must be tested again, as
    something differs or they were not good; `stands` those that need not: nothing differs, and they were HELD, NOT
    NEEDED or are ACCEPTED to this day.
    """

    old: str
    differs: tuple[str, ...]
    policy_keys: tuple[str, ...] = ()
    rows: tuple[RowChange, ...]
    new: tuple[str, ...]
    again: tuple[str, ...]
    stands: tuple[str, ...]


def load_report(path: Path | str, what: str) -> Report:
    """The report at `path`, its file or its folder, given as `what`. Raises `MedwardError` where there is none."""
    given = Path(path)
    try:
        return Report.load(given / "report.json" if given.is_dir() else given)
    except MedwardError as error:
        raise MedwardError(f"{what}: {error}; give the folder of a report") from None


def compare_reports(old: Report, new: Report) -> Comparison:
    """What changed from `old` to `new`."""
    facts, today = _facts(old), today_utc()
    differs = tuple(name for name, fact in _facts(new).items() if fact != facts[name])
    then, now = ({each.attack: each for each in report.findings if _was_run(each)} for report in (old, new))
    both = [_change(then[name], each) for name, each in now.items() if name in then]
    missing = [each for name, each in then.items() if name not in now]
    stands = [] if differs else [each.attack for each in missing if _stands(each, today)]
    return Comparison(
        old=old.created,
        differs=differs,
        policy_keys=_changed_keys(old, new),
        rows=tuple(sorted(both, key=lambda each: _rank(each.after) - _rank(each.before))),
        new=tuple(name for name in now if name not in then),
        again=tuple(each.attack for each in missing if each.attack not in stands),
        stands=tuple(stands),
    )


def _facts(report: Report) -> dict[str, object]:
    """All that a report's figures are of, by name; what was not said is None."""
    facts, said = report.provenance, report.provenance.settings
    return {
        **{name: getattr(facts, name) for name in _FACTS},
        "quick": report.quick,
        **{name: said.get(name) for name in SETTING_NAMES},
    }


def _changed_keys(old: Report, new: Report) -> tuple[str, ...]:
    """The keys of the policy whose values differ; none where a report does not tell them."""
    if old.policy is None or new.policy is None:
        return ()
    then, now = old.policy, new.policy
    return tuple(key for key in sorted({*then, *now}) if then.get(key) != now.get(key))


def _stands(finding: Finding, today: date) -> bool:
    """Whether a finding of then still says that nothing is to be done."""
    accepted = finding.accepted
    return finding.status in GOOD or (accepted is not None and today <= accepted.until)


def changed_rows(comparison: Comparison, new: Report) -> list[tuple[str, str]]:
    """Each attack that both reports ran, and what became of it in words."""
    percent = {each.attack: find_family(each.family).share for each in new.findings}
    return [(each.attack, _sentence(each, share=percent[each.attack])) for each in comparison.rows]


def _sentence(change: RowChange, *, share: bool) -> str:
    status = change.after.words if change.before is change.after else f"{change.before.words} → {change.after.words}"
    ends = " → ".join("–" if each is None else _interval_text(each, share) for each in (change.was, change.now))
    return f"{status}; {ends}, {change.shift}"


def difference_sentence(comparison: Comparison) -> str:
    """What differs between the two, and what follows from it."""
    if not comparison.differs:
        return (
            f"Nothing differs from the report of {comparison.old}: bundle, policy, data, code, seed, versions, rows "
            "judged and what else was said are the same."
        )
    keys = f" ({', '.join(comparison.policy_keys)})" if comparison.policy_keys else ""
    differs = [f"{each}{keys}" if each == "policy" else each for each in comparison.differs]
    return (
        f"Since the report of {comparison.old} these differ: {', '.join(differs)}. What it shows is of what it was "
        "made of."
    )


def _was_run(finding: Finding) -> bool:
    """Whether a report tells anything of the attack."""
    return finding.status is not Status.NOT_APPLICABLE and Cause.NOT_RUN not in causes_of(finding)


def _change(old: Finding, new: Finding) -> RowChange:
    was, now = worst_behind(old), worst_behind(new)
    shift: Shift = "cannot be told"
    if was is not None and now is not None:
        shift = "better" if now.high < was.low else "worse" if now.low > was.high else "as before"
    return RowChange(attack=new.attack, before=old.status, after=new.status, was=was, now=now, shift=shift)


def worst_behind(finding: Finding) -> Interval | None:
    """The interval behind the guard that is nearest to breaking it, on the gate's scale."""
    judged = [each for each in (finding.judged_guarded, finding.judged_adaptive) if each is not None]
    if finding.judged_as == Membership.judged_as:
        judged = [leak_interval(each) for each in judged]  # which way round a signal is matters to nobody
    return max(judged, key=lambda each: each.high) if judged else None


def _rank(status: Status) -> int:
    return _ORDER.index(status)


def _interval_text(interval: Interval, share: bool) -> str:
    if not share:
        return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    return f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
