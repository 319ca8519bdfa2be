"""Adversarial domain alignment: pool rows with noise that moves them to answers the thief has seen too few of.

Answers to natural images gather in a few classes. Noise that takes a row, on the last checkpoint's clone, towards a
class that came rarely spreads them. The paper does this with reports; for a classifier the form here is ours.

Reference: Shen et al., "Medical multimodal model stealing attacks via adversarial domain alignment" (ADA-STEAL),
AAAI 2025, arXiv 2502.02438.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.pool import POOL_KNOWLEDGE, PoolChooser
from medward.attacks.extraction.steering import steer_towards
from medward.attacks.learners.table import check_classes
from medward.attacks.whitebox.ball import Ball
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Random rows of the pool, moved within `epsilon` by `steps` steps once there is a clone.

    `epsilon` is in input units for images and in each feature's spread over the pool for tables.
    """

    name: str = "alignment"
    knowledge: str = POOL_KNOWLEDGE
    step: int | None = 50
    epsilon: float = 16 / 255
    steps: int = 10

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> PoolChooser:
        """Begin a theft; see `Strategy`."""
        check_classes(spec, self.name)
        return _Aligned(self, data, spec, seed)


class _Aligned(PoolChooser):
    def __init__(self, settings: Alignment, data: AttackData, spec: ModelSpec, seed: int) -> None:
        super().__init__(data, spec, seed)
        self._steps = settings.steps
        self._ball = Ball.of(spec, self.pool, settings.epsilon)
        self._noise = torch.Generator().manual_seed(seed)

    def ask(self, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Array:
        rows = super().ask(count, loot, clone)
        if clone is None:
            return rows
        goals = self.rng.choice(len(self.spec.classes), size=len(rows), p=wanted_classes(loot.known.targets))
        return steer_towards(clone, rows, goals, self._ball, steps=self._steps, generator=self._noise)

    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        return self.rng.permutation(free)[:count]


def wanted_classes(answers: Array) -> Array:
    """How often each class ``(K,)`` shall be a goal: the rarer it is in answers ``(n, K)``, the more; sums to 1."""
    counts = np.bincount(answers.argmax(axis=1), minlength=answers.shape[1]) if len(answers) else np.zeros(1)
    share = 1.0 / (1.0 + np.broadcast_to(counts, answers.shape[1]))
    return np.asarray(share / share.sum())
