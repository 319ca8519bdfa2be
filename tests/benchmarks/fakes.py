"""Four planted fakes through the whole validation: none may come out HELD, while the same cell without a fault does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from claim import Claim
from support.planted import Deployment, Faulty, Ideal, TorchVictim

from attacks.base import Attack
from attacks.benchmarks.base import Task, partition
from attacks.benchmarks.phantom import phantoms
from attacks.benchmarks.victims import accuracy, classifier_spec, predict_labels, train_victim
from attacks.evasion import PGD, UniversalPerturbation
from attacks.finding import Finding, Status
from attacks.matrix import validate
from guard.data import Split

CLAIMS = ("planted_fakes_held",)

SEED, SIDE = 0, 32
SIZES = {"train": 1000, "selection": 200, "holdout": 100, "test": 150}
EPSILON = 16 / 255
NEAR = 0.01  # squared distance to a known row; a perturbation of full strength lies 4 away
HOLES, FAR = 16, 5.0  # every 16th row is let through at any strength
UAP = UniversalPerturbation(epsilon=EPSILON, target_class=0)
PIXELWISE = PGD(epsilon=EPSILON, steps=12, restarts=1)
ATTACKS: tuple[Attack, ...] = (UAP, PIXELWISE)
POWERLESS: tuple[Attack, ...] = (replace(UAP, epochs=0), replace(PIXELWISE, steps=0))
CONTROL = "no fault (control)"


def measure() -> Iterator[Claim]:
    """Status and first reason of every fake under every attack, on drawn chest radiographs.

    The guard is a nearly ideal one that knows every benign row, so that nothing but the fault stands between
    the cell and HELD. It has holes, for an attacker who knows the guard and wins nothing may just be broken.
    """
    task = drawn()
    test = task.splits["test"]
    body, spec = train_victim(task, seed=SEED), classifier_spec(task, "logits")
    splits = {name: task.splits[name] for name in ("train", "holdout", "test")}
    known = np.concatenate([split.inputs.reshape(len(split), -1) for split in splits.values()])

    def judged(attacks: tuple[Attack, ...], *, refuses: bool = False, **fault: float) -> dict[str, Finding]:
        model = TorchVictim(Faulty(body, **fault), spec)
        bundle = Deployment(model, Ideal(known, NEAR, HOLES, FAR, refuses))
        with TemporaryDirectory() as out:
            report = validate(
                bundle, splits, Path(out), attacks=attacks, network=model.network, seed=SEED, progress=False
            )
        return {finding.attack: finding for finding in report.findings}

    found = {
        CONTROL: judged(ATTACKS),
        "logits x 200": judged(ATTACKS, scale=200.0),
        "4-bit input quantiser": judged(ATTACKS, levels=15),
        "detector that always abstains": judged(ATTACKS, refuses=True),
        "attack with zero steps": judged(POWERLESS),
    }
    cells = [finding for fake, row in found.items() if fake != CONTROL for finding in row.values()]
    held = sum(finding.status is Status.HELD for finding in cells)
    correct, _ = accuracy(test.labels, predict_labels(body, test.inputs))
    yield Claim(
        claim="planted_fakes_held",
        value=held,
        target="0 cells HELD, while the same cells without a fault are",
        met=held == 0 and all(finding.status is Status.HELD for finding in found[CONTROL].values()),
        n=len(cells),
        seed=SEED,
        details={
            "accuracy": correct,
            "cells": {fake: {name: said(each) for name, each in row.items()} for fake, row in found.items()},
        },
    )


def drawn() -> Task:
    """1,450 phantoms at 32x32."""
    splits = partition(Split(*phantoms(sum(SIZES.values()), size=SIDE, seed=SEED)), SIZES, seed=SEED)
    return Task(
        name=f"phantom-{SIDE}",
        modality="image",
        shape=(1, SIDE, SIDE),
        low=0.0,
        high=1.0,
        classes=("clear", "opacity"),
        splits=splits,
        source="drawn by attacks.benchmarks.phantom; no person, no licence",
    )


def said(finding: Finding) -> dict[str, str]:
    """The status and the first reason."""
    return {"status": finding.status.value, "reason": finding.reasons[0]}
