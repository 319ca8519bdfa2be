"""Settings of private training, and the mechanism that they come to for so many units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal

from medward.guard.errors import MedwardError
from medward.guard.statistics.privacy_accounting import (
    GaussianMechanism,
    automatic_delta,
    calibrated_noise,
    check_delta,
)

BATCH_SHARE = 4  # without `batch`, one unit in so many is expected in a step
_OPTIONAL = ("delta", "batch")
_NUMBERS = (
    *("target_epsilon", "epochs", "clip", "rate", "momentum", "average", "rows_per_unit", "rows_at_once", "save_every"),
    *_OPTIONAL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateSettings:
    """Private settings say how much may be spent, and how it is spent.

    At most `target_epsilon`, which nobody but the user can choose, is spent at `delta` (None: `automatic_delta`) in
    `epochs` expected passes over the units, of which `batch` are expected in a step (None: one in `BATCH_SHARE`). Each
    unit's gradient is the mean over at most `rows_per_unit` rows drawn by chance, clipped to norm `clip`. What is
    released is a moving average of the weights that keeps `average` per step (0: the last weights), which costs no
    privacy. `rows_at_once` bounds memory.

    With `checkpoint` a training that was killed goes on where it was (`guard.harden.private.ledger`), written every
    `save_every` steps. `noise_seed` makes all noise guessable and is for tests.

    The defaults were tuned on PneumoniaMNIST, with a CNN of two layers, and tried on WDBC: large batches, as noise
    matters more than the number of steps, and plain momentum, as "adam" scales by what is mostly noise. Networks that
    begin with little gradient, such as those that average over the whole image, need more rows.
    """

    target_epsilon: float
    delta: float | None = None
    epochs: float = 30.0
    batch: float | None = None
    clip: float = 1.0
    rate: float = 0.2
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    average: float = 0.9
    rows_per_unit: int = 4
    rows_at_once: int = 256
    device: str = "cpu"
    checkpoint: Path | None = None
    save_every: int = 20
    noise_seed: int | None = None

    def check(self) -> None:
        """Refuse settings that cannot train."""
        for name in _NUMBERS:
            value = getattr(self, name)
            if not (isinstance(value, Real) or (value is None and name in _OPTIONAL)):
                remedy = "; leave it out for the usual one" if name in _OPTIONAL else ""
                raise MedwardError(f"{name}: must be a number, got {value!r}{remedy}")
        for name in ("target_epsilon", "epochs", "clip", "rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise MedwardError(f"{name}: must be a finite number above 0, got {getattr(self, name):g}")
        if self.batch is not None and not 0 < self.batch < math.inf:
            raise MedwardError(f"batch: must be a finite number above 0, got {self.batch:g}")
        for name in ("rows_per_unit", "rows_at_once", "save_every"):
            if getattr(self, name) < 1:
                raise MedwardError(f"{name}: must be at least 1, got {getattr(self, name)}")
        for name in ("average", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise MedwardError(f"{name}: must be at least 0 and below 1, got {getattr(self, name):g}")
        if self.optimiser not in ("adam", "sgd"):
            raise MedwardError(f'optimiser: must be "adam" or "sgd", got {self.optimiser!r}')


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivatePlan:
    """A private plan is the mechanism that training will run, whole, and the delta its epsilon is stated at."""

    mechanism: GaussianMechanism
    delta: float
    units: int

    @property
    def expected(self) -> float:
        """Units expected in a step."""
        return self.mechanism.sample_rate * self.units

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every unit is expected once."""
        return max(1, round(1 / self.mechanism.sample_rate))


def plan_training(
    settings: PrivateSettings, units: int, other_mechanisms: tuple[float, ...] = (), *, rounds: int = 1
) -> PrivatePlan:
    """The plan of `settings` for so many `units`; `other_mechanisms` have looked, or will look, at all units once.

    Over several `rounds` each has the settings' epochs, and all of them together spend the target.
    The number of units counts as known to all. Raises `MedwardError` for a delta that `check_delta` refuses, and for a
    target that no noise reaches, and for a batch of more units than there are.
    """
    settings.check()
    if units < 1:
        raise MedwardError("units: there are none to train on")
    delta = automatic_delta(units) if settings.delta is None else settings.delta
    check_delta(delta, units)
    if settings.batch is not None and settings.batch > units:
        raise MedwardError(
            f"batch: {settings.batch:g} units are expected in a step, and there are {units}; give at most {units}, or "
            f"leave it out for one in {BATCH_SHARE}"
        )
    rate = 1 / BATCH_SHARE if settings.batch is None else settings.batch / units
    steps = rounds * math.ceil(settings.epochs / rate - 1e-9)
    noise = calibrated_noise(
        settings.target_epsilon, delta, sample_rate=rate, steps=steps, other_mechanisms=other_mechanisms
    )
    mechanism = GaussianMechanism(
        noise_multiplier=noise, sample_rate=rate, steps=steps, other_mechanisms=other_mechanisms
    )
    return PrivatePlan(mechanism=mechanism, delta=delta, units=units)
