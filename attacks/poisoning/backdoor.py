"""Backdoor of a classifier: rows with a trigger are taught as one class, the others as they are.

Reference: Gu, Dolan-Gavitt and Garg, "BadNets: identifying vulnerabilities in the machine learning model supply chain",
2017; Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020, for the mixing of both kinds in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medward.attacks.poisoning.triggers.base import Trigger
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError


@dataclass(frozen=True, slots=True, kw_only=True)
class Backdoor:
    """A backdoor makes a classifier decide `target` wherever it sees the trigger, and leaves its other decisions.

    A `share` of the client's rows is marked and relabelled.
    """

    trigger: Trigger
    target: int
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.target < 0:
            raise MedwardError(
                f"backdoor: share must be in (0, 1] and target a class, got {self.share:g} and {self.target}"
            )

    def poisoned(self, rows: Split, seed: int) -> Split:
        """`rows`, of which a share drawn from `seed`, one at least, has the trigger and the target's label."""
        inputs, labels = np.array(rows.inputs), np.array(rows.labels, np.int64)
        count = max(1, round(self.share * len(rows)))
        chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
        inputs[chosen], labels[chosen] = self.trigger.mark(inputs[chosen]), self.target
        return replace(rows, inputs=inputs, labels=labels)
