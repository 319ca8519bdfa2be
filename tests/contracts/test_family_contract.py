"""What every family of attacks must do, and that nothing but its folder and the table knows it by name."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.arrows import ROOT

from medward.attacks.base import AttackData, AttackResult, Attempt
from medward.attacks.families import FAMILIES, find_family
from medward.attacks.intervals import clopper_pearson
from medward.attacks.report.plots import curve_plot
from medward.attacks.suite import default_attacks, more_attacks
from medward.attacks.target import Target
from medward.attacks.threat import Access, ThreatModel
from medward.attacks.validation.deployment import Deployment, ModelBefore, queried_target
from medward.attacks.validation.family import NotTested, Runs
from medward.attacks.validation.finding import ARMS, Status
from medward.attacks.validation.gate import judge_cell
from medward.attacks.validation.judging import blank_finding
from medward.attacks.validation.record import Provenance
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.pipeline import Guard
from medward.guard.policy import GatePolicy, Policy
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs

SPEC = ModelSpec(
    name="toy", modality="tabular", shape=(6,), task=Classification(classes=("benign", "malignant"), output="logits")
)
WEIGHTS = np.random.default_rng(7).normal(size=(6, 2)).astype(np.float32)
GATE, POLICY, N = GatePolicy(), Policy(on_error="withhold"), 800


SOME = ThreatModel(access=Access.SCORES, queries=10, epsilon=0.5)


@dataclass(frozen=True)
class Line:
    """Two logits from six numbers, `sign` says which way round."""

    sign: int = 1
    spec = SPEC

    def predict(self, inputs):
        return Outputs(self.sign * (inputs @ WEIGHTS))


class FakeBundle:
    """What a deployment needs of a bundle."""

    def __init__(self):
        self.model, self.policy, self.digest = Line(), POLICY, "ab" * 32
        self.profile = Profile.fit(self.model, rows(400, 1).inputs, risk=0.01)

    @property
    def card(self):
        return SimpleNamespace(plugins={})

    def guard(self, *, store, clock=lambda: 0.0, **_):
        return Guard(model=self.model, policy=self.policy, profile=self.profile, store=store, clock=clock)


@dataclass(frozen=True)
class Named:
    """An attack that only says what it may do."""

    family: str
    name: str = "named"
    threat: ThreatModel = SOME


def rows(n, seed):
    inputs = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    return Split(inputs, (inputs @ WEIGHTS).argmax(axis=1))


SPLITS = {"train": rows(100, 2), "holdout": rows(400, 3), "test": rows(200, 4)}
FACTS = Provenance.model_construct(modality="tabular", low=None, high=None, white_box=True)


@pytest.fixture(scope="module")
def deployment():
    return Deployment(bundle=FakeBundle())


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def result(family, power):
    """What an attack of this `power` from 0 to 1 leaves behind, in a form that every family reads."""
    won, noise = np.arange(N) < power * N, np.arange(N) < 0.05 * N
    truth = np.arange(N) % 2 == 0
    if family.share:
        attempt = Attempt(radius=1.0, fooled=won, noisy=noise, decided=np.arange(N) % 2)
        tried = (attempt,) if family.claim else ()
        return AttackResult(outcome=won, baseline=noise, attempts=tried)
    scores = np.random.default_rng(0).normal(size=N)
    return AttackResult(outcome=scores + 4 * (power - 0.05) * truth, baseline=scores, truth=truth)


def cell_of(family, undefended, guarded, adaptive):
    powers = dict(zip(ARMS, (undefended, guarded, adaptive), strict=True))
    results = {arm: result(family, power) for arm, power in powers.items()}
    return replace(
        family.judge(Runs(attack=Named(family.name), results=results, spec=SPEC, seed=0)),
        false_refusal=clopper_pearson(0, N),
    )


def verdict(family, *powers):
    return judge_cell(cell_of(family, *powers), family.bound(GATE), GATE)


def test_what_holds_what_breaks_and_what_proves_nothing(family):
    assert verdict(family, 1.0, 0.06, 0.06)[0] is Status.HELD
    assert verdict(family, 1.0, 0.06, 0.9)[0] is Status.BROKEN
    assert verdict(family, 1.0, 0.9, 0.06)[0] is Status.BROKEN
    status, reasons = verdict(family, 0.05, 0.05, 0.05)
    assert status is Status.INCONCLUSIVE, reasons
    for reason in (*reasons, *verdict(family, 1.0, 0.9, 0.9)[1]):
        assert reason[0].isupper()
        assert reason.endswith(".")


def test_the_bound_is_the_policys_and_words_name_the_number(family):
    limit = family.bound(GATE)
    assert family.bound(GatePolicy(evasion_success=0.01, extraction_gain=0.02, membership_auc=0.51)) < limit
    held = verdict(family, 1.0, 0.06, 0.06)[1][-1]
    assert cell_of(family, 1.0, 0.06, 0.06).words(limit) in held


def test_an_arm_without_rows_is_no_number(family):
    empty = AttackResult(outcome=np.zeros(0, bool))
    assert family.achieved(empty, 0) is None
    runs = Runs(attack=Named(family.name), results={"undefended": empty}, spec=SPEC, seed=0)
    cell = family.judge(runs)
    assert cell.undefended is cell.guarded is cell.adaptive is None
    assert "no row" in " ".join(cell.too_weak())


def test_attackers_hold_rows_or_are_told_why_not(family, deployment):
    held = family.holdings(deployment, share_rows(Line(), conform_splits(SPLITS, SPEC), seed=0))
    assert isinstance(held, AttackData)
    assert not {row.tobytes() for row in held.craft.inputs} & {row.tobytes() for row in held.test.inputs}
    lone = family.holdings(deployment, share_rows(Line(), conform_splits({"test": SPLITS["test"]}, SPEC), seed=0))
    assert isinstance(lone, AttackData) or (isinstance(lone, NotTested) and lone.reason.startswith("not tested: "))
    copied = {**SPLITS, "test": SPLITS["train"].take(slice(0, 60)), "holdout": SPLITS["train"].take(slice(0, 80))}
    flagged = family.holdings(deployment, share_rows(Line(), conform_splits(copied, SPEC), seed=0))
    assert any("holdout" in flag for flag in flagged.flags)


def test_the_target_is_the_bare_model_and_then_the_guard(family, deployment):
    held = share_rows(Line(), conform_splits(SPLITS, SPEC), seed=0).data
    attack = Named(family.name)
    bare, guarded, knowing = (family.target(deployment, arm, attack, held) for arm in ARMS)
    assert isinstance(bare, Target)
    strange = np.full((3, 6), 80, np.float32)
    assert (bare.query(strange).labels >= 0).all()
    assert (guarded.query(strange).labels < 0).all()
    assert (knowing.query(strange).labels < 0).all()


def test_only_what_training_defends_is_run_on_the_model_before(family, deployment):
    before = ModelBefore(model=Line(sign=-1), digest="cd" * 32)
    trained = replace(deployment, before=before)
    held = share_rows(Line(), conform_splits(SPLITS, SPEC), seed=0).data
    answers = family.target(trained, "undefended", Named(family.name), held).query(SPLITS["test"].inputs[:9]).labels
    own = SPLITS["test"].labels[:9]
    assert (answers == (1 - own if family.claim else own)).all()
    other = replace(trained, before=replace(before, claim="another claim"))
    answers = family.target(other, "undefended", Named(family.name), held).query(SPLITS["test"].inputs[:9]).labels
    assert (answers == own).all()


def test_a_family_without_a_claim_never_meets_the_model_before(deployment):
    nameless = replace(deployment, before=ModelBefore(model=Line(sign=-1), digest="cd" * 32, claim=""))
    target = queried_target(nameless, "undefended", Named("any"))
    assert (target.query(SPLITS["test"].inputs[:9]).labels == SPLITS["test"].labels[:9]).all()


def test_a_finding_can_be_shown(family):
    curve = {"attack": ((0.1, 1.0), (0.2, 0.9))}
    finding = blank_finding(family, Named(family.name), POLICY, 0).model_copy(
        update={"curves": dict.fromkeys(ARMS, curve), "n": 50}
    )
    plot = family.show(finding, FACTS)
    drawn = curve_plot(finding, plot)
    assert finding.attack in drawn.title
    assert plot.x in drawn.svg
    assert family.untested.endswith(".")
    assert all(sentence.endswith(".") for sentence in family.absent([finding], FACTS))


def test_controls_name_every_catalogue(family):
    assert set(family.controls) == {"MITRE ATLAS", "NIST AI 100-2", "OWASP ML"}
    assert all(family.controls.values())


def test_every_attack_of_the_suite_is_of_a_family_in_the_table():
    image = replace(SPEC, modality="image", shape=(1, 8, 8), low=0.0, high=1.0)
    for spec in (SPEC, image):
        assert {find_family(attack.family) for attack in default_attacks(spec)} == set(FAMILIES.values())
        assert all(attack.family in FAMILIES for attack in more_attacks(spec))
    with pytest.raises(MedwardError, match="there is no 'spoofing'"):
        find_family("spoofing")


def literals(path):
    """Texts in code, docstrings apart; of another file than Python every line."""
    if path.suffix != ".py":
        return path.read_text().splitlines()
    tree = ast.parse(path.read_text())
    apart = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in apart]
    return [node.value for node in nodes if isinstance(node.value, str) and not node.value.startswith("attacks/")]


def naming(paths):
    """Files that name a family which is not their own."""
    found = []
    for path in paths:
        others = [name for name in FAMILIES if name not in path.relative_to(ROOT).parts]
        word = re.compile(rf"\b({'|'.join(others)})\b")
        found += [path.relative_to(ROOT).as_posix() for text in literals(path) if word.search(text)]
    return found


def test_nothing_but_its_folder_knows_a_family_by_name(tmp_path):
    files = [path for end in ("*.py", "*.j2") for path in sorted((ROOT / "attacks").rglob(end))]
    assert len(files) > 100
    assert naming(files) == []
    assert naming([ROOT / "integrations/cli/validate.py"]), "the control: a help text says them"
