"""The table of tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.functional import interpolate

from medward.attacks.benchmarks.base import BenchmarkTask, data_root, to_npz
from medward.attacks.benchmarks.datasets.blood import load_blood
from medward.attacks.benchmarks.datasets.lesion import load_lesion
from medward.attacks.benchmarks.datasets.nih_cxr import load_nih_cxr
from medward.attacks.benchmarks.datasets.phantom import load_phantom
from medward.attacks.benchmarks.datasets.pneumoniamnist import load_pneumoniamnist
from medward.attacks.benchmarks.datasets.wdbc import load_wdbc
from medward.guard.errors import MedwardError
from medward.guard.types import Array

__all__ = ["BENCHMARK_TASKS", "BenchmarkTask", "data_root", "load_task", "to_npz"]

DRAWN: dict[str, Callable[[int, Path | None, int], BenchmarkTask]] = {"phantom": load_phantom, "lesion": load_lesion}
BENCHMARK_TASKS: dict[str, Callable[[int, Path | None], BenchmarkTask]] = {
    "wdbc": load_wdbc,
    "pneumoniamnist": load_pneumoniamnist,
    "nih-cxr": load_nih_cxr,
    "blood": load_blood,
    "phantom": load_phantom,
    "lesion": load_lesion,
}


def load_task(name: str, *, seed: int = 0, root: Path | None = None, size: int | None = None) -> BenchmarkTask:
    """The task called `name`, split by `seed`; `root` overrides where its data file is looked for.

    `size` asks for images of so many pixels a side: drawn ones are drawn so, real ones are enlarged or reduced,
    which adds no detail, and `source` then says so.
    """
    if name not in BENCHMARK_TASKS:
        raise MedwardError(f"task {name!r} is not known; there are {', '.join(BENCHMARK_TASKS)}")
    if size is None:
        return BENCHMARK_TASKS[name](seed, root)
    if not 16 <= size <= 512:
        raise MedwardError(f"size: must be from 16 to 512 pixels a side, got {size}")
    return DRAWN[name](seed, root, size) if name in DRAWN else _resized(BENCHMARK_TASKS[name](seed, root), size)


def _resized(task: BenchmarkTask, size: int) -> BenchmarkTask:
    """`task` with its images interpolated bilinearly to `size` pixels a side."""
    if task.modality != "image":
        raise MedwardError(f"size: the {task.modality} task {task.name} has no images")
    if task.shape[1:] == (size, size):
        return task
    splits = {name: replace(split, inputs=_interpolated(split.inputs, size)) for name, split in task.splits.items()}
    source = f"{task.source}; resized from {task.shape[1]}x{task.shape[2]}, which adds no detail"
    return replace(task, shape=(task.shape[0], size, size), splits=splits, source=source)


def _interpolated(inputs: Array, size: int) -> Array:
    resized = interpolate(torch.from_numpy(inputs), (size, size), mode="bilinear", antialias=True)
    return resized.clamp(float(inputs.min()), float(inputs.max())).numpy()
