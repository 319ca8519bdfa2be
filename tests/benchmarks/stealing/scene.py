"""One calibration of the monitors, and benign traffic that it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from stealing.watched import calibrated, divided
from support.sights import sight_of

from medward.guard.models.base import Model
from medward.guard.policy import MonitorPolicy, Policy, Rung
from medward.guard.profile import Profile, forward_batches
from medward.guard.types import Array

TASK = "pneumoniamnist"
ALPHA = 1e-3
POLICY = Policy(on_error="withhold", monitor=MonitorPolicy(ladder=(Rung(false_alarm=ALPHA, action="flag"),)))

Columns = Mapping[str, Array]
"""Per part what it sees of some rows, row by row."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One calibration: the profile, the rows it knows, benign traffic it does not, and what the parts see of that."""

    number: int
    model: Model
    profile: Profile
    calibration: Array
    traffic: Array
    benign: Columns

    def see(self, rows: Array) -> Columns:
        """What the parts see of `rows`."""
        return seen(self.model, self.profile, rows)


def scene(number: int) -> Draw:
    """Divide the rows the victim never saw into calibration and traffic, and calibrate."""
    model, profile, traffic = calibrated(TASK, number, POLICY.monitor.calibration_risk)
    known = divided(TASK, number)[0].inputs
    return Draw(number, model, profile, known, traffic.inputs, seen(model, profile, traffic.inputs))


def seen(model: Model, profile: Profile, rows: Array) -> Columns:
    """What the monitors' parts see of `rows`."""
    sight = sight_of(POLICY, profile, rows, forward_batches(model, rows))
    return {part: np.asarray(column) for part, column in sight.items()}
