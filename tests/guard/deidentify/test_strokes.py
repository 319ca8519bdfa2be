"""The filter for strokes: drawn text is inside its regions, and anatomy without text mostly outside."""

from __future__ import annotations

import numpy as np
import pytest
from support.burned_in import anatomy

from medward.attacks.benchmarks.burned_in_text import burn_in_lines, identifier_text, text_mask
from medward.guard.intake.deidentify.regions import Region
from medward.guard.intake.deidentify.strokes import text_candidates, tightened_region


@pytest.mark.parametrize("seed", range(6))
def test_drawn_text_is_a_candidate(seed):
    drawn, lines = burn_in_lines(anatomy(seed=seed), np.random.default_rng(seed))
    candidates = text_candidates(drawn)
    assert lines
    for line in lines:
        box = Region(*line.box)
        assert sum(each.common(box) for each in candidates) >= 0.9 * box.area


@pytest.mark.parametrize("seed", range(6))
def test_anatomy_has_no_candidates(seed):
    assert text_candidates(anatomy(seed=seed)) == ()


def test_a_single_edge_and_a_grid_s_absence_are_no_text():
    half = np.zeros((128, 128), np.uint8)
    half[:, 64:] = 255
    assert text_candidates(half) == ()


def test_an_image_too_small_for_cells_is_a_candidate_as_a_whole():
    assert text_candidates(np.zeros((10, 40), np.uint8)) == (Region(0, 0, 10, 40),)


def test_a_region_is_tightened_to_its_ink_and_no_further():
    page = np.full((40, 60), 100, np.uint8)
    page[15:25, 20:40:3] = 200
    ink = tightened_region(page, Region(10, 15, 30, 45))
    assert (ink.top, ink.bottom) == (14, 25)
    assert ink.left >= 15
    assert tightened_region(page, Region(0, 0, 8, 8)).area > 0


def test_the_generator_draws_what_it_says():
    generator = np.random.default_rng(3)
    ground = anatomy()
    drawn, lines = burn_in_lines(ground, generator)
    changed = drawn != ground
    for line in lines:
        changed[Region(*line.box).slices] = False
    assert not changed.any()
    assert {burn_in_lines(ground, np.random.default_rng(3))[1] == lines} == {True}
    assert len({identifier_text(generator) for _ in range(50)}) > 20
    assert text_mask("AB", font="DejaVuSans", size=20, angle=90).shape[0] > text_mask("A", font="", size=20).shape[0]
