"""``medward incidents``: which accounts alarmed, since when, what saw it, what left, and what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medward.integrations.cli.options import console

if TYPE_CHECKING:
    from medward.guard.audit.incidents import Incident


def incidents_command(
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
    ended: Annotated[bool, typer.Option("--ended", help="those too that a person has reset")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="everything, for a program")] = False,
) -> None:
    """Say which accounts alarmed: who, since when, what saw it, what left before and since, and what to do."""
    from medward.guard.audit.incidents import incidents
    from medward.guard.audit.log import read_log

    found = incidents(read_log(log / "audit.jsonl" if log.is_dir() else log))
    found = [each for each in found if ended or not each.ended]
    if as_json:
        sys.stdout.write(json.dumps([each.content for each in found], indent=2) + "\n")
        return
    for incident in found:
        for line in incident_lines(incident):
            console.print(line, markup=False)
    if not found:
        console.print(f"{log}: no alarm {'was raised' if ended else 'stands'}", markup=False)


def incident_lines(incident: Incident) -> Iterator[str]:
    """What there is to say of one incident."""
    stands = f"reset on {incident.ended}" if incident.ended else "suspended" if incident.suspended else "stands"
    yield f"{incident.account}: {incident.action.label} since {incident.began}, query {incident.query}; {stands}"
    before, since = _rows(incident.left_before), _rows(incident.left_since)
    yield f"  seen by {incident.seen_by}; rows that left before: {before}; since: {since}"
    if incident.remedy:
        yield f"  {incident.remedy}"


def _rows(levels: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {level}" for level, count in levels.items()) or "none"
