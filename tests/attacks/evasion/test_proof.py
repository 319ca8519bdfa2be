"""What certificates prove of every attack: held where nothing can be found, however weak the search, and only there."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support.certified import certifying_all, forest, greys, halved, images, policy, protected

from medward.attacks.base import AttackData
from medward.attacks.evasion import HopSkipJump, Square, UniversalPerturbation
from medward.attacks.evasion.asking import asked_rows
from medward.attacks.evasion.cell import EvasionCell
from medward.attacks.evasion.proof import CertificateProof, beyond_certificates, find_proof, with_certificates
from medward.attacks.intervals import Interval, rate_interval
from medward.attacks.report.summary import summary_parts
from medward.attacks.report.table import print_findings
from medward.attacks.target import Response, Target
from medward.attacks.validation.cause import Cause, find_causes
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Status
from medward.attacks.validation.gate import judge_cell
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.waiving import today_utc
from medward.attacks.whitebox.ball import FeatureRules
from medward.attacks.whitebox.criterion import ANY_CLASS, ClassChange
from medward.guard.certify.certifier import Certifier
from medward.guard.certify_policy import CertifyPolicy
from medward.guard.data.split import Split
from medward.guard.policy import GatePolicy
from medward.guard.waiver_policy import Waiver

EPSILON = 4 / 255
WEAK = Square(epsilon=EPSILON, queries=2)
GATE = GatePolicy()
APART = np.concatenate([np.linspace(5, 7.5, 10), np.linspace(9, 60, 30)])
"""Levels on either side of the border; the first 10 are certified at 4 and not at 8."""


@pytest.fixture(autouse=True)
def _short(monkeypatch, without_page):
    monkeypatch.setattr("medward.attacks.evasion.setup.FACTORS", (0.5, 1.0))
    monkeypatch.setattr("medward.attacks.evasion.control.CONTROL_RADII", (1.5,))
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return protected(tmp_path_factory.mktemp("proof") / "bundle")


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    return forest(tmp_path_factory.mktemp("trees") / "forest")


def splits_of(bundle, rows):
    spec = bundle.model.spec
    given_rows = {"train": images(60), "holdout": images(100, 1), "test": rows}
    return {name: Split(each, spec.decide(bundle.model.predict(each).scores)) for name, each in given_rows.items()}


def judged(bundle, out, attack=WEAK, levels=APART, **kept):
    rows = greys(*(127.5 + levels), *(127.5 - levels))
    chosen = {**splits_of(bundle, rows), **kept}
    return run_validation(Deployment(bundle=bundle), chosen, out, attacks=[attack], progress=False).findings[0]


def test_a_search_that_finds_nothing_is_held_by_proof_and_is_not_without_one(bundle, tmp_path):
    found = judged(bundle, tmp_path / "proven")
    assert found.undefended.value == 0, "nothing of the bare model either"
    assert (found.status, found.causes) == (Status.HELD, ())
    assert found.reasons[0].startswith("By proof: no attack")
    assert set(found.verdicts.values()) == {Status.HELD}
    assert not any("by-product" in each or "followed the certificate" in each for each in found.reasons)
    console = Console(width=200, record=True, file=io.StringIO())
    print_findings(Report.load(tmp_path / "proven/report.json"), console)
    assert "square: By proof: no attack" in console.export_text()
    page = " ".join(" ".join(said) for _, said in summary_parts(Report.load(tmp_path / "proven/report.json")))
    assert "can take the proof away from up to" in page
    limit = found.measures["adaptive"]["certificates that any attack can deny"]
    assert limit.value == pytest.approx(10 / 40), "those between four and eight levels"
    bare = judged(
        replace(bundle, policy=policy().model_copy(update={"certify": type(policy().certify)()})), tmp_path / "b"
    )
    assert bare.status is Status.INCONCLUSIVE
    assert Cause.TOO_WEAK in bare.causes


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack", [replace(WEAK, epsilon=4.5 / 255), UniversalPerturbation(epsilon=10 / 255, epochs=1)]
)
def test_who_goes_farther_than_certificates_is_judged_by_what_he_does(bundle, tmp_path, attack):
    found = judged(bundle, tmp_path / "out", attack, np.linspace(40, 60, 30))
    assert found.status is Status.INCONCLUSIVE
    assert not any("By proof" in each for each in found.reasons)


@pytest.mark.slow
def test_a_universal_change_within_the_radius_is_bounded_as_well(bundle, tmp_path):
    found = judged(bundle, tmp_path / "out", UniversalPerturbation(epsilon=EPSILON, epochs=1))
    assert found.status is Status.HELD
    assert found.reasons[0].startswith("By proof")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [halved, certifying_all])
def test_bounds_that_are_not_built_of_the_model_prove_nothing(bundle, tmp_path, wrong):
    found = judged(wrong(bundle), tmp_path / "out", levels=np.linspace(40, 60, 30))
    assert found.status is Status.INCONCLUSIVE
    assert any("bounds are not those that this version builds" in each for each in found.reasons)


def test_a_changed_answer_contradicts_the_proof(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("medward.attacks.evasion.proof.are_made_anew", lambda *_: True)
    found = judged(
        certifying_all(bundle), tmp_path / "out", Square(epsilon=EPSILON, queries=20), np.arange(0.5, 20, 0.5)
    )
    assert found.status is Status.BROKEN
    assert Cause.CONTRADICTED in found.causes
    assert any(each.startswith("Bounds are contradicted") for each in found.reasons)
    assert not any("By proof: no attack" in each for each in found.reasons)


@pytest.mark.slow
def test_more_that_can_be_denied_than_the_gate_allows_is_not_held_by_proof(bundle, tmp_path):
    found = judged(bundle, tmp_path / "out", levels=np.concatenate([np.linspace(5, 7.5, 30), np.linspace(9, 60, 10)]))
    assert found.status is Status.INCONCLUSIVE
    assert any("but not that enough stay certified" in each for each in found.reasons)


def held_of(bundle, rows, **changed):
    """What attackers hold, with what certificates prove of `rows`."""
    outputs = bundle.model.predict(rows).scores
    decided = bundle.model.spec.decide(outputs)
    data = AttackData(craft=Split(rows), test=Split(rows, decided), reference=decided, outputs=outputs)
    return with_certificates(data, Deployment(bundle=replace(bundle, **changed)))


def test_answers_that_leave_uncertified_as_labels_are_not_held_by_proof(bundle):
    assert held_of(bundle, images(20), policy=policy("label")).certifier is None
    assert held_of(bundle, images(20)).certified_radius.shape == (20,)


def test_of_a_number_nothing_is_held_by_proof(tmp_path):
    made = protected(tmp_path / "numbers", "numbers", chosen=policy(radius=1.0))
    assert held_of(made, images(20)).certifier is None


def test_a_model_that_gives_these_rows_one_answer_proves_nothing(bundle):
    """It is certified everywhere, and nobody is told anything."""
    rows = greys(*np.linspace(140, 200, 20))
    found = held_of(bundle, rows)
    assert found.certified_radius is None
    assert "all rows of test are decided alike" in found.notes[-1]
    assert find_proof([WEAK], found, bundle.model.spec) is None


def test_bounds_that_fail_prove_nothing_and_are_told(bundle, monkeypatch):
    def failing(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Certifier, "certify", failing)
    found = held_of(bundle, images(20))
    assert found.certified_radius is None
    assert "the bounds fail on rows of test: RuntimeError: out of memory" in found.notes[-1]


@pytest.mark.slow
def test_rows_of_training_among_those_that_judge_flag_a_proven_row_too(bundle, tmp_path):
    rows = greys(*(127.5 + APART), *(127.5 - APART))
    spec = bundle.model.spec
    trained = Split(rows, spec.decide(bundle.model.predict(rows).scores))
    found = judged(bundle, tmp_path / "out", train=trained)
    assert found.status is Status.INCONCLUSIVE
    assert Cause.FLAGGED in found.causes


def test_columns_of_a_table_are_compared_one_by_one(trees):
    data, spec = held_of(trees.bundle, trees.rows), trees.bundle.model.spec
    attack = HopSkipJump(epsilon=0.25, queries=20)
    deviations = trees.bundle.bounds.deviations
    spreads = tuple(enumerate(deviations))
    own = replace(attack, rules=FeatureRules(spreads=spreads))
    assert find_proof([own], data, spec) is not None
    wider = replace(attack, rules=FeatureRules(spreads=(*spreads[:-1], (2, deviations[2] * 1.01))))
    assert find_proof([own, wider], data, spec) is None, "who knows the guard counts as well"
    assert "and certificates" in beyond_certificates([wider], data, spec)


def test_whole_steps_that_are_longer_than_the_radius_are_no_change(trees):
    """A gap's indicator, and a category: certificates take them to stay, and an attacker cannot move them either."""
    data, spec = held_of(trees.bundle, trees.rows), trees.bundle.model.spec
    still = replace(data.certifier, scale=np.where(np.arange(3) == 1, 0.0, data.certifier.scale))
    data = replace(data, certifier=still)
    spreads = ((0, trees.bundle.bounds.deviations[0]), (1, 3.0), (2, trees.bundle.bounds.deviations[2]))
    for integer, proven in (((1,), True), ((), False)):
        attack = HopSkipJump(epsilon=0.25, queries=20, rules=FeatureRules(spreads=spreads, integer=integer))
        assert (find_proof([attack], data, spec) is not None) == proven


def test_nobody_knows_how_far_attacks_of_other_packages_go(bundle):
    class Foreign(Square):
        pass

    data = held_of(bundle, images(40))
    assert find_proof([WEAK], data, bundle.model.spec) is not None
    foreign = Foreign(epsilon=EPSILON, queries=2)
    assert find_proof([foreign], data, bundle.model.spec) is None
    assert "another package" in beyond_certificates([foreign], data, bundle.model.spec)


def test_what_can_be_denied_is_a_share_of_what_is_certified(bundle):
    levels = [*np.linspace(0, 3, 30), *np.linspace(5, 7.5, 10), *np.linspace(9, 60, 10)]
    rows = greys(*(127.5 + np.array(levels)), *(127.5 - np.array(levels)))
    proof = find_proof([WEAK], held_of(bundle, rows), bundle.model.spec)
    assert proof.deniable.value == pytest.approx(0.5)
    assert proof.deniable.n == 40


@pytest.mark.slow
def test_rows_that_judge_must_be_certified_themselves(bundle, tmp_path):
    """What benign rows of another split are certified to says nothing of these."""
    rows = greys(*np.linspace(124, 131, 80))
    found = judged(bundle, tmp_path / "out", test=splits_of(bundle, rows)["test"])
    assert found.status is Status.BROKEN
    assert Cause.UNCERTIFIED in found.causes
    assert found.clean_cost.site.uncertified.value < 0.2, "the site's own rows are"


@pytest.mark.slow
def test_one_contradiction_voids_the_proof_for_every_row_and_no_waiver_covers_it(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("medward.attacks.evasion.proof.are_made_anew", lambda *_: True)
    levels = np.linspace(0.5, 60, 40)
    rows = greys(*(127.5 + levels), *(127.5 - levels))
    wrong = certifying_all(bundle)
    waiver = Waiver(attack="square", reason="reviewed by the board", by="Dr. Ada Example", until=today_utc())
    wrong = replace(wrong, policy=wrong.policy.model_copy(update={"accept": (waiver,)}))
    attacks = [Square(epsilon=EPSILON, queries=20), HopSkipJump(epsilon=EPSILON / 50, queries=2, rows=80)]
    found = run_validation(
        Deployment(bundle=wrong), splits_of(wrong, rows), tmp_path / "out", attacks=attacks, progress=False
    )
    square, weak = (next(each for each in found.findings if each.attack == name) for name in ("square", "hopskipjump"))
    assert square.status is Status.BROKEN
    assert Cause.CONTRADICTED in square.causes
    assert weak.status is Status.INCONCLUSIVE
    assert any("square contradicted the bounds" in each for each in weak.reasons)


def test_whatever_an_attacker_aims_at_a_changed_certified_answer_contradicts(bundle, tmp_path):
    """Of two classes one is aimed at; of findings those that are hidden: the others count all the same."""
    x = torch.as_tensor(greys(*np.linspace(120, 135, 20)))
    spec = bundle.model.spec
    decided = torch.as_tensor(spec.decide(bundle.model.predict(x.numpy()).scores))
    turned = Response(
        1 - decided.numpy(), bundle.model.predict(x.numpy()).scores, "logits", certified=np.ones(20, bool)
    )
    for criterion in (ANY_CLASS, ClassChange(0), ClassChange(1)):
        target = Target(spec, lambda rows: turned, WEAK.threat)
        asked_rows(target, x, decided, criterion)
        assert target.contradictions == 20
    honest = Target(spec, lambda rows: replace(turned, labels=decided.numpy()), WEAK.threat)
    asked_rows(honest, x, decided, ANY_CLASS)
    assert honest.contradictions == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), corner=st.booleans())
def test_what_is_certified_at_twice_the_radius_cannot_be_denied(bundle, trees, seed, corner):
    rng = np.random.default_rng(seed)
    for made, rows in ((bundle, images(40, seed)), (trees.bundle, trees.rows)):
        certifier = Certifier.of(made.bounds, made.policy, made.model.spec)
        before = certifier.certify(rows, made.model.predict(rows).scores).radius
        step = rng.choice([-1.0, 1.0], rows.shape) if corner else rng.uniform(-1, 1, rows.shape)
        reach = np.asarray(certifier.asked * certifier.scale, np.float32)
        moved = rows + (step * reach).astype(np.float32)  # in single precision, as attackers add
        moved = np.clip(moved, made.model.spec.low, made.model.spec.high)
        after = certifier.certify(moved, made.model.predict(moved).scores)
        assert after.holds[before >= 2 * certifier.asked].all()


def cell(**given_fields):
    share = rate_interval(np.zeros(200, bool))
    proof = CertificateProof(deniable=Interval(0.1, 0.06, 0.15, 200), deniable_classes={})
    whole = {
        "undefended": share,
        "guarded": share,
        "adaptive": share,
        "baseline": share,
        "proof": proof,
        "false_refusal": share,
        "uncertified": share,
        **given_fields,
    }
    return EvasionCell(**whole)


def status(made, gate=GATE):
    settled = made.settled(gate)
    found = judge_cell(settled, gate.evasion_success, gate)[0]
    return found, find_causes(settled, found, gate.evasion_success, gate)


def test_flags_of_the_search_are_moot_by_proof_and_those_of_rows_and_of_use_are_not():
    assert status(cell(flags=("masked gradients: 30% of rows",)))[0] is Status.HELD
    assert status(cell(flags=("masked gradients: 30% of rows",), proof=None))[0] is Status.INCONCLUSIVE
    about = cell(flags=("train and test share 3 rows",), about_rows=("train and test share 3 rows",))
    assert status(about) == (Status.INCONCLUSIVE, (Cause.FLAGGED,))
    for of_no_use in (
        "always abstains: 60% of clean rows are withheld",
        "always the same answer: all 9 rows",
        "success is 20% at radius 0, 0 expected; the target does not answer consistently",
    ):
        assert status(cell(flags=(of_no_use,)))[0] is Status.INCONCLUSIVE


def test_what_the_guard_costs_is_judged_beside_a_proof():
    many = rate_interval(np.arange(200) < 80)
    assert status(cell(uncertified=many)) == (Status.BROKEN, (Cause.UNCERTIFIED,))
    refused = cell(refused={"adaptive": rate_interval(np.ones(200, bool))})
    assert status(refused, GatePolicy(attack_refusal=0.5)) == (Status.BROKEN, (Cause.ATTACKED_REFUSED,))
    few = rate_interval(np.arange(12) < 2)
    assert status(cell(uncertified=few))[0] is Status.TOO_FEW_ROWS
    assert status(cell(adaptive=None))[0] is Status.INCONCLUSIVE


def test_a_class_of_which_everything_can_be_denied_is_not_held_by_proof():
    ill = CertificateProof(
        deniable=Interval(0.1, 0.06, 0.15, 200), deniable_classes={"ill": rate_interval(np.ones(20, bool))}
    )
    assert status(cell(proof=ill))[0] is Status.INCONCLUSIVE


@pytest.mark.slow
def test_up_front_few_rows_are_said_to_matter_to_rows_that_no_proof_holds(bundle, tmp_path):
    rows = {**splits_of(bundle, greys(*(127.5 + APART), *(127.5 - APART)))}
    plain = replace(bundle, bounds=None, policy=bundle.policy.model_copy(update={"certify": CertifyPolicy()}))
    for each, said in ((bundle, "or a row that is not held by proof may end"), (plain, "or the row may end")):
        out = tmp_path / said[3:8]
        report = run_validation(Deployment(bundle=each), rows, out, attacks=[WEAK], progress=False)
        assert any(said in note for note in report.notes if "too few rows" in note)


def test_few_rows_suffice_where_nothing_can_be_changed():
    share = rate_interval(np.zeros(15, bool))
    fields = {"undefended": share, "guarded": share, "adaptive": share}
    assert status(cell(**fields))[0] is Status.HELD
    assert status(cell(**fields, proof=None))[0] is not Status.HELD


def test_nothing_is_proven_where_no_row_is_certified(bundle):
    data = held_of(bundle, images(20))
    assert find_proof([WEAK], replace(data, certified_radius=np.zeros(20)), bundle.model.spec) is None
    assert find_proof([WEAK], replace(data, certified_radius=None), bundle.model.spec) is None


def test_more_that_was_denied_than_can_be_is_not_held_by_proof():
    many = rate_interval(np.arange(200) < 180)
    assert Cause.DENIED in status(cell(denied={"adaptive": many}))[1]
    some = rate_interval(np.arange(200) < 60)  # within what the gate allows, and more than bounds do
    assert status(cell(denied={"adaptive": some})) == (Status.INCONCLUSIVE, (Cause.FLAGGED, Cause.TOO_WEAK))
