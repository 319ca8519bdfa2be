from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.release.scores import probabilities
from medward.guard.release.temperature import fit_temperature, temper_scores


def drawn(true, n=4000, seed=0):
    """Overconfident logits whose labels follow their probabilities at temperature `true`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (n, 3))
    chances = probabilities(logits / true, "logits").cumsum(axis=1)
    return logits, (rng.random((n, 1)) > chances).sum(axis=1)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_the_temperature_behind_the_labels_is_found(true, output):
    logits, labels = drawn(true)
    scores = logits if output == "logits" else probabilities(logits, "logits")
    assert fit_temperature(scores, labels, output) == pytest.approx(true, rel=0.1)


@given(temperature=st.floats(0.1, 10))
def test_logits_and_their_probabilities_temper_alike(temperature):
    logits = np.array([[1.0, 0.5, -2.0], [0.0, 3.0, 3.0]])
    likely = probabilities(logits, "logits")
    np.testing.assert_allclose(
        temper_scores(logits, "logits", temperature), temper_scores(likely, "probabilities", temperature), atol=1e-9
    )


def test_hot_is_softer_and_cold_is_sharper_and_a_client_can_undo_both():
    likely = np.array([[0.7, 0.2, 0.1]])
    tops = [temper_scores(likely, "probabilities", t)[0, 0] for t in (0.5, 1.0, 5.0)]
    assert tops[0] > tops[1] > tops[2] > 1 / 3
    assert tops[1] == pytest.approx(0.7)
    back = temper_scores(temper_scores(likely, "probabilities", 5.0), "probabilities", 1 / 5.0)
    np.testing.assert_allclose(back, likely)


def test_rows_off_by_the_tolerance_are_made_whole():
    released = temper_scores(np.array([[0.6005, 0.4, -0.0005]]), "probabilities")
    assert released.min() == 0
    assert released.sum() == pytest.approx(1)


@pytest.mark.parametrize("labels", [[], [0, 5], [-1, 0]])
def test_labels_that_name_no_class_are_refused(labels):
    with pytest.raises(MedwardError, match="from 0 to 2"):
        fit_temperature(np.zeros((len(labels), 3)), np.array(labels, np.int64), "logits")


def test_a_temperature_about_a_threshold_is_found_again():
    rng = np.random.default_rng(0)
    odds, border = rng.normal(-3, 2, 20_000), np.log(0.02 / 0.98)
    likely = 1 / (1 + np.exp(-(border + (odds - border) / 2.5)))
    labels = (rng.random(20_000) < likely).astype(np.int64)
    scores = np.stack([np.zeros_like(odds), odds], axis=1)
    assert fit_temperature(scores, labels, "logits", 0.02) == pytest.approx(2.5, rel=0.1)
    assert abs(fit_temperature(scores, labels, "logits") - 2.5) > 0.5, "the ordinary one divides other distances"
    np.testing.assert_allclose(temper_scores(scores, "logits", 2.5, 0.02)[:, 1], likely, atol=1e-9)
