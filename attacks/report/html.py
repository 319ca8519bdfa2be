"""The report as one self-contained page: no script, nothing fetched, light or dark as the reader likes."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medward.attacks.families import find_family, known_families
from medward.attacks.intervals import Interval
from medward.attacks.report import words
from medward.attacks.report.comparison import Comparison, changed_rows, difference_sentence
from medward.attacks.report.plots import report_plots
from medward.attacks.report.remedy import grouped_advice
from medward.attacks.report.summary import summary_parts
from medward.attacks.report.threat_table import controls_text, findings_text, threat_rows
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.record import Interaction, Report
from medward.guard.bundle.power_words import power_words
from medward.guard.certificate import certificate_sentence

TEXT_LIMIT = "Report writers, prompts and other text."
WORDING_LIMIT = "What a report says besides its findings, and prompts other than the bundle's own."
LIMITS = (
    "Poisoned or backdoored training data, and tampering with the model before it was put into the bundle.",
    "Reconstruction of training images from the model, and guesses at what its training set as a whole is like.",
    TEXT_LIMIT,
    "Changes to the patient or the print rather than to the digital image, and attacks on the scanner.",
    "Attacks on the service itself: floods of queries, stolen keys, the network.",
    "How well the model diagnoses. Accuracy is shown only to tell what the guard costs.",
)
"""What no validation of this kind covers, whatever the findings say."""


def render_html(report: Report, comparison: Comparison | None = None) -> str:
    """The page, with a `comparison` what changed since another. Every text from outside is escaped."""
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
        accepted=words.accepted_text,
        advice=grouped_advice(report),
        summary=summary_parts(report),
        comparison=comparison,
        differs="" if comparison is None else difference_sentence(comparison),
        since=[] if comparison is None else changed_rows(comparison, report),
        headline=words.report_headline(report),
        drop=words.worst_drop(report.clean),
        twin=words.twin_text(report),
        noticed={site: power_words(power) for site, power in report.power.items()},
        changed=[_change(found, words.training_claim(report)) for found in report.interactions],
        certificate="" if report.certificate is None else certificate_sentence(report.certificate),
        uncovered=getattr(report.certificate, "not_covered", ()),
        icons=words.ICONS,
        statuses=[
            (status, said, sum((each.status, each.status_words) == (status, said) for each in report.findings))
            for status in (
                Status.ACCEPTED,
                Status.BROKEN,
                Status.INCONCLUSIVE,
                Status.TOO_FEW_ROWS,
                Status.HELD,
                Status.NOT_NEEDED,
                Status.NOT_APPLICABLE,
            )
            for said in dict.fromkeys(each.status_words for each in report.findings if each.status is status)
        ],
        figures=figures,
        untested=untested_sentences(report),
        threats=[(row, controls_text(row), findings_text(row)) for row in threat_rows(report)],
        defended=words.defended_families(report),
        bounds=[f"{family.judged_as} ≤ {family.bound(report.gate):g}" for family in known_families().values()],
        readings=[family.reading for family in known_families().values()],
        columns=("undefended", *words.hardened_column(report), "guarded", "adaptive", "baseline"),
        cell=_cell,
        share=_share,
        limits=lambda interval: words.limits_text(interval, share=True),
        threat=words.threat_text,
        directions=words.directions_text,
        measures=words.measures_text,
        verdicts=words.verdicts_text,
        latency=words.latency_text(report.clean),
        ordinary=words.ordinary_rows(report),
        ordinary_headline=words.ordinary_headline(report),
        parts=words.parts_text,
        column=words.COLUMNS.get(report.provenance.task, "class"),
        number=lambda interval: words.estimate_text(interval, share=False),
        number_limits=lambda interval: words.limits_text(interval, share=False),
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
    for name, family in known_families().items():
        mine = [f for f in ran if f.family == name]
        if mine:
            found += family.absent(mine, report.provenance)
        elif not any(f.family == name for f in skipped):
            found.append(family.untested)
    if report.provenance.modality == "text":
        return (*found, *(each for each in LIMITS if each != TEXT_LIMIT))
    writes = report.provenance.task == "report"
    return (*found, *(WORDING_LIMIT if writes and each == TEXT_LIMIT else each for each in LIMITS))


def _arms(finding: Finding) -> tuple[Interval | None, ...]:
    return finding.undefended, finding.guarded, finding.adaptive


def _cell(finding: Finding, column: str) -> dict[str, object] | None:
    """What a cell of the table shows: the estimate, its limits, and where the two lie between 0 and 100."""
    interval: Interval | None = getattr(finding, column)
    if interval is None:
        return None
    share = find_family(finding.family).share
    on_scale = column in ("guarded", "adaptive") and finding.measure == finding.judged_as
    judged: Interval | None = getattr(finding, f"judged_{column}", None)
    low, high = max(0.0, interval.low), min(1.0, interval.high)
    return {
        "value": words.estimate_text(interval, share=share),
        "limits": words.limits_text(interval, share=share),
        "start": round(100 * low, 2),
        "width": round(max(100 * (high - low), 1.0), 2),
        "bound": round(100 * finding.bound, 2) if on_scale else None,
        "judged": None if on_scale or judged is None else f"{100 * judged.value:.0f}%: {finding.judged_as}",
    }


def _change(found: Interaction, claim: str) -> dict[str, str]:
    """What a row of the table of interactions shows."""
    share = find_family(found.family).share
    return {
        "attack": found.attack,
        "family": found.family + (", what training defends against" if found.claimed else ""),
        "measure": found.measure,
        **{
            name: words.estimate_text(each, share=share)
            for name, each in (("before", found.before), ("after", found.after))
        },
        "before_limits": words.limits_text(found.before, share=share),
        "after_limits": words.limits_text(found.after, share=share),
        "difference": words.change_text(found, share=share),
        "limits": words.limits_text(found.difference, share=share),
        "pairing": "same rows, paired" if found.paired else "not paired" if found.difference else "",
        "sentence": words.interaction_sentence(found, claim),
        "flags": "; ".join(found.flags),
    }


def _share(interval: Interval | None) -> str:
    return words.estimate_text(interval, share=True)
