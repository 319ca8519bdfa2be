"""Blood cells: 4,888 crops of 32x32 in colour; red cells, white cells and platelets (85, 8, 7 %) of 364 slides.

Split by slide. Two of the three classes are rare, and one slide gives many rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medward.attacks.benchmarks.base import BenchmarkTask, first_seen, read_known, stratified_partition
from medward.guard.data.pixels import image_batch
from medward.guard.data.split import Split

BLOOD_FILE = "bccd_blood/bccd_crops_32.npz"
BLOOD_DIGESTS = ("sha256:e9d52948ee9cd7fb8f16f9510e7ec52502b39aabd29d6d6f401c0e06647de5c8",)
BLOOD_REMEDY = "it is cut from github.com/Shenggan/BCCD_Dataset (arrays X, Y, P), see PROVENANCE.md beside it"
BLOOD_SIZES = {"train": 2000, "selection": 300, "calibration": 1000, "holdout": 1000, "test": 588}


def load_blood(seed: int, root: Path | None = None) -> BenchmarkTask:
    """All splits by slide and by chance; sizes are met to within a slide's cells."""
    arrays = read_known(root, BLOOD_FILE, BLOOD_DIGESTS, BLOOD_REMEDY)
    rows = Split(
        image_batch(arrays["X"], low=0.0, high=1.0), arrays["Y"].astype(np.int64), arrays["P"].astype(np.int64)
    )
    (rows,), duplicates = first_seen(rows)
    return BenchmarkTask(
        name="blood",
        modality="image",
        shape=(3, 32, 32),
        low=0.0,
        high=1.0,
        classes=("red cell", "white cell", "platelets"),
        splits=stratified_partition(rows, BLOOD_SIZES, seed=seed),
        source="BCCD (Shenggan/BCCD_Dataset), MIT",
        duplicates=duplicates,
    )
