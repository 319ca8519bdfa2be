"""``medward changes``: two reports side by side, for a predetermined change control plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.options import console

IMPACT_CODES = {"WITHIN": 0, "BEYOND": 1, "RE-TEST": 2}
"""What the command exits with."""


def changes_command(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="the report from before the change, or its folder")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="the report from after it, or its folder")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="a JSON file to write it to as well")] = None,
) -> int:
    """Say what a change did: exit 0 within intervals, 1 beyond them, 2 where it must be tested again."""
    from medward.attacks.report.change_impact import change_impact, impact_sentences
    from medward.attacks.report.comparison import load_report
    from medward.guard.files import write_durably

    then, now = load_report(old, "old"), load_report(new, "new")
    impact = change_impact(then, now)
    for line in impact_sentences(impact, now):
        console.print(line, markup=False)
    if out is not None:
        write_durably(out, impact.model_dump_json(indent=1).encode())
    return IMPACT_CODES[impact.word]
