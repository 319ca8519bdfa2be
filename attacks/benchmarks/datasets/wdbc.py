"""WDBC: 569 fine-needle aspirates of breast masses, 30 nucleus measurements each. Comes with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from medward.attacks.benchmarks.base import BenchmarkTask, first_seen, stratified_partition
from medward.guard.data.split import Split

WDBC_SIZES = {"train": 190, "calibration": 170, "holdout": 95, "test": 114}
_SOURCE = (
    "Wisconsin Diagnostic Breast Cancer as shipped in scikit-learn (Street et al. 1993, UCI, "
    "doi 10.24432/C5DW2B), CC BY 4.0"
)


def load_wdbc(seed: int, _root: Path | None = None) -> BenchmarkTask:
    """Rows in their original units, float32; there is no "selection" split, the victim needs none."""
    bunch = load_breast_cancer()
    rows = Split(bunch.data.astype(np.float32), bunch.target.astype(np.int64))
    (rows,), duplicates = first_seen(rows)
    return BenchmarkTask(
        name="wdbc",
        modality="tabular",
        shape=(30,),
        low=None,
        high=None,
        classes=tuple(map(str, bunch.target_names)),
        splits=stratified_partition(rows, WDBC_SIZES, seed=seed),
        source=_SOURCE,
        duplicates=duplicates,
    )
