"""Two cells of the demo's bundle that a flattering gate does not call BROKEN, though the guard is passed in both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from claim import Claim
from subjects import SEED, plain

from medward.attacks.base import Attack
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import train_victim
from medward.attacks.evasion import UniversalPerturbation
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.run import run_validation
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.bundle.make import protect
from medward.guard.policy import Policy

CLAIMS = ("gate_reproducers",)

CASES: dict[str, Attack] = {
    "seen at the largest radius, missed at a smaller one": UniversalPerturbation(epsilon=0.8, craft_on="pool"),
    "so large that noise breaks the model too": UniversalPerturbation(epsilon=4.0, target_class="worst"),
}


def measure() -> Iterator[Claim]:
    """The status of each case, its arms, and what each judged radius fooled."""
    found = {case: judged(attack) for case, attack in CASES.items()}
    broken = sum(finding.status is Status.BROKEN for finding in found.values())
    yield Claim(
        claim="gate_reproducers",
        value=broken,
        target=f"all {len(CASES)} cells BROKEN",
        met=broken == len(CASES),
        n=min(finding.n for finding in found.values()),
        seed=SEED,
        details={case: said(finding) for case, finding in found.items()},
    )


def judged(attack: Attack) -> Finding:
    """One attack on the bundle of ``medward demo``."""
    task = load_task("wdbc", seed=SEED)
    with TemporaryDirectory() as name:
        folder = Path(name)
        bundle = protect(
            train_victim(task, seed=SEED),
            task.splits["calibration"],
            Policy(on_error="withhold"),
            folder / "bundle",
            name=task.name,
            classes=task.classes,
            seed=SEED,
        )
        network, _ = white_box(folder / "bundle/model.onnx", bundle.model.predict, task.splits["calibration"].inputs)
        report = run_validation(
            Deployment(bundle=bundle, network=network),
            task.splits,
            folder / "report",
            attacks=[attack],
            seed=SEED,
            progress=False,
        )
    return report.findings[0]


def said(finding: Finding) -> dict[str, object]:
    """What the gate read, and the share fooled at each radius."""
    return {
        "attack": finding.attack,
        "epsilon": finding.threat.epsilon,
        "status": finding.status.value,
        "reasons": finding.reasons,
        **{arm: plain(getattr(finding, arm)) for arm in ("undefended", "baseline", "guarded", "adaptive")},
        "curves": {arm: curves[finding.attack] for arm, curves in finding.curves.items()},
    }
