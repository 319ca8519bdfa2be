"""Models trained side by side, one thread each, in processes of their own.

Every model is trained on one thread wherever it is trained, so what comes out is the same. The first is trained here;
the others go to processes only when they would take long enough for starting these to be worth it. A process is a new
Python that imports the recipe by its name: it does not run the caller's script again, so scripts need no guard of their
main module. A recipe that cannot be found by name (a lambda, a closure, what a script or notebook defines itself) is
trained here, and so is any recipe in a daemonic process, which is already one of many.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError

WORTH = 20.0
"""Seconds that the models must still take, one after the other, before processes are started."""

_Job = tuple[Callable[[Split, int], nn.Module], list[tuple[Split, int]]]


def train_all(
    train: Callable[[Split, int], nn.Module],
    parts: Sequence[Split],
    seeds: Sequence[int],
    *,
    processes: int | None = None,
    worth: float = WORTH,
) -> list[nn.Module]:
    """``train(part, seed)`` of each, in order; at most `processes` at a time, by default one for each core.

    Raises what `train` raises, or `MedwardError` with the last line of what a process said before it failed.
    """
    jobs = list(zip(parts, seeds, strict=True))
    most = _cores() if processes is None else processes
    with single_thread():
        began = time.perf_counter()
        done = [train(*job) for job in jobs[:1]]
        left, rest = (time.perf_counter() - began) * (len(jobs) - 1), jobs[1:]
        if most < 2 or left < worth or len(rest) < 2 or not _importable(train):
            return [*done, *(train(*job) for job in rest)]
    return [*done, *_train_apart(train, rest, min(most, len(rest)))]


@contextmanager
def single_thread() -> Iterator[None]:
    """Use one thread for torch, and as many as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def answer_job(folder: str) -> None:
    """Be the process: train the models of ``job`` in a folder and write them beside it."""
    torch.set_num_threads(1)
    job: _Job = pickle.loads((Path(folder) / "job").read_bytes())  # noqa: S301 written by the process that started this
    trained = [job[0](*each) for each in job[1]]
    (Path(folder) / "models").write_bytes(pickle.dumps(trained))


def _train_apart(
    train: Callable[[Split, int], nn.Module], jobs: Sequence[tuple[Split, int]], count: int
) -> list[nn.Module]:
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import answer_job; answer_job(sys.argv[1])"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        running: list[subprocess.Popen[bytes]] = []
        try:
            for process in range(count):
                place = Path(folder) / str(process)
                place.mkdir()
                (place / "job").write_bytes(pickle.dumps((train, jobs[process::count])))
                with (place / "said").open("wb") as said:
                    running.append(
                        subprocess.Popen(  # noqa: S603 this very Python
                            [sys.executable, "-c", code, str(place)], env=environment, stdout=said, stderr=said
                        )
                    )
            found: list[nn.Module | None] = [None] * len(jobs)
            for process, each in enumerate(running):
                found[process::count] = _trained(each, Path(folder) / str(process))
        finally:
            for each in running:
                each.kill()
                each.wait()
    return [network for network in found if network is not None]


def _trained(process: subprocess.Popen[bytes], place: Path) -> list[nn.Module]:
    if process.wait() != 0:
        lines = (place / "said").read_text(errors="replace").strip().splitlines() or ["nothing"]
        raise MedwardError(f"shadows: a process that trained some failed, its last words: {lines[-1]}; train fewer")
    trained: list[nn.Module] = pickle.loads((place / "models").read_bytes())  # noqa: S301 written by our own process
    return trained


def _importable(train: Callable[[Split, int], nn.Module]) -> bool:
    """Whether another Python can find this recipe by name."""
    if multiprocessing.current_process().daemon:
        return False
    try:
        return b"__main__" not in pickle.dumps(train)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
