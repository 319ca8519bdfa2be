"""Tables of the documents that come from the code: keys of the policy, commands, licences of what is installed."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, get_args

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
