"""NIH ChestX-ray14, 1,000 radiographs at 64x64: 500 without finding, 500 labelled pneumonia, 682 patients.

Split by patient. Good for security tests, not for clinical claims: the images without finding come from a
narrow range of patients, and mean brightness alone separates the classes with an AUC of 0.71.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medward.attacks.benchmarks.base import BenchmarkTask, first_seen, read_known, stratified_partition
from medward.guard.data.pixels import image_batch
from medward.guard.data.split import Split

NIH_FILE = "nih_cxr/nih_cxr_64.npz"
NIH_DIGESTS = ("sha256:4997eee82d4d6fb747458e5d4bd967f62d3a7b715e776b3b2ebf49b71ae05b3f",)
NIH_REMEDY = (
    "it is cut from the NIH Clinical Center's ChestX-ray14, https://nihcc.app.box.com/v/ChestXray-NIHCC "
    "(arrays images, labels, patient, name)"
)
NIH_SIZES = {"train": 400, "selection": 60, "calibration": 240, "holdout": 150, "test": 150}
NIH_SOURCE = "NIH ChestX-ray14 subset, provided by the NIH Clinical Center (Wang et al., CVPR 2017), free to use"


def load_nih_cxr(seed: int, root: Path | None = None) -> BenchmarkTask:
    """All splits by patient and by chance; sizes are met to within a patient's images."""
    arrays = read_known(root, NIH_FILE, NIH_DIGESTS, NIH_REMEDY)
    rows = Split(
        image_batch(arrays["images"], low=0.0, high=1.0),
        arrays["labels"].astype(np.int64),
        arrays["patient"].astype(np.int64),
    )
    (rows,), duplicates = first_seen(rows)
    return BenchmarkTask(
        name="nih-cxr",
        modality="image",
        shape=(1, 64, 64),
        low=0.0,
        high=1.0,
        classes=("no finding", "pneumonia"),
        splits=stratified_partition(rows, NIH_SIZES, seed=seed),
        source=NIH_SOURCE,
        duplicates=duplicates,
    )
