"""CAMIA never learns from the labels of the candidates it is judged on."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.membership.language.camia import (
    approximate_entropy,
    calibrate_context,
    camia_scores,
    context_features,
    lempel_ziv_phrases,
)
from medward.guard.data.quality import auc
from medward.guard.errors import MedwardError

FEATURES = 40


def noise(rng, rows):
    return rng.normal(size=(rows, FEATURES))


def test_features_of_noise_tell_nothing_though_signs_from_the_candidates_labels_would():
    """The published way, replayed: on pure noise it finds members, ours does not."""
    leaking, mended = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        candidates, truth = noise(rng, 60), np.arange(60) < 30
        others, shadow = noise(rng, 40), (noise(rng, 30), noise(rng, 30))
        leaked = calibrate_context(candidates[truth], candidates[~truth], others)
        ours = calibrate_context(*shadow, others)
        leaking.append(auc(camia_scores(candidates, leaked), truth))
        mended.append(auc(camia_scores(candidates, ours), truth))
    assert np.mean(leaking) > 0.75
    assert abs(np.mean(mended) - 0.5) < 0.04


def test_a_candidate_scores_the_same_whoever_stands_beside_it():
    rng = np.random.default_rng(0)
    calibration = calibrate_context(noise(rng, 20), noise(rng, 20), noise(rng, 30))
    candidates = noise(rng, 50)
    together = camia_scores(candidates, calibration)
    np.testing.assert_array_equal(camia_scores(candidates[10:11], calibration), together[10:11])
    np.testing.assert_array_equal(camia_scores(candidates[::-1], calibration), together[::-1])
    assert not {"truth", "labels", "members"} & set(inspect.signature(camia_scores).parameters)


def test_a_shift_of_the_features_is_found_whichever_way_it_goes():
    rng = np.random.default_rng(1)
    shift = np.where(np.arange(FEATURES) % 2, 0.7, -0.7)
    calibration = calibrate_context(noise(rng, 60) + shift, noise(rng, 60), noise(rng, 60))
    scores = camia_scores(np.concatenate([noise(rng, 40) + shift, noise(rng, 40)]), calibration)
    assert auc(scores, np.arange(80) < 40) > 0.95


def test_calibration_needs_texts_of_every_kind():
    rng = np.random.default_rng(0)
    with pytest.raises(MedwardError, match="got 3, 0 and 2"):
        calibrate_context(noise(rng, 3), noise(rng, 0), noise(rng, 2))


def test_features_are_finite_and_start_with_the_mean(readings):
    own, repeated = readings.read("target"), readings.of(readings.model, readings.texts, readings.texts)
    features = context_features(own, repeated)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features[:, 0], [-each.loss for each in own])
    np.testing.assert_allclose(features[:, 1], np.exp([each.loss for each in own]))
    np.testing.assert_allclose(features[:, 2], [(each.log_probabilities > -1).mean() for each in own])


def test_lempel_ziv_counts_the_phrases_of_a_known_parsing():
    assert lempel_ziv_phrases([0, 0, 1, 0, 1, 0, 0, 0]) == 4  # 0 | 01 | 010 | 00
    assert lempel_ziv_phrases([]) == 0
    assert lempel_ziv_phrases([1] * 15) == 5


@given(st.lists(st.floats(-9, 0), min_size=0, max_size=25))
def test_approximate_entropy_is_that_of_a_naive_loop(values):
    series = np.round(np.array(values, float), 2)
    found = approximate_entropy(series)
    if len(series) <= 3:
        assert found == 0
        return

    def phi(width):
        blocks = [series[start : start + width] for start in range(len(series) - width + 1)]
        near = [np.mean([max(abs(a - b)) <= 0.2 * series.std() for b in blocks]) for a in blocks]
        return np.mean(np.log(near))

    assert found == pytest.approx(phi(2) - phi(3), abs=1e-9)
