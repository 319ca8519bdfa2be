"""A finding: one attack against one defense, measured three ways, with its verdict and why.

Everything here is plain data that survives a round trip through JSON.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from medward.attacks.intervals import Interval
from medward.attacks.threat import ThreatModel

Arm = Literal["undefended", "guarded", "adaptive"]
ARMS: tuple[Arm, ...] = ("undefended", "guarded", "adaptive")
BEHIND: tuple[Arm, ...] = ("guarded", "adaptive")
"""The arms behind the guard: by who does not know it, and by who does."""
Curve = tuple[tuple[float, ...], tuple[float, ...]]
Controls = dict[str, tuple[str, ...]]
"""Catalogue of threats -> identifiers there."""


class Status(StrEnum):
    """What the gate says of one cell.

    NOT_NEEDED: even without the guard the attack stays within the bound, and was shown to work. TOO_FEW_ROWS: nothing
    but more rows is missing to tell. ACCEPTED: a person lives with what the gate said, until a day (`Acceptance`).
    """

    ACCEPTED = "ACCEPTED"
    HELD = "HELD"
    NOT_NEEDED = "NOT_NEEDED"
    BROKEN = "BROKEN"
    TOO_FEW_ROWS = "TOO_FEW_ROWS"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_APPLICABLE = "NOT_APPLICABLE"

    @property
    def words(self) -> str:
        """The status as it is read."""
        return self.value.replace("_", " ")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pair(_Record):
    """One quantity without and with the guard."""

    undefended: Interval
    guarded: Interval


class Utility(_Record):
    """What benign users get on one split.

    `false_refusal`, accuracy, sensitivity and specificity count rows, each asked by an account of its own, so
    they show what single inputs cost. `accounts` is the share of benign accounts of many queries that the
    monitor ever coarsens or withholds, and `levels` the shares of their answers that left at each release
    level; they show what a guard that tires of honest users costs.

    A withheld answer counts as missed in accuracy, sensitivity (rows of the class named as it) and
    specificity (rows of other classes answered as another). `sensitivity_lost` is the share of rows of a class that the
    model alone names as it and the guard does not answer so. All are empty without labels. Findings have the last
    two each, present and absent; a number's accuracy is the share within the tolerance of the truth, and `mean_error`
    its mean distance from it, of answered rows. `unchanged` is the share of rows of an opaque model that left as it
    gave them. `uncertified` is, where answers are certified, the share of rows of which nothing is proven: a person
    reads them, so they count there and not as refused, and as missed only where they are withheld. `uncertified_worst`
    is that share plain or balanced over classes, whichever is larger, `uncertified_classes` that of each class, as
    labelled where that is known, else as decided.
    """

    split: str
    n: int
    false_refusal: Interval
    levels: dict[str, float]
    accounts: Interval | None = None
    accuracy: Pair | None = None
    sensitivity: dict[str, Pair] = {}
    specificity: dict[str, Pair] = {}
    sensitivity_lost: dict[str, Interval] = {}
    mean_error: Pair | None = None
    unchanged: Interval | None = None
    uncertified: Interval | None = None
    uncertified_worst: Interval | None = None
    uncertified_classes: dict[str, Interval] = {}

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        certified = "uncertified", "uncertified_worst", "uncertified_classes"
        return _less(dump(self), "mean_error", "unchanged", "sensitivity_lost", *certified)


class OrdinaryCost(_Record):
    """What one ordinary behaviour costs the accounts that behave so, and whether the policy is meant to forgive it.

    `acted` is the share of accounts that the monitors ever coarsen or withhold, `withheld` that of accounts withheld,
    `screened` the share of the different rows sent that the screen of single inputs refuses. `parts` are the mean
    shares of the monitors' parts in the wealth when an account is first acted upon. `remedy` says what a site does
    about what is not forgiven.
    """

    behaviour: str
    group: str
    forgiven: bool
    remedy: str = ""
    acted: Interval
    withheld: Interval
    screened: Interval
    parts: dict[str, float] = {}


class CleanCost(_Record):
    """What the guard costs those who do nothing wrong.

    `site` is benign traffic from where the guard was calibrated, `drift` the test split when it is another
    one. `ordinary` is what hospitals do besides asking about one patient after the other. `latency` are the median
    milliseconds of a single query without and with the guard, `latency_ratio` the second
    """

    site: Utility
    drift: Utility | None = None
    ordinary: tuple[OrdinaryCost, ...] = ()
    latency: Pair | None = None
    latency_ratio: Interval | None = None

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        return _less(dump(self), "ordinary")


class Acceptance(_Record):
    """An acceptance is a person's word that a row is lived with, in the place of the status it has."""

    reason: str
    by: str
    until: date
    status: Status


class Finding(_Record):
    """A finding is the judgement of one attack against one defense.

    `undefended`, `guarded`, `adaptive` and `baseline` are on the attack's own scale, named by `measure`. The
    gate compares `judged_guarded` and `judged_adaptive`, on the scale named by `judged_as`, with `bound`. Evasion is
    measured at its worst radius. `hardened` is the deployed model without its guard, where the undefended run was on
    the model before training: what lies between it and `guarded` is the guard's doing. `adaptive_name` and
    `adaptive_threat` are of the attacker who knows the guard.
    `directions` are, where decisions have two sides, the shares of rows that were changed to either.
    `measures` are what else was measured, arm by arm, None where there were too few rows to say, and `figures` numbers
    that follow from it.
    `verdicts` are what the status would be by each arm behind the guard alone: by the attacker who does not know the
    guard, and by the one who does.
    `causes` are why the status is not a good one, as data (`attacks.validation.cause`), and `shortages` how many more
    rows would settle it, by label ("" for rows of any); `accepted` says who lives with it. `proposal` is a section of a
    policy, in TOML, that the measurements come to.
    `curves` and `images` are what the report draws: arm -> name -> points, name -> rows of pixels (C, H, W)
    or values (D,).
    """

    attack: str
    family: str
    defense: str
    threat: ThreatModel
    status: Status
    reasons: tuple[str, ...]
    measure: str
    judged_as: str
    bound: float
    undefended: Interval | None = None
    hardened: Interval | None = None
    guarded: Interval | None = None
    adaptive: Interval | None = None
    baseline: Interval | None = None
    judged_guarded: Interval | None = None
    judged_adaptive: Interval | None = None
    adaptive_name: str = ""
    adaptive_threat: ThreatModel | None = None
    clean_cost: CleanCost | None = None
    n: int = 0
    seed: int = 0
    queries: dict[Arm, int] = {}
    flags: tuple[str, ...] = ()
    controls: Controls = {}
    curves: dict[Arm, dict[str, Curve]] = {}
    images: dict[str, list] = {}  # type: ignore[type-arg]
    directions: dict[Arm, dict[str, Interval]] = {}
    measures: dict[Arm, dict[str, Interval | None]] = {}
    figures: dict[str, float] = {}
    verdicts: dict[Arm, Status] = {}
    causes: tuple[str, ...] = ()
    shortages: dict[str, int] = {}
    accepted: Acceptance | None = None
    proposal: str = ""

    @property
    def not_judged(self) -> bool:
        """Whether it was measured though the policy has nothing that it could be judged by."""
        return self.status is Status.NOT_APPLICABLE and self.undefended is not None

    @property
    def status_words(self) -> str:
        """The status as it is read: NOT JUDGED of what was measured all the same."""
        return "NOT JUDGED" if self.not_judged else self.status.words

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        told = "directions", "measures", "figures", "verdicts", "hardened"
        return _less(dump(self), *told, "causes", "shortages", "accepted", "proposal")


def _less(content: dict[str, object], *sparse: str) -> dict[str, object]:
    """`content` without what is `sparse` and empty as for most models, for whom reports stay as they were."""
    return {name: value for name, value in content.items() if value or name not in sparse}
