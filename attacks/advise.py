"""Settings of a policy, tried: what each brings against the rows of a report that are not good, and what it costs.

Only what needs no training is tried, on a small grid, with the attacks of those rows on few rows. Each point is judged
as any validation is; together they show the frontier between what benign users pay and what attackers reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medward.attacks.estimate import QUICK_ROWS
from medward.attacks.intervals import Interval
from medward.attacks.report.comparison import worst_behind
from medward.attacks.validate import validate
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.gate import GOOD
from medward.attacks.validation.plan import ValidationPlan
from medward.attacks.validation.record import Report
from medward.guard.bundle.folder import Bundle
from medward.guard.errors import MedwardError
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

    Raises `MedwardError` where the report is of another bundle, and where it has no row to do anything about.
    """
    if report.provenance.bundle != bundle.digest:
        raise MedwardError(
            f"report: is of bundle {report.provenance.bundle[:12]}, and this one is {bundle.digest[:12]}; validate it"
        )
    names = [each.attack for each in report.findings if _to_improve(each)]
    if not names:
        raise MedwardError("report: every row is good, short of rows or not applicable; there is nothing to try")
    tried = [
        TriedSetting(
            name,
            validate(
                replace(bundle, policy=changed_policy(bundle.policy, changes)),
                data,
                out / str(place),
                names=names,
                seed=report.provenance.seed,
                progress=progress,
                plan=ValidationPlan(told=f"trying: {name}", quick=True, rows=QUICK_ROWS),
            ),
        )
        for place, (name, changes) in enumerate(SETTINGS.items())
    ]
    return [replace(each, best=not any(beats_setting(other, each) for other in tried)) for each in tried]


def changed_policy(policy: Policy, changes: Changes) -> Policy:
    """`policy` with these keys of these sections; all else is as it was."""
    content = policy.model_dump()
    for section, keys in changes.items():
        content[section] = {**content[section], **keys}
    return Policy(**content)


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
