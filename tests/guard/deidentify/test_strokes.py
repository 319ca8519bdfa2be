"""The filter for strokes: drawn text is inside its regions, and anatomy without text mostly outside."""

from __future__ import annotations

import numpy as np
import pytest
from support.burned_in import anatomy

from medward.attacks.benchmarks.burned_in_text import burn_in_lines, identifier_text, text_mask
from medward.guard.intake.deidentify.burned_in import flattened
from medward.guard.intake.deidentify.regions import Region, joined_regions
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


def noisy_patches(side):
    """An image with patches of noise in a grid, each of which may hold text."""
    generator, page = np.random.default_rng(1), np.full((side, side), 60, np.uint8)
    for top in range(0, side - 16, 64):
        for left in range(0, side - 16, 64):
            page[top : top + 16, left : left + 16] = generator.integers(0, 256, (16, 16))
    return page


def test_comparisons_of_regions_grow_as_the_pixels_do(monkeypatch):
    counted, gap = [0], Region.gap

    def counting(self, other):
        counted[0] += 1
        return gap(self, other)

    monkeypatch.setattr(Region, "gap", counting)
    counts = []
    for side in (512, 1024):
        counted[0] = 0
        text_candidates(noisy_patches(side))
        counts.append(counted[0])
    assert counts[0] > 100
    assert counts[1] <= 6 * counts[0]  # for four times the pixels


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("gap", [0, 3])
def test_joined_regions_are_apart_and_hold_all(seed, gap):
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, 300, (40, 2))
    sizes = generator.integers(1, 40, (40, 2))
    regions = [Region(int(y), int(x), int(y + h), int(x + w)) for (y, x), (h, w) in zip(corners, sizes, strict=True)]
    joined = joined_regions(regions, gap)
    assert all(one.gap(two) > gap for place, one in enumerate(joined) for two in joined[place + 1 :])
    assert all(sum(each.common(region) == region.area for each in joined) == 1 for region in regions)
    assert joined_regions(regions[::-1], gap) == joined


def test_a_region_is_tightened_to_its_ink_and_no_further():
    page = np.full((40, 60), 100, np.uint8)
    page[15:25, 20:40:3] = 200
    ink = tightened_region(page, Region(10, 15, 30, 45))
    assert (ink.top, ink.bottom) == (14, 26)  # the pixels on both sides of each step
    assert ink.left >= 15
    assert tightened_region(page, Region(0, 0, 8, 8)).area > 0


def test_a_bright_line_through_faint_text_does_not_take_its_place():
    page = np.full((40, 60), 60, np.uint8)
    page[12:28, 20:40:3] += 30
    page[20, 5:55] += 150
    kept = tightened_region(flattened(page), Region(8, 15, 32, 45))
    assert kept.top <= 12
    assert kept.bottom >= 28


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
