"""Who is a member is decided by chance, patients whole, labels alike; and what was decided can be read again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.data.coin_flip import flip_coins, read_manifest
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError


def rows(n=400, patients=150, seed=0, labels=3):
    rng = np.random.default_rng(seed)
    whose = rng.integers(0, patients, n) if patients else None
    return Split(rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, labels, n), whose)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([None, 100, 250]), st.sampled_from([0, 150]))
def test_patients_are_whole_and_every_row_is_somewhere(seed, candidates, patients):
    split = rows(patients=patients, seed=seed)
    flip = flip_coins(split, candidates=candidates, seed=seed)
    sides = set(flip.training.tolist()), set(flip.held_out.tolist())
    assert sides[0] | sides[1] == set(range(400))
    assert not sides[0] & sides[1]
    if patients:
        assert not set(split.patients[flip.training]) & set(split.patients[flip.held_out])
    assert (flip.included <= flip.candidates).all()
    if candidates:
        assert candidates <= flip.candidates.sum() < candidates + 20


def test_each_label_is_halved():
    split = rows(n=900, patients=0)
    flip = flip_coins(split, seed=1)
    for label in range(3):
        own = split.labels == label
        assert abs(int((flip.included & own).sum()) - int((~flip.included & own).sum())) <= 1


def test_the_same_seed_flips_the_same_coins_and_another_does_not():
    split = rows()
    first, again, other = (flip_coins(split, seed=seed) for seed in (3, 3, 4))
    assert first.manifest == again.manifest
    assert (first.included != other.included).any()


def test_the_manifest_finds_both_sides_again_and_no_others():
    split = rows(patients=0)
    flip = flip_coins(split, candidates=200, seed=0)
    manifest = read_manifest(flip.manifest)
    inside, outside = manifest.sides(split.inputs)
    np.testing.assert_array_equal(inside, flip.included)
    np.testing.assert_array_equal(outside, flip.candidates & ~flip.included)
    assert not np.any(manifest.sides(rows(seed=9).inputs))


def test_a_row_whose_equal_is_on_the_other_side_is_on_neither():
    split = rows(n=40, patients=0)
    flip = flip_coins(split, seed=0)
    doubled = split.inputs.copy()
    doubled[flip.held_out[0]] = doubled[np.flatnonzero(flip.included)[0]]
    manifest = read_manifest(flip_coins(Split(doubled, split.labels), seed=0).manifest)
    inside, outside = manifest.sides(doubled)
    assert inside.sum() + outside.sum() == 38


@pytest.mark.parametrize("change", [{"seed": 5}, {"included": []}, {"digest": "00"}])
def test_a_manifest_that_was_changed_is_refused(change):
    content = json.loads(flip_coins(rows(), seed=0).manifest) | change
    with pytest.raises(MedwardError, match="was changed"):
        read_manifest(json.dumps(content))


@pytest.mark.parametrize("text", ["", "[]", '{"seed": 0}', '{"seed": 0, "unit": "scan"}'])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(MedwardError, match="membership manifest"):
        read_manifest(text)


def test_too_few_patients_are_refused():
    with pytest.raises(MedwardError, match="give at least 20"):
        flip_coins(rows(patients=10), seed=0)


def test_numbers_are_halved_by_quarters():
    rng = np.random.default_rng(0)
    months = Split(rng.normal(size=(400, 3)).astype(np.float32), rng.normal(size=400))
    flip = flip_coins(months, seed=0)
    means = months.labels[flip.included].mean(), months.labels[flip.held_out].mean()
    assert abs(means[0] - means[1]) < 0.2
