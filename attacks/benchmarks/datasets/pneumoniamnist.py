"""PneumoniaMNIST: 5,856 paediatric chest radiographs, 28x28, normal or pneumonia.

The official test split is another draw than train and val: accuracy falls by several points, and so "test"
also measures drift. Patients are not known, so images of one child may lie on both sides of a split.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medward.attacks.benchmarks.base import BenchmarkTask, first_seen, read_known, stratified_partition
from medward.guard.data.pixels import image_batch
from medward.guard.data.split import Split

PNEUMONIA_FILE = "pneumoniamnist/pneumoniamnist.npz"
PNEUMONIA_DIGESTS = (
    "md5:28209eda62fecd6e6a2d98b1501bb15f",  # as published by MedMNIST
    "sha256:6b7456d6039c8c8cab605578d4c849c95603f912ad8019c4850ec07cfb79f24a",  # rebuilt, train reordered
)
_REMEDY = "download pneumoniamnist.npz of MedMNIST v2 from Zenodo, doi 10.5281/zenodo.10519652"
PNEUMONIA_SIZES = {"train": 2000, "calibration": 1100, "holdout": 1580}
_SOURCE = "PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023, images Kermany et al. 2018), CC BY 4.0"


def load_pneumoniamnist(
    seed: int, root: Path | None = None, sizes: Mapping[str, int] = PNEUMONIA_SIZES
) -> BenchmarkTask:
    """Official train makes train, calibration and holdout, about of `sizes`; val is "selection", test is "test"."""
    arrays = read_known(root, PNEUMONIA_FILE, PNEUMONIA_DIGESTS, _REMEDY)
    official = [_split(arrays, name) for name in ("test", "val", "train")]
    (test, val, train), duplicates = first_seen(*official)
    return BenchmarkTask(
        name="pneumoniamnist",
        modality="image",
        shape=(1, 28, 28),
        low=0.0,
        high=1.0,
        classes=("normal", "pneumonia"),
        splits={**stratified_partition(train, sizes, seed=seed), "selection": val, "test": test},
        source=_SOURCE,
        duplicates=duplicates,
    )


def _split(arrays: dict[str, np.ndarray], name: str) -> Split:
    return Split(
        image_batch(arrays[f"{name}_images"], low=0.0, high=1.0),
        arrays[f"{name}_labels"].reshape(-1).astype(np.int64),
    )
