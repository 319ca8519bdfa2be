"""What several benchmarks share: one trained PneumoniaMNIST classifier, kept for the process."""

from __future__ import annotations

from functools import cache
from typing import Any

from attacks.benchmarks.base import Task
from attacks.benchmarks.tasks import load
from attacks.benchmarks.victims import classifier_spec, train_victim
from guard.models import wrap

SEED = 0


@cache
def pneumonia() -> tuple[Any, Task]:
    """The wrapped CNN and its task; needs MEDWARD_DATA."""
    task = load("pneumoniamnist", seed=SEED)
    victim = train_victim(task, seed=SEED)
    model = wrap(victim, spec=classifier_spec(task, "logits"), sample=task.splits["calibration"].inputs[:32])
    return model, task
