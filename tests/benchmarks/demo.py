"""`medward demo` as a user runs it: its wall time, the accuracy of its model, what its attacks found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from claim import Claim
from subjects import SEED, findings, medward

from medward.attacks.intervals import clopper_pearson
from medward.attacks.validation.record import Report

CLAIMS = ("demo_seconds", "demo_accuracy")

SECONDS, ACCURACY = 240, 0.95
MODEL = re.compile(r"model: accuracy ([\d.]+) on (\d+) held-out patients")


def measure() -> Iterator[Claim]:
    """Seconds and accuracy."""
    with TemporaryDirectory() as name:
        seconds, _, printed = medward("demo", "--seed", str(SEED), folder=Path(name))
        report = Report.load(Path(name) / "demo/report/report.json")
    printed = printed.replace(f"{Path(name).resolve()}/", "")  # remedies name the whole path
    said = MODEL.search(printed)
    if said is None:
        raise RuntimeError("medward demo no longer prints the accuracy of its model")
    n = int(said[2])
    correct = clopper_pearson(round(float(said[1]) * n), n)
    yield Claim(
        claim="demo_seconds",
        value=seconds,
        target=f"<= {SECONDS} s on 2 cores",
        met=seconds <= SECONDS,
        n=1,
        seed=SEED,
        details={
            "accuracy": correct.value,
            "findings": findings(report),
            "verdict": report.verdict.value,
            "printed": printed,
        },
    )
    yield Claim(
        claim="demo_accuracy",
        value=correct.value,
        interval=(correct.low, correct.high),
        target=f">= {ACCURACY}",
        met=correct.value >= ACCURACY,
        n=n,
        seed=SEED,
    )
