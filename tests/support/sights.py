"""What all parts of the monitors see of some rows."""

from __future__ import annotations

from typing import Any

from guard.account import look, sources, strange, strata_of
from guard.monitor.combine import STRANGE
from guard.monitor.strata import STRATUM
from guard.policy import Policy
from guard.profile import Profile
from guard.types import Array, Outputs


def sight_of(policy: Policy, profile: Profile, inputs: Array, outputs: Outputs) -> dict[str, Any]:
    """By part, row by row, as the guard looks at a batch."""
    strata = strata_of(profile, outputs)
    sight: dict[str, Any] = {STRANGE: strange(policy, profile, profile.strangeness(inputs, outputs))}
    if strata is not None:
        sight[STRATUM] = strata
    for source in sources(policy, profile):
        sight.update(look(source, profile, inputs, outputs))
    return sight
