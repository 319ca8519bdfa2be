"""The promises of every task: no leak between splits, same seed same task, known files only."""

import dataclasses
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.attacks.benchmarks import base, tasks
from medward.attacks.benchmarks.base import first_seen, read_known, stratified_partition
from medward.attacks.benchmarks.datasets import lesion, nih_cxr, phantom, pneumoniamnist
from medward.attacks.benchmarks.tasks import BENCHMARK_TASKS, data_root, load_task, to_npz
from medward.guard.data.split import Split, load_npz
from medward.guard.errors import MedwardError

NAMES = [
    "wdbc",
    "phantom",
    "lesion",
    pytest.param("pneumoniamnist", marks=pytest.mark.data),
    pytest.param("nih-cxr", marks=pytest.mark.data),
]


@pytest.fixture(autouse=True)
def _few_drawings(monkeypatch):
    for drawn, name in ((phantom, "PHANTOM_SIZES"), (lesion, "LESION_SIZES")):
        sizes = {split: size // 10 for split, size in getattr(drawn, name).items()}
        monkeypatch.setattr(drawn, name, sizes)


def leaks(splits):
    """How many inputs occur more than once, within or across splits."""
    rows = [row.tobytes() for split in splits for row in split.inputs]
    return len(rows) - len(set(rows))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_what_it_says(name):
    task = load_task(name, seed=3)
    assert task.name == name
    assert {"train", "calibration", "holdout", "test"} <= set(task.splits)
    assert ("selection" in task.splits) == (task.modality == "image")
    assert leaks(task.splits.values()) == 0
    base_rate = np.bincount(task.splits["train"].labels) / len(task.splits["train"])
    for part, split in task.splits.items():
        assert split.inputs.shape == (len(split), *task.shape)
        assert split.inputs.dtype == np.float32
        assert np.isfinite(split.inputs).all()
        assert set(split.labels) == set(range(len(task.classes)))
        if task.low is not None:
            assert split.inputs.min() >= task.low
            assert split.inputs.max() <= task.high
        if part in ("calibration", "holdout"):
            assert np.allclose(np.bincount(split.labels) / len(split), base_rate, atol=0.03)
    assert task.source


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_splits(name):
    first, again, other = load_task(name, seed=1), load_task(name, seed=1), load_task(name, seed=2)
    assert first.digest == again.digest != other.digest


@pytest.mark.data
def test_nih_patients_are_whole():
    patients = [set(split.patients.tolist()) for split in load_task("nih-cxr").splits.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 682


@pytest.mark.data
def test_duplicates_are_counted_and_the_official_test_split_kept():
    task = load_task("pneumoniamnist")
    raw = load_npz(data_root() / pneumoniamnist.PNEUMONIA_FILE)
    assert sum(map(len, raw.values())) - sum(map(len, task.splits.values())) == task.duplicates == 29
    assert len(task.splits["test"]) == len(raw["test"]) - 3
    assert len(task.splits["selection"]) == len(raw["val"])


def test_wdbc_can_be_calibrated_and_needs_no_network(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    assert len(load_task("wdbc").splits["calibration"]) // 2 >= 83


def test_the_written_npz_reads_back_equal(tmp_path):
    task = load_task("wdbc")
    to_npz(task, tmp_path / "wdbc.npz")
    assert dataclasses.replace(task, splits=load_npz(tmp_path / "wdbc.npz")).digest == task.digest


@pytest.mark.parametrize("name", ["phantom", "lesion"])
def test_a_drawn_task_is_drawn_at_the_size_asked_for(name):
    task = load_task(name, seed=1, size=32)
    assert task.shape[1:] == (32, 32)
    assert "resized" not in task.source
    assert task.digest != load_task(name, seed=1).digest


def test_a_real_task_is_resized_and_says_so(monkeypatch):
    monkeypatch.delitem(tasks.DRAWN, "phantom")  # now it counts as real
    plain, large = load_task("phantom", seed=1), load_task("phantom", seed=1, size=96)
    assert large.shape == (1, 96, 96)
    assert "resized from 64x64" in large.source
    for name, split in large.splits.items():
        assert np.array_equal(split.labels, plain.splits[name].labels)
        assert np.allclose(split.inputs.mean((1, 2, 3)), plain.splits[name].inputs.mean((1, 2, 3)), atol=0.01)
        assert 0 <= split.inputs.min() <= split.inputs.max() <= 1
    assert load_task("phantom", seed=1, size=64).digest == plain.digest


def test_a_size_that_makes_no_sense_is_refused():
    with pytest.raises(MedwardError, match="from 16 to 512 pixels a side, got 4"):
        load_task("phantom", size=4)
    with pytest.raises(MedwardError, match="tabular task wdbc has no images"):
        load_task("wdbc", size=64)


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(MedwardError, match=r"'mnist' is not known; there are " + ", ".join(BENCHMARK_TASKS)):
        load_task("mnist")


@pytest.mark.parametrize(("name", "remedy"), [("pneumoniamnist", "10.5281/zenodo"), ("nih-cxr", "nihcc")])
def test_missing_data_says_how_to_get_it(name, remedy, tmp_path):
    with pytest.raises(MedwardError, match=rf"npz is missing: .*{remedy}.*MEDWARD_DATA"):
        load_task(name, root=tmp_path)


@pytest.mark.parametrize("name", ["pneumoniamnist", "nih-cxr"])
def test_a_changed_file_is_named_with_both_digests(name, tmp_path):
    file, digests = {
        "pneumoniamnist": (pneumoniamnist.PNEUMONIA_FILE, pneumoniamnist.PNEUMONIA_DIGESTS),
        "nih-cxr": (nih_cxr.NIH_FILE, nih_cxr.NIH_DIGESTS),
    }[name]
    path = tmp_path / file
    path.parent.mkdir()
    path.write_bytes(b"not the file")
    with pytest.raises(MedwardError) as error:
        load_task(name, root=tmp_path)
    wrong = base.hashlib.sha256(b"not the file").hexdigest()
    assert all(part in str(error.value) for part in (str(path), wrong, *digests))


def test_a_known_file_is_read_by_any_of_its_digests(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(3))
    content = (tmp_path / "x.npz").read_bytes()
    for kind in ("md5", "sha256"):
        known = f"{kind}:{base.hashlib.new(kind, content).hexdigest()}"
        assert read_known(tmp_path, "x.npz", ("sha256:00", known), "")["a"].tolist() == [0, 1, 2]


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(base, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.delenv("MEDWARD_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root() == tmp_path / "cache" / "medward"
    (tmp_path / "data").mkdir()
    assert data_root() == tmp_path / "data"
    monkeypatch.setenv("MEDWARD_DATA", "elsewhere")
    assert data_root() == Path("elsewhere")
    assert data_root(tmp_path) == tmp_path


def test_a_row_seen_before_is_dropped_from_the_later_part():
    a = Split(np.array([[1.0], [2.0], [1.0]]), np.array([0, 1, 0]))
    b = Split(np.array([[2.0], [3.0]]), np.array([1, 1]))
    (a, b), duplicates = first_seen(a, b)
    assert a.inputs.ravel().tolist() == [1, 2]
    assert b.inputs.ravel().tolist() == [3]
    assert duplicates == 2


@settings(max_examples=40, deadline=None)
@given(
    classes=st.lists(st.integers(20, 60), min_size=2, max_size=3),
    sizes=st.lists(st.integers(5, 50), min_size=2, max_size=4),
    per_patient=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_partition_uses_every_row_once_and_keeps_patients_whole(classes, sizes, per_patient, seed):
    labels = np.repeat(np.arange(len(classes)), classes)
    rows = np.arange(len(labels), dtype=np.float32)[:, None]
    patients = np.arange(len(labels)) // per_patient
    wanted = {str(i): size for i, size in enumerate(sizes)}
    grouped = stratified_partition(Split(rows, labels, patients), wanted, seed=seed)
    assert sorted(np.concatenate([s.inputs for s in grouped.values()]).ravel().tolist()) == rows.ravel().tolist()
    owners = [set(s.patients.tolist()) for s in grouped.values()]
    assert sum(map(len, owners)) == len(set.union(*owners))
    single = stratified_partition(Split(rows, labels), wanted, seed=seed)
    for (_, part), size in zip(single.items(), sizes, strict=True):
        expected = np.array(classes) * size / sum(sizes)
        assert (abs(np.bincount(part.labels, minlength=len(classes)) - expected) <= 1.01).all()


def test_partition_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(0)
    data = Split(rng.random((60, 2), np.float32), rng.integers(0, 2, 60))
    sizes = {"a": 30, "b": 30}
    shuffled = stratified_partition(data.take(rng.permutation(60)), sizes, seed=5)
    assert all(
        np.array_equal(split.inputs, shuffled[name].inputs)
        for name, split in stratified_partition(data, sizes, seed=5).items()
    )


def test_train_and_holdout_differ_by_chance_alone():
    """Over seeds every row is as often in train as its share says: neither position nor value decides."""
    data = Split(np.arange(40, dtype=np.float32)[:, None], np.zeros(40, np.int64))
    hits = np.zeros(40)
    for seed in range(400):
        hits[
            stratified_partition(data, {"train": 20, "holdout": 20}, seed=seed)["train"].inputs.ravel().astype(int)
        ] += 1
    assert abs(hits - 200).max() < 4.5 * np.sqrt(400 * 0.25)
