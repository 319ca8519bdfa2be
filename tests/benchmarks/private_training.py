"""Training with differential privacy: what it costs in accuracy, and whether any attack exceeds its ceiling.

In each cell `MODELS` models are trained by one recipe on coin-flipped halves of the units, in pairs; each is attacked
with the others, but its pair, as its shadows, so shadows match the target's regime, noise included. The recipe was
tuned on PneumoniaMNIST alone. Slides of blood cells stand for patients of many rows. Rows for testing, and what scales
a table's columns, were trained on by nobody. A finished cell is kept under out/ and recalled.
"""

from __future__ import annotations

import csv
import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claim import Claim
from membership_peers import log_odds_of
from populations import network_logits, overfitted, shadows_of, train_population
from torch import nn

from medward.attacks.benchmarks.base import stratified_partition
from medward.attacks.benchmarks.tasks import data_root, load_task
from medward.attacks.benchmarks.victims import accuracy
from medward.attacks.candidates.evaluation import rate_at
from medward.attacks.membership.evidence import Evidence
from medward.attacks.membership.pool import joined_rows
from medward.attacks.membership.scores import score_evidence
from medward.guard.certificate import PrivacyCertificate
from medward.guard.data.split import Split
from medward.guard.harden.private.method import PrivateTraining
from medward.guard.statistics.privacy_accounting import certified_mechanism, true_positive_ceiling

CLAIMS = ("private_training_within_ceilings", "private_training_utility")

SEED, MODELS, MOST_ROWS = 0, 4, 2000
EPSILONS = (1.0, 3.0, 8.0)
RATES = (0.01, 0.1)
ROOT = Path(__file__).parents[2]
CELLS = ROOT / "out" / "private_training"


@dataclass(frozen=True)
class Subject:
    """A data set: rows that coins are flipped for, rows for testing, and the net that is drawn for them."""

    rows: Split
    test: Split
    network: Callable[[], nn.Module]
    low: float | None
    high: float | None


def measure() -> Iterator[Claim]:
    """Both claims from the same cells; two at a time, each in a process of its own."""
    wanted = [f"{name}/{unit}/{epsilon:g}" for name, unit in UNITS for epsilon in EPSILONS]
    wanted += [f"{name}/row/none" for name in SUBJECTS]
    found = dict(zip(wanted, run_cells(wanted), strict=True))
    private = {name: cell for name, cell in found.items() if not name.endswith("none")}
    above = [
        f"{name}: {score} {rates[str(rate)]['low']:.3f} > {cell['ceilings'][str(rate)]:.3f} at {rate:g}"
        for name, cell in private.items()
        for score, rates in cell["scores"].items()
        for rate in RATES
        if rates[str(rate)]["low"] > cell["ceilings"][str(rate)]
    ]
    pointwise = [
        f"{name}: {score} {rates[str(rate)]['value']:.3f} > {cell['ceilings'][str(rate)]:.3f} at {rate:g}"
        for name, cell in private.items()
        for score, rates in cell["scores"].items()
        for rate in RATES
        if rates[str(rate)]["value"] > cell["ceilings"][str(rate)]
    ]
    details = {"cells": found, "above_by_their_lower_end": above, "above_by_their_value": pointwise}
    yield Claim(
        claim="private_training_within_ceilings",
        value=len(above),
        target="0 attacks whose true positive rate exceeds, by its 95 % lower end, the ceiling of the f-DP curve",
        met=not above,
        n=sum(len(cell["scores"]) for cell in private.values()) * len(RATES),
        seed=SEED,
        details=details,
    )
    least = min(cell["epsilon_target"] - cell["epsilon"] for cell in private.values())
    yield Claim(
        claim="private_training_utility",
        value=least,
        target="reported: balanced accuracy at each epsilon beside training without privacy; value = least budget left",
        met=least >= 0,
        n=len(found) * MODELS,
        seed=SEED,
        details={
            name: {key: cell[key] for key in ("balanced_accuracy", "each", "units", "rows", "epsilon", "delta")}
            for name, cell in found.items()
        },
    )


def run_cells(names: list[str]) -> list[dict[str, Any]]:
    """Each cell's figures, kept from an earlier run of the same code where there is one."""
    CELLS.mkdir(parents=True, exist_ok=True)
    files = {name: CELLS / f"{name.replace('/', '-')}-{_code_digest()}.json" for name in names}
    waiting = [name for name in names if not files[name].exists()]
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        while waiting and len(running) < 2:
            name = waiting.pop(0)
            code = f"import sys; sys.path[:] = {sys.path!r}; import private_training as bench; "
            code += f"bench.keep_cell({name!r}, {str(files[name])!r})"
            running.append(subprocess.Popen([sys.executable, "-c", code]))
        done = [each for each in running if each.poll() is not None]
        if any(each.returncode for each in done):
            raise RuntimeError("a cell failed")
        running = [each for each in running if each not in done]
        time.sleep(0.5)
    return [json.loads(files[name].read_text()) for name in names]


def _code_digest() -> str:
    """Names the code that models and claims come from: private training, its accounting, and this file."""
    folders = ("guard/harden/private", "guard/harden/losses", "guard/statistics")
    paths = [path for folder in folders for path in sorted((ROOT / folder).glob("**/*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in (*paths, Path(__file__)))).hexdigest()[:12]


def keep_cell(name: str, file: str) -> None:
    """Measure one cell and write it down whole."""
    torch.set_num_threads(1)
    data, unit, epsilon = name.split("/")
    cell = measure_cell(SUBJECTS[data](), unit, None if epsilon == "none" else float(epsilon))
    part = Path(f"{file}.part")
    part.write_text(json.dumps(cell))
    part.rename(file)


def measure_cell(subject: Subject, unit: str, epsilon: float | None) -> dict[str, Any]:
    """Train the models of one cell and attack each; without `epsilon`, ordinary training."""
    certificates: list[PrivacyCertificate] = []
    rows = subject.rows if unit == "patient" else Split(subject.rows.inputs, subject.rows.labels)
    half = stratified_partition(subject.test, {"selection": 1, "test": 1}, seed=SEED)

    def private(part: Split, seed: int) -> nn.Module:
        method = PrivateTraining(target_epsilon=epsilon or 1.0, unit="patient" if unit == "patient" else "row")
        done = method.harden(subject.network(), part, half["selection"], low=subject.low, high=subject.high, seed=seed)
        assert isinstance(done.certificate, PrivacyCertificate)
        certificates.append(done.certificate)
        return done.network

    train = overfitted(30, network=subject.network) if epsilon is None else private
    population = train_population(rows, MODELS, train, seed=SEED)
    balanced = [
        accuracy(np.asarray(half["test"].labels), network_logits(net, half["test"].inputs).argmax(axis=1))[1]
        for net in population.networks
    ]
    others = half["test"]
    z = np.stack(
        [log_odds_of(network_logits(net, others.inputs), np.asarray(others.labels)) for net in population.networks]
    )
    phi = np.stack([log_odds_of(logits, population.labels) for logits in population.logits])
    units = np.arange(len(rows)) if rows.patients is None else np.unique(rows.patients, return_inverse=True)[1]
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for target in range(MODELS):
        rest = shadows_of(target, MODELS)
        known = Evidence(phi=z[target], shadows=z[rest], included=np.zeros((len(rest), len(others)), bool))
        evidence = Evidence(phi=phi[target], shadows=phi[rest], included=population.members[rest], population=known)
        counts = np.bincount(units)
        truth = np.bincount(units, population.members[target]) / counts > 0.5
        for name, scores in score_evidence(evidence).items():
            found.setdefault(name, []).append((np.bincount(units, scores) / counts, truth))
    return {
        "balanced_accuracy": statistics.mean(balanced),
        "each": balanced,
        "units": len(np.unique(units)) // 2,
        "rows": len(rows) // 2,
        "epsilon_target": epsilon,
        "epsilon": max((each.epsilon for each in certificates), default=None),
        "delta": None if not certificates else certificates[0].delta,
        "ceilings": {
            str(rate): max(true_positive_ceiling(certified_mechanism(each), rate) for each in certificates)
            for rate in RATES
        }
        if certificates
        else {},
        "scores": {name: {str(rate): rate_figures(runs, rate) for rate in RATES} for name, runs in found.items()},
    }


def rate_figures(runs: list[tuple[np.ndarray, np.ndarray]], rate: float) -> dict[str, float]:
    """The true positive rate at `rate`: its mean over targets as ROCs show it, and the largest sure lower end.

    The lower end of each target is that of `rate_at`, whose threshold was chosen on other non-members.
    """
    seen, sure = [], [0.0]
    for seed, (scores, truth) in enumerate(runs):
        threshold = np.quantile(scores[~truth], 1 - rate, method="higher")
        seen.append(float((scores[truth] > threshold).mean()))
        interval = rate_at(scores, truth, rate, seed=seed)
        sure += [] if interval is None else [interval.low]
    return {"value": statistics.mean(seen), "low": max(sure)}


def _pneumonia() -> Subject:
    task = load_task("pneumoniamnist", seed=SEED)
    rows = joined_rows([task.splits[name] for name in ("train", "calibration", "selection", "holdout")])
    return _images(rows.take(np.random.default_rng(SEED).permutation(len(rows))[:MOST_ROWS]), task.splits["test"])


def _nih() -> Subject:
    task = load_task("nih-cxr", seed=SEED)
    return _images(
        joined_rows([task.splits[name] for name in ("train", "selection", "calibration", "holdout")]),
        task.splits["test"],
    )


def _blood() -> Subject:
    with np.load(data_root() / "bccd_blood" / "bccd_crops_32.npz") as file:
        images = np.moveaxis(file["X"], -1, 1).astype(np.float32) / 255
        whole = Split(images, file["Y"].astype(np.int64), file["P"].astype(np.int64))
    parts = stratified_partition(whole, {"rows": MOST_ROWS, "test": len(whole) - MOST_ROWS}, seed=SEED)
    return _images(parts["rows"], parts["test"])


def _images(rows: Split, test: Split) -> Subject:
    classes = int(np.max(rows.labels)) + 1
    return Subject(rows, test, lambda: small_network(tuple(rows.inputs.shape[1:]), classes), 0.0, 1.0)


def small_network(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two convolutions and a linear layer; larger images are halved first."""
    halved, side = shape[1] > 40, shape[1] // (2 if shape[1] > 40 else 1)
    return nn.Sequential(
        nn.AvgPool2d(2) if halved else nn.Identity(),
        nn.Conv2d(shape[0], 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, classes),
    )


def _cardiotocograms() -> Subject:
    """Distinct rows; a quarter is kept apart, and scales the columns."""
    with (data_root() / "fetal_ctg" / "fetal_health.csv").open() as file:
        table = np.unique(np.array(list(csv.reader(file))[1:], float), axis=0)
    whole = Split(table[:, :-1].astype(np.float32), (table[:, -1] - 1).astype(np.int64))
    parts = stratified_partition(whole, {"rows": 3, "test": 1}, seed=SEED)
    mean, spread = parts["test"].inputs.mean(axis=0), parts["test"].inputs.std(axis=0) + 1e-6
    rows, test = (Split((each.inputs - mean) / spread, each.labels) for each in parts.values())
    network = lambda: nn.Sequential(nn.Linear(21, 64), nn.ReLU(), nn.Linear(64, 3))  # noqa: E731
    return Subject(rows, test, network, None, None)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "pneumoniamnist": _pneumonia,
    "nih-cxr": _nih,
    "blood": _blood,
    "fetal-ctg": _cardiotocograms,
}
UNITS = (
    ("pneumoniamnist", "row"),
    ("nih-cxr", "row"),
    ("nih-cxr", "patient"),
    ("blood", "row"),
    ("blood", "patient"),
    ("fetal-ctg", "row"),
)
