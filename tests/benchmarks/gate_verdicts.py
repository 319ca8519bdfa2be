"""What the gate says of a rare class that is emptied, and whether it says the same whatever the seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from claim import Claim
from subjects import SEED, plain, pneumonia_victim

from medward.attacks.base import Attack
from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import train_victim
from medward.attacks.suite import default_evasion
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.run import run_validation
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy

CLAIMS = ("gate_rare_class", "gate_seeds")

RARE, SEEDS = 0.2, 5
RUN: dict[str, tuple[str, ...]] = {"wdbc": (), "pneumoniamnist": ("pgd",)}
"""Tasks and the attacks run on them, all default ones where none is named: universal ones on images take hours."""
DECIDED = {Status.BROKEN: "bad", Status.HELD: "good", Status.NOT_NEEDED: "good"}
"""What a status says of the guard; the others leave it open."""


def measure() -> Iterator[Claim]:
    """A universal change that hides a rare class; then evasion attacks with five seeds."""
    victim, task = pneumonia_victim()
    rare = dict(task.splits) | {"test": thinned(task.splits["test"], 1, RARE)}
    universal = [each for each in evasion(victim, task) if each.name.startswith("uap")]
    findings = judged(victim, task, rare, universal, SEED)
    broken = {each.attack: each.status is Status.BROKEN for each in findings}
    yield Claim(
        claim="gate_rare_class",
        value=sum(broken.values()),
        target=f"every universal attack BROKEN where {RARE:.0%} of rows are of the class it empties",
        met=all(broken.values()),
        n=len(rare["test"]),
        seed=SEED,
        details={each.attack: said(each) for each in findings},
    )
    yield seeds()


def seeds() -> Claim:
    """Each attack's statuses, seed by seed, on one bundle of each task."""
    found: dict[str, dict[str, list[str]]] = {}
    apart = 0
    for name, chosen in RUN.items():
        task = load_task(name, seed=SEED)
        victim = train_victim(task, seed=SEED)
        attacks = [each for each in evasion(victim, task) if not chosen or each.name in chosen]
        runs = [judged(victim, task, task.splits, attacks, seed) for seed in range(SEEDS)]
        for row in zip(*runs, strict=True):
            statuses = [finding.status for finding in row]
            apart += len({DECIDED[each] for each in statuses if each in DECIDED}) > 1
            found.setdefault(name, {})[row[0].attack] = [each.value for each in statuses]
    return Claim(
        claim="gate_seeds",
        value=apart,
        target=f"no attack that one of {SEEDS} seeds says is held and another is broken",
        met=apart == 0,
        n=SEEDS * sum(map(len, found.values())),
        details=found,
    )


def thinned(split: Split, rare: int, share: float) -> Split:
    """The rows of `split`, but so few of class `rare` that it makes up `share`."""
    labels = np.asarray(split.labels)
    others = int((labels != rare).sum())
    kept = np.flatnonzero(labels == rare)[: round(others * share / (1 - share))]
    return split.take(np.sort(np.concatenate([np.flatnonzero(labels != rare), kept])))


def evasion(victim: object, task: BenchmarkTask) -> Sequence[Attack]:
    """What `medward validate` runs unasked."""
    with TemporaryDirectory() as name:
        return default_evasion(protected(victim, task, Path(name)).model.spec)


def protected(victim: object, task: BenchmarkTask, folder: Path) -> Any:
    """A bundle with the policy of the front page."""
    images: dict[str, Any] = (
        {"output": "logits", "low": task.low, "high": task.high} if task.modality == "image" else {}
    )
    return protect(
        victim,
        task.splits["calibration"],
        Policy(on_error="withhold"),
        folder / "bundle",
        name=task.name,
        classes=task.classes,
        seed=SEED,
        **images,
    )


def judged(
    victim: object, task: BenchmarkTask, splits: Mapping[str, Split], attacks: Sequence[Attack], seed: int
) -> tuple[Finding, ...]:
    """`attacks` on one bundle, with the random numbers of `seed`."""
    with TemporaryDirectory() as name:
        bundle = protected(victim, task, Path(name))
        network, _ = white_box(
            Path(name) / "bundle/model.onnx", bundle.model.predict, task.splits["calibration"].inputs
        )
        report = run_validation(
            Deployment(bundle=bundle, network=network),
            splits,
            Path(name) / "report",
            attacks=attacks,
            seed=seed,
            progress=False,
        )
    return report.findings


def said(finding: Finding) -> dict[str, object]:
    """What the gate read."""
    return {
        "status": finding.status.value,
        "reasons": finding.reasons,
        **{arm: plain(getattr(finding, arm)) for arm in ("undefended", "baseline", "guarded", "adaptive")},
        "shares": {
            arm: {name: plain(share) for name, share in shares.items()} for arm, shares in finding.measures.items()
        },
    }
