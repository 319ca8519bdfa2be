"""Rows dealt to hospitals: nobody shares a row or a patient, and skews are as said."""

from __future__ import annotations

import numpy as np
import pytest

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.hospitals import Hospitals, deal_hospitals
from medward.attacks.benchmarks.tasks import load_task
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError


def made_task(patients: bool, rows: int = 800) -> BenchmarkTask:
    """Each row's only number is its own."""
    numbers = np.arange(2 * rows, dtype=np.float32)[:, None]

    def split(begin: int, end: int) -> Split:
        own = np.arange(begin, end) // 3 if patients else None
        return Split(numbers[begin:end], np.arange(begin, end) % 2, own)

    splits = {
        "train": split(0, rows // 2),
        "holdout": split(rows // 2 // 3 * 3 + 3, rows),
        "selection": split(rows, rows + 100),
        "calibration": split(rows + 102, rows + 300),
        "test": split(rows + 303, rows + 500),
    }
    return BenchmarkTask(
        name="made",
        modality="table",
        shape=(1,),
        low=None,
        high=None,
        classes=("a", "b"),
        splits=splits,
        source="made here",
    )


def parts(hospitals: Hospitals) -> list[Split]:
    return [*hospitals.clients, hospitals.server, hospitals.extractor, hospitals.test]


@pytest.mark.parametrize("patients", [False, True])
@pytest.mark.parametrize("skew", ["iid", "dirichlet"])
@pytest.mark.parametrize("count", [4, 10])
def test_no_row_and_no_patient_is_in_two_parts(patients: bool, skew: str, count: int) -> None:
    dealt = parts(deal_hospitals(made_task(patients), count, rows=60, skew=skew, seed=1))
    rows = np.concatenate([part.inputs[:, 0] for part in dealt])
    assert len(np.unique(rows)) == len(rows)
    if patients:
        seen = np.concatenate([np.unique(part.patients) for part in dealt])
        assert len(np.unique(seen)) == len(seen)


def test_iid_hospitals_are_alike_and_dirichlet_ones_are_not() -> None:
    alike = deal_hospitals(made_task(False), 4, rows=150, skew="iid", seed=0).clients
    unlike = deal_hospitals(made_task(False), 4, rows=150, skew="dirichlet", seed=0).clients
    assert max(map(len, alike)) - min(map(len, alike)) <= 4
    assert max(abs(float(np.mean(each.labels)) - 0.5) for each in alike) < 0.1
    assert max(map(len, unlike)) > 2 * min(map(len, unlike))
    assert max(abs(float(np.mean(each.labels)) - 0.5) for each in unlike) > 0.2


def test_the_same_seed_deals_the_same_rows() -> None:
    one, two, other = (deal_hospitals(made_task(True), 4, rows=60, skew="dirichlet", seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a.inputs, b.inputs) for a, b in zip(one.clients, two.clients, strict=True))
    assert not all(np.array_equal(a.inputs, b.inputs) for a, b in zip(one.clients, other.clients, strict=True))


def test_an_unknown_skew_and_too_few_rows_are_refused() -> None:
    with pytest.raises(MedwardError, match="skew: must be one of iid, dirichlet, got 'even'"):
        deal_hospitals(made_task(False), 4, rows=60, skew="even", seed=0)  # type: ignore[arg-type]
    with pytest.raises(MedwardError, match="hospitals"):
        deal_hospitals(made_task(False, rows=8), 16, rows=1, skew="iid", seed=0)


@pytest.mark.data
def test_blood_is_split_by_slide() -> None:
    task = load_task("blood", seed=2)
    assert (task.shape, len(task.classes)) == ((3, 32, 32), 3)
    slides = [set(np.asarray(split.patients).tolist()) for split in task.splits.values()]
    assert sum(map(len, slides)) == len(set.union(*slides))
