"""What a family of attacks is: what is lost when one succeeds, how that is measured, judged and shown.

Each family has one implementation in ``family.py`` of its own folder; `attacks.families` is the table. Nothing else
knows a family by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from medward.attacks.base import Attack, AttackData, AttackResult
from medward.attacks.intervals import Interval
from medward.attacks.target import Target
from medward.attacks.threat import ThreatModel
from medward.attacks.validation.cause import Cause
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Arm, Controls, Finding, Status
from medward.attacks.validation.gate import JudgedCell
from medward.attacks.validation.record import Provenance
from medward.attacks.validation.splits import SharedRows
from medward.attacks.validation.traffic import DeclaredTraffic
from medward.guard.accounts.budget import Offers
from medward.guard.certificate import PrivacyCertificate
from medward.guard.policy import GatePolicy, Policy
from medward.guard.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Runs are what one attack did: a result for each arm that was run, those of `adaptive` by who knows the guard.

    `bare` is the result on the deployed model without its guard: the undefended one, unless that was on the model
    before training. `examined` are the results of the examinations that `held`, what the attack held, asks for, by
    name, and `control` that of the control on the undefended model, if it asked for one; `privacy` is the certificate
    of the model's training, if it has one, and `policy` that of the deployment. `prices` are the levels that an answer
    of it may leave at with their bits, finest first, and `traffic` is what the site said of its own.
    """

    attack: Attack
    results: Mapping[Arm, AttackResult]
    spec: ModelSpec
    seed: int
    adaptive: Attack | None = None
    bare: AttackResult | None = None
    held: AttackData | None = None
    examined: Mapping[str, AttackResult] = field(default_factory=dict)
    control: AttackResult | None = None
    privacy: PrivacyCertificate | None = None
    policy: Policy | None = None
    prices: Offers = ()
    traffic: DeclaredTraffic | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTested:
    """Not tested says why no attack of a family was run, in one sentence, and what that makes of its findings.

    `cause` is what a remedy is looked up by, where it is no want of data.
    """

    reason: str
    status: Status = Status.INCONCLUSIVE
    cause: Cause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePlot:
    """A plot of a finding's curves as its family wants it read, without colours and shapes.

    `x` and `y` name the axes. `scale` is what sizes are multiplied by; with `least` both axes are logarithmic from
    there, with `log_x` the horizontal one is. `bound` draws the gate's bound across, `largest` an upright where the
    attacker had to stop, `guessing` the diagonal.
    """

    title: str
    caption: str
    x: str
    y: str
    scale: float = 1.0
    least: float = 0.0
    log_x: bool = False
    bound: float | None = None
    largest: float | None = None
    guessing: bool = False


class Family(Protocol):
    """A family of attacks. Implementations hold no state; the same runs are judged the same.

    `measure` names an attack's own scale, `judged_as` that of the gate, and `share` says whether the first is a share
    of rows. `controls` are the catalogues' identifiers of the threat. `claim` is what a certificate calls the defense
    that training gives against the family, empty where there is none. `untested` says what a validation without any
    attack of it did not test, `reading` what its measure is: a word, and what it means.
    """

    @property
    def name(self) -> str:
        """What attacks, reports and tables call it."""
        ...

    @property
    def controls(self) -> Controls:
        """Catalogue -> identifiers of the threat there."""
        ...

    @property
    def measure(self) -> str:
        """What is measured, on the attack's own scale."""
        ...

    @property
    def judged_as(self) -> str:
        """What the gate judges it by."""
        ...

    @property
    def gate_keys(self) -> tuple[str, ...]:
        """The keys of the policy's [gate] that it is judged by."""
        ...

    @property
    def share(self) -> bool:
        """Whether the measure is a share of rows."""
        ...

    @property
    def claim(self) -> str:
        """The claim of a certificate whose training defends against it."""
        ...

    @property
    def untested(self) -> str:
        """What was not tested where no attack of it was run."""
        ...

    @property
    def reading(self) -> tuple[str, str]:
        """A word of the report, and what it means."""
        ...

    def bound(self, gate: GatePolicy) -> float:
        """What the policy holds the family to, on the scale of `judged_as`."""
        ...

    def holdings(self, deployment: Deployment, shared: SharedRows) -> AttackData | NotTested:
        """What its attackers hold and are judged on, or why there is nothing to test with."""
        ...

    def target(self, deployment: Deployment, arm: Arm, attack: Attack, data: AttackData) -> Target:
        """What `attack`, which holds `data`, is given on one arm."""
        ...

    def achieved(self, result: AttackResult, seed: int) -> Interval | None:
        """What one run achieved, on the attack's own scale; None when it was judged on no row."""
        ...

    def judge(self, runs: Runs) -> JudgedCell:
        """The runs as the gate judges them: an interval for each arm, and whether the attack is too weak to say."""
        ...

    def without_network(self, threat: ThreatModel, why: str) -> tuple[ThreatModel, Controls]:
        """What an attacker really was and did where `why` says that there was no network."""
        ...

    def show(self, finding: Finding, facts: Provenance) -> CurvePlot:
        """How the finding's curves are drawn."""
        ...

    def absent(self, findings: Sequence[Finding], facts: Provenance) -> list[str]:
        """Which attackers none of the `findings`, all of this family, was by; one sentence each."""
        ...
