"""``medward audit``: the audit log of a serving host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.guard.errors import MedwardError
from medward.integrations.cli.options import console

audit_app = typer.Typer(no_args_is_help=True, help="The audit log of a serving host.")


@audit_app.command("verify")
def audit_verify(
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
    head: Annotated[str | None, typer.Option(help="the head you kept elsewhere; finds a cut or rewritten log")] = None,
) -> None:
    """Check the hash chain through all segments; names the first broken record, and says what was pruned."""
    from medward.guard.audit.log import verify_log

    log = log / "audit.jsonl" if log.is_dir() else log
    result = verify_log(log, head=head)
    files = f" in {result.segments} files" if result.segments > 1 else ""
    console.print(f"{log}: {result.records} records{files}, chain whole, head {result.head}", markup=False)
    if result.pruned:
        console.print(
            f"records 1 to {result.pruned} were pruned with their segments, which a record says", markup=False
        )
    if result.back:
        console.print(f"the clock went back {result.back} times; the records stand in the order they were written in")


@audit_app.command("rotate")
def audit_rotate(
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
) -> None:
    """Close the log's file as a segment and begin another; a server that writes to it goes on there."""
    from medward.guard.audit.log import AuditLog

    log = _existing(log)
    closed = AuditLog(log).rotate()
    console.print(f"{log}: holds no record" if closed is None else f"{closed}: closed", markup=False)


@audit_app.command("prune")
def audit_prune(
    older_than: Annotated[int, typer.Option(help="days since a segment's last record", min=1)],
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
) -> None:
    """Delete closed segments, once the chain was found whole; which ones is on record before, so the rest verifies."""
    from datetime import UTC, datetime, timedelta

    from medward.guard.audit.log import AuditLog, verify_log

    log = _existing(log)
    verify_log(log)
    pruned = AuditLog(log).prune(datetime.now(UTC) - timedelta(days=older_than))
    for each in pruned:
        console.print(f"{each}: deleted", markup=False)
    if not pruned:
        console.print(f"{log}: no closed segment is that old; `medward audit rotate` closes one", markup=False)


def _existing(log: Path) -> Path:
    """The log at `log` or in that folder, which is there: none is made."""
    log = log / "audit.jsonl" if log.is_dir() else log
    if not log.exists():
        raise MedwardError(f"{log}: there is no such audit log")
    return log


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
