"""PneumoniaMNIST, a CNN: its accuracy, `medward validate` on it in full, and how a universal perturbation does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from claim import Claim
from subjects import SEED, VERDICTS, findings, medward, plain, pneumonia_victim

from medward.attacks.benchmarks.base import BenchmarkTask, to_npz
from medward.attacks.benchmarks.victims import predict_labels
from medward.attacks.intervals import rate_interval
from medward.attacks.suite import DEFAULT_THREAT
from medward.attacks.validation.record import Report
from medward.guard.bundle.make import protect
from medward.guard.policy import Policy

CLAIMS = ("pneumonia_accuracy", "pneumonia_validate_seconds", "uap_fooling")

ACCURACY, SECONDS, FOOLED = 0.85, 720, 0.60


def measure() -> Iterator[Claim]:
    """Accuracy, wall time with the findings, share of held-out images fooled."""
    victim, task = pneumonia_victim()
    test = task.splits["test"]
    correct = rate_interval(predict_labels(victim, test.inputs) == test.labels)
    yield Claim(
        claim="pneumonia_accuracy",
        value=correct.value,
        interval=(correct.low, correct.high),
        target=f">= {ACCURACY} on the official test split",
        met=correct.value >= ACCURACY,
        n=correct.n,
        seed=SEED,
    )
    seconds, code, report = validated(victim, task)
    yield Claim(
        claim="pneumonia_validate_seconds",
        value=seconds,
        target=f"<= {SECONDS} s on 2 cores",
        met=seconds <= SECONDS,
        n=1,
        seed=SEED,
        details={
            "exit_code": code,
            "findings": findings(report),
            "clean_cost": report.clean.model_dump(mode="json"),
        },
    )
    yield uap_fooling(report)


def validated(victim: object, task: BenchmarkTask, *options: str) -> tuple[float, int, Report]:
    """Protect, then validate in a process of its own: wall seconds, exit code, report."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        protect(
            victim,
            task.splits["calibration"],
            Policy(on_error="withhold"),
            folder / "bundle",
            name=task.name,
            classes=task.classes,
            output="logits",
            low=task.low,
            high=task.high,
            seed=SEED,
        )
        to_npz(task, folder / "task.npz")
        arguments = ("validate", "bundle", "--data", "task.npz", "--out", "report", "--seed", str(SEED), *options)
        seconds, code, _ = medward(*arguments, folder=folder, exits=VERDICTS)
        return seconds, code, Report.load(folder / "report/report.json")


def uap_fooling(report: Report) -> Claim:
    """The undefended share fooled, beside random signs of the same size."""
    (finding,) = (each for each in report.findings if each.attack == "uap")
    fooled, noise = finding.undefended, finding.baseline
    if fooled is None or noise is None:
        raise RuntimeError(f"the universal perturbation was not judged: {' '.join(finding.reasons)}")
    return Claim(
        claim="uap_fooling",
        value=fooled.value,
        interval=(fooled.low, fooled.high),
        target=f">= {FOOLED} of held-out images at {DEFAULT_THREAT.image_universal:g}/255, undefended, nontargeted",
        met=fooled.value >= FOOLED and fooled.low > noise.high,
        n=fooled.n,
        seed=SEED,
        details={"epsilon": finding.threat.epsilon, "random_sign_noise": plain(noise), "flags": finding.flags},
    )
