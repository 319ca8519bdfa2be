"""The report as data: everything a validation found, and enough to name what was validated."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medward.attacks.intervals import Interval
from medward.attacks.validation.finding import CleanCost, Curve, Finding, Status
from medward.attacks.validation.gate import exit_code, overall_status
from medward.guard.bundle.power import Power
from medward.guard.certificate import AnyCertificate
from medward.guard.errors import MedwardError
from medward.guard.policy import GatePolicy, Policy
from medward.guard.threat_policy import ThreatPolicy
from medward.guard.types import Modality

SETTING_NAMES = (
    *("integer", "immutable", "before", "output_key", "canaries", "manifest"),
    *("decide", "rows", "traffic", "accounts"),
)
"""What may be said of a validation besides its bundle, policy, data and seed."""


class TwinFacts(BaseModel):
    """The model as it was before training brought what `claim` says; the undefended run of some families was on it.

    `agreement` is the share of the judged rows that both models decide alike; the accuracies, of the twin and of the
    deployed model without its guard, say what hardening cost; `balanced` is the twin's mean recall over classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    claim: str = "robustness"
    white_box: bool
    agreement: Interval
    accuracy: Interval | None = None
    balanced: float | None = None
    deployed_accuracy: Interval | None = None


class Provenance(BaseModel):
    """What was validated, on what, with what.

    `rule` is how the model decides, in words, operating points included; `classes` are the names of its columns. `rows`
    counts the rows of each split as given. `settings` are what else was said of this validation, by the names that
    `medward.validate` has for it: digests of other files, places of features, the most rows judged ("rows"); what was
    not said is not there. A model that answers in text is of the modality "text" and has no shape.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    modality: Modality | Literal["text"]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    low: float | None
    high: float | None
    threshold: float | None = None
    task: str = "classification"
    rule: str = ""
    bundle: str
    policy: str
    data: str
    rows: dict[str, int]
    seed: int
    code: str
    white_box: bool
    twin: TwinFacts | None = None
    versions: dict[str, str]
    settings: dict[str, str] = {}


class Interaction(BaseModel):
    """An interaction is what one attack achieves on the bare model before and after training, without any guard.

    `before` and `after` are on the attack's own scale, named by `measure`; `difference` is after less before, None
    where one was judged on no row. It is `paired` where both runs were judged on the same rows, drawn together; else
    the limits of the two are taken for independent, which is wider where they are not. `claimed` says whether training
    was meant to defend against it. Each interval is its own: of many attacks one may look changed by chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attack: str
    family: str
    measure: str
    claimed: bool
    before: Interval | None = None
    after: Interval | None = None
    difference: Interval | None = None
    paired: bool = False
    flags: tuple[str, ...] = ()

    @property
    def stronger(self) -> bool:
        """Whether training clearly made the attack stronger: the whole interval of the difference is above 0."""
        return self.difference is not None and self.difference.low > 0


def said_keys(policy: Policy) -> dict[str, str]:
    """The keys of `policy` that are not as by default, as JSON: ``{"release.level": '"label"'}``; on_error always."""
    usual = Policy(on_error=policy.on_error).model_dump(mode="json")
    found = {"on_error": json.dumps(policy.on_error)}
    for section, values in policy.model_dump(mode="json").items():
        if isinstance(values, dict):
            found |= {
                f"{section}.{key}": json.dumps(value) for key, value in values.items() if value != usual[section][key]
            }
        elif values != usual[section]:
            found[section] = json.dumps(values)
    return found


class Report(BaseModel):
    """A report holds the outcome of one validation.

    `accounts` maps an account's name to its log e-value over queries, `alarms` an action of the monitor to
    the false-alarm rate it is set to. `threat` is how far inputs were changed at most. `notes` say what is not
    protected as the policy says. `power` is what each calibration can notice, the bundle's own under "", a site's under
    its name. `interactions` are what training changed, where a model before was given.
    `certificate` is what the bundle's card says of training. `places` are the paths of bundle, data, "out", "before",
    "canaries" and "manifest" as they were given, and other "options" of the command, for those that go on from here.
    `policy` are the keys of the policy that are not as by default; None of a report from before these were kept.
    `quick` says that it was a quick look.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    findings: tuple[Finding, ...]
    clean: CleanCost
    accounts: dict[str, Curve]
    alarms: dict[str, float]
    gate: GatePolicy
    threat: ThreatPolicy | None = None
    notes: tuple[str, ...] = ()
    power: dict[str, Power] = {}
    interactions: tuple[Interaction, ...] = ()
    certificate: AnyCertificate | None = None
    places: dict[str, str] = {}
    policy: dict[str, str] | None = None
    quick: bool = False
    provenance: Provenance

    @property
    def exit_code(self) -> int:
        """0 held or not needed, 1 broken, 2 neither."""
        return exit_code(self.findings)

    @property
    def verdict(self) -> Status:
        """The exit code as a word."""
        return overall_status(self.findings)

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a ``report.json``. Raises `MedwardError` for another schema version or anything else."""
        try:
            return cls.from_bytes(path.read_bytes(), path)
        except OSError as error:
            raise MedwardError(f"{path}: cannot read the report: {error}") from None

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Report:
        """The report in `data`, which was read from `path`. Raises `MedwardError` as `load` does."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "report"
            raise MedwardError(f"{path}: not a report of schema version 1: {key}: {first['msg']}") from None
