"""What a membership attacker reads from answers of any coarseness."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from attacks.membership.signals import Channel, ask, log_odds, noisy, rounded_to
from attacks.target import Response
from guard.release import ReleaseLevels
from guard.types import Level, ModelSpec

NAN = np.nan
LABELS = np.array([0, 1])


def channel_of(labels, scores, copies):
    return Channel.of(Response(np.array(labels), np.array(scores, float), "probabilities"), copies)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(1, 8), st.integers(0, 99))
def test_from_exact_answers_phi_is_the_difference_of_logits_for_two_classes(classes, n, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (n, classes)), rng.integers(0, classes, n)
    response = Response(logits.argmax(axis=1), logits, "logits")
    phi = Channel.of(response, 1).phi(response.probabilities[None], labels)
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


def test_shadows_show_as_many_classes_as_the_target_did():
    channel = channel_of([0, 1, 0], [[0.9, NAN, 0.06, NAN], [NAN] * 4, [0.4, 0.3, 0.2, 0.1]], 1)
    shadow = np.array([[[0.52, 0.28, 0.15, 0.05]] * 3])
    wanted = [[[0.52, 0.28, 0.10, 0.10], [1, 0, 0, 0], [0.52, 0.28, 0.15, 0.05]]]
    np.testing.assert_allclose(channel.coarsen(shadow), wanted, atol=1e-9)


def test_probabilities_of_a_few_classes_tell_members_as_all_of_them_do():
    """A row of which some classes stay hidden is no label alone, and so no privacy."""
    rng = np.random.default_rng(0)
    member, labels = np.arange(600) < 300, rng.integers(8, size=600)
    logits = rng.normal(size=(600, 8))
    logits[np.arange(600), labels] += np.where(member, 5.5, 4.0)
    found = {}
    for level in (Level.ROUNDED, Level.TOP, Level.LABEL):
        scores = ReleaseLevels(output="logits", decimals=2, top=3).release(logits, level)
        spec = ModelSpec(name="m", modality="tabular", shape=(1,), classes=tuple("abcdefgh"), output="logits")
        response = Response(logits.argmax(axis=1), scores, "probabilities")
        target = SimpleNamespace(spec=spec, query=lambda x, response=response: _rows(response, x[:, 0].astype(int)))
        channel, shown = ask(target, np.arange(600.0)[None, :, None], 0)
        found[level] = roc_auc_score(member, channel.phi(shown, labels))
    assert found[Level.TOP] > found[Level.ROUNDED] - 0.02 > 0.8
    assert found[Level.LABEL] < 0.6


def _rows(response, index):
    return Response(response.labels[index], response.scores[index], response.output)


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
    spec = ModelSpec(name="d", modality="tabular", shape=(64,), classes=("a", "b"), output="logits", low=0, high=16)
    copies = noisy(rows, 4, 2.0, spec, 0)
    np.testing.assert_array_equal(copies[0], rows)
    assert copies.min() >= 0
    assert copies.max() <= 16
    assert (copies[1:] != rows).mean() > 0.5
