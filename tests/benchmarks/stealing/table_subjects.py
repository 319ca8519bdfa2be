"""Tables with a victim, whose rows that it never saw are divided anew for every draw into calibration and traffic."""

from __future__ import annotations

import csv
from functools import cache

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

from medward.attacks.benchmarks.base import BenchmarkTask, data_root, first_seen, stratified_partition
from medward.attacks.benchmarks.victims import classifier_spec, train_victim
from medward.guard.data.split import Split
from medward.guard.models import wrap
from medward.guard.models.base import Model
from medward.guard.profile import Profile

TABLES = ("wdbc", "fetal-ctg", "digits")
SHARES = {"train": 0.3, "unseen": 0.7}
CALIBRATION = 0.6  # of the rows that the victim never saw


@cache
def victim(name: str) -> tuple[Model, BenchmarkTask]:
    """A wrapped multilayer perceptron and its task, whose split "unseen" it never saw."""
    rows, classes, source = _LOADED[name]()
    (kept,), duplicates = first_seen(rows)
    sizes = {each: round(share * len(kept)) for each, share in SHARES.items()}
    task = BenchmarkTask(
        name=name,
        modality="tabular",
        shape=kept.inputs.shape[1:],
        low=None,
        high=None,
        classes=classes,
        splits=stratified_partition(kept, sizes, seed=0),
        source=source,
        duplicates=duplicates,
    )
    model = wrap(
        train_victim(task, seed=0),
        spec=classifier_spec(task, "probabilities"),
        sample=task.splits["unseen"].inputs[:32],
    )
    return model, task


def calibrated(name: str, number: int, risk: float) -> tuple[Model, Profile, Split]:
    """The victim, its profile after draw `number` at calibration `risk`, and traffic that knows nothing of it."""
    model, task = victim(name)
    unseen = task.splits["unseen"]
    order = np.random.default_rng(number).permutation(len(unseen))
    known = int(CALIBRATION * len(order))
    profile = Profile.fit(model, unseen.inputs[order[:known]], risk=risk, seed=number, secret=number)
    return model, profile, unseen.take(order[known:])


def _wdbc() -> tuple[Split, tuple[str, ...], str]:
    bunch = load_breast_cancer()
    rows = Split(bunch.data.astype(np.float32), bunch.target.astype(np.int64))
    return rows, tuple(map(str, bunch.target_names)), "WDBC as shipped in scikit-learn, CC BY 4.0"


def _fetal_ctg() -> tuple[Split, tuple[str, ...], str]:
    with (data_root() / "fetal_ctg" / "fetal_health.csv").open() as file:
        values = np.array(list(csv.reader(file))[1:], np.float32)
    rows = Split(values[:, :-1], values[:, -1].astype(np.int64) - 1)
    return rows, ("normal", "suspect", "pathological"), "UCI cardiotocography (Ayres-de-Campos et al. 2000), CC BY 4.0"


def _digits() -> tuple[Split, tuple[str, ...], str]:
    bunch = load_digits()
    rows = Split(bunch.data.astype(np.float32), bunch.target.astype(np.int64))
    return rows, tuple(map(str, bunch.target_names)), "Optical digits as shipped in scikit-learn, CC BY 4.0"


_LOADED = dict(zip(TABLES, (_wdbc, _fetal_ctg, _digits), strict=True))
