import numpy as np
from baselines.blacklight import KEPT, Blacklight
from baselines.rate_limit import RateLimit

RNG = np.random.default_rng(0)


def image():
    return RNG.random((1, 28, 28)).astype(np.float32)


def alarms(rule, images):
    state, found = rule.start(), []
    for each in images:
        state, over = rule.step(state, each, 0)
        found.append(over)
    return found


def test_the_same_image_and_one_changed_in_a_corner_are_recognised():
    one = image()
    corner = one.copy()
    corner[0, :5, :5] = 0
    assert alarms(Blacklight(), [one, image(), one, corner]) == [False, False, True, True]


def test_other_images_and_one_changed_everywhere_are_not():
    one = image()
    noisy = np.clip(one + RNG.normal(0, 0.2, one.shape), 0, 1).astype(np.float32)
    assert not any(alarms(Blacklight(), [one, *(image() for _ in range(20)), noisy]))


def test_quantisation_forgives_a_change_much_smaller_than_its_grain():
    one = image()
    assert alarms(Blacklight(), [one, np.clip(one + 0.0005, 0, 1)]) == [False, True]


def test_the_salt_keeps_plain_images_of_different_shades_apart_and_is_secret():
    dark, light = np.zeros((1, 28, 28), np.float32), np.full((1, 28, 28), 0.5, np.float32)
    assert alarms(Blacklight(), [dark, light]) == [False, False]
    prints = [Blacklight(seed=seed).fingerprint(dark) for seed in (0, 1)]
    assert not np.isin(*prints).any()
    assert all(len(each) == KEPT for each in prints)


def test_a_short_image_has_fewer_hashes_and_the_filling_matches_nothing():
    small = [np.full((1, 5, 5), value, np.float32) for value in (0.1, 0.9)]
    assert alarms(Blacklight(), small) == [False, False]


def test_a_rate_limit_counts():
    rule = RateLimit(limit=3)
    state, found = rule.start(), []
    for _ in range(5):
        state, over = rule.step(state, np.zeros(1), 0)
        found.append(over)
    assert found == [False, False, False, True, True]
