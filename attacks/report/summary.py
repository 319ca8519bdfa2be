"""A report on one page, for who answers for a risk and reads no statistics: what was tried, what stood, what it costs.

Nothing here is judged anew: each sentence says plainly what stands further down with its numbers.
"""

from __future__ import annotations

from medward.attacks.extraction.in_domain_cell import ANSWERS_NEEDED, DAYS_NEEDED, answers_text
from medward.attacks.families import known_families
from medward.attacks.report.remedy import NO_REMEDY, finding_advice
from medward.attacks.report.words import accepted_text, worst_drop
from medward.attacks.validation.certified_share import DENIABLE
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.record import Report

MEANINGS = {
    Status.ACCEPTED: "is lived with, by decision of a named person",
    Status.BROKEN: "got through",
    Status.INCONCLUSIVE: "cannot be told",
    Status.TOO_FEW_ROWS: "cannot be told for want of data",
    Status.HELD: "was kept out",
    Status.NOT_NEEDED: "does too little to this model to matter",
}
"""What a status says in plain words, of one attack."""


def summary_parts(report: Report) -> list[tuple[str, list[str]]]:
    """Headings with plain sentences: each family, what a person accepts, the price, what would help."""
    parts = [
        ("What was tried, and what came of it", _family_sentences(report)),
        ("What is lived with", [f"{each.attack}: {accepted_text(each)}" for each in report.findings if each.accepted]),
        ("What patients and clinics pay", _price_sentences(report)),
        ("What would help", _help_sentences(report)),
    ]
    return [(heading, sentences) for heading, sentences in parts if sentences]


def _family_sentences(report: Report) -> list[str]:
    """One sentence for each family that was tried."""
    sentences = []
    for name, family in known_families().items():
        mine = [each for each in report.findings if each.family == name]
        tried = [each for each in mine if each.status in MEANINGS or each.not_judged]
        counts = {status: sum(each.status is status for each in tried) for status in MEANINGS}
        said = [f"{count} of {len(tried)} {MEANINGS[status]}" for status, count in counts.items() if count]
        unjudged = [each for each in tried if each.not_judged]
        if unjudged:
            said.append(f"{len(unjudged)} of {len(tried)} was not judged, as the policy sets no limit")
        if said:
            sentences.append(f"{family.untested.removesuffix('.')}: {_listed(said)}.")
        sentences += [_unlimited_sentence(each) for each in unjudged if ANSWERS_NEEDED in each.figures]
    return sentences


def _unlimited_sentence(finding: Finding) -> str:
    """How soon a client whom no limit holds up has a copy."""
    answers, days = finding.figures[ANSWERS_NEEDED], finding.figures.get(DAYS_NEEDED)
    within = "" if days is None else f", in {days:,.0f} day{'' if days == 1 else 's'} at the declared traffic"
    return f"A client who asks only ordinary cases has a copy after {answers_text(answers)}{within}; nothing limits it."


def _price_sentences(report: Report) -> list[str]:
    """What those pay who do nothing wrong, once for all attacks."""
    site = report.clean.site
    what = "texts that name nobody" if report.provenance.modality == "text" else "ordinary cases"
    refused = site.false_refusal
    found = [f"{_in_hundred(refused.value)} {what} are refused an answer (at most {_in_hundred(refused.high)})."]
    if site.uncertified is not None:
        left = site.uncertified
        found.append(f"{_in_hundred(left.value)} {what} are read by a person: nothing is proven of the answer.")
        found.append(
            f"Of the other {_in_hundred(1 - left.value)} it is proven that no change of the input within the policy's "
            "radius, whoever makes it, alters the answer. Larger changes, patches and rotations are not covered, nor "
            "whether the answer is right."
        )
        shares = [shown.get(DENIABLE) for each in report.findings for shown in each.measures.values()]
        if most := max((share.high for share in shares if share is not None), default=0.0):
            found.append(
                f"Who can change an input so can take the proof away from up to {_in_hundred(most)} of these, which a "
                "person reads then, too: he decides that, not what is answered."
            )
    if site.accounts is not None:
        acted = round(site.accounts.value * site.accounts.n)
        found.append(f"{acted} of {site.accounts.n} ordinary clients were told less, or nothing, at some time.")
    forgiven = [each for each in report.clean.ordinary if each.forgiven]
    if forgiven:
        met = sum(each.acted.value > 0 for each in forgiven)
        found.append(
            f"Of {len(forgiven)} ordinary things that hospitals do, such as sending a fixed set every day, {met} had "
            "clients who were told less, or nothing, at some time."
        )
    if (drop := worst_drop(report.clean)) is not None:
        name, lost = drop
        found.append(f'Of cases of "{name}" {_in_hundred(max(lost, 0.0))} fewer are found than by the model alone.')
    return found


def _help_sentences(report: Report) -> list[str]:
    """What may be done about what is not good, each once; rows without a remedy by name."""
    done: dict[str, None] = {}
    none = []
    for finding in _not_good(report):
        advice = [each.sentence for each in finding_advice(finding, report)]
        none += [finding.attack] if advice == [NO_REMEDY] else []
        done |= dict.fromkeys(sentence for sentence in advice if sentence != NO_REMEDY)
    return [*done, *([f"Nothing in this release: {', '.join(none)}."] if none else [])]


def _not_good(report: Report) -> list[Finding]:
    return [each for each in report.findings if each.not_judged or each.status in (Status.ACCEPTED, Status.BROKEN)]


def _in_hundred(share: float) -> str:
    """A share as people say it."""
    return f"{100 * share:.1f} in 100"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
