"""What a deployment chooses: read from TOML, every key and bound checked, nothing guessed.

``on_error`` has no default. When a defense itself fails, a site must have chosen between withholding the answer
("withhold") and answering flagged ("flag"): only the site knows which harms its patients more.
"""

from __future__ import annotations

import hashlib
import tomllib
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from medward.guard.audit_policy import AuditPolicy
from medward.guard.certify_policy import CertifyPolicy
from medward.guard.duplicates_policy import DuplicatesPolicy
from medward.guard.errors import MedwardError
from medward.guard.federated.policy import FederatedPolicy
from medward.guard.privacy_policy import PrivacyPolicy
from medward.guard.source_policy import SourcePolicy
from medward.guard.threat_policy import ThreatPolicy
from medward.guard.types import Action, ActionName, Level
from medward.guard.waiver_policy import Waiver

LevelName = Literal["full", "rounded", "top", "codes", "label"]

LEAST_POOLED = 0.8


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReleasePolicy(_Section):
    """How much of every ordinary answer leaves.

    `decimals` round the probabilities of levels rounded and top, of which top shows the `top` largest. `codes` is how
    many typical answers per class `protect` fits for the level codes. `temperature` softens (above 1) or sharpens what
    the coarse levels start from; it repairs calibration and defends little. `pooled` is the surest share of ordinary
    answers, of each decision, that all leave with one confidence: 0 for none, else 0.8 or more, for smaller pools can
    tell shadow models more than none. It hides how sure a model was and not what it decided, which an attacker of
    labels alone reads as before; where a model is nearly always sure only 1 hides anything. `protect` fits it.
    """

    level: LevelName = "rounded"
    decimals: int = Field(default=2, ge=1, le=6)
    top: int = Field(default=3, ge=1, le=100)
    codes: int = Field(default=8, ge=1, le=64)
    temperature: float = Field(default=1.0, ge=0.05, le=20)
    pooled: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _seen(self) -> ReleasePolicy:
        if 0 < self.pooled < LEAST_POOLED:
            raise PydanticCustomError("pooled", f"pooled must be 0, or between {LEAST_POOLED} and 1")
        if self.pooled and self.default is Level.FULL:
            raise PydanticCustomError("pooled", 'pooled does nothing at level full; set level = "rounded"')
        return self

    @property
    def default(self) -> Level:
        """The level of an answer nobody objects to."""
        return Level[self.level.upper()]


class ScreenPolicy(_Section):
    """One input at a time: act on an input stranger than all but `rate` of benign inputs."""

    rate: float = Field(default=0.01, gt=0, lt=0.5)
    action: ActionName = "withhold"


class Rung(_Section):
    """One step of a monitor's ladder: P(ever taking `action` on a benign account) <= `false_alarm` + risk."""

    false_alarm: float = Field(gt=0, lt=1)
    action: ActionName


class MonitorPolicy(_Section):
    """Monitor policy: how one account is watched over time.

    `calibration_risk` is delta: the chance, over the draw of the calibration data, that the false-alarm bounds
    do not hold. `parents` is the action when an organisation alarms rather than the account that asks. `shared` also
    watches for one perturbation that many of an account's inputs share. All monitors of an account are one test with
    one alpha, and divide delta. `drift` is how far a site may move away from its calibration data
    (see `guard.accounts.monitors`), 0 for not at all. `contamination` is the share of a benign account's inputs that
    may be anything at all: it makes a thief who hides among so many invisible.
    """

    ladder: tuple[Rung, ...] = (
        Rung(false_alarm=0.01, action="coarsen"),
        Rung(false_alarm=0.0001, action="withhold"),
    )
    calibration_risk: float = Field(default=0.001, gt=0, le=0.1)
    parents: ActionName = "flag"
    shared: bool = True
    drift: float = Field(default=1.0, ge=0, le=3)
    contamination: float = Field(default=0.0, ge=0, le=0.1)
    ttl_days: float = Field(default=365, gt=0, le=3650)

    @field_validator("ladder")
    @classmethod
    def _ordered(cls, ladder: tuple[Rung, ...]) -> tuple[Rung, ...]:
        rates = [rung.false_alarm for rung in ladder]
        actions = [Action[rung.action.upper()] for rung in ladder]
        if not ladder or rates != sorted(rates, reverse=True) or actions != sorted(actions):
            raise PydanticCustomError(
                "ladder", "rungs must go from frequent and mild to rare and strict, and there must be one"
            )
        return ladder


class BudgetPolicy(_Section):
    """How many bits an account may be told; 0 is no limit. See `guard.accounts.budget`.

    `parents` is the limit of an organisation in limits of one of its accounts, 0 for none. `label_share` of each limit
    is kept for answers that are labels only.
    """

    daily_bits: float = Field(default=0.0, ge=0, le=1e12)
    total_bits: float = Field(default=0.0, ge=0, le=1e12)
    parents: float = Field(default=10.0, ge=0, le=1e6)
    label_share: float = Field(default=0.5, ge=0, lt=1)

    @property
    def limited(self) -> bool:
        """Whether there is anything to count."""
        return self.daily_bits > 0 or self.total_bits > 0

    @field_validator("parents")
    @classmethod
    def _at_least_one(cls, parents: float) -> float:
        if 0 < parents < 1:
            raise PydanticCustomError("parents", "must be 0 for no limit, or at least 1 account's limit")
        return parents


class GatePolicy(_Section):
    """What `medward validate` holds the guard to. Each bound is compared with the interval's bad end.

    The bounds are capped: beyond the caps "held" would mean nothing. `membership_tpr` is the largest share of members
    named at a false positive rate of 1 % under which a model counts as without a leak; `audit_ratio` the largest
    epsilon that an audit may show, over the epsilon that was claimed; `disclosure` the share of planted values that may
    be read out of a model that writes. `sensitivity_loss` is the largest share of a class's rows that the model alone
    gets right and the guard may not answer; only its good end is asked, for rare classes have few rows.
    `ordinary_alarms` is the largest share of accounts that may ever be coarsened or withheld for ordinary behaviour
    that is meant to be forgiven, such as a fixed set sent every day; only its good end is asked, corrected for how many
    behaviours there are.
    `attack_refusal` is the largest share of attacked rows that the guard may refuse: who can change inputs on their way
    can have answers refused. At 1, the default, it is told and not judged, for a screen that works refuses them.
    Where answers are certified, `uncertified` is the largest share of clean rows that may not be, and so are read by a
    person: beyond a quarter the model saves little of a list. `denied` is the largest share of rows that an attacker
    may make so: beyond a half he decides what is answered, though not how. Both are of all rows, plain or balanced over
    classes, and of each class.
    `extraction_days` is for how many days the budget must keep a copy made from ordinary cases within
    `extraction_gain`, which nothing else does: a year, after which states expire and risks are looked at again. It
    bounds from below, for who waits a month only is no thief to speak of.
    """

    evasion_success: float = Field(default=0.2, gt=0, le=0.5)
    extraction_gain: float = Field(default=0.25, gt=0, le=0.5)
    extraction_days: int = Field(default=365, ge=30, le=3650)
    membership_auc: float = Field(default=0.6, gt=0.5, le=0.75)
    membership_tpr: float = Field(default=0.1, gt=0, le=0.25)
    audit_ratio: float = Field(default=1.0, gt=0, le=1)
    disclosure: float = Field(default=0.05, gt=0, le=0.2)
    false_refusal: float = Field(default=0.05, gt=0, le=0.2)
    sensitivity_loss: float = Field(default=0.05, gt=0, le=0.2)
    ordinary_alarms: float = Field(default=0.05, gt=0, le=0.2)
    attack_refusal: float = Field(default=1.0, gt=0, le=1)
    uncertified: float = Field(default=0.25, gt=0, le=0.5)
    denied: float = Field(default=0.5, gt=0, le=0.75)


class Policy(_Section):
    """A policy holds everything that a deployment chooses."""

    on_error: Literal["withhold", "flag"]
    release: ReleasePolicy = ReleasePolicy()
    screen: ScreenPolicy = ScreenPolicy()
    monitor: MonitorPolicy = MonitorPolicy()
    duplicates: DuplicatesPolicy = DuplicatesPolicy()
    budget: BudgetPolicy = BudgetPolicy()
    gate: GatePolicy = GatePolicy()
    federated: FederatedPolicy = FederatedPolicy()
    privacy: PrivacyPolicy = PrivacyPolicy()
    threat: ThreatPolicy = ThreatPolicy()
    certify: CertifyPolicy = CertifyPolicy()
    source: SourcePolicy = SourcePolicy()
    audit: AuditPolicy = AuditPolicy()
    accept: tuple[Waiver, ...] = ()

    if not TYPE_CHECKING:  # a type checker knows the fields

        def __init__(self, **settings: Any) -> None:
            """Check the settings; the first mistake is one sentence."""
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise MedwardError(f"policy: {_sentence(error)}") from None

    @classmethod
    def from_toml(cls, text: str, *, source: str = "policy") -> Policy:
        """Parse and check; the first mistake is named with its key, value and bound."""
        try:
            return cls(**tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise MedwardError(f"{source}: not valid TOML: {error}") from None
        except MedwardError as error:
            raise MedwardError(f"{source}: {str(error).removeprefix('policy: ')}") from None

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Policy:
        """Read a policy file."""
        try:
            return cls.from_toml(Path(path).read_text(encoding="utf-8"), source=str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise MedwardError(f"{path}: cannot read the policy: {error}") from None

    def to_toml(self) -> str:
        """The policy with every key spelled out; `from_toml` reads it back equal."""
        return _TEMPLATE.format(
            p=self,
            federated=self.federated.to_toml(),
            privacy=self.privacy.to_toml(),
            threat=self.threat.to_toml(),
            certify=self.certify.to_toml(),
            source=self.source.to_toml(),
            audit=self.audit.to_toml(),
            accept="".join(waiver.to_toml() for waiver in self.accept),
            shared=str(self.monitor.shared).lower(),
            duplicates=self.duplicates.to_toml(),
            rungs="\n".join(
                f'[[monitor.ladder]]\nfalse_alarm = {rung.false_alarm!r}\naction = "{rung.action}"\n'
                for rung in self.monitor.ladder
            ),
        )

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that name this policy in audit records and reports.

        A key or section that earlier versions had not counts only where it is set: what they recorded keeps its name.
        """
        unset: dict[str, Any] = {
            section: {key for key in keys if getattr(getattr(self, section), key) == _default_of(self, section, key)}
            for section, keys in _ADDED.items()
        }
        unset |= {name: True for name, bare in _ADDED_SECTIONS.items() if getattr(self, name) == bare}
        return hashlib.sha256(self.model_dump_json(exclude=unset).encode()).hexdigest()[:12]


_ADDED = {
    "release": ("pooled",),
    "gate": (
        "extraction_days",
        "membership_tpr",
        "audit_ratio",
        "disclosure",
        "sensitivity_loss",
        "ordinary_alarms",
        "attack_refusal",
        "uncertified",
        "denied",
    ),
}
"""Keys that the first fingerprints did not know."""
_ADDED_SECTIONS: dict[str, object] = {
    "accept": (),
    "federated": FederatedPolicy(),
    "privacy": PrivacyPolicy(),
    "threat": ThreatPolicy(),
    "certify": CertifyPolicy(),
    "source": SourcePolicy(),
    "audit": AuditPolicy(),
}


def _default_of(policy: Policy, section: str, key: str) -> object:
    return type(getattr(policy, section)).model_fields[key].default


_TEMPLATE = """\
# When a defense itself fails: "withhold" the answer, or answer and "flag" it.
on_error = "{p.on_error}"

[release]                    # how much of an ordinary answer leaves: full, rounded, top, codes or label
level = "{p.release.level}"
decimals = {p.release.decimals}                 # of rounded and top
top = {p.release.top}                      # classes shown at level top
codes = {p.release.codes}                    # typical answers per class at level codes; fitted by `medward protect`
temperature = {p.release.temperature!r}            # 1 leaves the probabilities as they are
pooled = {p.release.pooled!r}                 # surest share of answers that leave with one confidence; 0 = off

[screen]                     # one input: act on inputs stranger than all but `rate` of benign ones
rate = {p.screen.rate!r}
action = "{p.screen.action}"

[monitor]                    # one account: calibration_risk is the chance that calibration misled us
calibration_risk = {p.monitor.calibration_risk!r}
parents = "{p.monitor.parents}"
shared = {shared}               # also watch for one perturbation shared by many inputs
drift = {p.monitor.drift!r}                  # 0 to 3: how far benign inputs may move; 1 is a mild change of scanner
contamination = {p.monitor.contamination!r}          # share of a benign account's inputs that may be anything
ttl_days = {p.monitor.ttl_days!r}

# P(ever taking the action on a benign account) <= false_alarm + calibration_risk
{rungs}
{duplicates}
# What an account may be told before it gets labels only, then nothing; 0 = no limit. Think of a limit in answers: one
# label among K classes is log2 K bits, so 10000 labels among 14 classes are 38080 (thousandths are rounded up).
[budget]
daily_bits = {p.budget.daily_bits!r}
total_bits = {p.budget.total_bits!r}
parents = {p.budget.parents!r}               # an organisation's limit, in limits of one account; 0 = no limit
label_share = {p.budget.label_share!r}            # of each limit, kept for answers that are labels only

[gate]                       # what `medward validate` holds the guard to
evasion_success = {p.gate.evasion_success!r}
extraction_gain = {p.gate.extraction_gain!r}
extraction_days = {p.gate.extraction_days!r}        # for which [budget] must keep a copy of ordinary cases within that
membership_auc = {p.gate.membership_auc!r}
membership_tpr = {p.gate.membership_tpr!r}         # of members named at 1 % false positives, for "no leak found"
audit_ratio = {p.gate.audit_ratio!r}            # of the claimed epsilon that an audit may show
disclosure = {p.gate.disclosure!r}            # of planted values that are read out of a model that writes
false_refusal = {p.gate.false_refusal!r}
sensitivity_loss = {p.gate.sensitivity_loss!r}      # of rows of any class that the model alone gets right
ordinary_alarms = {p.gate.ordinary_alarms!r}       # of accounts that behave as hospitals do; medward validate says how
attack_refusal = {p.gate.attack_refusal!r}        # of attacked rows that may be refused; 1 = told, not judged
uncertified = {p.gate.uncertified!r}           # of clean rows whose answer is not certified, where [certify] is on
denied = {p.gate.denied!r}                 # of certified rows that an attacker may make uncertified
{federated}{privacy}{threat}{certify}{source}{audit}
# What the site lives with, row by row of a report: attack, reason, by, until (a day). See the docs of [[accept]].
{accept}"""


def _keys(place: tuple[str | int, ...]) -> list[str]:
    """The keys of the table at `place`: of the policy, a section, or an entry of a list of tables."""
    table: Any = Policy
    for part in place:
        table = table.model_fields[part].annotation if isinstance(part, str) else get_args(table)[0]
    return list(table.model_fields)


def _sentence(error: ValidationError) -> str:
    first: Any = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        reason = 'must be chosen, there is no default: "withhold" or "flag"' if key == "on_error" else "is missing"
        return f"{key} {reason}"
    if first["type"] == "extra_forbidden":
        return f"{key} = {first['input']!r} is not a known key; there are {', '.join(_keys(first['loc'][:-1]))}"
    return f"{key} = {first['input']!r}: {first['msg']}"
