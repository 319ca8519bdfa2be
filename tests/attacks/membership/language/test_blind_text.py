"""Texts that were not drawn alike are told without a model; texts that were, are not."""

from __future__ import annotations

import numpy as np
import pytest
from support.language import made_notes

from medward.attacks.intervals import auc_interval
from medward.attacks.membership.language.blind_text import blind_text_scores, text_shapes
from medward.guard.data.quality import auc

NOTES = made_notes(160, seed=21)
TRUTH = np.arange(160) < 80
SHIFTS = {
    "words": lambda text: text.replace("lung", "lungs").replace("heart", "cor"),
    "spelling": lambda text: text.replace("oe", "e").replace("ll", "l"),
    "length": lambda text: " ".join(text.split()[: len(text.split()) // 2]),
    "dates": lambda text: text + " 2023",
}


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_is_seen(shift):
    texts = [text if inside else SHIFTS[shift](text) for text, inside in zip(NOTES, TRUTH, strict=True)]
    interval = auc_interval(blind_text_scores(texts, TRUTH, seed=0), TRUTH, seed=0)
    assert interval.low > 0.5


def test_texts_drawn_alike_are_not_told():
    found = [
        auc(blind_text_scores(NOTES, TRUTH[np.random.default_rng(s).permutation(160)], seed=s), TRUTH) for s in range(3)
    ]
    assert 0.4 < np.mean(found) < 0.6
    assert auc_interval(blind_text_scores(NOTES, TRUTH, seed=0), TRUTH, seed=0).low <= 0.5


def test_a_patient_is_not_on_both_sides_of_a_fold():
    """Two texts of each patient are nearly the same: fold by fold by texts they would give each other away."""
    rng = np.random.default_rng(0)
    texts = [each for note in NOTES[:60] for each in (note, note + " .")]
    groups = np.repeat(np.arange(60), 2)
    truth = np.repeat(rng.random(60) < 0.5, 2)
    assert auc(blind_text_scores(texts, truth, seed=0), truth) > 0.8
    assert auc(blind_text_scores(texts, truth, groups=groups, seed=0), truth) < 0.65


def test_too_few_texts_tell_nothing():
    assert blind_text_scores(NOTES[:6], TRUTH[[0, 0, 0, 0, 100, 100]], seed=0).tolist() == [0] * 6


def test_shapes_are_those_of_the_text():
    shapes = text_shapes(["ab cd", ""])
    np.testing.assert_allclose(shapes[0, [0, 1, 4]], [np.log(5), np.log(2), 2.5])
    assert np.isfinite(shapes).all()
