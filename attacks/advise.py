"""Settings of a policy, tried: what each brings against the rows of a report that are not good, and what it costs.

Only what needs no training is tried, on a small grid, with the attacks of those rows on few rows, by the same rules.
Each point is judged as any validation is; together they show the frontier between what benign users pay and what
attackers reach. A point that was chosen on rows looks better on them than it is: rows set aside say what it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medward.attacks.estimate import QUICK_ROWS, duration_text
from medward.attacks.intervals import Interval
from medward.attacks.report.comparison import worst_behind
from medward.attacks.validate import validate
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.gate import GOOD
from medward.attacks.validation.journal import value_name
from medward.attacks.validation.plan import ValidationPlan
from medward.attacks.validation.record import SETTING_NAMES, Report
from medward.guard.bundle.folder import Bundle
from medward.guard.errors import MedwardError
from medward.guard.models.callable_model import named_function
from medward.guard.policy import Policy

Changes = Mapping[str, Mapping[str, str | float]]
SETTINGS: Mapping[str, Changes] = {
    "as it is": {},
    "labels only": {"release": {"level": "label"}},
    "five strange inputs in a hundred refused": {"screen": {"rate": 0.05, "action": "withhold"}},
    "organisations held to their accounts": {"monitor": {"parents": "withhold"}},
    "labels only, few of them": {"release": {"level": "label"}, "budget": {"total_bits": 500.0}},
}
"""Name -> section of the policy -> keys: what protects against some attack and costs somebody something."""


@dataclass(frozen=True, slots=True)
class TriedSetting:
    """A tried setting is one point of the grid, and the report under it; `best` where no other point beats it."""

    name: str
    report: Report
    best: bool = False

    @property
    def refused(self) -> Interval:
        """The share of benign rows that are refused."""
        return self.report.clean.site.false_refusal


def try_settings(
    bundle: Bundle, data: object, report: Report, out: Path, *, progress: bool = True
) -> list[TriedSetting]:
    """Try `SETTINGS` on `bundle` and `data` against the rows of `report` that are not good; runs are kept under `out`.

    Attacks keep to what was said for the report: features' rules, the model before, canaries, what decides.
    Raises `MedwardError` where the report is of another bundle, where it has no row to do anything about, and where it
    does not say what was said for it.
    """
    if report.provenance.bundle != bundle.digest:
        raise MedwardError(
            f"report: is of bundle {report.provenance.bundle[:12]}, and this one is {bundle.digest[:12]}; validate it"
        )
    names = [each.attack for each in report.findings if _to_improve(each)]
    if not names:
        raise MedwardError("report: every row is good, short of rows or not applicable; there is nothing to try")
    said, tried, start = _said(report), list[TriedSetting](), time.perf_counter()
    for place, (name, changes) in enumerate(SETTINGS.items()):
        left = _left_text(time.perf_counter() - start, place)
        found = validate(
            replace(bundle, policy=changed_policy(bundle.policy, changes)),
            data,
            out / str(place),
            names=names,
            seed=report.provenance.seed,
            progress=progress,
            plan=ValidationPlan(told=f"trying: {name}, {left}", quick=True, rows=QUICK_ROWS),
            **said,
        )
        tried.append(TriedSetting(name, found))
    _check_said(tried[0].report, report)
    return [replace(each, best=not any(beats_setting(other, each) for other in tried)) for each in tried]


def changed_policy(policy: Policy, changes: Changes) -> Policy:
    """`policy` with these keys of these sections; all else is as it was."""
    content = policy.model_dump()
    for section, keys in changes.items():
        content[section] = {**content[section], **keys}
    return Policy(**content)


def _left_text(seconds: float, tried: int) -> str:
    """How much is left after so many settings were `tried` in so many `seconds`, in words."""
    left = len(SETTINGS) - tried
    if not tried:
        return f"the first of {left}, whose time says that of the others"
    return f"{duration_text(seconds / tried * left)} left, if others take as long"


def _said(report: Report) -> dict[str, Any]:
    """What was said for `report`, as `validate` takes it. Raises `MedwardError` for what it says only the digest of."""
    settings, said = report.provenance.settings, dict[str, Any]()
    for name in ("integer", "immutable"):
        if name in settings:
            said[name] = [int(place) for place in settings[name].split(",")]
    for name in ("before", "canaries", "manifest"):
        if name in settings and name not in report.places:
            raise MedwardError(f"report: was made with {name}= and does not say where that is; validate with its path")
        if name in settings:
            said[name] = report.places[name]
    for name in ("traffic", "accounts"):
        if name in settings:
            said[name] = int(settings[name])
    if "output_key" in settings:
        said["output_key"] = settings["output_key"]
    if "decide" in settings:
        function = named_function("decide", ":".join(settings["decide"].split(":")[:2]))
        if value_name(function) != settings["decide"]:
            raise MedwardError(
                f"report: was made with decide={settings['decide']}, which is another now; validate again"
            )
        said["decide"] = function
    return said


def _check_said(tried: Report, report: Report) -> None:
    """Raise `MedwardError` where a file that was given for `report` is another by now."""
    now, then = tried.provenance.settings, report.provenance.settings
    if changed := [name for name in SETTING_NAMES if name != "rows" and now.get(name) != then.get(name)]:
        raise MedwardError(f"report: was made with another {', '.join(changed)} than is there now; validate again")


def beats_setting(other: TriedSetting, one: TriedSetting) -> bool:
    """Whether `other` refuses no more than `one`, lets no attacker reach more, and is better in something."""
    theirs, ours = ([each.refused.value, *_reached(each.report.findings)] for each in (other, one))
    return all(a <= b for a, b in zip(theirs, ours, strict=True)) and theirs != ours


def _reached(findings: Sequence[Finding]) -> list[float]:
    """Of each attack in a fixed order; 1 where nobody can tell."""
    ordered = sorted(findings, key=lambda each: each.attack)
    return [1.0 if (worst := worst_behind(each)) is None else worst.value for each in ordered]


def _to_improve(finding: Finding) -> bool:
    return finding.status not in (*GOOD, Status.NOT_APPLICABLE, Status.TOO_FEW_ROWS)
