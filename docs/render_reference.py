"""Tables of the documents that come from the code: keys of the policy, commands, licences of what is installed."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any, get_args

import numpy as np

RESULTS = Path(__file__).parent / "results"


def licences() -> str:
    """Every distribution that Medward or one of its extras brings, with its licence."""
    details = json.loads((RESULTS / "licences_refused.json").read_text())["details"]
    lines = ["| distribution | licence | required |", "|---|---|---|"]
    for name, said in details["licences"].items():
        lines.append(f"| {name} | {said} | {'always' if name in details['required'] else 'by an extra'} |")
    return "\n".join(lines) + "\n"


def policy() -> str:
    """Every key of a policy: its default, what it may be, and the sentence of its section."""
    from medward.guard.policy import Policy

    lines = ["## The policy itself", "", *_keys_of(Policy)]
    for name, field in Policy.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            lines += ["", f"## `[{name}]`", "", inspect.cleandoc(field.annotation.__doc__ or ""), ""]
            lines += _keys_of(field.annotation)
        elif entry := _entry_of(field):
            lines += ["", f"## `[[{name}]]`", "", inspect.cleandoc(entry.__doc__ or ""), "", *_keys_of(entry)]
    return "\n".join(lines) + "\n"


REPORTS = {  # what an example writes: most tokens and their kinds, or most bytes where there are no kinds
    "a small network: 191 tokens of 600 kinds": {"length": 191, "vocabulary": 600},
    "a language model: 128 tokens of 50,257 kinds": {"length": 128, "vocabulary": 50_257},
    "a function: 4,096 bytes, the default": {},
}
NAMED = ("atelectasis", "cardiomegaly", "consolidation", "edema", "effusion", "pneumonia", "pneumothorax")


def report_prices() -> str:
    """What one report costs a budget, by its length limit, beside its findings alone."""
    lines = ["| what is written, of 7 findings | the text, in bits | its findings alone |", "|---|---|---|"]
    for name, limits in REPORTS.items():
        text, findings = _prices(limits)
        lines.append(f"| {name} | {text:,.3f} | {findings:.3f} |")
    return "\n".join(lines) + "\n"


def report_budgets() -> str:
    """Two policies of the first example: for so many answers of findings, and for so many reports before these."""
    text, findings = _prices(next(iter(REPORTS.values())))
    alone, first = 50 * findings, 10 * text
    both = first + alone
    share = math.ceil(1e6 * alone / both) / 1e6  # rounded up, so that no report more fits
    while math.floor(both * (1 - share) * 1000) < round(first * 1000):  # and none fewer
        both += 0.001
    return "\n".join(
        [
            "```toml",
            "[release]",
            'level = "label"              # findings leave, texts do not',
            "[budget]",
            f"total_bits = {alone:.3f}         # 50 answers: 50 x {findings:.3f}",
            "```",
            "",
            "```toml",
            "[release]",
            'level = "full"               # texts leave as long as they fit, then their findings',
            "[budget]",
            f"total_bits = {both:.3f}       # 10 reports, then 50 answers: 10 x {text:,.3f} + 50 x {findings:.3f}",
            f"label_share = {share:.6f}       # what is kept for findings; at the default of a half, 5 reports fit",
            "```\n",
        ]
    )


def _prices(limits: dict[str, int]) -> tuple[float, float]:
    """What a text and its findings cost as an account is charged: in thousandths of a bit, rounded up."""
    from medward.guard.tasks.base import ReleaseSettings
    from medward.guard.tasks.report import WrittenReport
    from medward.guard.types import Level

    task, none = WrittenReport(findings=NAMED, **limits), np.zeros((1, len(NAMED)))
    text, findings = (task.bits(none, level, ReleaseSettings()) for level in (Level.FULL, Level.LABEL))
    return math.ceil(1000 * text) / 1000, math.ceil(1000 * findings) / 1000


def _entry_of(field: Any) -> Any:
    """What each table of a list that is empty by default holds; None for other fields."""
    first = next(iter(get_args(field.annotation)), None)
    return first if field.default == () and hasattr(first, "model_fields") else None


def _keys_of(section: Any) -> list[str]:
    lines = ["| key | default | may be |", "|---|---|---|"]
    for name, field in section.model_fields.items():
        if (isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields")) or _entry_of(field):
            continue
        choices = get_args(field.annotation)
        named = choices and all(isinstance(each, str) for each in choices)
        bounds = ", ".join(filter(None, (_bound(each) for each in field.metadata)))
        kind = getattr(field.annotation, "__name__", str(field.annotation))
        listed = field.get_default() if isinstance(field.get_default(), tuple) else ()
        if listed and all(isinstance(each, str) for each in listed):
            lines.append(f"| `{name}` | all | some of {', '.join(f'`{each}`' for each in listed)} |")
            continue
        default = "; ".join(", ".join(f"{k} = {v!r}" for k, v in rung) for rung in listed) or repr(field.get_default())
        default = "none: must be chosen" if field.is_required() else f"`{default}`"
        may_be = (
            ", ".join(f"`{each}`" for each in choices) if named else "rungs" if listed else f"{kind} {bounds}".strip()
        )
        lines.append(f"| `{name}` | {default} | {may_be} |")
    return lines


def _bound(constraint: Any) -> str:
    signs = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
    return ", ".join(f"{sign} {getattr(constraint, name):g}" for name, sign in signs if hasattr(constraint, name))


def commands() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    import typer

    from medward.integrations.cli import app

    return "\n".join(_command("medward", typer.main.get_command(app)))


def _command(path: str, command: Any) -> list[str]:
    if children := getattr(command, "commands", None):
        return [line for name, child in sorted(children.items()) for line in _command(f"{path} {name}", child)]
    lines = [f"## `{path}`", "", inspect.cleandoc(command.help or ""), "", "| option | |", "|---|---|"]
    for each in command.params:
        if each.name != "help" and not getattr(each, "hidden", False):
            names = ", ".join(each.opts) if each.param_type_name == "option" else (each.metavar or each.name.upper())
            lines.append(f"| `{names}` | {(getattr(each, 'help', None) or '').replace('|', ',')} |")
    return [*lines, ""]
