"""What several benchmarks share: one trained PneumoniaMNIST classifier, and `medward` as a timed process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import classifier_spec, train_victim
from medward.attacks.intervals import Interval
from medward.attacks.validation.record import Report
from medward.guard.models import wrap

SEED = 0
ARMS = ("undefended", "baseline", "guarded", "adaptive")
VERDICTS = (0, 1, 2)
"""Exit codes of a validation that ran: held, broken, inconclusive."""


@cache
def pneumonia_victim() -> tuple[Any, BenchmarkTask]:
    """The trained CNN and its task; needs MEDWARD_DATA."""
    task = load_task("pneumoniamnist", seed=SEED)
    return train_victim(task, seed=SEED), task


@cache
def pneumonia() -> tuple[Any, BenchmarkTask]:
    """The wrapped CNN and its task; needs MEDWARD_DATA."""
    victim, task = pneumonia_victim()
    model = wrap(victim, spec=classifier_spec(task, "logits"), sample=task.splits["calibration"].inputs[:32])
    return model, task


def medward(*arguments: str, folder: Path, exits: tuple[int, ...] = (0,)) -> tuple[float, int, str]:
    """Run ``medward`` in `folder`: wall seconds, exit code, what it printed. Raises when it exits otherwise."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "medward", *arguments],
        cwd=folder,
        env={"OMP_NUM_THREADS": "1", **os.environ},
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds = time.perf_counter() - start
    if done.returncode not in exits:
        raise RuntimeError(f"medward {arguments[0]} exited {done.returncode}")
    return seconds, done.returncode, done.stdout


def findings(report: Report) -> list[dict[str, Any]]:
    """Of each finding what the README's table shows."""
    return [
        {"attack": each.attack, "measure": each.measure, "status": each.status.value}
        | {arm: plain(getattr(each, arm)) for arm in ARMS}
        for each in report.findings
    ]


def plain(interval: Interval | None) -> dict[str, float] | None:
    """An interval as JSON."""
    return None if interval is None else asdict(interval)
