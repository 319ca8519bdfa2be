"""Success of a backdoor: how often the trigger turns a decision, beside what the model decides without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medward.attacks.benchmarks.victims import accuracy
from medward.attacks.poisoning.triggers.base import Trigger
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class BackdoorSuccess:
    """Backdoor success is the share of marked rows of other classes that are decided as the target.

    `without_trigger` is the same share of these rows as they are, the control: what exceeds it is the trigger's doing.
    `accuracy` and `balanced` are those on clean rows of all classes.
    """

    success: float
    without_trigger: float
    accuracy: float
    balanced: float
    rows: int


def backdoor_success(decide: Callable[[Array], Ints], trigger: Trigger, target: int, test: Split) -> BackdoorSuccess:
    """What `trigger` makes `decide` say of labelled `test` rows; of a distributed trigger give the whole one.

    Raises `MedwardError` where every row is of the target's class.
    """
    labels, images = np.asarray(test.labels, np.int64), np.asarray(test.inputs)
    others = labels != target
    if not others.any():
        raise MedwardError(f"backdoor: needs rows of classes other than {target}, and all {len(labels)} are of it")
    clean = decide(images)
    overall, balanced = accuracy(labels, clean)
    return BackdoorSuccess(
        success=float((decide(trigger.mark(images[others])) == target).mean()),
        without_trigger=float((clean[others] == target).mean()),
        accuracy=overall,
        balanced=balanced,
        rows=int(others.sum()),
    )
