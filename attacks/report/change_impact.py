"""What a change to a model did, for a predetermined change control plan: within intervals, beyond them, or not tested.

A plan (FDA, final guidance on predetermined change control plans, December 2024) lists modifications, how each is
verified and what it did. This says the last two of two reports: what differs, which measures moved beyond what their
intervals allow, and which attacks have to be run again before anything can be said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from medward.attacks.intervals import Interval
from medward.attacks.report.comparison import Comparison, Shift, changed_rows, compare_reports, difference_sentence
from medward.attacks.report.words import limits_text
from medward.attacks.validation.finding import CleanCost, Utility
from medward.attacks.validation.gate import PASSABLE
from medward.attacks.validation.record import Report

ImpactWord = Literal["WITHIN", "BEYOND", "RE-TEST"]


class PerformanceChange(BaseModel):
    """A performance change is one measure of benign use, then and now.

    `shift` is better or worse only where the two intervals do not overlap.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: str
    was: Interval
    now: Interval
    shift: Shift


class ChangeImpact(BaseModel):
    """A change's impact is how attacks and benign use moved between two reports, and what follows.

    `word` is BEYOND where a row lost its good status or anything is worse beyond its interval; RE-TEST where attacks of
    the old report, or benign measures, say nothing of what is now; WITHIN where neither is so. `reasons` are why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    word: ImpactWord
    reasons: tuple[str, ...]
    comparison: Comparison
    performance: tuple[PerformanceChange, ...]


def change_impact(old: Report, new: Report) -> ChangeImpact:
    """What changed from `old` to `new`, and whether it stays within what the intervals allow."""
    comparison = compare_reports(old, new)
    then, now = dict(_measures(old.clean)), dict(_measures(new.clean))
    moved = tuple(_moved(name, *then[name], now[name][0]) for name in then if name in now)
    beyond = [
        f"{row.attack}: {row.before.words} then, {row.after.words} now"
        for row in comparison.rows
        if row.before in PASSABLE and row.after not in PASSABLE
    ]
    beyond += [f"{row.attack}: worse beyond its interval" for row in comparison.rows if row.shift == "worse"]
    beyond += [f"{each.measure}: worse beyond its interval" for each in moved if each.shift == "worse"]
    again = [f"{name}: not run on what is now" for name in comparison.again]
    again += [f"{name}: not measured on what is now" for name in then if name not in now]
    again += [f"{row.attack}: cannot be told" for row in comparison.rows if row.shift == "cannot be told"]
    again += ["the new report is of a quick look"] if new.quick and comparison.differs else []
    word: ImpactWord = "BEYOND" if beyond else "RE-TEST" if again else "WITHIN"
    return ChangeImpact(word=word, reasons=(*beyond, *again), comparison=comparison, performance=moved)


def impact_sentences(impact: ChangeImpact, new: Report) -> list[str]:
    """The impact in lines: what differs, each row, each measure that moved, what follows."""
    lines = [difference_sentence(impact.comparison)]
    lines += [f"{attack}: {sentence}" for attack, sentence in changed_rows(impact.comparison, new)]
    lines += [f"{each.measure}: {_shown(each.was)} → {_shown(each.now)}, {each.shift}" for each in impact.performance]
    lines += [f"new: {', '.join(impact.comparison.new)}"] if impact.comparison.new else []
    means = {
        "WITHIN": "nothing is worse beyond its interval, and nothing has to be tested again",
        "BEYOND": "something is worse than intervals allow, or is no longer good",
        "RE-TEST": "nothing is shown to be worse, and not all of it was tested again",
    }
    return [*lines, f"{impact.word}: {means[impact.word]}", *(f"  {each}" for each in impact.reasons)]


def _measures(clean: CleanCost) -> Iterator[tuple[str, tuple[Interval, bool]]]:
    """Each measure of benign use by name, and whether more of it is better."""
    for part in filter(None, (clean.site, clean.drift)):
        yield from _split_measures(part)


def _split_measures(part: Utility) -> Iterator[tuple[str, tuple[Interval, bool]]]:
    yield f"{part.split}: false refusal", (part.false_refusal, False)
    if part.accounts is not None:
        yield f"{part.split}: benign accounts acted upon", (part.accounts, False)
    if part.uncertified is not None:
        yield f"{part.split}: not certified", (part.uncertified, False)
    pairs = {} if part.accuracy is None else {"accuracy": part.accuracy}
    pairs |= {f"sensitivity of {name}": pair for name, pair in part.sensitivity.items()}
    pairs |= {f"specificity of {name}": pair for name, pair in part.specificity.items()}
    for name, pair in pairs.items():
        yield f"{part.split}: {name}, model", (pair.undefended, True)
        yield f"{part.split}: {name}, guarded", (pair.guarded, True)
    if part.mean_error is not None:
        yield f"{part.split}: mean error, guarded", (part.mean_error.guarded, False)


def _moved(measure: str, was: Interval, more_is_better: bool, now: Interval) -> PerformanceChange:
    up, down = now.low > was.high, now.high < was.low
    better = up if more_is_better else down
    shift: Shift = "as before" if not (up or down) else "better" if better else "worse"
    return PerformanceChange(measure=measure, was=was, now=now, shift=shift)


def _shown(interval: Interval) -> str:
    if interval.high > 1:
        return str(interval)
    return f"{interval.value:.1%} ({limits_text(interval, share=True)})"
