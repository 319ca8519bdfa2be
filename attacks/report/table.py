"""The findings as a table on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medward.attacks.families import find_family, known_families
from medward.attacks.intervals import Interval
from medward.attacks.report.comparison import Comparison, changed_rows, difference_sentence
from medward.attacks.report.remedy import grouped_advice
from medward.attacks.report.words import (
    COLUMNS,
    ICONS,
    accepted_text,
    change_text,
    defended_families,
    estimate_text,
    hardened_column,
    interaction_sentence,
    latency_text,
    limits_text,
    ordinary_headline,
    ordinary_rows,
    parts_text,
    report_headline,
    training_claim,
    twin_text,
    verdicts_text,
    worst_drop,
)
from medward.attacks.validation.certified_share import BY_PROOF
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.record import Report
from medward.guard.certificate import certificate_sentence

_STYLES = {
    Status.ACCEPTED: "bold magenta",
    Status.HELD: "bold green",
    Status.NOT_NEEDED: "bold green",
    Status.BROKEN: "bold red",
    Status.TOO_FEW_ROWS: "bold yellow",
    Status.INCONCLUSIVE: "bold yellow",
    Status.NOT_APPLICABLE: "dim",
}


def print_findings(report: Report, console: Console) -> None:
    """Print the table, the reasons of every cell that did not hold, and the verdict; the files have all figures."""
    for finding in report.findings:
        if said := accepted_text(finding):
            console.print(Text.assemble((finding.attack, "bold"), f": {said}", style=_STYLES[Status.ACCEPTED]))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 1, 0))
    arms = ("undefended", *hardened_column(report), "guarded", "adaptive", "baseline")
    for name in ("attack", *arms, "status"):
        left = name in ("attack", "status")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "attack", overflow="fold")
    for finding in report.findings:
        cells = [_cell(finding, arm) for arm in arms]
        status = Text(f"{ICONS[finding.status]} {finding.status_words}", _STYLES[finding.status])
        table.add_row(Text(finding.attack), *cells, status)
    console.print(table)
    console.print(Text(", ".join(f"{each.measure} ({name})" for name, each in known_families().items()), "dim"))
    for finding in report.findings:
        if len(set(finding.verdicts.values())) > 1:
            console.print(Text.assemble((finding.attack, "bold"), f": an attacker who {verdicts_text(finding)}"))
        if finding.status is not Status.HELD:
            console.print(Text.assemble((finding.attack, "bold"), ": ", " ".join(finding.reasons)))
        elif finding.reasons and finding.reasons[0].startswith(BY_PROOF):
            console.print(Text.assemble((finding.attack, "bold"), ": ", finding.reasons[0]))
    for finding in report.findings:
        if finding.proposal:
            console.print(Text.assemble((finding.attack, "bold"), " proposes for the policy:"))
            console.print(Text(finding.proposal, "cyan"), soft_wrap=True)
    print_advice(report, console)
    if report.certificate is not None:
        console.print(Text(f"certificate: {certificate_sentence(report.certificate)}"))
        for sentence in getattr(report.certificate, "not_covered", ()):
            console.print(Text(f"  not covered: {sentence}", "dim"))
    if said := twin_text(report):
        console.print(Text(f"undefended ({defended_families(report)}): {said}"))
    if report.interactions:
        print_interactions(report, console)
    console.print(Text(f"clean cost: {_clean(report)}"))
    if said := ordinary_headline(report):
        console.print(Text(f"ordinary behaviour: {said}"))
        print_ordinary(report, console)
    if report.threat is not None and report.provenance.modality != "text":
        console.print(Text(f"threat: inputs changed {report.threat.sentence(report.provenance.modality)}"))
    for note in report.notes:
        console.print(Text(f"note: {note}", "bold yellow"))
    console.print(Text(f"{report.verdict.words}: {report_headline(report)}", _STYLES[report.verdict]))


def print_comparison(comparison: Comparison, report: Report, console: Console) -> None:
    """Print what changed since an older report, row by row, and what must be tested again."""
    console.print(Text("what changed", "bold"))
    console.print(Text(f"  {difference_sentence(comparison)}"))
    for attack, sentence in changed_rows(comparison, report):
        console.print(Text.assemble("  ", (attack, "bold"), f": {sentence}"))
    for what, names in (
        ("must be tested again", comparison.again),
        ("not run again, and still as it was", comparison.stands),
        ("new", comparison.new),
    ):
        if names:
            console.print(Text.assemble("  ", (what, "bold"), f": {', '.join(names)}"))


def print_advice(report: Report, console: Console) -> None:
    """Print what to do next: each remedy once, for which attacks, its command and what it brought when measured."""
    advice = grouped_advice(report)
    if advice:
        console.print(Text("what to do next", "bold"))
    for attacks, each in advice:
        console.print(Text.assemble("  ", (attacks, "bold"), f": {each.sentence}"))
        if each.command:
            console.print(Text(f"    {each.command}", "cyan"), soft_wrap=True)
        if each.brought:
            console.print(Text(f"    {each.brought}", "dim"))


def print_ordinary(report: Report, console: Console) -> None:
    """Print each ordinary behaviour that accounts were coarsened or withheld for; the page has all of them."""
    met = [(cost, status) for cost, status in ordinary_rows(report) if cost.acted.value > 0]
    if not met:
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title="ordinary behaviour acted upon", title_justify="left")
    for name in (
        "behaviour",
        "accounts acted upon",
        "withheld",
        "rows screened",
        "by",
        "meant to be forgiven",
        "status",
    ):
        left = name in ("behaviour", "by", "meant to be forgiven", "status")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for cost, status in met:
        ends = limits_text(cost.acted, share=True, between="–")
        judged = Text(f"{ICONS[status]} {status.words}", _STYLES[status]) if cost.forgiven else Text("–", "dim")
        table.add_row(
            Text(cost.behaviour),
            Text.assemble(estimate_text(cost.acted, share=True), (f" {ends}", "dim")),
            estimate_text(cost.withheld, share=True),
            estimate_text(cost.screened, share=True),
            Text(parts_text(cost)),
            "yes" if cost.forgiven else "no",
            judged,
        )
    console.print(table)


def print_interactions(report: Report, console: Console) -> None:
    """Print what training changed: every attack on the bare model before and after, and which became stronger."""
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 1, 0), title="what training changed, bare models", title_justify="left"
    )
    for name in ("attack", "measure", "before", "after", "difference"):
        left = name in ("attack", "measure")
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for found in report.interactions:
        share = find_family(found.family).share
        cells = [_estimate(each, share) for each in (found.before, found.after)]
        ends = limits_text(found.difference, share=share)
        change = Text.assemble(change_text(found, share=share), (f"\n{ends}", "dim"))
        if found.difference is not None and not found.paired:
            change.append("\nnot paired", "dim")
        table.add_row(Text(found.attack), Text(found.measure), *cells, change)
    console.print(table)
    for found in report.interactions:
        if said := interaction_sentence(found, training_claim(report)):
            console.print(Text(said, "bold yellow"))


def _cell(finding: Finding, arm: str) -> Text:
    interval: Interval | None = getattr(finding, arm)
    return _estimate(interval, find_family(finding.family).share)


def _estimate(interval: Interval | None, share: bool) -> Text:
    ends = limits_text(interval, share=share, between="–")
    return Text.assemble(estimate_text(interval, share=share), (f"\n{ends}", "dim"))


def _clean(report: Report) -> str:
    clean = report.clean
    refused = clean.site.false_refusal
    shown = limits_text(refused, share=True)
    parts = [f"{estimate_text(refused, share=True)} of benign rows refused ({shown}, n = {refused.n})"]
    if clean.site.accounts is not None:
        parts.append(
            f"{estimate_text(clean.site.accounts, share=True)} of {clean.site.accounts.n} benign accounts ever "
            f"coarsened or withheld ({limits_text(clean.site.accounts, share=True)})"
        )
    if clean.site.uncertified is not None:
        left = clean.site.uncertified
        parts.append(
            f"{estimate_text(left, share=True)} of benign rows not certified, so read by a person "
            f"({limits_text(left, share=True)})"
        )
    drop = worst_drop(clean)
    if drop is not None:
        column = COLUMNS.get(report.provenance.task, "class")
        parts.append(f'sensitivity of {column} "{drop[0]}" down {100 * drop[1]:.1f} points')
    if clean.site.unchanged is not None:
        parts.append(f"{estimate_text(clean.site.unchanged, share=True)} of benign rows left unchanged")
    if clean.site.mean_error is not None:
        before, after = clean.site.mean_error.undefended.value, clean.site.mean_error.guarded.value
        parts.append(f"mean absolute error {before:.3g} without the guard, {after:.3g} behind it")
    if said := latency_text(clean):
        parts.append(said)
    return "; ".join(parts)
