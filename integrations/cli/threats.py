"""``medward threats``: the threats of AI-enabled devices beside what a report found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.options import console


def threats_command(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="the report's folder, or its report.json")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="a Markdown file; default: print it")] = None,
) -> None:
    """Lay a report beside the seven threats that FDA names, with ids of ATLAS, AISVS and others; NOT TESTED is said."""
    from medward.attacks.report.comparison import load_report
    from medward.attacks.report.threat_table import threat_markdown
    from medward.guard.files import write_durably

    text = threat_markdown(load_report(report, "threats"))
    if out is None:
        sys.stdout.write(text)
    else:
        write_durably(out, text.encode())
        console.print(f"threats: {out}", markup=False)
