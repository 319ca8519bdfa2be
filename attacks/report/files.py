"""The report on disk: for people, for programs and for pipelines."""

from __future__ import annotations

from pathlib import Path

from medward.attacks.report.html import render_html
from medward.attacks.report.junit import render_junit
from medward.attacks.validation.record import Report
from medward.guard.files import write_durably


def save_report(report: Report, out: Path) -> None:
    """Write ``report.json``, ``junit.xml`` and ``report.html`` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    write_durably(out / "report.json", report.model_dump_json(indent=1).encode())
    write_durably(out / "junit.xml", render_junit(report))
    write_durably(out / "report.html", render_html(report).encode())
