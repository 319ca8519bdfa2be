"""The contract of a family of attacks: what it measures is judged by the policy, and it meets the right target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np

from medward.attacks.base import Attack, AttackData, AttackResult, Attempt
from medward.attacks.families import find_family
from medward.attacks.intervals import clopper_pearson
from medward.attacks.report.plots import curve_plot
from medward.attacks.target import Target
from medward.attacks.threat import Access, ThreatModel
from medward.attacks.validation.deployment import Deployment, ModelBefore
from medward.attacks.validation.family import Family, NotTested, Runs
from medward.attacks.validation.finding import ARMS, Arm, Status
from medward.attacks.validation.gate import JudgedCell, judge_cell
from medward.attacks.validation.judging import blank_finding
from medward.attacks.validation.record import Provenance
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.guard.accounts.stores import Store
from medward.guard.data.split import Split
from medward.guard.pipeline import Guard
from medward.guard.policy import GatePolicy, Policy
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Outputs
from medward.integrations.contracts.subjects import hold_contract

SPEC = ModelSpec(
    name="toy", modality="tabular", shape=(6,), task=Classification(classes=("benign", "malignant"), output="logits")
)
WEIGHTS = np.random.default_rng(7).normal(size=(6, 2)).astype(np.float32)
ROWS = 800
CATALOGUES = {"MITRE ATLAS", "NIST AI 100-2", "OWASP ML"}


@dataclass(frozen=True)
class SignedLine:
    """A signed line is a model of two logits from six numbers; `sign` says which way round."""

    sign: int = 1
    spec: ClassVar[ModelSpec] = SPEC

    def predict(self, inputs: Array) -> Outputs:
        """Logits ``(n, 2)``."""
        return Outputs(self.sign * (inputs @ WEIGHTS))


def line_rows(count: int, seed: int) -> Split:
    """Rows of the line, labelled by it."""
    inputs = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return Split(inputs, (inputs @ WEIGHTS).argmax(axis=1))


def line_splits() -> dict[str, Split]:
    """What a validation of the line is given."""
    return {"train": line_rows(100, 2), "holdout": line_rows(400, 3), "test": line_rows(200, 4)}


class LineBundle:
    """A line bundle is what a deployment needs of a bundle, around the line."""

    card = SimpleNamespace(plugins={}, certificate=None)
    bounds = None

    def __init__(self) -> None:
        self.model, self.policy, self.digest = SignedLine(), Policy(on_error="withhold"), "ab" * 32
        self.profile = Profile.fit(self.model, line_rows(400, 1).inputs, risk=0.01)

    def guard(self, *, store: Store, clock: Callable[[], float] = lambda: 0.0, **_: object) -> Guard:
        """The line behind its defenses."""
        return Guard(model=self.model, policy=self.policy, profile=self.profile, store=store, clock=clock)


def line_deployment() -> Deployment:
    """The line, deployed."""
    bundle: Any = LineBundle()
    return Deployment(bundle=bundle)


@dataclass(frozen=True)
class NamedAttack:
    """A named attack only says what it may do."""

    family: str
    name: str = "named"
    threat: ThreatModel = field(default=ThreatModel(access=Access.SCORES, queries=10, epsilon=0.5))


def named_attack(family: Family) -> Attack:
    """An attack of `family`, by its declaration alone."""
    return cast(Attack, NamedAttack(family.name))


def check_family(family: Family, deployment: Deployment | None = None) -> None:
    """Hold `family`, of the table or installed as a plug-in, to all that families must do.

    Raises `MedwardError` about what does not hold.
    """
    deployment = deployment or line_deployment()
    hold_contract(
        find_family(family.name) is family, f"the family {family.name!r} is not what its entry point announces"
    )
    check_family_verdicts(family)
    check_family_holdings(family, deployment)
    check_family_targets(family, deployment)
    check_family_words(family)


def scripted_result(family: Family, power: float) -> AttackResult:
    """What an attack of this `power` from 0 to 1 leaves behind, in a form that every family reads."""
    won, noise = np.arange(ROWS) < power * ROWS, np.arange(ROWS) < 0.05 * ROWS
    if family.share:
        attempt = Attempt(radius=1.0, fooled=won, noisy=noise, decided=np.arange(ROWS) % 2)
        return AttackResult(outcome=won, baseline=noise, attempts=(attempt,) if family.claim else ())
    truth = np.arange(ROWS) % 2 == 0
    scores = np.random.default_rng(0).normal(size=ROWS)
    return AttackResult(outcome=scores + 4 * (power - 0.05) * truth, baseline=scores, truth=truth)


def scripted_cell(family: Family, *powers: float) -> JudgedCell:
    """The cell of attacks of these powers, one for each arm."""
    results: dict[Arm, AttackResult] = {
        arm: scripted_result(family, power) for arm, power in zip(ARMS, powers, strict=True)
    }
    runs = Runs(attack=named_attack(family), results=results, spec=SPEC, seed=0)
    return replace(family.judge(runs), false_refusal=clopper_pearson(0, ROWS))


def check_family_verdicts(family: Family) -> None:
    """What holds, what breaks and what proves nothing are told apart, at the policy's bound and in its words."""
    gate, name = GatePolicy(), family.name
    judged = partial(_verdict, family, gate)
    expected = {
        (1.0, 0.06, 0.06): Status.HELD,
        (1.0, 0.06, 0.9): Status.BROKEN,
        (1.0, 0.9, 0.06): Status.BROKEN,
        (0.05, 0.05, 0.05): Status.INCONCLUSIVE,
    }
    for powers, status in expected.items():
        found, reasons = judged(*powers)
        hold_contract(found is status, f"{name!r}: powers {powers} are {found.value} and not {status.value}: {reasons}")
    for reason in (*judged(0.05, 0.05, 0.05)[1], *judged(1.0, 0.9, 0.9)[1]):
        hold_contract(reason[0].isupper() and reason.endswith("."), f"{name!r}: no sentence: {reason!r}")
    limit, strict = family.bound(gate), GatePolicy(evasion_success=0.01, extraction_gain=0.02, membership_auc=0.51)
    hold_contract(family.bound(strict) < limit, f"{name!r}: a stricter policy must lower the bound")
    said = scripted_cell(family, 1.0, 0.06, 0.06).words(limit)
    hold_contract(said in judged(1.0, 0.06, 0.06)[1][-1], f"{name!r}: the reason does not say {said!r}")
    empty = AttackResult(outcome=np.zeros(0, bool))
    hold_contract(family.achieved(empty, 0) is None, f"{name!r}: an arm without rows is no number")
    cell = family.judge(Runs(attack=named_attack(family), results={"undefended": empty}, spec=SPEC, seed=0))
    none = cell.undefended is cell.guarded is cell.adaptive is None
    hold_contract(none and "no row" in " ".join(cell.too_weak()), f"{name!r}: judges where there was no row")


def _verdict(family: Family, gate: GatePolicy, *powers: float) -> tuple[Status, tuple[str, ...]]:
    status, reasons = judge_cell(scripted_cell(family, *powers), family.bound(gate), gate)
    return status, tuple(reasons)


def check_family_holdings(family: Family, deployment: Deployment) -> None:
    """Attackers hold rows they are not judged on, or are told why not; copies of rows are flagged."""
    model, name, splits = SignedLine(), family.name, line_splits()
    held = family.holdings(deployment, share_rows(model, conform_splits(splits, SPEC), seed=0))
    assert isinstance(held, AttackData), f"contract: {name!r}: attackers hold nothing"
    crafted, judged = ({row.tobytes() for row in split.inputs} for split in (held.craft, held.test))
    hold_contract(not crafted & judged, f"{name!r}: is judged on rows it was crafted on")
    lone = family.holdings(deployment, share_rows(model, conform_splits({"test": splits["test"]}, SPEC), seed=0))
    told = isinstance(lone, AttackData) or (isinstance(lone, NotTested) and lone.reason.startswith("not tested: "))
    hold_contract(told, f"{name!r}: does not say why nothing was tested")
    train = splits["train"]
    copied = {**splits, "test": train.take(slice(0, 60)), "holdout": train.take(slice(0, 80))}
    flagged = family.holdings(deployment, share_rows(model, conform_splits(copied, SPEC), seed=0))
    flags = flagged.flags if isinstance(flagged, AttackData) else ()
    hold_contract(any("holdout" in flag for flag in flags), f"{name!r}: does not flag splits that share rows")


def check_family_targets(family: Family, deployment: Deployment) -> None:
    """The target is the bare model and then the guard; the model before training only where training defends."""
    held = share_rows(SignedLine(), conform_splits(line_splits(), SPEC), seed=0).data
    attack, name, claim = named_attack(family), family.name, family.claim
    strange, (rows, own) = np.full((3, 6), 80, np.float32), (held.test.inputs[:9], held.test.labels)
    bare, guarded, knowing = (family.target(deployment, arm, attack, held) for arm in ARMS)
    hold_contract(isinstance(bare, Target), f"{name!r}: an undefended target is no Target")
    hold_contract(bool((bare.query(strange).labels >= 0).all()), f"{name!r}: the undefended target withholds")
    for target in (guarded, knowing):
        hold_contract(bool((target.query(strange).labels < 0).all()), f"{name!r}: a guarded target has no guard")
    before = ModelBefore(model=SignedLine(sign=-1), digest="cd" * 32, claim=claim or "a claim")
    labels = cast(Array, own)[:9]
    for twin, wanted in ((before, 1 - labels if claim else labels), (replace(before, claim="another claim"), labels)):
        trained = replace(deployment, before=twin)
        answers = family.target(trained, "undefended", attack, held).query(rows).labels
        hold_contract(bool((answers == wanted).all()), f"{name!r}: claims {claim!r} and meets another model before")


def check_family_words(family: Family) -> None:
    """A finding can be shown, what was not tested is sentences, and some catalogue of threats names it."""
    curve = {"attack": ((0.1, 1.0), (0.2, 0.9))}
    finding = blank_finding(family, named_attack(family), Policy(on_error="withhold"), 0).model_copy(
        update={"curves": dict.fromkeys(ARMS, curve), "n": 50}
    )
    facts = Provenance.model_construct(modality="tabular", low=None, high=None, white_box=True)
    plot, name = family.show(finding, facts), family.name
    drawn = curve_plot(finding, plot)
    hold_contract(finding.attack in drawn.title and plot.x in drawn.svg, f"{name!r}: the plot names no attack or axis")
    sentences = (family.untested, *family.absent([finding], facts))
    hold_contract(all(each.endswith(".") for each in sentences), f"{name!r}: no sentence in {sentences}")
    named = set(family.controls)
    known = bool(named) and named <= CATALOGUES and all(family.controls.values())
    hold_contract(known, f"{name!r}: controls name {sorted(named)}, and not some of {sorted(CATALOGUES)}")
