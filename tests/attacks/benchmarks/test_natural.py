"""The thief's pool: varied, bounded, repeatable, offline, and not medical."""

import socket
from itertools import pairwise

import numpy as np
import pytest

from medward.attacks.benchmarks.datasets import natural
from medward.attacks.benchmarks.datasets.natural import PHOTOGRAPHS, natural_images, pool_for, tabular_pool
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification


@pytest.mark.parametrize(
    "shape",
    [
        (1, 28, 28),
        (3, 40, 24),
        (1, 300, 400),
        (2, 8, 8),
        (4, 16, 16),
        (16, 8, 8),
        (12, 1, 250),
        (1, 250, 1),
        (1, 1, 64),
    ],
)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-2.0, 3.0)])
def test_images_have_the_shape_and_the_range(shape, low, high):
    images = natural_images(12, shape, low=low, high=high, seed=1)
    assert images.shape == (12, *shape)
    assert images.dtype == np.float32
    assert low <= images.min() < images.max() <= high
    assert (images.max() - images.min()) > 0.5 * (high - low)


@pytest.mark.parametrize("channels", [2, 4, 8, 16])
def test_channels_of_any_number_show_one_photograph_and_are_no_copies(channels):
    """Negative control: channels of two images are as good as unrelated."""
    images = natural_images(60, (channels, 16, 16), seed=1)
    own = [abs(np.corrcoef(image[0].ravel(), image[-1].ravel())[0, 1]) for image in images]
    others = [abs(np.corrcoef(a[0].ravel(), b[-1].ravel())[0, 1]) for a, b in pairwise(images)]
    assert np.median(own) > 0.8 > 0.4 > np.median(others)
    assert np.mean([len({plane.tobytes() for plane in image}) for image in images]) > 0.9 * channels


def test_some_channels_are_bright_where_others_are_dark():
    images = natural_images(60, (4, 16, 16), seed=1)
    signs = [np.corrcoef(image[0].ravel(), image[1].ravel())[0, 1] < 0 for image in images]
    assert 0.1 < np.mean(signs) < 0.6


def test_the_seed_decides_the_images_and_no_two_are_alike():
    images = natural_images(300, (1, 28, 28), seed=1)
    assert np.array_equal(images, natural_images(300, (1, 28, 28), seed=1))
    assert len({image.tobytes() for image in images}) == 300
    assert not np.array_equal(images, natural_images(300, (1, 28, 28), seed=2))


def test_nothing_is_fetched(monkeypatch):
    natural._photographs.cache_clear()
    monkeypatch.setattr(socket, "socket", None)
    assert len(natural_images(2, (3, 8, 8))) == 2


def test_no_medical_picture_is_among_them():
    names = " ".join(name for names in PHOTOGRAPHS.values() for name in names)
    for medical in ("retina", "microaneurysms", "cell", "ihc", "phantom", "brain", "lbpcascade", "lfw"):
        assert medical not in names


def test_a_missing_photograph_is_named(monkeypatch):
    natural._photographs.cache_clear()
    monkeypatch.setitem(PHOTOGRAPHS, "skimage", ("data/absent.png",))
    with pytest.raises(MedwardError, match=r"data/absent\.png of skimage"):
        natural_images(1, (1, 8, 8))
    natural._photographs.cache_clear()


@pytest.mark.parametrize("shape", [(0, 8, 8), (8, 8), (30,)])
def test_a_shape_that_is_no_image_is_refused(shape):
    with pytest.raises(MedwardError, match="natural images have shape"):
        natural_images(1, shape)


def test_tabular_rows_fill_the_plausible_ranges_and_nothing_else():
    reference = np.array([[0.0, -5.0, 7.0], [1.0, 5.0, 7.0]], np.float32)
    rows = tabular_pool(reference, 500, seed=0)
    assert rows.dtype == np.float32
    assert (rows >= reference.min(0)).all()
    assert (rows <= reference.max(0)).all()
    assert np.allclose(rows.mean(0), [0.5, 0.0, 7.0], atol=0.5)
    assert abs(np.corrcoef(rows[:, 0], rows[:, 1])[0, 1]) < 0.2


def test_the_pool_follows_the_spec():
    table = ModelSpec(
        name="t", modality="tabular", shape=(2,), task=Classification(classes=("a", "b"), output="probabilities")
    )
    image = ModelSpec(
        name="i", modality="image", shape=(1, 8, 8), task=Classification(classes=("a", "b"), output="logits")
    )
    assert pool_for(table, np.array([[0.0, 1.0], [1.0, 2.0]], np.float32), 5, seed=0).shape == (5, 2)
    reference = np.linspace(-3, 4, 128, dtype=np.float32).reshape(2, 1, 8, 8)
    pool = pool_for(image, reference, 50, seed=0)
    assert pool.shape == (50, 1, 8, 8)
    assert -3 <= pool.min() < -1
    assert 2 < pool.max() <= 4
