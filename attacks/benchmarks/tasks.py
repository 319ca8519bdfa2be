"""The table of tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attacks.benchmarks.base import Task, data_root, to_npz
from attacks.benchmarks.nih_cxr import load_nih_cxr
from attacks.benchmarks.phantom import load_phantom
from attacks.benchmarks.pneumoniamnist import load_pneumoniamnist
from attacks.benchmarks.wdbc import load_wdbc
from guard.errors import MedwardError

__all__ = ["TASKS", "Task", "data_root", "load", "to_npz"]

TASKS: dict[str, Callable[[int, Path | None], Task]] = {
    "wdbc": load_wdbc,
    "pneumoniamnist": load_pneumoniamnist,
    "nih-cxr": load_nih_cxr,
    "phantom": load_phantom,
}


def load(name: str, *, seed: int = 0, root: Path | None = None) -> Task:
    """The task called `name`, split by `seed`; `root` overrides where its data file is looked for."""
    if name not in TASKS:
        raise MedwardError(f"task {name!r} is not known; there are {', '.join(TASKS)}")
    return TASKS[name](seed, root)
