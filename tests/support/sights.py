"""What all parts of the monitors see of some rows."""

from __future__ import annotations

from typing import Any

from medward.guard.accounts.monitors import observation_sources, observe, strangeness_p_values, strata_of
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.statistics.combined_eprocess import STRANGE
from medward.guard.statistics.strata import STRATUM
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Outputs


def sight_of(policy: Policy, profile: Profile, inputs: Array, outputs: Outputs) -> dict[str, Any]:
    """By part, row by row, as the guard looks at a batch; `outputs` are a plain classifier's logits or judged ones."""
    if outputs.doubt is None:
        names = tuple(map(str, range(outputs.scores.shape[1])))
        doubt = Classification(classes=names, output="logits").doubt(outputs.scores)
        outputs = Outputs(outputs.scores, outputs.features, doubt)
    strata = strata_of(profile, outputs)
    sight: dict[str, Any] = {STRANGE: strangeness_p_values(policy, profile, profile.strangeness(inputs, outputs))}
    if strata is not None:
        sight[STRATUM] = strata
    for source in observation_sources(policy, profile):
        sight.update(observe(source, profile, inputs, outputs))
    return sight
