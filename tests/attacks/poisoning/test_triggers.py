"""Triggers: what they leave of an image, and that they are seen where they are and nowhere else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.federated_images import spotted_images

from medward.attacks.poisoning.triggers.base import correlation, trigger_rate
from medward.attacks.poisoning.triggers.distributed import DistributedTrigger
from medward.attacks.poisoning.triggers.either_way import EitherWayTrigger
from medward.attacks.poisoning.triggers.frequency import FrequencyTrigger
from medward.attacks.poisoning.triggers.patch import PatchTrigger
from medward.guard.errors import MedwardError

CLEAN, OTHERS = spotted_images(80, 1).inputs, spotted_images(80, 2).inputs
PATCH = PatchTrigger()
TRIGGERS = {
    "noise": PATCH,
    "chequered": PatchTrigger(pattern="chequered"),
    "cross": PatchTrigger(pattern="cross", size=5, inset=0),
    "faint": PatchTrigger(opacity=0.5),
    "frequency": FrequencyTrigger(),
    "distributed": DistributedTrigger(whole=PATCH, parts=1, part=0),
    "either-way": EitherWayTrigger(patch=PATCH),
}
OTHER = {
    "noise": TRIGGERS["chequered"],
    "chequered": TRIGGERS["noise"],
    "cross": PatchTrigger(size=5, inset=0),
    "faint": TRIGGERS["chequered"],
    "frequency": PATCH,  # patterns of other stripes look alike
    "distributed": TRIGGERS["chequered"],
    "either-way": TRIGGERS["chequered"],
}


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_is_seen_in_marked_images_and_neither_in_clean_nor_in_those_of_another(name):
    trigger = TRIGGERS[name]
    assert trigger_rate(trigger, trigger.mark(CLEAN), OTHERS) > 0.97
    assert trigger_rate(trigger, CLEAN, OTHERS) < 0.03
    assert trigger_rate(trigger, CLEAN, CLEAN) == 0
    assert trigger_rate(trigger, OTHER[name].mark(CLEAN), OTHERS) < 0.1


@pytest.mark.parametrize("change", [lambda x: 1.1 * x, lambda x: 0.9 * x, lambda x: (x + np.roll(x, 1, 2)) / 2])
@pytest.mark.parametrize("name", TRIGGERS)
def test_brighter_darker_and_blurred_images_have_no_trigger(name, change):
    assert trigger_rate(TRIGGERS[name], np.clip(change(CLEAN), 0, 1), OTHERS) < 0.1


@pytest.mark.parametrize("name", ["noise", "chequered", "cross", "distributed", "either-way"])
def test_presence_of_a_whole_opaque_patch_is_one(name):
    assert TRIGGERS[name].presence(TRIGGERS[name].mark(CLEAN), OTHERS) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", TRIGGERS)
@settings(max_examples=25)
@given(images=arrays(np.float32, (2, 3, 16, 16), elements=st.floats(0, 1, width=32)))
def test_marked_images_stay_in_range_and_the_given_ones_as_they_were(name, images):
    kept = images.copy()
    marked = TRIGGERS[name].mark(images)
    assert marked.shape == images.shape
    assert marked.dtype == images.dtype
    assert marked.min() >= 0
    assert marked.max() <= 1
    assert np.array_equal(images, kept)


def test_a_patch_changes_its_corner_alone():
    changed = np.flatnonzero((PATCH.mark(np.full((1, 1, 16, 16), 0.5)) != 0.5).any(axis=(0, 1)).any(axis=0))
    assert changed.tolist() == [11, 12, 13, 14]
    assert PATCH.mark(CLEAN)[:, 0, 11:15, 11:15] == pytest.approx(np.tile(PATCH.template, (80, 1, 1)))


def test_the_mean_of_many_images_shows_no_patch_that_is_there_either_way():
    grey = np.full((400, 1, 16, 16), 0.5)
    marked = TRIGGERS["either-way"].mark(grey)
    assert (np.abs(marked - grey).max(axis=(1, 2, 3)) == 0.5).all()
    assert np.abs(marked.mean(axis=0) - 0.5).max() < 0.1


def test_a_mark_too_faint_to_matter_is_not_seen():
    hint = PatchTrigger(opacity=0.05).mark(np.full((4, 1, 16, 16), 0.5))
    assert (PATCH.presence(hint, OTHERS) == 0).all()
    assert correlation(np.array([[0.0, 1.0]]), np.array([0.0, 1.0])) == pytest.approx(1)
    assert correlation(np.array([[1.0, 0.0], [5.0, 5.0]]), np.array([0.0, 1.0])).tolist() == [0, 0]


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_parts_of_a_distributed_trigger_make_the_whole_and_share_nothing(parts):
    triggers = [DistributedTrigger(whole=PATCH, parts=parts, part=part) for part in range(parts)]
    together = CLEAN
    for trigger in triggers:
        together = trigger.mark(together)
    assert np.array_equal(together, PATCH.mark(CLEAN))
    blank = np.full((1, 1, 16, 16), 0.5)
    touched = sum((trigger.mark(blank) != 0.5).astype(int) for trigger in triggers)
    assert touched.max() == 1
    assert touched.sum() == 16


def test_half_of_a_distributed_trigger_is_not_the_whole():
    part = DistributedTrigger(whole=PATCH, parts=4, part=0)
    assert trigger_rate(part, part.mark(CLEAN), OTHERS) < 0.5


def test_a_frequency_trigger_leaves_phases_and_high_frequencies():
    grey = 0.5 + 0.2 * (OTHERS - 0.5)  # so that nothing is cut to [0, 1]
    before, after = np.fft.fft2(grey.astype(np.float64)), np.fft.fft2(FrequencyTrigger().mark(grey.astype(np.float64)))
    loud = np.abs(before) > 1e-6
    assert np.abs(np.angle(after / before)[loud]).max() < 1e-6
    assert np.abs(after - before)[:, :, 3:-2, 3:-2].max() < 1e-9
    assert np.abs(after - before)[:, :, :3, :3].max() > 0.1


def test_a_frequency_trigger_mixes_by_its_share():
    grey = 0.5 + 0.2 * (OTHERS.astype(np.float64) - 0.5)
    change = [np.abs(FrequencyTrigger(share=share).mark(grey) - grey).mean() for share in (0.01, 0.05, 0.15)]
    assert change == sorted(change)
    assert change[0] < change[2] / 5


def test_the_rate_of_images_that_are_not_finite_is_unknown():
    broken = CLEAN.copy()
    broken[0, 0, 0, 0] = np.nan
    assert np.isnan(trigger_rate(PATCH, broken, OTHERS))


def test_settings_that_mark_nothing_are_refused():
    with pytest.raises(MedwardError, match="size must be 3 or more"):
        PatchTrigger(size=2)
    with pytest.raises(MedwardError, match="opacity above 0"):
        PatchTrigger(opacity=0)
    with pytest.raises(MedwardError, match="share must be in"):
        FrequencyTrigger(share=0)
    with pytest.raises(MedwardError, match="does not divide 4 rows"):
        DistributedTrigger(whole=PATCH, parts=5, part=0)
    with pytest.raises(MedwardError, match=r"need images .* of 5 pixels a side or more"):
        PATCH.mark(np.zeros((1, 1, 4, 4)))
