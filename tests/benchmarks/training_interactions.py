"""What training for one thing changes elsewhere: every attack on the model before and after hardening or privacy.

One small CNN on PneumoniaMNIST that knows its 800 training images well is hardened against shared changes, against any
change, and trained anew with differential privacy; each result is protected and validated with the CNN as the model
before, which gives the table of a report.
"""

from __future__ import annotations

import tempfile
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
from medward.attacks.membership.pool import joined_rows
from medward.guard.data.split import Split
from medward.guard.harden import HARDENERS

CLAIMS = ("training_interactions",)

SEED = 0
SIZES = {"train": 800, "selection": 200, "calibration": 600, "holdout": 800, "test": 500}
ATTACKS = ("uap", "pgd", "membership-loss", "membership-lira", "membership-bavaria")


def measure() -> Iterator[Claim]:
    """One claim: the table; met where privacy leaves no membership attack an AUC clearly above one half."""
    torch.set_num_threads(1)
    splits = few_rows()
    network = knowing_network(splits)
    methods: dict[str, Any] = {
        "uat": replace(HARDENERS["uat"], training=replace(HARDENERS["uat"].training, epochs=20)),
        "trades": replace(HARDENERS["trades"], training=replace(HARDENERS["trades"].training, epochs=20)),
        "dp, epsilon 8": medward.PrivateTraining(target_epsilon=8.0, unit="row"),
        "dp, epsilon 1": medward.PrivateTraining(target_epsilon=1.0, unit="row"),
    }
    trainings = {name: _interactions(network, splits, method) for name, method in methods.items()}
    clear = [
        f"{name}: {row['attack']} {row['after']}"
        for name, rows in trainings.items()
        if name.startswith("dp")
        for row in rows
        if row["attack"].startswith("membership") and row["after_low"] > 0.5
    ]
    yield Claim(
        claim="training_interactions",
        value=len(clear),
        target="0 membership attacks whose AUC after private training is above 0.5 with its whole interval",
        met=not clear,
        n=sum(map(len, trainings.values())),
        seed=SEED,
        details={"trainings": trainings, "rows": SIZES},
    )


def knowing_network(splits: dict[str, Split]) -> torch.nn.Module:
    """A small CNN that knows its training images well."""
    train = Split(splits["train"].inputs, splits["train"].labels)
    trained: torch.nn.Module = overfitted(30, network=lambda: small_network((1, 28, 28), 2))(train, SEED)
    return trained


def few_rows() -> dict[str, Split]:
    """Rows of PneumoniaMNIST in splits of `SIZES`."""
    task = load_task("pneumoniamnist", seed=SEED)
    rows = joined_rows([task.splits[name] for name in ("train", "selection", "calibration", "holdout")])
    few = np.random.default_rng(SEED).permutation(len(rows))[: sum(SIZES.values())]
    return stratified_partition(rows.take(few), SIZES, seed=SEED)


def _interactions(network: torch.nn.Module, splits: dict[str, Split], method: Any) -> list[dict[str, Any]]:
    """The rows of the report's table for one method."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        trained = {name: splits[name] for name in ("train", "selection")}
        medward.harden(network, trained, out / "hardened", method, low=0.0, high=1.0, seed=SEED)
        bundle = medward.protect(
            str(out / "hardened" / "model.onnx"),
            splits["calibration"],
            medward.Policy(on_error="withhold"),
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
    return [
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
