"""Interval-bound training: what it costs clean, and of how many decisions no change within 2, 4 or 8/255 alters any.

Beside the undefended network of the benchmarks (a CNN with batch normalisation) stand Medward's small network, trained
undefended by the same loop, and the same trained with bounds. The recipe was tuned on rows of PneumoniaMNIST's
official training split and on NIH patients of whom none is judged on here; blood cells were not tuned on.
PneumoniaMNIST is judged on its official test split, NIH on the patients of "holdout" and "test" at `NIH_SPLIT`,
whatever the seed; blood cells on the slides that each seed draws. A finished cell is kept under out/ and recalled, so
a killed measurement goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from claim import Claim
from torch import Tensor, nn

from medward.attacks.benchmarks.base import BenchmarkTask, stratified_partition
from medward.attacks.benchmarks.datasets.pneumoniamnist import load_pneumoniamnist
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import accuracy, predict_labels, train_victim
from medward.attacks.intervals import rate_interval
from medward.guard.data.split import Split
from medward.guard.harden.certified.bounds import certified_decisions
from medward.guard.harden.certified.training import CertifiedTraining
from medward.guard.harden.method import TrainingContext
from medward.guard.harden.network import Rows, Scoring
from medward.guard.harden.robust.inner import TrainingBall
from medward.guard.harden.robust.training import Objective

CLAIMS = ("certified_training_pneumoniamnist", "certified_training_nih_cxr", "certified_training_blood")

SEEDS = {"pneumoniamnist": (0, 1, 2), "nih_cxr": (0, 1, 2), "blood": (0, 1)}
RADII = (2, 4, 8)
NIH_SPLIT = 0
PNEUMONIA_SIZES = {"train": 3400, "calibration": 1280}
"""Rows to train on; the others were tuned on."""
NIH_SIZES = {"train": 600, "selection": 100}
CELLS = Path(__file__).parents[2] / "out" / "certified_training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undefended(CertifiedTraining):
    """The control trains the same network by the same loop on the rows as they are."""

    name: ClassVar = "undefended"

    def objective(self, lesson: TrainingContext) -> Objective:
        """The task's weighted loss."""

        def loss(network: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
            return lesson.losses.loss(network(x), y)

        return loss


@dataclass(frozen=True)
class Target:
    """What a data set must show: accuracy lost at most, and certified shares at 4 and at 2/255 at least."""

    lost: float | None
    shares: dict[int, float]


TARGETS = {
    "pneumoniamnist": Target(0.02, {4: 0.90, 2: 0.94}),
    "nih_cxr": Target(0.04, {4: 0.86, 2: 0.94}),
    "blood": Target(None, {}),
}


def pneumonia_rows(seed: int) -> BenchmarkTask:
    """The official test split judges, the official validation split chooses the epoch."""
    return load_pneumoniamnist(seed, None, PNEUMONIA_SIZES)


def nih_rows(seed: int) -> BenchmarkTask:
    """The patients of one split judge whatever the seed, which divides the others into training and selection."""
    task = load_task("nih-cxr", seed=NIH_SPLIT)
    parts = [task.splits[name] for name in ("train", "selection", "calibration")]
    judged = joined([task.splits["holdout"], task.splits["test"]])
    return replace(task, splits={**stratified_partition(joined(parts), NIH_SIZES, seed=seed), "test": judged})


def blood_rows(seed: int) -> BenchmarkTask:
    """Slides by chance."""
    return load_task("blood", seed=seed)


DATA: dict[str, Callable[[int], BenchmarkTask]] = {
    "pneumoniamnist": pneumonia_rows,
    "nih_cxr": nih_rows,
    "blood": blood_rows,
}


def joined(parts: list[Split]) -> Split:
    """Rows of several splits one after another, with labels and patients."""
    return Split(
        *(np.concatenate([getattr(each, what) for each in parts]) for what in ("inputs", "labels", "patients"))
    )


def measure() -> Iterator[Claim]:
    """Per data set: the mean loss and shares over the seeds, against the targets."""
    for name in DATA:
        yield claimed(name, {str(seed): recalled(name, seed) for seed in SEEDS[name]})


def recalled(name: str, seed: int) -> dict[str, Any]:
    """The cell from disk, else measured and kept."""
    file = CELLS / f"{name}_{seed}.json"
    if not file.is_file():
        found = study(DATA[name](seed), seed)
        CELLS.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1) + "\n")
    kept: dict[str, Any] = json.loads(file.read_text())
    return kept


def study(task: BenchmarkTask, seed: int) -> dict[str, Any]:
    """The three networks of one seed, judged on rows that none was trained, chosen or tuned on."""
    victim = train_victim(task, seed=seed)
    found = {"undefended": judged(victim, task)}
    chosen = replace(CertifiedTraining().training, keep_last=False, stretch=1.0)
    for method in (Undefended(architecture="small", training=chosen), CertifiedTraining(architecture="small")):
        splits, start = task.splits, time.process_time()
        made = method.harden(victim, splits["train"], splits["selection"], low=task.low, high=task.high, seed=seed)
        seconds = time.process_time() - start
        name = "certified" if method.name == "certified" else "small, undefended"
        found[name] = judged(made.network, task) | {"cpu_seconds": seconds, "epochs": made.certificate.epochs}
    return found


def judged(network: nn.Module, task: BenchmarkTask) -> dict[str, Any]:
    """Clean balanced accuracy; at each radius the certified share, that of each class, and certified accuracy."""
    split, scoring = task.splits["test"], Scoring(network)
    if len(task.classes) != 2:
        scoring = Scoring(network, replace(scoring.losses, classes=len(task.classes)))
    rows = Rows.of(split, "test", task.low, task.high, scoring.losses)
    labels, found = np.asarray(split.labels), {}
    for radius in RADII:
        worst, changed = certified_decisions(
            scoring, rows, TrainingBall.around(rows.x, radius / 255, task.low, task.high)
        )
        share = rate_interval(~changed.numpy())
        found[str(radius)] = {
            "share": share.value,
            "interval": (share.low, share.high),
            "share_by_class": [float((~changed.numpy())[labels == label].mean()) for label in range(len(task.classes))],
            "balanced_accuracy": accuracy(labels, worst.numpy())[1],
        }
    return {"clean": accuracy(labels, predict_labels(network, split.inputs))[1], "n": len(split), "radii": found}


def seconds_per_epoch(run: dict[str, Any]) -> float:
    """CPU time of a training, judging of epochs included."""
    return float(run["cpu_seconds"] / run["epochs"])


def claimed(name: str, cells: dict[str, Any]) -> Claim:
    """From the cells of all seeds: means, against the targets."""
    target, runs = TARGETS[name], list(cells.values())
    certified = [each["certified"] for each in runs]
    lost = {
        other: [each[other]["clean"] - each["certified"]["clean"] for each in runs]
        for other in ("undefended", "small, undefended")
    }
    shares = {radius: [each["radii"][str(radius)]["share"] for each in certified] for radius in RADII}
    ratios = [seconds_per_epoch(each["certified"]) / seconds_per_epoch(each["small, undefended"]) for each in runs]
    mean_lost = float(np.mean(lost["undefended"]))
    wanted = [f"certified share of clean rows at {radius}/255 >= {least}" for radius, least in target.shares.items()]
    wanted += [] if target.lost is None else [f"clean balanced accuracy lost <= {target.lost}"]
    met = all(float(np.mean(shares[radius])) >= least for radius, least in target.shares.items())
    return Claim(
        claim=f"certified_training_{name}",
        value=float(np.mean(shares[4])),
        target=f"mean of seeds: {', '.join(wanted)}" if wanted else "reported: certified share of clean rows at 4/255",
        met=met and (target.lost is None or mean_lost <= target.lost),
        n=sum(each["n"] for each in certified),
        details={
            "clean_balanced_accuracy": {key: [each[key]["clean"] for each in runs] for key in (*lost, "certified")},
            "clean_balanced_accuracy_lost": {
                key: {"mean": float(np.mean(each)), "seeds": each} for key, each in lost.items()
            },
            "certified_share": {
                str(radius): {"mean": float(np.mean(each)), "seeds": each} for radius, each in shares.items()
            },
            "training_time_ratio_per_epoch": {"mean": float(np.mean(ratios)), "seeds": ratios},
            "seeds": cells,
        },
    )
