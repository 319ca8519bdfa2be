"""What a membership attacker reads from answers of any coarseness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.release import ReleaseLevels

from medward.attacks.candidates.channels import ClassChannel, log_odds, rounded_to
from medward.attacks.candidates.signals import ask_confidences, noisy_copies
from medward.attacks.intervals import auc
from medward.attacks.target import Response, Target
from medward.attacks.threat import Access, ThreatModel
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Level

NAN = np.nan
LABELS = np.array([0, 1])


def channel_of(labels, scores, copies):
    return ClassChannel.of(Response(np.array(labels), np.array(scores, float), "probabilities"), copies)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(1, 8), st.integers(0, 99))
def test_from_exact_answers_phi_is_the_difference_of_logits_for_two_classes(classes, n, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (n, classes)), rng.integers(0, classes, n)
    response = Response(logits.argmax(axis=1), logits, "logits")
    phi = ClassChannel.of(response, 1).phi(response.probabilities[None], labels)
    others = np.where(np.eye(classes)[labels] > 0, -np.inf, logits)
    np.testing.assert_allclose(phi, logits[np.arange(n), labels] - np.logaddexp.reduce(others, axis=1))


@pytest.mark.parametrize("decimals", [1, 2, 3, 6])
def test_rounding_is_seen_in_the_answers(decimals):
    values = np.random.default_rng(0).random((40, 3))
    assert rounded_to(values.round(decimals)) == decimals
    assert rounded_to(values) is None


def test_shadows_are_seen_as_coarsely_as_the_target_row_by_row():
    channel = channel_of([0, 1, 0], [[0.97, 0.03], [NAN, NAN], [0.6, 0.4]], 1)
    shadow = np.array([[[0.9949, 0.0051], [0.51, 0.49], [0.123, 0.877]]])
    np.testing.assert_allclose(channel.coarsen(shadow), [[[0.99, 0.01], [1, 0], [0.12, 0.88]]])


def test_of_hidden_classes_an_even_share_is_guessed_for_target_and_shadows_alike():
    scores = [[0.7, 0.2, NAN, NAN], [0.97, 0.01, 0.01, 0.01], [NAN] * 4]
    channel = channel_of([0, 0, 1], scores, 1)
    assert channel.released.tolist() == [[True, True, False]]
    assert (channel.top, channel.decimals) == (2, 2)
    shadow = np.array([[[0.111, 0.6, 0.2, 0.089]] * 3])
    np.testing.assert_allclose(channel.coarsen(shadow), [[[0.1, 0.6, 0.2, 0.1], [0.11, 0.6, 0.2, 0.09], [0, 1, 0, 0]]])


def test_a_tie_for_the_first_place_does_not_widen_what_shadows_show():
    channel = channel_of([0, 0], [[0.3, 0.3, 0.3, NAN], [0.6, 0.3, NAN, NAN]], 1)
    assert channel.top == 2


@pytest.mark.parametrize("level", [Level.ROUNDED, Level.TOP])
def test_right_answers_of_members_that_are_surer_are_told_apart_by_what_three_of_eight_classes_show(level):
    rng = np.random.default_rng(0)
    n, classes = 600, 8
    truth, labels = np.arange(n) < n // 2, rng.integers(classes, size=n)
    scores = rng.normal(size=(n, classes))
    scores[np.arange(n), labels] += np.where(truth, 5.5, 4.0)
    decided = scores.argmax(axis=1)
    left = ReleaseLevels(output="logits", decimals=2, top=3).release(scores, level)

    def oracle(rows):
        asked = rows[:, 0].astype(int)
        return Response(decided[asked], left[asked], "probabilities")

    spec = ModelSpec(
        name="d", modality="tabular", shape=(1,), task=Classification(classes=tuple("01234567"), output="logits")
    )
    target = Target(spec, oracle, ThreatModel(access=Access.SCORES))
    channel, shown = ask_confidences(target, np.arange(n, dtype=np.float32).reshape(1, n, 1), 0)
    assert auc(channel.phi(shown, labels), truth) > 0.8
    assert auc((decided == labels).astype(float), truth) < 0.55


def test_no_confidence_counts_as_less_than_half_its_unit():
    certain = np.array([[[1.0, 0.0], [1.0, 0.0]]])
    rounded = channel_of([0, 0], [[1.0, 0.0], [0.72, 0.28]], 1)
    np.testing.assert_allclose(rounded.phi(certain, LABELS), [np.log(200), -np.log(200)])
    label = channel_of([0, 0], [[NAN, NAN], [NAN, NAN]], 1)
    np.testing.assert_allclose(label.phi(certain, LABELS), [np.log(2), -np.log(2)])


def test_copies_without_an_answer_do_not_count():
    nothing = [NAN, NAN]
    channel = channel_of([0, 1, -1, 1, 0, -1], [nothing] * 6, 3)
    shown = np.array([[[1, 0], [0, 1]], [[0, 1], [0, 1]], [[1, 0], [0, 1]]], float)
    phi = channel.phi(shown, LABELS)
    assert phi[0] == pytest.approx(np.log(1 / 0.25))
    assert phi[1] == pytest.approx(np.log(1 / 0.25))
    assert np.isnan(channel_of([-1, 1], [nothing] * 2, 1).phi(shown[:1], LABELS)[0])


def test_odds_are_those_of_the_true_class_against_all_others():
    odds = log_odds(np.array([[0.5, 0.3, 0.2]]), np.array([1]), np.array([1e-9]))
    assert odds[0] == pytest.approx(np.log(0.3 / 0.7))


def test_noisy_copies_stay_within_the_models_bounds_and_the_first_is_the_row_itself():
    rows = np.random.default_rng(0).integers(0, 17, (20, 64)).astype(np.float32)
    spec = ModelSpec(
        name="d",
        modality="tabular",
        shape=(64,),
        task=Classification(classes=("a", "b"), output="logits"),
        low=0,
        high=16,
    )
    copies = noisy_copies(rows, 4, 2.0, spec, 0)
    np.testing.assert_array_equal(copies[0], rows)
    assert copies.min() >= 0
    assert copies.max() <= 16
    assert (copies[1:] != rows).mean() > 0.5
