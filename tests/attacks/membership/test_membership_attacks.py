"""Both attacks on an overfitted model, on one that never trained, and through coarser answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medward.attacks.intervals import auc
from medward.attacks.membership import LossThreshold, OfflineLiRA
from medward.attacks.membership.evidence import Evidence
from medward.attacks.membership.lira import offline_lira
from medward.attacks.membership.shadows import train_shadows
from medward.attacks.whitebox.surrogate import fit_classifier
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy

POLICY = Policy(on_error="flag")
LIRA = OfflineLiRA(shadows=8, epochs=15)
ATTACKS = [LossThreshold(), LIRA]


@pytest.fixture(scope="module")
def overfitted(coin_flip):
    return network(coin_flip.members, epochs=60)


@pytest.fixture(scope="module")
def stranger(coin_flip):
    """Trained just as long, on rows that are neither candidates nor the shadows' alone."""
    return network(coin_flip.shadow.take(slice(300)), epochs=60)


def network(rows, epochs):
    module = fit_classifier(
        rows.inputs, rows.labels, classes=10, modality="tabular", shape=(64,), epochs=epochs, seed=0
    )
    return lambda inputs: module(torch.as_tensor(np.asarray(inputs, np.float32))).numpy()


def attacked(attack, target, data):
    result = attack.run(target, data, seed=0)
    assert result.outcome.shape == result.truth.shape == result.baseline.shape == (600,)
    assert np.isfinite(result.outcome).all()
    return auc(result.outcome, result.truth)


def test_an_overfitted_model_gives_its_members_away(coin_flip, overfitted, target_of):
    loss = attacked(LossThreshold(), target_of(overfitted), coin_flip)
    lira = attacked(LIRA, target_of(overfitted), coin_flip)
    assert loss >= 0.8
    assert lira > loss + 0.02  # it knows which records are hard


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_model_that_saw_no_candidate_gives_nothing_away(coin_flip, stranger, target_of, attack):
    assert attacked(attack, target_of(stranger), coin_flip) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_two_decimals_still_leak(coin_flip, overfitted, target_of, attack):
    exact = attacked(attack, target_of(overfitted), coin_flip)
    assert attacked(attack, target_of(overfitted, "rounded"), coin_flip) > exact - 0.05


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_three_largest_of_ten_classes_leak_nearly_as_much_as_all(coin_flip, overfitted, target_of, attack):
    label, top, rounded = (
        attacked(attack, target_of(overfitted, kind), coin_flip) for kind in ("label", "top", "rounded")
    )
    assert top > label + 0.03
    assert top > rounded - 0.02


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_copies_are_not_asked_about_where_the_largest_classes_came(coin_flip, overfitted, target_of, attack):
    target = target_of(overfitted, "top")
    attack.adaptive(POLICY).run(target, coin_flip, seed=0)
    assert target.queries == 600


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_labels_alone_leak_the_gap_and_averaging_wins_more_back(coin_flip, overfitted, target_of, attack):
    gap = attacked(attack, target_of(overfitted, "label"), coin_flip)
    assert gap > 0.7
    target = target_of(overfitted, "label")
    assert attacked(attack.adaptive(POLICY), target, coin_flip) > gap
    assert target.queries == 16 * 600


def test_from_labels_alone_the_loss_attack_is_the_gap_attack(coin_flip, overfitted, target_of):
    result = LossThreshold().run(target_of(overfitted, "label"), coin_flip, seed=0)
    rows = np.concatenate([coin_flip.members.inputs, coin_flip.nonmembers.inputs])
    labels = np.concatenate([coin_flip.members.labels, coin_flip.nonmembers.labels])
    right = overfitted(rows).argmax(axis=1) == labels
    assert len(np.unique(result.outcome)) == 2
    np.testing.assert_array_equal(result.outcome == result.outcome.max(), right)


def test_copies_are_asked_about_only_where_no_scores_came(coin_flip, overfitted, target_of):
    target = target_of(overfitted)
    patient = LossThreshold().adaptive(POLICY).run(target, coin_flip, seed=0)
    assert target.queries == patient.queries == 600
    plain = LossThreshold().run(target_of(overfitted), coin_flip, seed=0)
    np.testing.assert_allclose(patient.outcome, plain.outcome)


@pytest.mark.parametrize("attack", [*ATTACKS, LIRA.adaptive(POLICY)], ids=lambda attack: attack.name)
def test_a_silent_target_gives_one_score_for_all(coin_flip, target_of, attack):
    target = target_of(lambda inputs: np.zeros((len(inputs), 10)), "withheld")
    assert attacked(attack, target, coin_flip) == 0.5


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_three_largest_classes_of_a_model_that_saw_no_candidate_give_nothing_away(
    coin_flip, stranger, target_of, attack
):
    assert attacked(attack, target_of(stranger, "top"), coin_flip) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_guard_that_coarsens_as_the_account_goes_on_does_not_tell_the_truth(coin_flip, stranger, target_of, attack):
    target = target_of(stranger, "tiring")
    assert attacked(attack, target, coin_flip) == pytest.approx(0.5, abs=0.09)


@pytest.mark.parametrize(
    "attack", [LossThreshold(copies=3), OfflineLiRA(shadows=2, epochs=5)], ids=lambda attack: attack.name
)
def test_the_same_seed_gives_the_same_scores(coin_flip, overfitted, target_of, attack):
    first = attack.run(target_of(overfitted, "label"), coin_flip, seed=4).outcome
    train_shadows.cache_clear()
    second = attack.run(target_of(overfitted, "label"), coin_flip, seed=4).outcome
    np.testing.assert_array_equal(first, second)


def test_the_roc_curve_runs_from_none_to_all(coin_flip, overfitted, target_of):
    false, true = LossThreshold().run(target_of(overfitted), coin_flip, seed=0).curves["roc"]
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) >= 0.8


def test_the_tail_uses_one_variance_below_32_shadows_and_one_each_above():
    rng = np.random.default_rng(0)
    steady, erratic = rng.normal(0, 0.1, 400), rng.normal(0, 3, 400)
    expected = np.stack([steady, erratic], axis=1)
    few, many = (
        offline_lira(Evidence(phi=np.ones(2), shadows=each, included=np.zeros(each.shape, bool)))
        for each in (expected[:16], expected)
    )
    assert few[0] == pytest.approx(few[1], rel=0.8)
    assert many[0] > 10 * many[1]


@pytest.mark.parametrize("missing", ["members", "nonmembers"])
def test_missing_candidates_are_said(coin_flip, stranger, target_of, missing):
    with pytest.raises(MedwardError, match="labelled members and nonmembers"):
        LossThreshold().run(target_of(stranger), replace(coin_flip, **{missing: None}), seed=0)


def test_missing_shadow_rows_are_said(coin_flip, stranger, target_of):
    with pytest.raises(MedwardError, match="shadow rows"):
        LIRA.run(target_of(stranger), replace(coin_flip, shadow=None), seed=0)


def test_settings_out_of_bounds_are_refused():
    with pytest.raises(MedwardError, match="copies >= 1"):
        LossThreshold(copies=0)
    with pytest.raises(MedwardError, match="shadows >= 2"):
        OfflineLiRA(shadows=1)


def test_names_say_what_runs():
    assert [attack.name for attack in ATTACKS] == ["membership-loss", "membership-lira"]
    assert LossThreshold().adaptive(POLICY).name == "membership-loss+averaged"
