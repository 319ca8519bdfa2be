"""Blood cells: three classes of which two are rare (85, 8, 7 %), of 364 slides, and a victim that tells them apart."""

from __future__ import annotations

from functools import cache

import numpy as np

from medward.attacks.benchmarks.base import BenchmarkTask, first_seen, read_known
from medward.attacks.benchmarks.datasets.blood import BLOOD_DIGESTS, BLOOD_FILE, BLOOD_REMEDY
from medward.attacks.benchmarks.victims import classifier_spec, train_victim
from medward.guard.data.pixels import image_batch
from medward.guard.data.split import Split
from medward.guard.models import wrap
from medward.guard.models.base import Model
from medward.guard.profile import Profile
from medward.guard.types import Array

TRAIN, SELECTION = 0.3, 0.05  # of the slides; what the victim never saw is calibration and traffic
RED = 1200  # red cells of a draw's traffic at most


@cache
def victim() -> tuple[Model, BenchmarkTask]:
    """A wrapped CNN, and its task, whose split "unseen" it never saw."""
    arrays = read_known(None, BLOOD_FILE, BLOOD_DIGESTS, BLOOD_REMEDY)
    (rows,), duplicates = first_seen(
        Split(image_batch(arrays["X"], low=0.0, high=1.0), arrays["Y"].astype(np.int64), arrays["P"].astype(np.int64))
    )
    assert rows.patients is not None
    slides = np.random.default_rng(0).permutation(np.unique(rows.patients))
    ends = [0, int(TRAIN * len(slides)), int((TRAIN + SELECTION) * len(slides)), len(slides)]
    splits = {
        name: rows.take(np.flatnonzero(np.isin(rows.patients, slides[start:stop])))
        for name, start, stop in zip(("train", "selection", "unseen"), ends[:-1], ends[1:], strict=True)
    }
    task = BenchmarkTask(
        name="blood",
        modality="image",
        shape=(3, 32, 32),
        low=0.0,
        high=1.0,
        classes=("red cell", "white cell", "platelets"),
        splits=splits,
        source="BCCD (Shenggan/BCCD_Dataset), MIT",
        duplicates=duplicates,
    )
    trained = train_victim(task, seed=0)
    return wrap(
        trained, spec=classifier_spec(task, "logits"), sample=splits["unseen"].inputs[:32], task="classification"
    ), task


def calibrated(rows: int, number: int, risk: float) -> tuple[Model, Profile, Split]:
    """The victim, its profile after draw `number` of so many `rows` without slides, and traffic of other slides."""
    model, task = victim()
    unseen, rng = task.splits["unseen"], np.random.default_rng(number)
    assert unseen.patients is not None
    slides = rng.permutation(np.unique(unseen.patients))
    enough = int(np.searchsorted(np.cumsum([(unseen.patients == slide).sum() for slide in slides]), rows)) + 1
    mine = np.isin(unseen.patients, slides[:enough])
    known = unseen.take(rng.permutation(np.flatnonzero(mine))[:rows])
    profile = Profile.fit(model, known.inputs, risk=risk, seed=number, secret=number)
    traffic = unseen.take(np.flatnonzero(~mine))
    assert traffic.labels is not None
    kept = np.concatenate([np.flatnonzero(traffic.labels > 0), np.flatnonzero(traffic.labels == 0)[:RED]])
    return model, profile, traffic.take(kept)


def turned(images: Array) -> list[Array]:
    """The seven other ways a cell may lie on its slide: quarter turns, mirrored or not."""
    turns = [np.rot90(images, quarter, (2, 3)) for quarter in range(4)]
    return [*(each.copy() for each in turns[1:]), *(each[..., ::-1].copy() for each in turns)]
