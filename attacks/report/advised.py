"""Settings that were tried, on the terminal: the frontier, how to take a setting, and what only training could do."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medward.attacks.advise import SETTINGS, TriedSetting
from medward.attacks.families import find_family
from medward.attacks.intervals import Interval
from medward.attacks.report.comparison import worst_behind
from medward.attacks.report.remedy import grouped_advice
from medward.attacks.report.words import ICONS, estimate_text, limits_text
from medward.attacks.validation.record import Report


def print_settings(tried: Sequence[TriedSetting], report: Report, console: Console) -> None:
    """Print each setting with what it costs and what each row reaches, the frontier marked, then training commands."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 1, 0))
    names = [each.attack for each in tried[0].report.findings]
    for column in ("setting", "refused", *names):
        table.add_column(column, overflow="fold")
    for each in tried:
        rows = {finding.attack: finding for finding in each.report.findings}
        cells = [
            Text.assemble(
                f"{ICONS[rows[name].status]} ",
                _estimate(worst_behind(rows[name]), share=find_family(rows[name].family).share),
            )
            for name in names
        ]
        table.add_row(Text(f"{'* ' if each.best else '  '}{each.name}"), _estimate(each.refused, share=True), *cells)
    console.print(table)
    console.print(
        Text(
            "* no other setting beats it on these rows; they are few, so intervals are wide, and it was chosen on "
            "them: validate what you take on rows set aside"
        )
    )
    for each in tried:
        if each.best and SETTINGS[each.name]:
            console.print(Text(f"{each.name}: {setting_text(each.name)}"))
    console.print(Text("what only training could change", "bold"))
    for attacks, advice in grouped_advice(report):
        if advice.command.startswith("medward harden"):
            console.print(Text.assemble("  ", (attacks, "bold"), f": {advice.command}"), soft_wrap=True)


def setting_text(name: str) -> str:
    """The keys of a setting as a policy has them."""
    return "; ".join(
        f"[{section}] "
        + ", ".join(
            f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in keys.items()
        )
        for section, keys in SETTINGS[name].items()
    )


def _estimate(interval: Interval | None, *, share: bool) -> Text:
    ends = limits_text(interval, share=share, between="–")
    return Text.assemble(estimate_text(interval, share=share), (f"\n{ends}", "dim"))
