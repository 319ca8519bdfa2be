"""What to do about a row that is not good: remedies are data (``remedies.toml``), chosen by family and cause."""

from __future__ import annotations

import functools
import math
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

from medward.attacks.families import find_family
from medward.attacks.validation.cause import Cause, causes_of
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.gate import GOOD
from medward.attacks.validation.record import Report

NO_REMEDY = "No remedy in this release: narrow who may ask, or accept the row in the policy ([[accept]])."
"""Said where the table has nothing, or nothing that the model did not already have."""
UNMEASURED = "What it brings was not measured in this release."

_SETTINGS = ConfigDict(frozen=True, extra="forbid")


class Figure(BaseModel):
    """A figure is a number of ``docs/results/<claim>.json``: the `path` to it, "*" for a mean, and its `value`."""

    model_config = _SETTINGS

    claim: str
    path: tuple[str, ...]
    value: float


class Remedy(BaseModel):
    """A remedy is what may be done about rows of some families that some causes keep from holding; see the table."""

    model_config = _SETTINGS

    causes: tuple[Cause, ...]
    does: str
    families: tuple[str, ...] = ()
    kind: Literal["", "single", "universal"] = ""
    means: Literal["", "network", "other", "writer"] = ""
    attack: str = ""
    method: str = ""
    hardened: str = ""
    certified: bool | None = None
    command: str = ""
    brought: str = ""
    figures: tuple[Figure, ...] = ()
    measurable: bool = True

    def fits(
        self,
        cause: Cause,
        finding: Finding,
        *,
        network: bool,
        done: str = "",
        certifies: bool = False,
        writes: bool = False,
    ) -> bool:
        """Whether it is for a row with that cause, of a model that is a `network` or none, was hardened by `done` ("":
        by nothing) and whose bundle `certifies` its answers or does not: training by another method would end that.
        One that `writes` reports has remedies of its own, whatever else it is.
        """
        means = "writer" if writes else "network" if network else "other"
        return (
            cause in self.causes
            and (not self.families or finding.family in self.families)
            and finding.attack.startswith(self.attack)
            and self.kind in ("", "universal" if finding.threat.universal else "single")
            and self.means in ("", means)
            and (not self.method or (self.method != done and (not certifies or self.method == "certified")))
            and self.certified in (None, certifies)
            and (not self.hardened or (self.hardened == done and not certifies))
        )


@dataclass(frozen=True, slots=True)
class Advice:
    """An advice is a remedy for one bundle: what to do, the command that begins it, and what that brought elsewhere."""

    sentence: str
    command: str = ""
    brought: str = ""


@functools.cache
def remedy_table() -> tuple[Remedy, ...]:
    """The table, in the order in which remedies are told."""
    text = files("medward.attacks.report").joinpath("remedies.toml").read_text(encoding="utf-8")
    return tuple(Remedy.model_validate(row) for row in tomllib.loads(text)["remedy"])


def finding_advice(finding: Finding, report: Report) -> tuple[Advice, ...]:
    """What may be done about a finding; empty only of one that is HELD or NOT NEEDED."""
    if finding.status in GOOD:
        return ()
    causes = causes_of(finding) or (Cause.UNDECIDED,)
    if Cause.TOO_FEW_ROWS in causes:  # which says the same of the rows of those who do nothing wrong
        causes = tuple(cause for cause in causes if cause is not Cause.HARM_NEAR_BOUND)
    return tuple(dict.fromkeys(each for cause in causes for each in _for_cause(cause, finding, report)))


def grouped_advice(report: Report) -> list[tuple[str, Advice]]:
    """All that may be done, each with the names of the attacks it is for; nothing of rows that are not applicable."""
    found: dict[Advice, list[str]] = {}
    for finding in report.findings:
        if finding.status is not Status.NOT_APPLICABLE or finding.not_judged:
            for advice in finding_advice(finding, report):
                found.setdefault(advice, []).append(finding.attack)
    return [(", ".join(attacks), advice) for advice, attacks in found.items()]


def _for_cause(cause: Cause, finding: Finding, report: Report) -> Iterable[Advice]:
    """The rows for one cause that are new to the model; where there are none, that there is no remedy."""
    done = "" if report.certificate is None else report.certificate.method
    network, certifies = report.provenance.white_box, report.clean.site.uncertified is not None
    writes = report.provenance.task == "report"
    rows = [
        row
        for row in remedy_table()
        if row.fits(cause, finding, network=network, done=done, certifies=certifies, writes=writes)
    ]
    rows = [row for row in rows if row.attack] or rows  # what is for this very attack takes the place of the general
    return [_advice(row, finding, report) for row in rows] or [Advice(NO_REMEDY)]


def _advice(row: Remedy, finding: Finding, report: Report) -> Advice:
    """A row of the table with the places, the radius and the range of this bundle filled in."""
    facts = report.provenance
    data = report.places.get("data", "DATA")
    known = {
        "bundle": shlex.quote(report.places.get("bundle", "BUNDLE")),
        "data": shlex.quote(data),
        "out": shlex.quote(report.places.get("out", "report/")),
        "train": shlex.quote(data) if "train" in facts.rows else "TRAINING_DATA",
        "attack": shlex.quote(finding.attack),
        "radius": _radius_option(finding.threat.epsilon),
        "single_radius": _radius_option(_single_radius(finding, report)),
        "range": "" if facts.low is None or facts.high is None else f" --low {facts.low:g} --high {facts.high:g}",
        "rows": rows_text(finding.shortages),
        "gate": " or ".join(find_family(finding.family).gate_keys),
    }
    measured = row.brought.format(*(figure.value for figure in row.figures))
    command = row.command.format(**known)
    if command.startswith("medward validate"):
        command = _with_said(command, report)
    return Advice(row.does.format(**known), command, measured or (UNMEASURED if row.measurable else ""))


def _with_said(command: str, report: Report) -> str:
    """The `command` with the options that were said of the validation, in the place of its own where it has them."""
    seed = {"seed": str(report.provenance.seed) if report.provenance.seed else None}
    names = ("integer", "immutable", "output_key", "traffic", "accounts")
    settings = {name: report.provenance.settings.get(name) for name in names}
    said = {name: report.places.get(name) for name in ("before", "canaries", "manifest")} | settings | seed
    words = shlex.split(command)
    for name, value in said.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None and option in words:
            words[words.index(option) + 1] = value
        elif value is not None:
            words += [option, value]
    return shlex.join(words) + (f" {report.places['options']}" if "options" in report.places else "")


def _single_radius(finding: Finding, report: Report) -> float | None:
    """How far one input may be changed for itself, which is what answers are certified for; None where nobody said."""
    if not finding.threat.universal:
        return finding.threat.epsilon
    facts = report.provenance
    if report.threat is None or facts.modality == "text":
        return None
    return report.threat.radius(facts.modality, universal=False, low=facts.low, high=facts.high)


def _radius_option(radius: float | None) -> str:
    return "" if radius is None or math.isnan(radius) else f" --epsilon {radius:.4g}"


def rows_text(shortages: dict[str, int]) -> str:
    """How many more rows, label by label."""
    if not shortages:
        return "as many more rows as the reason says"
    return " and ".join(
        f'{more} more rows labelled "{name}"' if name else f"{more} more rows" for name, more in shortages.items()
    )
