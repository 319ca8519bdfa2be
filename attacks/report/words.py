"""How numbers and verdicts are said, alike on the terminal and on the page."""

from __future__ import annotations

from medward.attacks.audit.family import Audit
from medward.attacks.families import find_family, known_families
from medward.attacks.intervals import Interval
from medward.attacks.threat import Access
from medward.attacks.validation.finding import ARMS, BEHIND, Arm, CleanCost, Finding, OrdinaryCost, Status
from medward.attacks.validation.ordinary.verdict import acted_upon, ordinary_status
from medward.attacks.validation.record import Interaction, Report

ICONS = {
    Status.ACCEPTED: "!",
    Status.HELD: "✓",
    Status.NOT_NEEDED: "○",
    Status.BROKEN: "✕",
    Status.TOO_FEW_ROWS: "#",
    Status.INCONCLUSIVE: "?",
    Status.NOT_APPLICABLE: "–",
}
KNOWLEDGE: dict[Arm, str] = {"guarded": "does not know the guard", "adaptive": "knows the guard"}
"""Who attacks on each arm behind the guard."""
SEES = {
    Access.TEXT: "the texts that leave",
    Access.LABELS: "labels",
    Access.SCORES: "scores",
    Access.GRADIENTS: "the model itself, gradients included",
}


def number_text(value: float, *, share: bool) -> str:
    """A share as a percentage, anything else to two decimals."""
    return f"{100 * value:.1f}%" if share else f"{value:.2f}"


def estimate_text(interval: Interval | None, *, share: bool) -> str:
    """The value alone; a dash when not measured."""
    return "–" if interval is None else number_text(interval.value, share=share)


def limits_text(interval: Interval | None, *, share: bool, between: str = " to ") -> str:
    """The limits alone, as ``low to high``, without the unit."""
    if interval is None:
        return ""
    ends = (number_text(end, share=share).removesuffix("%") for end in (interval.low, interval.high))
    return between.join(ends)


def defended_families(report: Report) -> str:
    """The families whose undefended run was on the model before training defended it, by name; empty without one."""
    facts = report.provenance.twin
    return (
        "" if facts is None else ", ".join(name for name, each in known_families().items() if each.claim == facts.claim)
    )


COLUMNS = {"classification": "class", "multilabel": "finding", "regression": "quantity"}
"""Task -> what a column of the model's outputs is."""


def directions_text(finding: Finding) -> str:
    """What was changed to either side of the operating point, arm by arm; empty where decisions have no sides."""
    arms = []
    for arm in ARMS:
        ways = [f"{way} {estimate_text(share, share=True)}" for way, share in finding.directions.get(arm, {}).items()]
        arms += [f"{arm} {', '.join(ways)}"] if ways else []
    return "; ".join(arms)


def measures_text(finding: Finding) -> str:
    """What else was measured, arm by arm, and what follows from it; empty where nothing was."""
    arms = []
    for arm in ARMS:
        said = [
            f"{name} " + ("not resolvable at this n" if each is None else str(each))
            for name, each in finding.measures.get(arm, {}).items()
        ]
        arms += [f"{arm} {', '.join(said)}"] if said else []
    figures = [
        f"{name} {f'{value:,.0f}' if value == int(value) else f'{value:.3g}'}"
        for name, value in finding.figures.items()
    ]
    return "; ".join([*arms, *([", ".join(figures)] if figures else [])])


def worst_drop(clean: CleanCost) -> tuple[str, float] | None:
    """The class whose sensitivity falls most at the calibrated site, and by how much; None without labels."""
    drops = {name: pair.undefended.value - pair.guarded.value for name, pair in clean.site.sensitivity.items()}
    return max(drops.items(), key=lambda item: item[1]) if drops else None


def verdicts_text(finding: Finding) -> str:
    """What the status would be by each attacker behind the guard alone; empty where there were none."""
    return "; ".join(
        f"{KNOWLEDGE[arm]} {ICONS[finding.verdicts[arm]]} {finding.verdicts[arm].words}"
        for arm in BEHIND
        if arm in finding.verdicts
    )


def accepted_text(finding: Finding) -> str:
    """Who lives with a finding, until when, in the place of what and why; empty where nobody does."""
    found = finding.accepted
    if found is None:
        return ""
    return f"accepted by {found.by} until {found.until}, in the place of {found.status.words}: {found.reason}"


def hardened_column(report: Report) -> tuple[str, ...]:
    """The column of the trained model without its guard, where any finding has it."""
    return ("hardened",) if any(finding.hardened is not None for finding in report.findings) else ()


def latency_text(clean: CleanCost) -> str:
    """How long a query takes without and with the guard; empty where that was not measured."""
    if clean.latency_ratio is None:
        return ""
    ratio = f"{clean.latency_ratio.value:.2f} times as long"
    if clean.latency is None:
        return f"a query takes {ratio}"
    before, after = clean.latency.undefended.value, clean.latency.guarded.value
    return f"a query takes {after:.3g} ms instead of {before:.3g} ms, {ratio}"


def ordinary_rows(report: Report) -> list[tuple[OrdinaryCost, Status]]:
    """What each ordinary behaviour costs, and its status: NOT_APPLICABLE of what is not meant to be forgiven."""
    costs, bound = report.clean.ordinary, report.gate.ordinary_alarms
    return [(cost, ordinary_status(cost, costs, bound)) for cost in costs]


def ordinary_headline(report: Report) -> str:
    """How many behaviours the guard forgives as it is meant to, in a sentence; empty where none was looked at."""
    forgiven = [cost for cost in report.clean.ordinary if cost.forgiven]
    if not forgiven:
        return ""
    met = sum(cost.acted.value > 0 for cost in forgiven)
    surely = len(acted_upon(report.clean.ordinary, report.gate.ordinary_alarms))
    if not met:
        return (
            f"none of {len(forgiven)} ordinary behaviours that are meant to be forgiven had accounts coarsened or "
            f"withheld; {forgiven[0].acted.n} accounts each"
        )
    return (
        f"of {len(forgiven)} ordinary behaviours that are meant to be forgiven, {met} had accounts coarsened or "
        f"withheld, {surely} of them for sure more than {report.gate.ordinary_alarms:.0%} of their accounts; "
        f"{forgiven[0].acted.n} accounts each"
    )


def ordinary_sentence(cost: OrdinaryCost) -> str:
    """What accounts that behave so are met with, which part it was, and what a site does about it."""
    said = f"{estimate_text(cost.acted, share=True)} of {cost.acted.n} accounts coarsened or withheld"
    said += f" ({limits_text(cost.acted, share=True)}), {estimate_text(cost.withheld, share=True)} withheld"
    if parts := parts_text(cost):
        said += f", by {parts}"
    said += f"; the screen refuses {estimate_text(cost.screened, share=True)} of {cost.screened.n} rows."
    return f"{said} Not meant to be forgiven: {cost.remedy}" if cost.remedy else said


def parts_text(cost: OrdinaryCost) -> str:
    """Which parts of the monitors the wealth was of when accounts were first acted upon; empty where none was."""
    large = sorted(((share, part) for part, share in cost.parts.items() if share >= 0.05), reverse=True)
    return ", ".join(f"{part} {share:.0%}" for share, part in large)


def threat_text(finding: Finding, modality: str) -> str:
    """What the attacker may do, in one line."""
    parts = [f"sees {SEES[finding.threat.access]}"]
    if finding.threat.epsilon is not None:
        unit = "" if modality == "image" else " of its spread"
        parts.append(f"changes each input value by at most {finding.threat.epsilon:.3g}{unit}")
    if finding.threat.queries is not None:
        parts.append(f"may ask {finding.threat.queries} {'turns' if modality == 'text' else 'rows'}")
    if finding.threat.knowledge:
        parts.append(finding.threat.knowledge)
    return "; ".join(parts)


def twin_text(report: Report) -> str:
    """What undefended runs were on where training defends, and what hardening cost; empty without a model before."""
    facts = report.provenance.twin
    if facts is None:
        return ""
    said = f"the model before hardening, which decides {estimate_text(facts.agreement, share=True)} of rows alike"
    if facts.accuracy is None or facts.deployed_accuracy is None:
        return said
    before, after = estimate_text(facts.accuracy, share=True), estimate_text(facts.deployed_accuracy, share=True)
    return f"{said}; accuracy {before} before, {after} after, n = {facts.accuracy.n}"


def training_claim(report: Report) -> str:
    """What the training between the model before and the deployed one was for; empty without a model before."""
    return "" if report.provenance.twin is None else report.provenance.twin.claim


def interaction_sentence(interaction: Interaction, claim: str) -> str:
    """Plain words where training clearly made an attack stronger; empty elsewhere."""
    found, share = interaction, find_family(interaction.family).share
    if not found.stronger:
        return ""
    though = ", though it was meant to defend against it" if found.claimed else ""
    return (
        f"Training for {claim} made {found.attack} stronger{though}: {found.measure} "
        f"{estimate_text(found.before, share=share)} before, {estimate_text(found.after, share=share)} after, "
        f"{change_text(found, share=share)} more ({limits_text(found.difference, share=share)})."
    )


def change_text(interaction: Interaction, *, share: bool) -> str:
    """The difference alone, shares in percentage points; a dash when not measured."""
    found = interaction.difference
    if found is None:
        return "–"
    return f"{100 * found.value:+.1f} points" if share else f"{found.value:+.3f}"


def report_headline(report: Report) -> str:
    """The verdict in one sentence, which tells what the guard stopped from what found nothing without it either."""
    tested = [each for each in report.findings if each.status is not Status.NOT_APPLICABLE]
    if not tested and any(each.undefended is not None for each in report.findings):
        return "This policy has nothing that what was measured could be judged by."
    if not tested:
        return "Nothing could be tested with this data."
    told = [_outcome(each) for each in tested]
    outcomes = {outcome: told.count(outcome) for outcome in _OUTCOMES}
    (first, number), *others = [(what, some) for what, some in outcomes.items() if some]
    attacks = "attack" if len(tested) == 1 else "attacks"
    return (
        ", ".join([f"{number} of {len(tested)} {attacks} {first}", *(f"{some} {what}" for what, some in others)]) + "."
    )


_OUTCOMES = (
    "broke the guard",
    "refuted what training claims",
    "could not be decided",
    "had too few rows",
    "failed against the guard",
    "found nothing against what training claims",
    "did so little even without the guard that none is needed",
    "accepted",
)


def _outcome(finding: Finding) -> str:
    """What came of an attack; an audit is of the training, and no guard is asked."""
    audit = finding.family == Audit.name
    if finding.status is Status.BROKEN:
        return _OUTCOMES[1 if audit else 0]
    if finding.status is Status.ACCEPTED:
        return _OUTCOMES[7]
    if finding.status is Status.INCONCLUSIVE:
        return _OUTCOMES[2]
    if finding.status is Status.TOO_FEW_ROWS:
        return _OUTCOMES[3]
    return _OUTCOMES[6 if finding.status is Status.NOT_NEEDED else 5 if audit else 4]
