from __future__ import annotations

import numpy as np
import pytest

from medward.guard.data.reading import Reading, read_data
from medward.guard.data.split import Split, conform_inputs, load_npz, save_npz, split_digest
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

SPEC = ModelSpec(
    name="m",
    modality="image",
    shape=(1, 4, 5),
    task=Classification(classes=("a", "b"), output="logits"),
    low=-1.0,
    high=1.0,
)


def test_splits_round_trip(tmp_path):
    split = Split(np.ones((3, 2), np.float32), np.array([0, 1, 1]), np.array([7, 7, 8]))
    save_npz(tmp_path / "d.npz", {"train": split})
    again = load_npz(tmp_path / "d.npz")["train"]
    assert (again.inputs == split.inputs).all()
    assert (again.labels == split.labels).all()
    assert (again.patients == split.patients).all()


def test_medmnist_files_are_read_as_they_are(tmp_path):
    np.savez(tmp_path / "m.npz", test_images=np.zeros((2, 4, 5), np.uint8), test_labels=np.zeros((2, 1), np.uint8))
    split = load_npz(tmp_path / "m.npz")["test"]
    assert split.labels.shape == (2,)
    assert conform_inputs(split.inputs, SPEC).shape == (2, 1, 4, 5)


def test_eight_bit_images_fill_the_models_range():
    images = np.array([0, 255], np.uint8)[:, None, None] * np.ones((1, 4, 5), np.uint8)
    x = conform_inputs(images, SPEC)
    assert x.min() == -1
    assert x.max() == 1


def test_colour_images_get_their_channels_first():
    spec = ModelSpec(
        name="m",
        modality="image",
        shape=(3, 4, 5),
        task=Classification(classes=("a", "b"), output="logits"),
        low=0,
        high=1,
    )
    assert conform_inputs(np.zeros((2, 4, 5, 3), np.uint8), spec).shape == (2, 3, 4, 5)


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "p.npz", inputs=np.array([{"a": 1}], dtype=object))
    with pytest.raises(MedwardError, match="without pickled objects"):
        load_npz(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"foo": np.zeros(3)}, "no array named"),
        ({"inputs": np.zeros((3, 2)), "labels": np.zeros(2, int)}, "labels has 2 entries for 3"),
        ({"inputs": np.zeros((2, 2)), "labels": np.array([np.nan, 1])}, "whole numbers"),
        ({"inputs": np.zeros(())}, "at least two axes"),
    ],
)
def test_malformed_files_are_named(tmp_path, arrays, says):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(MedwardError, match=says):
        load_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("option", ["target", "patient"])
def test_a_column_of_an_npz_is_refused_unless_a_bundle_recalls_it(tmp_path, option):
    save_npz(tmp_path / "rows.npz", {"test": Split(np.ones((3, 2), np.float32))})
    with pytest.raises(MedwardError, match=f"{option} = 'mrn' names a column, and an npz has none"):
        read_data(tmp_path / "rows.npz", Reading(**{option: "mrn"}))
    assert list(read_data(tmp_path / "rows.npz", Reading(**{option: "mrn"}, recalled=("mrn",)))) == ["test"]


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(MedwardError, match="not a readable npz"):
        load_npz(tmp_path / "x.npz")


def test_the_digest_sees_every_value_and_label():
    a = Split(np.zeros((2, 2)), np.array([0, 1]))
    assert split_digest(a) == split_digest(Split(np.zeros((2, 2)), np.array([0, 1])))
    assert split_digest(a) != split_digest(Split(np.zeros((2, 2)), np.array([1, 1])))
    assert split_digest(a) != split_digest(Split(np.array([[0.0, 0], [0, 1e-9]]), np.array([0, 1])))
