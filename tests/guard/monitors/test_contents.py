from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from medward.guard.errors import MedwardError
from medward.guard.monitors.content_hash import CONTENT_WIDTH, RADIUS, ContentHash


def pictures(n, seed, side=24):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(size=(n, 1, 6, 6))
    return np.kron(coarse, np.ones((4, 4))).astype(np.float32)[:, :, :side, :side]


@pytest.fixture(scope="module")
def contents():
    return ContentHash.fit(pictures(200, 0), seed=0)


def apart(a, b):
    return np.sqrt(np.square(a.astype(float) - b).mean(axis=1))


def test_small_changes_are_near_and_other_images_are_not(contents):
    rng, images = np.random.default_rng(1), pictures(100, 1)
    own, codes = contents.see(images)
    changed, others = contents.see(images + rng.normal(size=images.shape).astype(np.float32) * 0.03)
    assert (apart(own, changed) < RADIUS).mean() > 0.9
    assert (apart(own, np.roll(own, 1, axis=0)) > RADIUS).all()
    bits = [(int(a, 16) ^ int(b, 16)).bit_count() for a, b in zip(codes, others, strict=True)]
    unlike = [(int(a, 16) ^ int(b, 16)).bit_count() for a, b in pairwise(codes)]
    assert np.median(bits) < np.median(unlike) / 2


def test_brightness_and_contrast_are_no_content(contents):
    images = pictures(50, 2)
    assert apart(contents.see(images)[0], contents.see(images * 0.7 + 0.1)[0]).max() < 1


def test_whatever_it_is_given_it_gives_whole_finite_numbers(contents):
    odd = np.stack([np.zeros((1, 24, 24)), np.full((1, 24, 24), 1e30), np.eye(24)[None] * 1e6]).astype(np.float32)
    seen, codes = contents.see(odd)
    assert seen.dtype == np.int16
    assert seen.shape == (3, CONTENT_WIDTH)
    assert {len(code) for code in codes} == {16}


def test_the_seed_is_a_secret_that_decides_the_codes():
    images = pictures(200, 0)
    one, same, other = (ContentHash.fit(images, seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.see(images)[1] == same.see(images)[1] != other.see(images)[1]


def test_it_is_read_back_as_it_was(contents):
    images = pictures(5, 3)
    again = ContentHash.from_arrays(contents.arrays())
    assert again.fingerprint == contents.fingerprint
    assert again.see(images)[1] == contents.see(images)[1]
    with pytest.raises(MedwardError, match="protect the model again"):
        ContentHash.from_arrays({**contents.arrays(), "planes": contents.planes[:3]})


def test_copies_in_the_calibration_rows_do_not_make_everything_different():
    images = pictures(200, 0)
    twice = ContentHash.fit(np.concatenate([images, images]), seed=0)
    assert float(twice.step) == pytest.approx(float(ContentHash.fit(images, seed=0).step), rel=0.5)


@pytest.mark.parametrize("images", [np.zeros((1, 1, 8, 8)), np.zeros((5, 3)), np.zeros((5, 1, 8, 8))])
def test_too_few_or_all_alike_is_said(images):
    with pytest.raises(MedwardError, match="contents: "):
        ContentHash.fit(images)
