"""The arithmetic of the claims on blind spots."""

from __future__ import annotations

import blind_spots
import near_repeats
import numpy as np
import one_patient

from medward.guard.monitors.repeats import no_inputs


def test_changes_are_of_the_image_they_are_made_of():
    rng = np.random.default_rng(0)
    images = rng.random((40, 1, 6, 6)).astype(np.float32)
    for name, change in blind_spots.KINDS.items():
        made = np.asarray(change(images, rng))
        assert made.shape == images.shape, name
        assert made.min() >= 0, name
        assert made.max() <= 1, name
        assert (made == images).all() == (name == "unchanged"), name
    ways = blind_spots.each_by_one((blind_spots.inverted, blind_spots.turned(1)))(images, rng)
    is_inverted = (ways == 1 - images).all(axis=(1, 2, 3))
    is_turned = (ways == np.rot90(images, 1, (2, 3))).all(axis=(1, 2, 3))
    assert (is_inverted ^ is_turned).all()
    assert 5 < is_inverted.sum() < 35


def test_what_never_came_is_neither_the_worst_nor_in_time():
    said = blind_spots.summary([3, 20, 21, None])
    assert (said["median"], said["worst"], said["never"], said["within_20"]) == (21.0, 21, 1, 2)
    assert blind_spots.summary([None, None])["worst"] is None


def test_far_apart_counts_no_image_near_one_that_was_counted():
    images = np.array([0.0, 0.05, 0.2, 0.24, 0.4, 0.0])[:, None, None, None] * np.ones((1, 1, 2, 2))
    assert near_repeats.far_apart(images, 0.1) == 3
    assert near_repeats.far_apart(images[:0], 0.1) == 0
    assert near_repeats.ordinary_distance(np.repeat(images[[0, 4]], 10, axis=0)) == 0


def test_the_rule_that_was_tried_counts_two_near_repeats_of_an_image_and_no_more():
    rule, codes = one_patient.CountedOut(), ["0" * 16] * 5 + ["f" * 16] * 4
    found = rule(no_inputs(), [str(i) for i in range(9)], codes, 3)[1]
    assert found == ["", "near", "near", "exact", "exact", "", "near", "near", "exact"]
    assert rule(no_inputs(), ["a", "b"], codes[:2], 3)[1] == ["", "near"], "another account starts anew"
