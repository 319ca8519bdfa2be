"""What serving an ONNX bundle loads, and whether what is served is the model's own answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from claim import Claim
from support.journeys import HEAVY, KINDS, ROWS, Protected, from_onnx, heavy_modules
from support.processes import serving

CLAIMS = ("no_torch", "served_answers")

BATCH = 50
TOLERANCE = 1e-5


def measure() -> Iterator[Claim]:
    """Heavy modules in a serving process; the largest difference of a served score, per kind of model."""
    with TemporaryDirectory() as name:
        loaded = heavy_modules(from_onnx(Path(name)).bundle, Path(name) / "state")
    yield Claim(
        claim="no_torch",
        value=len(loaded),
        target="0 heavy modules loaded",
        met=not loaded,
        n=1,
        details={"looked_for": HEAVY, "loaded": loaded},
    )
    differences = {}
    for kind, make in KINDS.items():
        with TemporaryDirectory() as name:
            folder = Path(name)
            protected = make(folder)
            differences[kind] = float(np.abs(served(protected, folder) - protected.own).max())
    worst = max(differences.values())
    yield Claim(
        claim="served_answers",
        value=worst,
        target=f"largest difference over HTTP at level full <= {TOLERANCE:g}",
        met=worst <= TOLERANCE,
        n=len(ROWS) * len(KINDS),
        details=differences,
    )


def served(protected: Protected, folder: Path) -> np.ndarray:
    """The scores of all `ROWS` as ``medward serve`` gives them over HTTP, ``(n, classes)``."""
    options = ["--no-keys", *(f"--{option.replace('_', '-')}" for option in protected.options)]
    scores = []
    with serving(protected.bundle, folder, *options) as server:
        for first in range(0, len(ROWS), BATCH):
            reply = httpx.post(f"{server.url}/v1/predict", json={"inputs": ROWS[first : first + BATCH].tolist()})
            reply.raise_for_status()
            assert set(reply.json()["levels"]) == {"full"}
            scores += reply.json()["scores"]
    return np.array(scores)
