"""PneumoniaMNIST, a CNN: from a model that is broken to one whose evasion rows are held, by README's commands.

Protect, a quick look, harden, protect with answers certified, validate in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from claim import Claim
from subjects import SEED, VERDICTS, findings, medward, pneumonia_victim

from medward.attacks.benchmarks.base import to_npz
from medward.attacks.validation.record import Report

CLAIMS = ("pneumonia_journey_seconds",)

SECONDS = 900
MODEL = """import torch

net = torch.load("net.pt", weights_only=False)
"""
POLICY = """on_error = "withhold"

[screen]
action = "flag"

[certify]
enabled = true
"""
DATA = ("--data", "task.npz")
RANGE = ("--classes", "normal,pneumonia", "--output", "logits", "--low", "0", "--high", "1")
CERTIFIED = ("--method", "certified", "--architecture", "small", "--epsilon", str(4 / 255))
STEPS = {
    "protect": ("protect", "mine:net", *DATA, *RANGE, "--on-error", "withhold", "-o", "bundle"),
    "quick look": ("validate", "bundle", *DATA, "--quick", "-o", "quick"),
    "harden": ("harden", "mine:net", *DATA, *RANGE, *CERTIFIED, "-o", "hardened"),
    "protect the copy": ("protect", "hardened/model.onnx", *DATA, *RANGE, "--policy", "policy.toml", "-o", "certified"),
    "validate": ("validate", "certified", *DATA, "--before", "hardened/original.onnx", "-o", "report"),
}


def measure() -> Iterator[Claim]:
    """Seconds of every step, and what the last one says."""
    victim, task = pneumonia_victim()
    took: dict[str, float] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(victim, folder / "net.pt")
        (folder / "mine.py").write_text(MODEL)
        (folder / "policy.toml").write_text(POLICY)
        to_npz(task, folder / "task.npz")
        for step, arguments in STEPS.items():
            exits = VERDICTS if arguments[0] == "validate" else (0,)
            took[step], *_ = medward(*arguments, "--seed", str(SEED), folder=folder, exits=exits)
        quick, report = (Report.load(folder / each / "report.json") for each in ("quick", "report"))
    rows = {each.attack: each.status.value for each in report.findings if each.family == "evasion"}
    seconds = sum(took.values())
    yield Claim(
        claim=CLAIMS[0],
        value=seconds,
        target=f"<= {SECONDS} s on 2 cores, and every evasion row HELD in the end",
        met=seconds <= SECONDS and set(rows.values()) == {"HELD"},
        n=1,
        seed=SEED,
        details={
            "seconds": took,
            "quick": {each.attack: each.status.value for each in quick.findings},
            "findings": findings(report),
            "clean_cost": report.clean.model_dump(mode="json"),
        },
    )
