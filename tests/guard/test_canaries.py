"""Canaries stay within what values reach, are in by their coin, and come back from their file as they were."""

from __future__ import annotations

import numpy as np
import pytest

from medward.guard.data.canaries import CanarySet, plant_canaries
from medward.guard.data.split import Split
from medward.guard.data.text_canaries import TextCanarySet, plant_texts
from medward.guard.errors import MedwardError

RNG = np.random.default_rng(0)
SPLITS = {
    "table": Split(RNG.normal(size=(300, 5)).astype(np.float32), RNG.integers(0, 2, 300), np.arange(300) // 2),
    "images": Split(RNG.random((80, 1, 6, 6)).astype(np.float32), RNG.integers(0, 3, 80)),
    "pixels": Split(RNG.integers(0, 256, (80, 6, 6)).astype(np.uint8), RNG.integers(0, 3, 80)),
    "numbers": Split(RNG.normal(size=(100, 4)).astype(np.float32), RNG.normal(size=100)),
}


@pytest.mark.parametrize("kind", ["noise", "mislabelled"])
@pytest.mark.parametrize("name", SPLITS)
def test_what_is_planted(name, kind):
    split = SPLITS[name]
    planted, canaries = plant_canaries(split, 30, seed=1, kind=kind)
    inside = int(canaries.included.sum())
    assert 5 < inside < 25
    assert canaries.inputs.dtype == split.inputs.dtype
    assert canaries.inputs.shape == (30, *split.inputs.shape[1:])
    assert (canaries.inputs.min(), canaries.inputs.max()) >= (split.inputs.min(), split.inputs.min())
    assert canaries.inputs.max() <= split.inputs.max()
    assert set(canaries.labels.tolist()) <= set(split.labels.tolist())
    np.testing.assert_array_equal(planted.inputs[-inside:], canaries.inputs[canaries.included])
    np.testing.assert_array_equal(planted.labels[-inside:], canaries.labels[canaries.included])
    if split.patients is not None:
        assert not set(planted.patients[-inside:]) & set(split.patients)
        assert len(set(planted.patients[-inside:])) == inside


@pytest.mark.parametrize("name", SPLITS)
def test_mislabelled_rows_leave_the_split_and_have_another_label(name):
    split = SPLITS[name]
    planted, canaries = plant_canaries(split, 30, seed=1, kind="mislabelled")
    rest = planted.inputs[: len(planted) - int(canaries.included.sum())]
    assert len(rest) == len(split) - 30 * (2 if split.patients is not None else 1)
    known = {row.tobytes(): label for row, label in zip(split.inputs, split.labels, strict=True)}
    for row, label in zip(canaries.inputs, canaries.labels, strict=True):
        assert known[row.tobytes()] != label
    assert not {row.tobytes() for row in rest} & {row.tobytes() for row in canaries.inputs}


def test_copies_are_of_one_patient():
    planted, canaries = plant_canaries(SPLITS["table"], 20, seed=0, copies=3)
    added = planted.take(slice(300, None))
    assert len(added) == 3 * canaries.included.sum()
    assert len(set(added.patients)) == canaries.included.sum()


def test_coins_are_fair_and_labels_do_not_tell_them():
    drawn = [plant_canaries(SPLITS["table"], 500, seed=seed)[1] for seed in range(8)]
    included, labels = (np.concatenate([getattr(each, name) for each in drawn]) for name in ("included", "labels"))
    assert abs(included.mean() - 0.5) < 0.04
    assert abs(included[labels == 1].mean() - 0.5) < 0.06


def test_a_file_holds_them_as_they_are(tmp_path):
    _, canaries = plant_canaries(SPLITS["images"], 12, seed=0)
    canaries.save(tmp_path / "canaries.npz")
    again = CanarySet.load(tmp_path / "canaries.npz")
    assert again.digest == canaries.digest
    np.testing.assert_array_equal(again.included, canaries.included)
    np.savez(tmp_path / "other.npz", inputs=canaries.inputs)
    np.savez(tmp_path / "short.npz", inputs=canaries.inputs, labels=canaries.labels[:3], included=canaries.included)
    for name in ("other.npz", "short.npz"):
        with pytest.raises(MedwardError, match="no canaries"):
            CanarySet.load(tmp_path / name)


REFUSED = {
    "count": (SPLITS["table"], {"count": 0}, "count >= 1"),
    "copies": (SPLITS["table"], {"count": 5, "copies": 0}, "copies >= 1"),
    "labels": (Split(SPLITS["table"].inputs), {"count": 5}, "labelled"),
    "patients": (SPLITS["table"], {"count": 80, "kind": "mislabelled"}, "at most half"),
    "one label": (Split(SPLITS["table"].inputs, np.zeros(300, int)), {"count": 5, "kind": "mislabelled"}, "same label"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_planted_is_refused(what):
    split, given, words = REFUSED[what]
    with pytest.raises(MedwardError, match=words):
        plant_canaries(split, seed=0, **given)


def test_texts_are_planted_kept_and_read_again(tmp_path):
    planted, canaries = plant_texts(("a note",), 40, seed=0, copies=2)
    inside = [text for text, kept in zip(canaries.texts, canaries.included, strict=True) if kept]
    assert planted == ("a note", *(text for text in inside for _ in range(2)))
    assert len(set(canaries.texts)) == 40
    canaries.save(tmp_path / "texts.json")
    assert TextCanarySet.load(tmp_path / "texts.json").digest == canaries.digest
    (tmp_path / "bad.json").write_text('{"texts": ["a"], "included": []}')
    with pytest.raises(MedwardError, match="no text canaries"):
        TextCanarySet.load(tmp_path / "bad.json")
    with pytest.raises(MedwardError, match="count >= 1"):
        plant_texts((), 0, seed=0)
