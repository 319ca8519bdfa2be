"""The report as one self-contained page: no script, nothing fetched, light or dark as the reader likes."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medward.attacks.base import Access, Family, ThreatModel
from medward.attacks.intervals import Interval
from medward.attacks.report import words
from medward.attacks.report.plots import report_plots
from medward.attacks.validation.finding import ARMS, Finding, Status
from medward.attacks.validation.record import Report

LIMITS = (
    "Poisoned or backdoored training data, and tampering with the model before it was put into the bundle.",
    "Reconstruction of training images from the model, and guesses at what its training set as a whole is like.",
    "Report writers, prompts and other text.",
    "Changes to the patient or the print rather than to the digital image, and attacks on the scanner.",
    "Attacks on the service itself: floods of queries, stolen keys, the network.",
    "How well the model diagnoses. Accuracy is shown only to tell what the guard costs.",
)
"""What no validation of this kind covers, whatever the findings say."""
FAMILIES: dict[Family, str] = {
    "evasion": "Inputs changed so that the model decides otherwise.",
    "extraction": "Theft of the model by its answers.",
    "membership": "Guesses at whose records trained the model.",
}
"""Family -> what a validation without any attack of it did not test."""
ORDINARY = "semi-supervised"
"""How the name of a theft begins whose thief asks about nothing but rows like the model's own."""


def render_html(report: Report) -> str:
    """The page. Every text from outside is escaped."""
    environment = Environment(
        loader=PackageLoader("medward.attacks.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = [
        {"title": plot.title, "caption": plot.caption, "svg": Markup(plot.svg), "pictures": plot.pictures}  # noqa: S704 (matplotlib escaped the texts in it)
        for plot in report_plots(report)
    ]
    return environment.get_template("report.html.j2").render(
        report=report,
        facts=report.provenance,
        clean=report.clean,
        headline=words.report_headline(report),
        drop=words.worst_drop(report.clean),
        twin=words.twin_text(report),
        icons=words.ICONS,
        statuses=[
            (status, sum(finding.status is status for finding in report.findings))
            for status in (Status.BROKEN, Status.INCONCLUSIVE, Status.HELD, Status.NOT_APPLICABLE)
        ],
        figures=figures,
        untested=untested_sentences(report),
        columns=(*ARMS, "baseline"),
        cell=_cell,
        share=_share,
        limits=lambda interval: words.limits_text(interval, share=True),
        threat=words.threat_text,
    )


def untested_sentences(report: Report) -> tuple[str, ...]:
    """What this validation did not test, the particular before the general."""
    skipped = [f for f in report.findings if f.status is Status.NOT_APPLICABLE or not any(_arms(f))]
    ran = [f for f in report.findings if f not in skipped]
    found = [f"{f.attack}: {' '.join(f.reasons)}" for f in skipped]
    found += [
        f"{f.attack}: the attacker who knows the guard was judged on no row."
        if f.adaptive_name
        else f"{f.attack}: no attacker who knows the guard."
        for f in ran
        if f.adaptive is None
    ]
    families = {f.family for f in ran}
    found += [what for family, what in FAMILIES.items() if family not in families | {f.family for f in skipped}]
    evasion = [f.threat.access for f in ran if f.family == "evasion"]
    if evasion and max(evasion) < Access.GRADIENTS:
        how = "only asked questions" if report.provenance.white_box else "was judged by transfer from a surrogate"
        found.append(f"Attackers who hold the model itself: evasion {how}.")
    if "extraction" in families:
        found += _thieves([f for f in ran if f.family == "extraction"])
    return (*found, *LIMITS)


def _thieves(thefts: Sequence[Finding]) -> list[str]:
    """The thieves that none of the `thefts` was by."""
    absent, threats = [], [threat for theft in thefts for threat in _threats(theft)]
    if not any(theft.attack.startswith(ORDINARY) for theft in thefts):
        absent.append("A thief who only ever sends ordinary cases.")
    if all(threat.accounts == 1 for threat in threats):
        absent.append("Thieves with several accounts that work together.")
    if all(threat.per_day is None for threat in threats):
        absent.append("Thieves who spread their queries over days.")
    return absent


def _threats(finding: Finding) -> list[ThreatModel]:
    """Whom the finding's arms were judged with."""
    knowing = [] if finding.adaptive is None or finding.adaptive_threat is None else [finding.adaptive_threat]
    return [finding.threat, *knowing]


def _arms(finding: Finding) -> tuple[Interval | None, ...]:
    return finding.undefended, finding.guarded, finding.adaptive


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
        "value": words.estimate_text(interval, share=share),
        "limits": words.limits_text(interval, share=share),
        "start": round(100 * low, 2),
        "width": round(max(100 * (high - low), 1.0), 2),
        "bound": round(100 * finding.bound, 2) if on_scale else None,
        "judged": None if on_scale or judged is None else f"{100 * judged.value:.0f}% of the gain survives",
    }


def _share(interval: Interval | None) -> str:
    return words.estimate_text(interval, share=True)
