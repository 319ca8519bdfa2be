"""A verdict of no leak rests on bounds and on canaries that were found: taken away, the verdict goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.certificates import privacy_certificate

from medward.attacks.base import AttackData, AttackResult
from medward.attacks.candidates.controls import CANARIES, UNTRAINED, control_examinations, control_flags, network_oracle
from medward.attacks.intervals import Interval, auc, auc_interval, clopper_pearson
from medward.attacks.membership import LossThreshold, OfflineLiRA, ShadowAttack
from medward.attacks.membership.cell import MembershipCell, privacy_ceiling
from medward.attacks.membership.family import Membership, candidate_groups
from medward.attacks.membership.holdings import NO_COIN
from medward.attacks.membership.shadows import train_shadows
from medward.attacks.target import Target
from medward.attacks.validation.family import Runs
from medward.attacks.validation.finding import ARMS, Status
from medward.attacks.validation.gate import judge_cell
from medward.attacks.whitebox.surrogate import fit_classifier
from medward.guard.data.split import Split
from medward.guard.policy import GatePolicy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

GATE, FAMILY = GatePolicy(), Membership()
DIGITS = Classification(classes=tuple("0123456789"), output="logits")
SPEC = ModelSpec(name="digits", modality="tabular", shape=(64,), task=DIGITS, low=0, high=16)


def scores(shift, seed, n=1000):
    rng, truth = np.random.default_rng(seed), np.arange(2 * n) < n
    return AttackResult(outcome=rng.normal(size=2 * n) + shift * truth, truth=truth)


def judged(*shifts, canaries=4.0, untrained=0.0, held=None, privacy=None, **changes):
    """The verdict on arms that leak as `shifts` say, and on the examiner's models."""
    results = {
        arm: replace(scores(shift, i), **changes) for i, (arm, shift) in enumerate(zip(ARMS, shifts, strict=True))
    }
    examined = {CANARIES: canaries, UNTRAINED: untrained}
    runs = Runs(
        attack=LossThreshold(),
        results=results,
        spec=SPEC,
        seed=0,
        bare=results["undefended"],
        held=held,
        privacy=privacy,
        examined={name: scores(shift, 7, 100) for name, shift in examined.items() if shift is not None},
    )
    cell = replace(FAMILY.judge(runs), false_refusal=clopper_pearson(0, 400))
    return judge_cell(cell, FAMILY.bound(GATE), GATE)


def test_no_leak_needs_no_defense_and_says_its_bounds():
    status, (reason,) = judged(0.0, 0.0, 0.0)
    assert status is Status.NOT_NEEDED
    for words in ("No leak found", "the bound is 0.6", "the bound is 10.0%", "memorised canaries", "AUC of 0.99"):
        assert words in reason


MISSING = {
    "no canaries": ({"canaries": None}, "not run on canaries"),
    "an attack that misses canaries": ({"canaries": 1.0}, "0.95 is needed"),
    "an untrained network that leaks": ({"untrained": 1.0}, "an untrained network tells members"),
}


@pytest.mark.parametrize("name", MISSING)
def test_without_its_controls_the_verdict_goes(name):
    change, words = MISSING[name]
    status, reasons = judged(0.0, 0.0, 0.0, **change)
    assert status is Status.INCONCLUSIVE
    assert words in " ".join(reasons)


def test_intervals_beyond_a_bound_are_no_equivalence():
    few = {arm: Interval(0.5, 0.45, 0.55, 100) for arm in ARMS}
    cell = MembershipCell(**few, rates=dict.fromkeys(ARMS), canaries=Interval(1, 0.99, 1, 80))
    shown, missing = cell.no_leak(0.6, GATE)
    assert not shown
    assert any("not resolvable" in sentence for sentence in missing)
    wide = replace(cell, rates={arm: Interval(0.05, 0.0, 0.2, 100) for arm in ARMS})
    assert any("may name up to 20.0%" in sentence for sentence in wide.no_leak(0.6, GATE)[1])


def test_candidates_too_few_to_show_that_there_is_no_leak_are_counted():
    cell = replace(
        MembershipCell(
            **{arm: Interval(0.5, 0.35, 0.65, 100) for arm in ARMS},
            rates={arm: Interval(0.01, 0.0, 0.05, 100) for arm in ARMS},
            canaries=Interval(1, 0.99, 1, 80),
        ),
        false_refusal=clopper_pearson(0, 400),
    )
    status, reasons = judge_cell(cell, 0.6, GATE)
    assert status is Status.TOO_FEW_ROWS
    assert "Too few candidates to show that there is no leak: about 226 needed, 100 given" in reasons[0]
    assert judge_cell(replace(cell, canaries=None), 0.6, GATE)[0] is Status.INCONCLUSIVE, "no control"
    some = replace(cell, rates={"undefended": Interval(0.2, 0.05, 0.4, 100)})
    assert judge_cell(some, 0.6, GATE)[0] is Status.INCONCLUSIVE, "a few members are named"
    leaky = replace(cell, undefended=Interval(0.62, 0.5, 0.74, 100))
    assert judge_cell(leaky, 0.6, GATE)[0] is Status.INCONCLUSIVE, "beyond the bound as far as was seen"


def test_canaries_so_few_that_chance_finds_them_prove_nothing():
    """Of three inside and three outside a blind attack ranks all rightly once in twenty times."""
    rates = {arm: Interval(0.01, 0.0, 0.05, 1000) for arm in ARMS}
    cell = MembershipCell(**dict.fromkeys(ARMS, Interval(0.5, 0.45, 0.55, 2000)), rates=rates)
    few, many = (auc_interval(truth, truth, seed=0) for truth in (np.arange(6) < 3, np.arange(40) < 20))
    assert few.value == many.value == 1
    assert cell.no_leak(0.6, GATE)[0] == ""
    assert replace(cell, canaries=many).no_leak(0.6, GATE)[0]
    shown, missing = replace(cell, canaries=few).no_leak(0.6, GATE)
    assert not shown
    assert any("too few" in sentence for sentence in missing)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_guard_that_leaves_few_members_named_for_sure_does_not_hold(sign):
    """A sixth of all members is named for sure and nothing is known of the others: the average over all hides it.

    By the largest scores or, where a guard made these members less sure than anybody else, by the smallest.
    """
    truth = np.arange(8000) < 4000
    rng = np.random.default_rng(5)
    named = AttackResult(outcome=rng.normal(size=8000) + sign * 9 * (truth & (rng.random(8000) < 1 / 6)), truth=truth)
    results = {"undefended": scores(2, 0), "guarded": named, "adaptive": scores(0, 2)}
    cell = FAMILY.judge(Runs(attack=LossThreshold(), results=results, spec=SPEC, seed=0))
    assert cell.compared["guarded"].high < GATE.membership_auc
    status, reasons = judge_cell(replace(cell, false_refusal=clopper_pearson(0, 400)), GATE.membership_auc, GATE)
    assert status is Status.INCONCLUSIVE
    assert "The attack names at least 1" in " ".join(reasons)


@pytest.mark.parametrize(("shifts", "status"), [((2, 0, 0), Status.HELD), ((2, 0, 2), Status.BROKEN)])
def test_where_the_model_leaks_the_guard_is_judged_as_ever(shifts, status):
    assert judged(*shifts, canaries=None)[0] is status


def test_a_shifted_row_is_inconclusive_even_where_the_attack_passes():
    assert judged(2, 2, 2)[0] is Status.BROKEN
    status, reasons = judged(2, 2, 2, baseline=scores(1.0, 9).outcome)
    assert status is Status.INCONCLUSIVE
    assert "INVALID-SHIFT" in " ".join(reasons)


def test_shadows_that_explain_it_are_named():
    status, reasons = judged(2, 0, 0, without_target=scores(2, 0).outcome)
    assert status is Status.INCONCLUSIVE
    assert "that explains it" in " ".join(reasons)


def test_the_ceiling_of_a_certificate_breaks_what_exceeds_it():
    rows = Split(np.zeros((1000, 1), np.float32), np.zeros(1000, int))
    held = AttackData(craft=rows, test=rows, members=rows, nonmembers=rows)
    private = privacy_certificate(noise_multiplier=2.5, sample_rate=0.05, steps=300, unit="row")
    status, reasons = judged(3, 0, 0, held=held, privacy=private)
    assert status is Status.BROKEN
    assert "more members than its certified privacy allows" in " ".join(reasons)
    assert judged(3, 0, 0, held=held)[0] is Status.HELD, "the control: no certificate, no ceiling"
    trusted = replace(held, notes=(NO_COIN,))
    assert judged(3, 0, 0, held=trusted, privacy=private)[0] is Status.HELD, "a split on trust accuses nobody"
    assert judged(0, 0, 0, held=held, privacy=private)[0] is Status.NOT_NEEDED


def test_the_ceiling_is_that_of_the_curve():
    """At epsilon 5.8, where (epsilon, delta) alone says .997."""
    private = privacy_certificate(noise_multiplier=1.0, sample_rate=0.05, steps=300)
    assert privacy_ceiling(private, 0.01) == pytest.approx(0.116, abs=0.002)
    assert privacy_ceiling(None, 0.01) is None


def test_patients_of_candidates_are_known_where_all_are():
    rows = Split(np.zeros((4, 1), np.float32), np.zeros(4, int), np.arange(4))
    held = AttackData(craft=rows, test=rows, members=rows, nonmembers=rows)
    np.testing.assert_array_equal(candidate_groups(held), [0, 1, 2, 3, 0, 1, 2, 3])
    assert candidate_groups(replace(held, nonmembers=Split(rows.inputs))) is None
    assert candidate_groups(None) is None


@pytest.fixture(scope="module")
def stranger(coin_flip):
    """A network that saw none of the candidates."""
    rows = coin_flip.shadow
    return fit_classifier(rows.inputs, rows.labels, classes=10, modality="tabular", shape=(64,), epochs=10, seed=0)


@pytest.mark.parametrize("network", ["a copy of the network", "a surrogate"])
def test_attacks_find_canaries_learned_by_heart_and_nothing_in_an_untrained_network(network, stranger, coin_flip):
    before = {name: value.clone() for name, value in stranger.state_dict().items()}
    given = stranger if network == "a copy of the network" else None
    found = {each.name: each.prepare() for each in control_examinations(given, SPEC, coin_flip, seed=0)}
    assert all((value == before[name]).all() for name, value in stranger.state_dict().items()), "a copy is trained"
    for attack in (LossThreshold(), OfflineLiRA(shadows=8, epochs=15)):
        values = {}
        for name, (oracle, data) in found.items():
            result = attack.run(Target(SPEC, oracle, attack.threat), data, seed=0)
            values[name] = auc(result.outcome, result.truth)
        assert values[CANARIES] >= 0.95
        assert 0.45 <= values[UNTRAINED] <= 0.55


def test_the_control_flag_needs_more_than_chance():
    assert control_flags(None) == control_flags(Interval(0.53, 0.51, 0.55, 900)) == ()
    assert control_flags(Interval(0.6, 0.4, 0.8, 20)) == ()
    assert control_flags(Interval(0.3, 0.2, 0.4, 900))


def test_without_shadow_rows_of_two_labels_nothing_is_controlled(coin_flip):
    assert control_examinations(None, SPEC, replace(coin_flip, shadow=None), seed=0) == ()
    same = Split(coin_flip.shadow.inputs, np.zeros(600, int))
    assert control_examinations(None, SPEC, replace(coin_flip, shadow=same), seed=0) == ()


def test_without_labelled_non_members_nothing_is_controlled(coin_flip):
    unknown = Split(coin_flip.nonmembers.inputs)
    assert control_examinations(None, SPEC, replace(coin_flip, nonmembers=None), seed=0) == ()
    assert control_examinations(None, SPEC, replace(coin_flip, nonmembers=unknown), seed=0) == ()


def test_the_shadows_of_an_attack_are_those_of_its_controls(stranger, coin_flip):
    """And they are looked at once for the candidates, whatever the arm or the score."""
    train_shadows.cache_clear()
    attacks = [OfflineLiRA(shadows=4, epochs=1), ShadowAttack(score="bavaria", shadows=4, epochs=1)]
    for attack in attacks:
        for each in control_examinations(stranger, SPEC, coin_flip, seed=0):
            oracle, data = each.prepare()
            attack.run(Target(SPEC, oracle, attack.threat), data, seed=0)
        attack.run(Target(SPEC, network_oracle(stranger, SPEC), attack.threat), coin_flip, seed=0)
    assert train_shadows.cache_info().misses == 1
