"""What a profile costs by the width of an input: CPU time of the fit and of one answer, and bytes on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from claim import Claim

from medward.guard.profile import Profile, forward_batches
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Outputs

CLAIMS = ("profile_seconds_by_channels", "profile_seconds_by_columns")
ROWS, SIDE, COMMON = 260, 64, 8
CHANNELS, COLUMNS = (1, 4, 8, 16, 32), (100, 400, 1200, 4800, 12000)
RISK, ROUNDS, ASKED = 0.05, 3, 20
GROWTH = 1.3
SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class FirstValues:
    """A model of two classes that costs nothing: the mean of the first values decides."""

    spec: ModelSpec

    def predict(self, inputs: Array) -> Outputs:
        """Scores ``(n, 2)``."""
        mean = inputs.reshape(len(inputs), -1)[:, :50].mean(axis=1)
        return Outputs(np.stack([-mean, mean], axis=1))


def measure() -> Iterator[Claim]:
    """Images by channels, then tables by columns."""
    yield growth(CLAIMS[0], {channels: images(channels) for channels in CHANNELS})
    yield growth(CLAIMS[1], {columns: table(columns) for columns in COLUMNS})


def growth(claim: str, kinds: dict[int, Array]) -> Claim:
    """Time at the widest over time at a quarter of it or less, per factor of width: 1 is linear, 4 quadratic."""
    costs = {width: cost(rows) for width, rows in kinds.items()}
    widest = max(costs)
    base = max(width for width in costs if width <= widest / 4)
    seconds = {width: each["fit_seconds"] for width, each in costs.items()}
    value = seconds[widest] / seconds[base] / (widest / base)
    return Claim(
        claim=claim,
        value=value,
        target=f"<= {GROWTH:g}: time of the fit at {widest} over that at {base}, per factor of width (1 is linear, "
        f"{widest / base:g} quadratic), and <= {SECONDS:g} s of CPU at {widest}",
        met=value <= GROWTH and seconds[widest] <= SECONDS,
        n=ROUNDS,
        seed=0,
        details={
            "rows": ROWS,
            "by_width": {str(width): each for width, each in costs.items()},
            "per_factor_of_width": {
                f"{low} to {high}": seconds[high] / seconds[low] / (high / low) for low, high in pairwise(costs)
            },
        },
    )


def cost(rows: Array) -> dict[str, Any]:
    """Medians of CPU seconds: the fit, and the strangeness of one row; and bytes of the profile."""
    classes = Classification(classes=("a", "b"), output="logits")
    modality = "image" if rows.ndim == 4 else "tabular"
    model = FirstValues(ModelSpec(name="first", modality=modality, shape=rows.shape[1:], task=classes))
    fits, answers = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        profile = Profile.fit(model, rows, risk=RISK, secret=0)
        fits.append(time.process_time() - start)
        start = time.process_time()
        for row in rows[:ASKED]:
            profile.strangeness(row[None], forward_batches(model, row[None]))
            profile.embedding.see(row[None], forward_batches(model, row[None]))
        answers.append((time.process_time() - start) / ASKED)
    return {
        "fit_seconds": median(fits),
        "answer_milliseconds": 1e3 * median(answers),
        "profile_bytes": sum(np.asarray(each).nbytes for each in profile.to_arrays().values()),
    }


def table(columns: int) -> Array:
    """Correlated rows ``(n, columns)``, as measurements of one patient are."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(ROWS, COMMON)) @ rng.normal(size=(COMMON, columns))
    return (common + rng.normal(size=(ROWS, columns))).astype(np.float32)


def images(channels: int) -> Array:
    """Smooth fields with a little noise ``(n, channels, SIDE, SIDE)``, as sequences of one scan are."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.outer(np.arange(1, COMMON + 1), np.linspace(0, 3, SIDE)))
    loads = rng.normal(size=(ROWS, 1, COMMON, COMMON)) + 0.5 * rng.normal(size=(ROWS, channels, COMMON, COMMON))
    fields = waves.T @ loads @ waves / COMMON
    return (0.5 + 0.1 * fields + 0.01 * rng.normal(size=fields.shape)).astype(np.float32)
