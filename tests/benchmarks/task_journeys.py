"""Every task on hospital data: protected, validated, served, and asked over HTTP; the answers are the model's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from claim import Claim
from starlette.testclient import TestClient
from support.task_subjects import SUBJECTS, Subject

from medward.attacks.intervals import Interval
from medward.attacks.validate import validate
from medward.attacks.validation.finding import Finding
from medward.attacks.validation.journal import code_version
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy, ReleasePolicy
from medward.integrations.serving import load_app
from medward.integrations.serving.keys import KeyStore

CLAIMS = ("task_answers_differ", "task_journeys")
FULL = Policy(on_error="withhold", release=ReleasePolicy(level="full"))
KEPT = Path(__file__).resolve().parents[2] / "out" / "task_journeys"
ROWS = 20  # asked over HTTP
MOST = {"train": 300, "holdout": 120}  # rows that a validation is given, beside those attacked


def measure() -> Iterator[Claim]:
    """One journey per subject; a subject that cannot go its way fails the claim and says why."""
    found = {name: kept(name) for name in SUBJECTS}
    differ = {name: each.get("largest_difference", float("inf")) for name, each in found.items()}
    worst = max(differ.values())
    yield Claim(
        claim="task_answers_differ",
        value=worst,
        target="0.00001: how far an HTTP answer at level full may be from the model's own, relative to values above 1",
        met=worst <= 1e-5,
        n=len(differ) * ROWS,
        details=differ,
    )
    failed = [name for name, each in found.items() if "failed" in each]
    yield Claim(
        claim="task_journeys",
        value=len(found) - len(failed),
        target=f"{len(found)} kinds of model go protect, validate, serve, one HTTP request",
        met=not failed,
        n=len(found),
        details=found,
    )


def kept(name: str) -> dict[str, Any]:
    """One journey; from disk where the same code went it before, so that a run that was killed goes on."""
    file = KEPT / code_version()[:12] / f"{name}.json"
    if file.exists():
        again: dict[str, Any] = json.loads(file.read_text())
        return again
    start = time.process_time()
    try:
        found = journey(SUBJECTS[name]())
    except Exception as error:
        found = {"failed": f"{type(error).__name__}: {error}"}
    found["cpu_seconds"] = round(time.process_time() - start)
    if "failed" not in found:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1))
    return found


def journey(subject: Subject) -> dict[str, Any]:
    """Protect, ask over HTTP, validate."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = protect(
            subject.model, subject.splits["calibration"], FULL, folder / "bundle", name="m", **subject.options
        )
        rows = subject.splits["test"].inputs[:ROWS]
        told, shown = asked(folder, rows)
        own = made.card.spec.task.read(subject.own(rows), "m").reshape(len(rows), -1)[shown]
        difference = np.abs(told.reshape(len(told), -1) - own) / np.maximum(1.0, np.abs(own))
        given = {**MOST, "test": subject.attacked}
        report = validate(
            made,
            {each: some(subject.splits[each], most) for each, most in given.items() if each in subject.splits},
            folder / "report",
            names=subject.attacks,
            progress=False,
            **({} if subject.decide is None else {"decide": subject.decide}),
        )
        return {
            "task": made.card.spec.task.rule,
            "quality": None if made.card.quality is None else str(made.card.quality),
            "answered": int(shown.sum()),
            "largest_difference": float(difference.max()),
            "findings": [row(each) for each in report.findings],
            "notes": list(report.notes),
        }


def asked(folder: Path, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What one HTTP request was answered: the scores as the model gives them, and which rows were."""
    token = KeyStore(folder / "state" / "keys.json").add(("clinic", "key-1"))
    with TestClient(load_app(folder / "bundle", state=folder / "state")) as client:
        said = client.post(
            "/v1/predict", json={"inputs": rows.tolist()}, headers={"Authorization": f"Bearer {token}"}
        ).json()
    column = next(said[each] for each in ("outputs", "values", "scores") if each in said)
    shown = np.array([each is not None for each in column])
    told = np.array([each for each in column if each is not None], np.float64)
    return told, shown


def row(finding: Finding) -> dict[str, Any]:
    """One finding as numbers."""
    arms = {arm: interval(getattr(finding, arm)) for arm in ("undefended", "baseline", "guarded", "adaptive")}
    return {"attack": finding.attack, "status": str(finding.status), "measure": finding.measure, "n": finding.n, **arms}


def interval(measured: Interval | None) -> list[float] | None:
    """Value, low, high."""
    return None if measured is None else [round(each, 4) for each in (measured.value, measured.low, measured.high)]


def some(split: Split, most: int) -> Split:
    """The first rows, at most `most`, in a fixed random order."""
    order = np.random.default_rng(0).permutation(len(split))[:most]
    return split.take(np.sort(order))
