"""Planted fakes through the whole validation: none is HELD, each is named, and a robust model is judged on merit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from claim import Claim
from support.planted import FakeBundle, Faulty, Ideal, TorchVictim

from medward.attacks.base import Attack
from medward.attacks.benchmarks.base import BenchmarkTask, stratified_partition
from medward.attacks.benchmarks.datasets.phantom import draw_phantoms
from medward.attacks.benchmarks.victims import accuracy, classifier_spec, predict_labels, train_victim
from medward.attacks.checks import FAKES, named_fakes
from medward.attacks.evasion import PGD, UniversalPerturbation
from medward.attacks.validation.deployment import Deployment, ModelBefore
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.run import run_validation
from medward.guard.data.split import Split
from medward.guard.harden import HARDENERS, Training
from medward.guard.policy import GatePolicy
from medward.guard.spec import ModelSpec

CLAIMS = ("planted_fakes_held", "named_fakes", "robust_on_merits")

SEED, SIDE = 0, 24
SIZES = {"train": 1000, "selection": 200, "holdout": 100, "test": 150}
EPSILON = 16 / 255
NEAR = 0.004  # squared distance to a known row; a perturbation of full strength lies 2 away
HOLES, FAR = 16, 2.6  # every 16th row is let through at any strength
UAP = UniversalPerturbation(epsilon=EPSILON, target_class=0)
PIXELWISE = PGD(epsilon=EPSILON, steps=12, restarts=1)
ATTACKS: tuple[Attack, ...] = (UAP, PIXELWISE)
POWERLESS: tuple[Attack, ...] = (replace(UAP, epochs=0), replace(PIXELWISE, steps=0))
WITHIN, TRAINED = 2.5 / 255, 4 / 255  # the radius a robust model should hold at, and the one it is trained for
EPOCHS = 20  # of adversarial training
BOUND = 0.3  # of rows fooled, for the robust model: 150 rows cannot show much less
ON_MERIT: tuple[Attack, ...] = (replace(PIXELWISE, epsilon=WITHIN), PIXELWISE, UAP)
HARMLESS = 1e3  # squared distance that no perturbation reaches: a guard that stops nothing
SHORT = {
    "medward.attacks.validation.clean_cost.CLEAN_QUERIES": 20,
    "medward.attacks.evasion.setup.FACTORS": (0.5, 1.0),
}  # for speed
CONTROL = "no fault (control)"
FAULTS = {
    "logits x 200": ({"scale": 200.0}, "logit scaling"),
    "4-bit input quantiser": ({"levels": 15}, "quantiser"),
    "zero gradient": ({"backward": "zero"}, "gradient killer"),
    "gradient turned around": ({"backward": "flipped"}, "gradient killer"),
    "noise on the input": ({"noise": 0.05}, "random front end"),
}


def measure() -> Iterator[Claim]:
    """Status, names and first reason of every fake under every attack, on drawn chest radiographs.

    The guard is a nearly ideal one that knows every benign row, so that nothing but the fault stands between
    the cell and HELD. It has holes, for an attacker who knows the guard and wins nothing may just be broken.
    The robust model stands behind a guard that stops nothing: whether it holds is its own merit.
    """
    task = drawn()
    test = task.splits["test"]
    body, spec = train_victim(task, seed=SEED), classifier_spec(task, "logits")
    splits = {name: task.splits[name] for name in ("train", "holdout", "test")}
    known = np.concatenate([split.inputs.reshape(len(split), -1) for split in splits.values()])
    correct, _ = accuracy(test.labels, predict_labels(body, test.inputs))
    judged = partial(validated, splits, spec, attacks=ATTACKS)
    ideal = Ideal(known, NEAR, HOLES, FAR)
    found = {
        CONTROL: ("", judged(Faulty(body), ideal)),
        **{fake: (name, judged(Faulty(body, **fault), ideal)) for fake, (fault, name) in FAULTS.items()},
        "detector that always abstains": ("always abstains", judged(Faulty(body), replace(ideal, refuses=True))),
        "attack with zero steps": ("zero steps", judged(Faulty(body), ideal, attacks=POWERLESS)),
    }
    cells = [finding for fake, (_, row) in found.items() if fake != CONTROL for finding in row]
    shown = {fake: {each.attack: said(each) for each in row} for fake, (_, row) in found.items()}
    held = sum(finding.status is Status.HELD for finding in cells)
    yield Claim(
        claim="planted_fakes_held",
        value=held,
        target="0 cells HELD, while the same cells without a fault are",
        met=held == 0 and all(finding.status is Status.HELD for finding in found[CONTROL][1]),
        n=len(cells),
        seed=SEED,
        details={"accuracy": correct, "cells": shown},
    )
    robust, accuracies = hardened(task, body)
    merits = [
        finding
        for attack in ON_MERIT
        for finding in validated(
            splits,
            spec,
            Faulty(robust),
            Ideal(known, near=HARMLESS),
            attacks=(attack,),
            undefended=Faulty(body),
            gate=GatePolicy(evasion_success=BOUND),
        )
    ]
    honest = [*found[CONTROL][1], *merits]
    right = sum(named_fakes(finding.flags) == (name,) for name, row in found.values() if name for finding in row)
    accused = sum(bool(named_fakes(finding.flags)) for finding in honest)
    yield Claim(
        claim="named_fakes",
        value=right,
        target=f"all {len(cells)} cells named by the right name alone, 0 honest cells by any",
        met=right == len(cells) and accused == 0 and {name for name, _ in found.values()} == {"", *FAKES},
        n=len(cells) + len(honest),
        seed=SEED,
        details={
            "names": {fake: {each.attack: named_fakes(each.flags) for each in row} for fake, (_, row) in found.items()},
            "honest cells": len(honest),
            "honest cells named": accused,
        },
    )
    decided = [finding.status in (Status.HELD, Status.BROKEN) for finding in merits]
    yield Claim(
        claim="robust_on_merits",
        value=sum(decided),
        target=f"all {len(merits)} cells of an adversarially trained model HELD or BROKEN, some of either",
        met=all(decided) and len({finding.status for finding in merits}) == 2,
        n=len(merits),
        seed=SEED,
        details={
            "accuracy": accuracies,
            "bound": BOUND,
            "trained at": f"{TRAINED * 255:.3g}/255",
            "cells": {f"{each.attack} at {each.threat.epsilon * 255:.3g}/255": said(each) for each in merits},
        },
    )


def validated(
    splits: dict[str, Split],
    spec: ModelSpec,
    network: Faulty,
    profile: Ideal,
    *,
    attacks: tuple[Attack, ...],
    undefended: Faulty | None = None,
    gate: GatePolicy | None = None,
) -> tuple[Finding, ...]:
    """One finding per attack; `undefended` is the model before it was hardened."""
    twin = None
    if undefended is not None:
        twin = ModelBefore(model=TorchVictim(undefended, spec), digest="ef" * 32, network=undefended)
    with ExitStack() as stack:
        for name, value in SHORT.items():
            stack.enter_context(patch(name, value))
        out = stack.enter_context(TemporaryDirectory())
        stack.enter_context(torch.random.fork_rng())
        torch.manual_seed(SEED)  # a random front end draws from it
        bundle = FakeBundle(TorchVictim(network, spec), profile, gate=gate or GatePolicy())
        report = run_validation(
            Deployment(bundle=bundle, network=network, before=twin),
            splits,
            Path(out),
            attacks=attacks,
            seed=SEED,
            progress=False,
        )
    return report.findings


def hardened(task: BenchmarkTask, body: torch.nn.Module) -> tuple[torch.nn.Module, dict[str, float]]:
    """`body` after adversarial training, and the test accuracy of both."""
    method = replace(HARDENERS["pgd"], epsilon=TRAINED, training=Training(epochs=EPOCHS))
    train, selection, test = (task.splits[name] for name in ("train", "selection", "test"))
    robust = method.harden(body, train, selection, low=task.low, high=task.high, seed=SEED).network
    return robust, {
        name: accuracy(test.labels, predict_labels(network, test.inputs))[0]
        for name, network in (("before", body), ("after", robust))
    }


def drawn() -> BenchmarkTask:
    """1,450 phantoms at 24x24."""
    splits = stratified_partition(Split(*draw_phantoms(sum(SIZES.values()), size=SIDE, seed=SEED)), SIZES, seed=SEED)
    return BenchmarkTask(
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
