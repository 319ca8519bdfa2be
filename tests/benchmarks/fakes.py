"""Four planted fakes through the whole validation: none may come out HELD, while the same cell without a fault does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from claim import Claim
from support.planted import Deployment, Faulty, Ideal, TorchVictim

from attacks.base import Attack
from attacks.benchmarks.tasks import load
from attacks.benchmarks.victims import classifier_spec, train_victim
from attacks.evasion import PGD, UniversalPerturbation
from attacks.finding import Finding, Status
from attacks.matrix import validate

SEED, ROWS = 0, 150
EPSILON = 10 / 255
NEAR = 0.05  # squared distance to a known row; an attack of full strength lies 6 away
PLAIN = "no fault (control)"


def measure() -> Iterator[Claim]:
    """Status and first reason of every fake under every attack, on drawn chest radiographs."""
    task = load("phantom", seed=SEED)
    body, spec = train_victim(task, seed=SEED), classifier_spec(task, "logits")
    splits = {name: task.splits[name].take(slice(0, ROWS)) for name in ("train", "holdout", "test")}
    known = np.concatenate([split.inputs for split in splits.values()]).reshape(3 * ROWS, -1)
    attacks: tuple[Attack, ...] = (
        UniversalPerturbation(epsilon=EPSILON, epochs=6),
        UniversalPerturbation(epsilon=EPSILON, epochs=6, target_class=0),
        PGD(epsilon=EPSILON, steps=12, restarts=1),
    )
    powerless = (*(replace(each, epochs=0) for each in attacks[:2]), replace(attacks[2], steps=0))

    def judged(fault: dict[str, Any], refuses: bool, chosen: tuple[Attack, ...]) -> dict[str, Finding]:
        model = TorchVictim(Faulty(body, **fault), spec)
        bundle = Deployment(model, Ideal(known, NEAR, refuses))
        with TemporaryDirectory() as out:
            report = validate(
                bundle, splits, Path(out), attacks=chosen, network=model.network, progress=False, seed=SEED
            )
        return {finding.attack: finding for finding in report.findings}

    found = {
        PLAIN: judged({}, False, attacks),
        "logits x 200": judged({"scale": 200.0}, False, attacks),
        "4-bit input quantiser": judged({"levels": 15}, False, attacks),
        "detector that always abstains": judged({}, True, attacks),
        "attack with zero steps": judged({}, False, powerless),
    }
    control = found[PLAIN].values()
    cells = [each for name, row in found.items() if name != PLAIN for each in row.values()]
    held = sum(each.status is Status.HELD for each in cells)
    yield Claim(
        claim="planted_fakes_held",
        value=held,
        target="0 cells HELD; every control HELD",
        met=held == 0 and all(each.status is Status.HELD for each in control),
        n=len(cells),
        seed=SEED,
        details={
            fake: {name: {"status": each.status, "reason": each.reasons[0]} for name, each in row.items()}
            for fake, row in found.items()
        },
    )
