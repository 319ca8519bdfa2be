"""The report on disk: for people, for programs and for pipelines."""

from __future__ import annotations

from pathlib import Path

from medward.attacks.report.comparison import compare_reports
from medward.attacks.report.html import render_html
from medward.attacks.report.junit import render_junit
from medward.attacks.validation.record import Report
from medward.guard.files import write_durably


def save_report(report: Report, out: Path, against: Report | None = None) -> None:
    """Write ``report.json``, ``junit.xml`` and ``report.html`` into the folder `out`; beside them what changed.

    That is ``comparison.json``, where there is an older report to compare `against`.
    """
    out.mkdir(parents=True, exist_ok=True)
    comparison = None if against is None else compare_reports(against, report)
    if comparison is not None:
        write_durably(out / "comparison.json", comparison.model_dump_json(indent=1).encode())
    write_durably(out / "report.json", report.model_dump_json(indent=1).encode())
    write_durably(out / "junit.xml", render_junit(report))
    write_durably(out / "report.html", render_html(report, comparison).encode())
