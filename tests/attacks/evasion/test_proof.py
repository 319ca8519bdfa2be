"""What certificates prove of every attack: held where nothing can be found, however weak the search, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certified import certifying_all, forest, greys, halved, images, policy, protected

from medward.attacks.base import AttackData
from medward.attacks.evasion import PGD, HopSkipJump, Square, UniversalPerturbation
from medward.attacks.evasion.cell import EvasionCell
from medward.attacks.evasion.proof import CertificateProof, find_certifier, find_proof, with_certificates
from medward.attacks.intervals import Interval, rate_interval
from medward.attacks.validation.cause import Cause, find_causes
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Status
from medward.attacks.validation.gate import judge_cell
from medward.attacks.validation.run import run_validation
from medward.attacks.whitebox.ball import FeatureRules
from medward.guard.certify.certifier import Certifier
from medward.guard.data.split import Split
from medward.guard.policy import GatePolicy

EPSILON = 4 / 255
WEAK = Square(epsilon=EPSILON, queries=2)
GATE = GatePolicy()
APART = np.concatenate([np.linspace(5, 7.5, 10), np.linspace(9, 60, 30)])
"""Levels on either side of the border; the first 10 are certified at 4 and not at 8."""


@pytest.fixture(autouse=True)
def _short(monkeypatch):
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
    limit = found.measures["adaptive"]["certificates that any attack can deny"]
    assert limit.value == pytest.approx(10 / 40), "those between four and eight levels"
    bare = judged(
        replace(bundle, policy=policy().model_copy(update={"certify": type(policy().certify)()})), tmp_path / "b"
    )
    assert bare.status is Status.INCONCLUSIVE
    assert Cause.TOO_WEAK in bare.causes


@pytest.mark.parametrize(
    "attack", [replace(WEAK, epsilon=4.5 / 255), UniversalPerturbation(epsilon=10 / 255, epochs=1)]
)
def test_who_goes_farther_than_certificates_is_judged_by_what_he_does(bundle, tmp_path, attack):
    found = judged(bundle, tmp_path / "out", attack, np.linspace(40, 60, 30))
    assert found.status is Status.INCONCLUSIVE
    assert not any("By proof" in each for each in found.reasons)


def test_a_universal_change_within_the_radius_is_bounded_as_well(bundle, tmp_path):
    found = judged(bundle, tmp_path / "out", UniversalPerturbation(epsilon=EPSILON, epochs=1))
    assert found.status is Status.HELD
    assert found.reasons[0].startswith("By proof")


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
    assert any(each.startswith("Bounds are contradicted") for each in found.reasons)
    assert not any("By proof: no attack" in each for each in found.reasons)


def test_more_that_can_be_denied_than_the_gate_allows_is_not_held_by_proof(bundle, tmp_path):
    found = judged(bundle, tmp_path / "out", levels=np.concatenate([np.linspace(5, 7.5, 30), np.linspace(9, 60, 10)]))
    assert found.status is Status.INCONCLUSIVE
    assert any("but not that enough stay certified" in each for each in found.reasons)


def test_answers_that_leave_uncertified_as_labels_are_not_held_by_proof(bundle):
    assert find_certifier(Deployment(bundle=replace(bundle, policy=policy("label")))) == (None, "")
    assert find_certifier(Deployment(bundle=bundle))[0] is not None


def test_of_a_number_nothing_is_held_by_proof(tmp_path):
    made = protected(tmp_path / "numbers", "numbers", chosen=policy(radius=1.0))
    assert find_certifier(Deployment(bundle=made)) == (None, "")


def test_bounds_that_fail_prove_nothing_and_are_told(bundle, monkeypatch):
    rows = images(20)
    outputs = bundle.model.predict(rows).scores
    data = AttackData(craft=Split(rows), test=Split(rows), outputs=outputs)
    assert with_certificates(data, Deployment(bundle=bundle)).certified_radius.shape == (20,)

    def failing(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Certifier, "certify", failing)
    found = with_certificates(data, Deployment(bundle=bundle))
    assert (found.certifier, found.certified_radius) == (None, None)
    assert "the bounds fail on rows of test: RuntimeError: out of memory" in found.notes[-1]


def test_rows_of_training_among_those_that_judge_flag_a_proven_row_too(bundle, tmp_path):
    rows = greys(*(127.5 + APART), *(127.5 - APART))
    spec = bundle.model.spec
    trained = Split(rows, spec.decide(bundle.model.predict(rows).scores))
    found = judged(bundle, tmp_path / "out", train=trained)
    assert found.status is Status.INCONCLUSIVE
    assert Cause.FLAGGED in found.causes


def certified_rows(bundle, rows, attack):
    """The proof for `attack` on `rows` of a bundle, and the certifier."""
    certifier, _ = find_certifier(Deployment(bundle=bundle))
    scores = bundle.model.predict(rows).scores
    decided = bundle.model.spec.decide(scores)
    radius = certifier.certify(rows, scores).radius
    data = AttackData(
        craft=Split(rows), test=Split(rows, decided), reference=decided, certifier=certifier, certified_radius=radius
    )
    return find_proof(attack, data, bundle.model.spec), data


def test_columns_of_a_table_are_compared_one_by_one(trees):
    attack = HopSkipJump(epsilon=0.25, queries=20)
    deviations = trees.bundle.bounds.deviations
    spreads = tuple(enumerate(deviations))
    own = replace(attack, rules=FeatureRules(spreads=spreads))
    assert certified_rows(trees.bundle, trees.rows, own)[0] is not None
    wider = FeatureRules(spreads=(*spreads[:-1], (2, deviations[2] * 1.01)))
    assert certified_rows(trees.bundle, trees.rows, replace(attack, rules=wider))[0] is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), corner=st.booleans())
def test_what_is_certified_at_twice_the_radius_cannot_be_denied(bundle, trees, seed, corner):
    rng = np.random.default_rng(seed)
    for made, rows in ((bundle, images(40, seed)), (trees.bundle, trees.rows)):
        certifier = Certifier.of(made.bounds, made.policy, made.model.spec)
        before = certifier.certify(rows, made.model.predict(rows).scores).radius
        step = rng.choice([-1.0, 1.0], rows.shape) if corner else rng.uniform(-1, 1, rows.shape)
        moved = (rows + step * certifier.asked * certifier.scale * (1 - 1e-6)).astype(np.float32)
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
    for of_no_use in ("always abstains: 60% of clean rows are withheld", "always the same answer: all 9 rows"):
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


def test_few_rows_suffice_where_nothing_can_be_changed():
    share = rate_interval(np.zeros(15, bool))
    fields = {"undefended": share, "guarded": share, "adaptive": share}
    assert status(cell(**fields))[0] is Status.HELD
    assert status(cell(**fields, proof=None))[0] is not Status.HELD


def test_nothing_is_proven_of_no_row(bundle):
    data = certified_rows(bundle, images(20), PGD(epsilon=EPSILON))[1]
    empty = replace(data, certified_radius=np.zeros(0), test=Split(images(20)[:0]))
    assert find_proof(PGD(epsilon=EPSILON), empty, bundle.model.spec) is None
    assert find_proof(PGD(epsilon=EPSILON), replace(data, certifier=None), bundle.model.spec) is None
