"""The report as one self-contained page: no script, nothing fetched, light or dark as the reader likes."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from attacks.finding import ARMS, Finding, Status
from attacks.intervals import Interval
from attacks.report import words
from attacks.report.plots import plots
from attacks.report.record import Report

LIMITS = (
    "Poisoned or backdoored training data, and tampering with the model before it was put into the bundle.",
    "Reconstruction of training images from the model, and guesses at what the training set holds.",
    "Report writers, prompts and other text.",
    "Changes to the patient or the print rather than to the digital image, and attacks on the scanner.",
    "Several accounts that work together, and a thief who only ever sends ordinary cases, slowly.",
    "Attacks on the service itself: floods of queries, stolen keys, the network.",
    "How well the model diagnoses. Accuracy is shown only to tell what the guard costs.",
)
"""What no validation of this kind covers, whatever the findings say."""


def render(report: Report) -> str:
    """The page. Every text from outside is escaped."""
    environment = Environment(
        loader=PackageLoader("attacks.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = [
        {"title": plot.title, "caption": plot.caption, "svg": Markup(plot.svg), "pictures": plot.pictures}  # noqa: S704 (matplotlib escaped the texts in it)
        for plot in plots(report)
    ]
    return environment.get_template("report.html.j2").render(
        report=report,
        facts=report.provenance,
        clean=report.clean,
        headline=words.headline(report),
        drop=words.worst_drop(report.clean),
        twin=words.twin(report),
        icons=words.ICONS,
        statuses=[
            (status, sum(finding.status is status for finding in report.findings))
            for status in (Status.BROKEN, Status.INCONCLUSIVE, Status.HELD, Status.NOT_APPLICABLE)
        ],
        figures=figures,
        untested=untested(report),
        columns=(*ARMS, "baseline"),
        cell=_cell,
        share=_share,
        limits=lambda interval: words.limits(interval, share=True),
        threat=words.threat,
    )


def untested(report: Report) -> tuple[str, ...]:
    """What this validation did not test, the particular before the general."""
    skipped = [f for f in report.findings if f.status is Status.NOT_APPLICABLE or f.undefended is None]
    found = [f"{f.attack}: {' '.join(f.reasons)}" for f in skipped]
    found += [
        f"{f.attack}: no attacker who knows the guard."
        for f in report.findings
        if f not in skipped and f.adaptive is None
    ]
    if not report.provenance.white_box:
        found.append("Attackers who hold the model itself: evasion was judged by transfer from a surrogate.")
    return (*found, *LIMITS)


def _cell(finding: Finding, column: str) -> dict[str, object] | None:
    """What a cell of the table shows: the estimate, its limits, and where the two lie between 0 and 100."""
    interval: Interval | None = getattr(finding, column)
    if interval is None:
        return None
    share = words.is_share(finding)
    on_scale = column in ("guarded", "adaptive") and finding.measure == finding.judged_as
    judged: Interval | None = getattr(finding, f"judged_{column}", None)
    low, high = max(0.0, interval.low), min(1.0, interval.high)
    return {
        "value": words.estimate(interval, share=share),
        "limits": words.limits(interval, share=share),
        "start": round(100 * low, 2),
        "width": round(max(100 * (high - low), 1.0), 2),
        "bound": round(100 * finding.bound, 2) if on_scale else None,
        "judged": None if on_scale or judged is None else f"{100 * judged.value:.0f}% of the gain survives",
    }


def _share(interval: Interval | None) -> str:
    return words.estimate(interval, share=True)
