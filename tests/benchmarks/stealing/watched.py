"""The victims that the monitors watch over, and the rows those never saw.

What a bet can show rests on how many calibration rows there are, so the PneumoniaMNIST victim is trained on fewer rows
than elsewhere and more are left to calibrate on. NIH has a thousand images in all; its rows are divided by patient.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.datasets.pneumoniamnist import load_pneumoniamnist
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import classifier_spec, train_victim
from medward.guard.data.split import Split
from medward.guard.models import wrap
from medward.guard.models.base import Model
from medward.guard.profile import Profile

TASKS = ("pneumoniamnist", "nih-cxr")
SIZES = {"train": 1200, "calibration": 2500, "holdout": 980}
UNSEEN = {"pneumoniamnist": ("calibration", "holdout"), "nih-cxr": ("calibration", "holdout", "test")}
CALIBRATION = 0.8  # of the unseen rows, or patients


@cache
def victim(name: str) -> tuple[Model, BenchmarkTask]:
    """A wrapped CNN and its task."""
    task = load_pneumoniamnist(0, sizes=SIZES) if name == "pneumoniamnist" else load_task(name)
    trained = train_victim(task, seed=0)
    return wrap(trained, spec=classifier_spec(task, "logits"), sample=task.splits["calibration"].inputs[:32]), task


def calibrated(name: str, number: int, risk: float) -> tuple[Model, Profile, Split]:
    """The victim, its profile after draw `number` at calibration `risk`, and the traffic that knows nothing of it."""
    model, _ = victim(name)
    calibration, traffic = divided(name, number)
    patients = calibration.patients
    profile = Profile.fit(model, calibration.inputs, risk=risk, patients=patients, seed=number, secret=number)
    return model, profile, traffic


def divided(name: str, number: int) -> tuple[Split, Split]:
    """Calibration and traffic of draw `number`, of the rows the victim never saw; no patient is in both."""
    splits = [victim(name)[1].splits[each] for each in UNSEEN[name]]
    inputs = np.concatenate([split.inputs for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    known = splits[0].patients is not None
    patients = np.concatenate([split.patients for split in splits]) if known else np.arange(len(inputs))
    everyone = np.random.default_rng(number).permutation(np.unique(patients))
    mine = np.isin(patients, everyone[: int(CALIBRATION * len(everyone))])
    unseen = Split(inputs, labels, patients if known else None)
    return unseen.take(np.flatnonzero(mine)), unseen.take(np.flatnonzero(~mine))
