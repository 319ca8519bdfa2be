"""The threats of AI-enabled devices beside what a report found: asset, catalogues, findings, and what is not tested.

Nothing here is judged anew. A threat without a finding says so: it is NOT TESTED, never held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medward.attacks.report.words import limits_text, worst_drop
from medward.attacks.threat_catalogue import CATALOGUE_SOURCES, DEVICE_THREATS, DeviceThreat, atlas_names
from medward.attacks.validation.finding import Controls, Finding, Status
from medward.attacks.validation.gate import overall_status
from medward.attacks.validation.record import Report
from medward.guard.bundle.power_words import power_words

NOT_TESTED = "NOT TESTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreatRow:
    """A threat row is one threat, the findings that speak of it, and in words what else was measured or is lacking.

    `status` is what its findings come to together, NOT TESTED where there are none.
    """

    threat: DeviceThreat
    status: str
    controls: Controls
    findings: tuple[Finding, ...]
    said: tuple[str, ...]

    @property
    def counts(self) -> Mapping[str, Sequence[str]]:
        """Status in words -> the attacks that have it."""
        found: dict[str, list[str]] = {}
        for each in self.findings:
            found.setdefault(each.status_words, []).append(each.attack)
        return found


def threat_rows(report: Report) -> tuple[ThreatRow, ...]:
    """A row for each threat, in FDA's order."""
    return tuple(_row(threat, report) for threat in DEVICE_THREATS)


def _row(threat: DeviceThreat, report: Report) -> ThreatRow:
    mine = tuple(
        each
        for each in report.findings
        if atlas_names(each.controls, threat.tested_by)
        and (each.status is not Status.NOT_APPLICABLE or each.not_judged)
    )
    judged = [each for each in mine if not each.not_judged]
    controls: dict[str, tuple[str, ...]] = {}
    for named in (threat.controls, *(each.controls for each in mine)):
        for catalogue, ids in named.items():
            controls[catalogue] = tuple(dict.fromkeys((*controls.get(catalogue, ()), *ids)))
    untested = () if mine or not threat.tested_by else ("No attack of it was judged.",)
    return ThreatRow(
        threat=threat,
        status=overall_status(judged).words if judged else "NOT JUDGED" if mine else NOT_TESTED,
        controls=controls,
        findings=mine,
        said=(*untested, *filter(None, [threat.elsewhere]), *_measured(threat, report)),
    )


def _measured(threat: DeviceThreat, report: Report) -> list[str]:
    """What was measured of a threat that no attack is of, if anything."""
    if threat.shown_by:
        return [
            f"{each.attack}: {each.measure} {each.undefended} without the guard."
            for each in report.findings
            if atlas_names(each.controls, threat.shown_by) and each.undefended is not None
        ]
    if threat.name == "model bias" and (drop := worst_drop(report.clean)) is not None:
        name, lost = drop
        interval = report.clean.site.sensitivity_lost.get(name)
        ends = "" if interval is None else f" (95 % limits {limits_text(interval, share=True)})"
        return [f'Behind the guard sensitivity falls most for "{name}", by {100 * max(lost, 0.0):.1f} points{ends}.']
    if threat.name == "performance drift":
        return [
            f"{f'Site {site}: ' if site else ''}{sentence}."
            for site, power in report.power.items()
            for sentence in power_words(power)
        ] or ["nothing of it was measured."]
    return []


def threat_markdown(report: Report) -> str:
    """The table in Markdown, its sources below it; texts of the report cannot break its cells."""
    lines = [
        f"# Threats: {_cell(report.provenance.model)}",
        "",
        f"Report of {report.created}, bundle `{report.provenance.bundle}`, {report.verdict.words}.",
        "",
        "| threat | asset | catalogues | findings | status | besides |",
        "|---|---|---|---|---|---|",
    ]
    for row in threat_rows(report):
        cells = (
            f"**{row.threat.name}**: {row.threat.meaning}",
            row.threat.asset,
            controls_text(row),
            findings_text(row),
            row.status,
            " ".join(row.said),
        )
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    lines += ["", "Sources of the identifiers:", ""]
    lines += [f"- {name}: {source}" for name, source in CATALOGUE_SOURCES.items()]
    return "\n".join(lines) + "\n"


def controls_text(row: ThreatRow) -> str:
    """Its identifiers, catalogue by catalogue."""
    return "; ".join(f"{catalogue} {', '.join(ids)}" for catalogue, ids in row.controls.items())


def findings_text(row: ThreatRow) -> str:
    """Its findings, status by status."""
    return "; ".join(f"{status}: {', '.join(attacks)}" for status, attacks in row.counts.items()) or "none"


def _cell(text: str) -> str:
    """`text` as one cell of a Markdown table: no pipe, no line break, no markup of a page."""
    plain = " ".join(text.split())
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
