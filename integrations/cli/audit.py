"""``medward audit``: the audit log of a serving host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.options import console

audit_app = typer.Typer(no_args_is_help=True, help="The audit log of a serving host.")


@audit_app.command("verify")
def audit_verify(
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
    head: Annotated[str | None, typer.Option(help="the head you kept elsewhere; finds a cut or rewritten log")] = None,
) -> None:
    """Check the hash chain; names the first broken record."""
    from medward.guard.audit.log import verify_log

    log = log / "audit.jsonl" if log.is_dir() else log
    result = verify_log(log, head=head)
    console.print(f"{log}: {result.records} records, chain whole, head {result.head}", markup=False)
    if result.back:
        console.print(f"the clock went back {result.back} times; the records stand in the order they were written in")


@audit_app.command("commissioning")
def audit_commissioning(
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
) -> None:
    """Say of each commissioning in the log how many it answered, and what was strange about how many inputs."""
    from medward.guard.audit.log import read_log
    from medward.guard.commissioning.report import commissioning_reports

    reports = commissioning_reports(read_log(log / "audit.jsonl" if log.is_dir() else log))
    for report in reports:
        for sentence in report.sentences:
            console.print(sentence, markup=False)
    if not reports:
        console.print(f"{log}: nothing was commissioned", markup=False)


@audit_app.command("fhir")
def audit_fhir(
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
    out: Annotated[Path | None, typer.Option(help="file of NDJSON; without it the events are printed")] = None,
    observer: Annotated[str, typer.Option(help="what the site calls this server")] = "medward",
) -> None:
    """Write the records as FHIR R4 AuditEvents, a line of JSON each, once the chain was found whole."""
    from medward.guard.audit.log import read_log, verify_log
    from medward.guard.files import write_durably
    from medward.integrations.clinical.fhir_audit import audit_events

    log = log / "audit.jsonl" if log.is_dir() else log
    verify_log(log)
    lines = [*audit_events(read_log(log), observer=observer)]
    if out is None:
        for line in lines:
            typer.echo(line)
        return
    write_durably(out, "".join(f"{line}\n" for line in lines).encode(), mode=0o600)
    console.print(f"{out}: {len(lines)} events", markup=False)
