"""Knockoff theft, adaptive: a bandit learns which parts of the pool teach the most.

The paper's arms are the classes of a labelled pool; here the pool has no labels, and its arms are k-means clusters.
Rewards are those of the paper: the target is certain (margin of its two largest scores), its answers differ from the
recent ones (diversity), and the clone does not know them yet (cross-entropy of the clone of the last checkpoint).
Each is scaled to its running range, and a withheld answer earns nothing.

Reference: Orekondy, Schiele and Fritz, "Knockoff Nets", CVPR 2019, sec. 4.1.2 (gradient bandit of Sutton and Barto).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers, clone_probabilities
from medward.attacks.extraction.pool import POOL_KNOWLEDGE, PoolChooser
from medward.attacks.learners.table import check_classes
from medward.attacks.whitebox.surrogate import answered_rows
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

_WINDOW = 256  # recent answers that diversity is measured against
REWARDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptivePool:
    """Rows of the pool from the clusters that have paid. `rate` is the bandit's step, `step` how often it learns."""

    name: str = "knockoff-adaptive"
    knowledge: str = POOL_KNOWLEDGE
    step: int | None = 16
    clusters: int = 16
    rate: float = 1.0

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> PoolChooser:
        """Begin a theft; see `Strategy`."""
        check_classes(spec, self.name)
        return _Bandit(self, data, spec, seed)


class _Bandit(PoolChooser):
    def __init__(self, settings: AdaptivePool, data: AttackData, spec: ModelSpec, seed: int) -> None:
        super().__init__(data, spec, seed)
        rows = self.pool.reshape(len(self.pool), -1)
        arms = min(settings.clusters, len(rows))
        means = MiniBatchKMeans(arms, random_state=seed, n_init=1, batch_size=1024)
        self._arm = np.asarray(means.fit_predict(rows), np.int64)
        self._preference = np.zeros(arms)
        self._rate = settings.rate
        self._range = np.tile([np.inf, -np.inf], (REWARDS, 1))
        self._mean, self._learned = 0.0, 0

    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        """Learn from the answers to what was asked last, then draw an arm for each input and a row of the arm."""
        self._reinforce(loot, clone)
        arms = [list(self.rng.permutation(free[self._arm[free] == arm])) for arm in range(len(self._preference))]
        rows = []
        for _ in range(count):
            left = np.array([len(arm) > 0 for arm in arms])
            share = _policy(np.where(left, self._preference, -np.inf))
            rows.append(arms[self.rng.choice(len(arms), p=share)].pop())
        return np.array(rows, np.int64)

    def _reinforce(self, loot: StolenAnswers, clone: nn.Module | None) -> None:
        """One step of the gradient bandit for each answer since the last."""
        new = slice(self._learned, len(loot))
        recent = loot.take(slice(max(0, self._learned - _WINDOW), self._learned)).known.targets
        for reward, row in zip(self._rewards(loot.take(new), recent, clone), self.asked[new], strict=True):
            self._learned += 1
            self._mean += (reward - self._mean) / self._learned
            gain = self._rate * (reward - self._mean)
            share = _policy(self._preference)
            self._preference -= gain * share
            self._preference[self._arm[row]] += gain

    def _rewards(self, loot: StolenAnswers, recent: Array, clone: nn.Module | None) -> Array:
        """The mean of the scaled rewards ``(n,)`` of new answers, against `recent (m, K)` ones."""
        known = answered_rows(loot.targets)
        found = np.zeros((len(loot), REWARDS))
        if not known.any():
            return np.zeros(len(loot))
        answers = loot.targets[known]
        ordered = np.sort(answers, axis=1)
        found[known, 0] = ordered[:, -1] - ordered[:, -2]
        if len(recent):
            found[known, 1] = np.maximum(0, answers - recent.mean(axis=0)).sum(axis=1)
        if clone is not None:
            guesses = clone_probabilities(clone, loot.inputs[known])
            found[known, 2] = -(answers * np.log(guesses.clip(1e-6))).sum(axis=1)
        self._range[:, 0] = np.minimum(self._range[:, 0], found[known].min(axis=0))
        self._range[:, 1] = np.maximum(self._range[:, 1], found[known].max(axis=0))
        low, width = self._range[:, 0], np.diff(self._range)[:, 0]
        scaled = np.where(width > 0, (found - low) / np.where(width > 0, width, 1.0), 0.0)
        return np.asarray(np.where(known, scaled.mean(axis=1), 0.0))


def _policy(preference: Array) -> Array:
    """Softmax ``(arms,)``."""
    powers = np.exp(preference - preference.max())
    return np.asarray(powers / powers.sum())
