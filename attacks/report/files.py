"""The report on disk: for people, for programs and for pipelines."""

from __future__ import annotations

from pathlib import Path

from attacks.journal import write_atomically
from attacks.report.html import render
from attacks.report.junit import junit
from attacks.report.record import Report


def save(report: Report, out: Path) -> None:
    """Write ``report.json``, ``junit.xml`` and ``report.html`` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "report.json", report.model_dump_json(indent=1).encode())
    write_atomically(out / "junit.xml", junit(report))
    write_atomically(out / "report.html", render(report).encode())
