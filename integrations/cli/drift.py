"""``medward drift``: what the audit log says of the traffic, in plain sentences."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from medward.guard.audit.drift import ENOUGH_ACCOUNTS, FEWEST_ACCOUNTS
from medward.guard.audit.excess import DriftReport, Excess, Rate, drift_reports
from medward.guard.commissioning.period import COMMISSIONED
from medward.guard.errors import MedwardError
from medward.guard.statistics.binomial import rate_limits
from medward.guard.statistics.eprocess import Event
from medward.integrations.cli.options import AllowCode, BundlePath, Expect, console, see_working_directory

LIKELIER = (
    "Drift (a new scanner, a new population) is the likelier reading: look, then recalibrate with `medward calibrate "
    "--site`. A thief spread over all accounts would look the same."
)
_FIRST = "Look at it as an attack first, though something new behind these accounts only would look the same."
CANNOT = (
    "This is a reading of counts and no bound; its intervals take queries for independent. Queries alone cannot tell "
    "drift from an attack spread over all accounts. What can: whether equipment, its software or the patients referred "
    "changed {when}, and whether keys were issued, shared or lost then."
)


def drift_command(
    bundle: BundlePath,
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
    since: Annotated[str | None, typer.Option(help="from this time on: 2026-01-31, or 2026-01-31T08:00 (UTC)")] = None,
    until: Annotated[str | None, typer.Option(help="before this time")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="all counts, for a program")] = False,
    allow_code: AllowCode = False,
    expect: Expect = None,
) -> None:
    """Say of every organisation in the audit log: nothing to report, drift, an attack, both, or too little to say."""
    from medward.guard.audit.log import read_log
    from medward.guard.bundle.folder import load_bundle

    if allow_code:
        see_working_directory()
    begin, end = _time("since", since), _time("until", until)
    if begin is not None and end is not None and begin >= end:
        raise MedwardError(f"--until: must be later than --since, got {until} and {since}")
    loaded = load_bundle(bundle, allow_code=allow_code, expect=expect)
    tested = [0]
    records = _without_tests(read_log(log / "audit.jsonl" if log.is_dir() else log), tested)
    reports = drift_reports(records, loaded.policy, loaded.profile, loaded.sites, since=begin, until=end)
    if as_json:
        said = [
            {
                **asdict(each, dict_factory=_named_events),
                "verdict": drift_verdict(each),
                "limitation": drift_limitation(each),
            }
            for each in reports
        ]
        sys.stdout.write(json.dumps(said, indent=2) + "\n")
        return
    for report in reports:
        _print(report)
    if not reports:
        console.print(f"{log}: nobody asked anything in this time", markup=False)
    if tested[0]:
        console.print(
            f"{tested[0]} queries of commissioning in the log are left out: no monitor bet on them", markup=False
        )


def _without_tests(records: Iterable[Mapping[str, Any]], count: list[int]) -> Iterator[Mapping[str, Any]]:
    """The records without those of queries of commissioning, which are counted in ``count[0]``."""
    for record in records:
        if record.get("event") == COMMISSIONED:
            count[0] += 1
        else:
            yield record


def drift_verdict(report: DriftReport) -> str:
    """What the report comes to, with the numbers that rests on."""
    if report.kind == "nothing":
        return f"nothing to report: no rate is clearly above what the policy allows for, in {_size(report)}."
    if report.kind == "attack":
        return f"{_standing(report)}. {_FIRST}"
    if report.kind == "drift":
        return f"{_moved(report)}. {LIKELIER}"
    if report.kind == "both":
        return f"both: {_moved(report)}. {LIKELIER} Beyond that, {_standing(report)}. {_FIRST}"
    alarms = f"; an alarm stands on {', '.join(report.parents)}" if report.parents else ""
    seen = "".join(f"; {_rate(each.rate)}" for each in report.excesses)
    if report.accounts < FEWEST_ACCOUNTS and (alarms or seen or report.standing):
        own = "".join(f"; {name} alarmed by {' and '.join(parts)}" for name, parts in report.alarms.items())
        return f"too few accounts to compare, {_size(report)}{own}{alarms}{seen}. {_FIRST}"
    if alarms or seen:
        return f"neither single accounts nor most of them stand out, in {_size(report)}{alarms}{seen}. {_FIRST}"
    return f"too little to say: {_size(report)}; fewer than {ENOUGH_ACCOUNTS} queries would hide a mild excess."


def drift_limitation(report: DriftReport) -> str:
    """What no such report can say, and which facts outside the log would."""
    days = [excess.began for excess in report.excesses if excess.began]
    return CANNOT.format(when=f"on or before {min(days)}" if days else "in this time")


def _standing(report: DriftReport) -> str:
    count = len(report.standing)
    names = ", ".join(report.standing[:5]) + (", ..." if count > 5 else "")
    by = sorted({part for name in report.standing for part in report.alarms.get(name, ())})
    alarmed = f", alarmed by {', '.join(by)}" if by else ""
    rates = []
    for excess in report.excesses:
        (hits, n), event = excess.standing, excess.rate.event
        if hits > event.allowed * n:
            others = _share(*excess.spread.others)
            rates.append(
                f"{_event(event)} in {_share(hits, n)} of their queries, in {others} of the others', "
                f"{event.allowed:.2%} allowed"
            )
    said = f"{count} of {report.accounts} accounts stand{'s' if count == 1 else ''} out ({names}){alarmed}"
    return "; ".join([said, *rates])


def _moved(report: DriftReport) -> str:
    alarms = len(set(report.alarms) - set(report.standing))
    hidden = [f"the {alarms} of them that alarmed are no further out than the others"] if alarms else []
    said = f"most accounts moved together, in {' and '.join(report.moved)}"
    return "; ".join(
        [said, *hidden, *(_together(each) for each in report.excesses if each.rate.event.part in report.moved)]
    )


def _together(excess: Excess) -> str:
    event, quiet = excess.rate.event, excess.spread.quiet
    return (
        f"{_event(event)} in {_interval(*excess.spread.others)} queries, {event.allowed:.2%} allowed"
        + (f", in {_share(*quiet)} where nobody alarmed" if quiet[1] else "")
        + f"; above that {_spread(excess)}"
    )


def _spread(excess: Excess) -> str:
    spread = excess.spread
    return (
        f"{spread.above} of {spread.accounts} accounts (about {spread.alike:.0f} if all moved alike), "
        f"{spread.worst:.0%} of the excess from one account and {spread.tenth:.0%} from a tenth"
        + (f", first clear on {excess.began}" if excess.began else "")
    )


def _print(report: DriftReport) -> None:
    """The verdict, the alarms, every rate, and what it cannot say."""
    single = [each for each in report.excesses if each.rate.event.part not in report.moved]
    lines = [
        f"{report.organisation}: {drift_verdict(report)}",
        f"  {_size(report)}, {report.begin[:16]} to {report.end[:16]} UTC",
        *([f"  {report.left_out} queries under another policy or calibration are left out"] if report.left_out else []),
        *(f"  alarmed ever at {alpha:g} ({action}): {reached} accounts" for alpha, action, reached in report.rungs),
        *([f"  alarmed above them: {', '.join(report.parents)}"] if report.parents else []),
        *(f"  {_rate(rate)}" for rate in _shown(report)),
        *(f"  above {each.rate.event.allowed:.2%} in {_event(each.rate.event)}: {_spread(each)}" for each in single),
        f"  {drift_limitation(report)}",
    ]
    for line in lines:
        console.print(line, markup=False)


def _named_events(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of `fields`, of events without the numbers of their cells, which their label stands for."""
    return {name: value for name, value in fields if name != "cells"}


def _shown(report: DriftReport) -> Sequence[Rate]:
    """All rates but those of a part that bets on single cells, of which there are many: of these the clearest."""
    clear = [excess.rate for excess in report.excesses]
    few = {rate.event.part for rate in report.rates if rate.event.cells is None or len(rate.event.cells) > 1}
    return [rate for rate in report.rates if rate.event.part in few or rate in clear]


def _rate(rate: Rate) -> str:
    event = rate.event
    allowed = "" if event.allowed == event.level else f", {event.allowed:.2%} with the drift that the policy allows"
    return f"{_event(event)} in {_interval(rate.hits, rate.n)}, calibrated for {event.level:.2%}{allowed}"


def _interval(hits: int, n: int) -> str:
    low, high = rate_limits(hits, n)
    return f"{_share(hits, n)} [{low:.2%}, {high:.2%}] of {n}"


def _event(event: Event) -> str:
    return f"{event.part} {event.label or f'p <= {event.at:g}'}"


def _share(hits: int, n: int) -> str:
    return f"{hits / n:.2%}" if n else "none"


def _size(report: DriftReport) -> str:
    return f"{report.queries} queries of {report.accounts} account{'' if report.accounts == 1 else 's'}"


def _time(option: str, text: str | None) -> datetime | None:
    """A time in UTC, unless it names its own zone."""
    try:
        found = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise MedwardError(
            f"--{option}: a time such as 2026-01-31 or 2026-01-31T08:00 is needed, got {text!r}"
        ) from None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
