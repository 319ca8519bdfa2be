"""What all parts of the monitors see of some rows, and profiles with some of what was fitted replaced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from medward.guard.accounts.monitors import observe_batch
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Outputs


def sight_of(policy: Policy, profile: Profile, inputs: Array, outputs: Outputs) -> dict[str, Any]:
    """By part, row by row, as the guard looks at a batch; `outputs` are a plain classifier's logits or judged ones."""
    if outputs.doubt is None:
        names = tuple(map(str, range(outputs.scores.shape[1])))
        doubt = Classification(classes=names, output="logits").doubt(outputs.scores)
        outputs = Outputs(outputs.scores, outputs.features, doubt)
    sight, failed = observe_batch(policy, profile, inputs, outputs)
    for error in failed.values():
        raise error
    return sight


def refitted(profile: Profile, **fitted: Any) -> Profile:
    """`profile` with something else in the place of what was fitted, by source; None for nothing."""
    changed = {**profile.fitted, **fitted}
    return replace(profile, fitted={source: each for source, each in changed.items() if each is not None})
