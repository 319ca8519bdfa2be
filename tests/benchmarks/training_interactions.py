"""What training for one thing changes elsewhere: every attack on the model before and after hardening or privacy.

One small CNN on PneumoniaMNIST that knows its 800 training images well is hardened by every method, for the radii of
the default policy, and trained anew with differential privacy; each result is protected and validated with the CNN as
the model before, which gives the table of a report. Trainings are kept under out/ and recalled.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claim import Claim
from populations import overfitted
from private_training import small_network

import medward
from medward.attacks.benchmarks.base import stratified_partition
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import accuracy, predict_labels
from medward.attacks.membership.pool import joined_rows
from medward.guard.certify.certifier import Certifier
from medward.guard.data.split import Split
from medward.guard.harden import HARDENERS
from medward.guard.harden.certified.training import CertifiedTraining
from medward.guard.profile import forward_batches

CLAIMS = ("training_interactions",)

SEED = 0
SIZES = {"train": 800, "selection": 200, "calibration": 600, "holdout": 800, "test": 500}
ATTACKS = ("uap", "pgd", "membership-loss", "membership-lira", "membership-bavaria")
SHARED, SINGLE = 10 / 255, 4 / 255
"""The radii of the default policy: of one change for all images, and of a change of each."""
PLAIN, CERTIFYING = {"on_error": "withhold"}, {"on_error": "withhold", "certify": {"enabled": True, "radius": 4.0}}
CELLS = Path(__file__).parents[2] / "out" / "training_interactions"


def measure() -> Iterator[Claim]:
    """One claim: the table; met where privacy leaves no membership attack an AUC clearly above one half."""
    torch.set_num_threads(1)
    splits = _splits()
    train = Split(splits["train"].inputs, splits["train"].labels)
    network = overfitted(30, network=lambda: small_network((1, 28, 28), 2))(train, SEED)
    trainings = {name: _recalled(name, network, splits, method) for name, method in _methods().items()}
    clear = [
        f"{name}: {row['attack']} {row['after']}"
        for name, found in trainings.items()
        if name.startswith("dp")
        for row in found["rows"]
        if row["attack"].startswith("membership") and row["after_low"] > 0.5
    ]
    yield Claim(
        claim="training_interactions",
        value=len(clear),
        target="0 membership attacks whose AUC after private training is above 0.5 with its whole interval",
        met=not clear,
        n=sum(len(found["rows"]) for found in trainings.values()),
        seed=SEED,
        details={"trainings": trainings, "rows": SIZES},
    )


def _methods() -> dict[str, Any]:
    """Every method, at the radius that it is for."""
    trained: dict[str, Any] = {
        name: replace(HARDENERS[name], epsilon=radius, training=replace(HARDENERS[name].training, epochs=20))
        for name, radius in {"retraining": SHARED, "uat": SHARED, "pgd": SINGLE, "trades": SINGLE}.items()
    }
    return {
        **trained,
        "certified, small": CertifiedTraining(architecture="small", epsilon=SINGLE),
        "dp, epsilon 8": medward.PrivateTraining(target_epsilon=8.0, unit="row"),
        "dp, epsilon 1": medward.PrivateTraining(target_epsilon=1.0, unit="row"),
    }


def _recalled(name: str, network: torch.nn.Module, splits: dict[str, Split], method: Any) -> dict[str, Any]:
    """One training from disk, else measured and kept."""
    file = CELLS / f"{name.replace(', ', '_').replace(' ', '_')}.json"
    if not file.is_file():
        CELLS.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(_interactions(network, splits, method), indent=1) + "\n")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def _splits() -> dict[str, Split]:
    task = load_task("pneumoniamnist", seed=SEED)
    rows = joined_rows([task.splits[name] for name in ("train", "selection", "calibration", "holdout")])
    few = np.random.default_rng(SEED).permutation(len(rows))[: sum(SIZES.values())]
    return stratified_partition(rows.take(few), SIZES, seed=SEED)


def _interactions(network: torch.nn.Module, splits: dict[str, Split], method: Any) -> dict[str, Any]:
    """The rows of the report's table for one method, what it costs, and which share of test rows is certified."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        trained = {name: splits[name] for name in ("train", "selection")}
        start = time.process_time()
        medward.harden(network, trained, out / "hardened", method, low=0.0, high=1.0, seed=SEED)
        seconds = time.process_time() - start
        certifying = isinstance(method, CertifiedTraining)
        bundle = medward.protect(
            str(out / "hardened" / "model.onnx"),
            splits["calibration"],
            medward.Policy(**(CERTIFYING if certifying else PLAIN)),
            out / "bundle",
            classes=("normal", "pneumonia"),
            output="logits",
            low=0.0,
            high=1.0,
        )
        judged = {name: splits[name] for name in ("train", "holdout", "test")}
        report = medward.validate(
            bundle,
            judged,
            out / "report",
            names=ATTACKS,
            before=str(out / "hardened" / "original.onnx"),
            seed=SEED,
            progress=False,
        )
        test = splits["test"]
        scores = forward_batches(bundle.model, test.inputs).scores
        certifier = Certifier.of(bundle.bounds, bundle.policy, bundle.model.spec)
        certified = None if certifier is None else float(certifier.certify(test.inputs, scores).holds.mean())
        before, after = (
            float(accuracy(np.asarray(test.labels), decided)[1])
            for decided in (predict_labels(network, test.inputs), bundle.model.spec.decide(scores))
        )
    rows = [
        {
            "attack": each.attack,
            "measure": each.measure,
            "before": str(each.before),
            "after": str(each.after),
            "after_low": each.after.low if each.after is not None else 0.0,
            "difference": str(each.difference),
            "stronger": each.stronger,
        }
        for each in report.interactions
    ]
    return {
        "clean_before": before,
        "clean_after": after,
        "certified": certified,
        "harden_cpu_seconds": seconds,
        "rows": rows,
    }
