"""What is said of images: the mistake that was made, and nothing of ordinary ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medward.guard.commissioning.explain_batch import explain_batch
from medward.guard.commissioning.image_mistakes import moved_images, scaled_images
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs

SIZE = 16


class Spots:
    """Answers by the mean of an image; inputs of any range."""

    def __init__(self, channels=1, low=0.0, high=1.0, scale=1.0):
        self.scale = scale
        task = Classification(classes=("dark", "light"), output="probabilities")
        shape = (channels, SIZE, SIZE)
        self.spec = ModelSpec(name="spots", modality="image", shape=shape, task=task, low=low, high=high)

    def predict(self, inputs):
        mean = np.clip(inputs.mean(axis=(1, 2, 3)) / self.scale, 0, 1)
        return Outputs(np.stack([1 - mean, mean], axis=1))


def pictures(n, seed=0, channels=1):
    """A bright spot up on the left, a dark one below it, on a slope: nothing of it is symmetric."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    found = np.empty((n, channels, SIZE, SIZE), np.float32)
    for image in found:
        a, b, size = rng.normal(0.25, 0.03), rng.normal(0.35, 0.03), rng.normal(0.15, 0.01)
        spot = np.exp(-((y - a) ** 2 + (x - b) ** 2) / size**2)
        hole = np.exp(-((y - a - 0.4) ** 2 + (x - b + 0.1) ** 2) / (0.8 * size) ** 2)
        for channel in range(channels):
            light = 0.45 + 0.1 * x + (0.35 - 0.1 * channel) * spot - (0.1 + 0.12 * channel) * hole
            image[channel] = light * rng.normal(1, 0.03) + rng.normal(0, 0.02, (SIZE, SIZE))
    return np.clip(found, 0.02, 0.98)


@pytest.fixture(scope="module")
def fitted():
    model = Spots()
    return model, Profile.fit(model, pictures(400), risk=0.001, secret=0)


@pytest.fixture(scope="module")
def coloured():
    model = Spots(3)
    return model, Profile.fit(model, pictures(400, channels=3), risk=0.001, secret=0)


def words(model, profile, images):
    return [note.word for note in explain_batch(model, profile, np.ascontiguousarray(images, np.float32))]


MISTAKES = {
    "inverted": lambda x: 1 - x,
    "16 times too small": lambda x: x / 16,
    "255 times too small": lambda x: x / 255,
    "4 times too small": lambda x: x / 4,
    "gamma 2.2": lambda x: x**2.2,
    "offset": lambda x: x - 0.15,
    "upside down": lambda x: x[..., ::-1, :],
    "mirrored": lambda x: x[..., ::-1],
    "rotated by 180": lambda x: x[..., ::-1, ::-1],
    "rotated clockwise": lambda x: np.rot90(x, -1, (2, 3)),
    "rotated anticlockwise": lambda x: np.rot90(x, 1, (2, 3)),
    "transposed": lambda x: x.swapaxes(2, 3),
    "blank": lambda x: 0 * x + 0.5,
}


@pytest.mark.parametrize("word", MISTAKES)
def test_each_mistake_is_called_by_its_name(fitted, word):
    assert words(*fitted, MISTAKES[word](pictures(20, seed=1))) == [word]


def test_nothing_is_said_of_ordinary_images(fitted):
    assert sum(bool(words(*fitted, pictures(20, seed=seed))) for seed in range(10, 70)) == 0
    assert sum(bool(words(*fitted, pictures(5, seed=seed))) for seed in range(10, 70)) == 0


def test_no_way_to_lie_is_named_where_images_have_none():
    model, rng = Spots(), np.random.default_rng(4)
    grain = rng.uniform(0.1, 0.9, (400, 1, SIZE, SIZE)).astype(np.float32)
    profile = Profile.fit(model, grain, risk=0.001, secret=0)
    turned = (rng.uniform(0.1, 0.9, (20, 1, SIZE, SIZE))[..., ::-1, :] for _ in range(20))
    assert [words(model, profile, each) for each in turned] == [[]] * 20


def test_the_order_of_colours_is_named(coloured):
    images = pictures(20, seed=1, channels=3)
    assert words(*coloured, images[:, ::-1]) == ["channels BGR"]
    assert words(*coloured, images[:, [1, 2, 0]]) == ["channels GBR"]
    assert words(*coloured, images) == []


def test_a_range_is_named_where_another_was_calibrated():
    model = Spots(high=255.0, scale=255)
    profile = Profile.fit(model, 255 * pictures(400), risk=0.001, secret=0)
    (note,) = explain_batch(model, profile, pictures(20, seed=1))
    assert note.text == "20 of 20 images look like the range 0 to 1, and 0 to 255 was calibrated"
    assert words(model, profile, 255 * pictures(20, seed=1)) == []


def test_it_is_said_how_many_of_how_many(fitted):
    images = pictures(24, seed=1)
    images[:10] = 1 - images[:10]
    (note,) = explain_batch(*fitted, images)
    assert note.word == "inverted"
    assert 9 <= note.rows <= 12
    assert note.text.startswith(f"{note.rows} of 24 images look inverted")


def test_blank_images_are_told_apart_from_the_rest(fitted):
    images = pictures(20, seed=1)
    images[:3] = 0
    assert [note.text for note in explain_batch(*fitted, images)] == ["3 of 20 images look blank, one value everywhere"]


def test_where_nothing_explains_it_what_differs_is_said_and_no_cause(fitted):
    rng = np.random.default_rng(5)
    notes = explain_batch(*fitted, rng.uniform(0, 1, (20, 1, SIZE, SIZE)).astype(np.float32))
    assert notes
    assert not any(note.explained for note in notes)
    assert any("are strange to the screens" in note.text for note in notes)


def test_fewer_rows_than_are_needed_are_not_judged(fitted):
    assert words(*fitted, 1 - pictures(4, seed=1)) == []
    assert words(*fitted, 1 - pictures(5, seed=1)) == ["inverted"]


def test_a_profile_of_an_older_release_knows_the_screens_only(fitted):
    model, profile = fitted
    old = replace(profile, ordinary=None)
    assert words(model, old, MISTAKES["upside down"](pictures(20, seed=1))) == ["upside down"]  # the screens see it
    assert words(model, old, 0.7 + 0 * pictures(20)) == ["blank"]


@pytest.mark.parametrize("model", [Spots(), Spots(3), Spots(high=255.0)])
def test_each_mistake_is_undone_by_its_own(model):
    spec, images = model.spec, (model.spec.high * pictures(3, channels=model.spec.shape[0])).astype(np.float64)
    for mistake in moved_images(spec):
        made = images
        for _ in range(11):  # the inverse: every one of them has an order of 2, 3 or 4
            made = mistake.undo(made)
        assert np.array_equal(mistake.undo(made), images)
    inverted = next(each for each in scaled_images(0.0, spec.high, normalised=False) if each.name == "inverted")
    assert np.allclose(inverted.undo(spec.high - images), images)


def test_what_was_learned_is_read_back_and_small(fitted):
    model, profile = fitted
    arrays = profile.to_arrays()
    again = Profile.from_arrays(arrays)
    for change in MISTAKES.values():
        assert words(model, again, change(pictures(20, seed=1))) == words(model, profile, change(pictures(20, seed=1)))
    mine = [np.asarray(each).nbytes for name, each in arrays.items() if name.startswith("ordinary.")]
    assert sum(mine) < 4096
