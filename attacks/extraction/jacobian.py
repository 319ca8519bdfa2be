"""Jacobian-based augmentation with random targets: a few own rows, and what the clone makes of them round by round.

Each round trains a clone on all answers and moves every row asked so far towards a random other class of that clone,
which doubles the rows. Neighbours of few rows say little about the rest of the input space, however many there are.

Reference: Juuti et al., "PRADA: protecting against DNN model stealing attacks", EuroS&P 2019, whose random targets
improve on Papernot et al., "Practical black-box attacks against machine learning", ASIA CCS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import Distiller, StolenAnswers, clone_decisions
from medward.attacks.extraction.steering import steer_towards
from medward.attacks.learners.table import check_classes
from medward.attacks.whitebox.ball import Ball
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Jacobian:
    """`seeds` rows, moved by `epsilon` in `steps` steps; `epochs` is the effort for the clone of a round.

    `epsilon` is in input units for images and in each feature's spread over the thief's rows for tables.
    """

    name: str = "jbda"
    knowledge: str = "a few unlabelled in-distribution rows"
    step: int | None = 100
    seeds: int = 100
    epsilon: float = 0.1
    steps: int = 1
    epochs: int = 10

    def __post_init__(self) -> None:
        if min(self.seeds, self.steps, self.epochs) < 1:
            raise MedwardError("jbda: seeds, steps and epochs must be at least 1")

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> _Rounds:
        """Begin a theft; see `Strategy`."""
        check_classes(spec, self.name)
        return _Rounds(self, data, spec, seed)


class _Rounds(Distiller):
    def __init__(self, settings: Jacobian, data: AttackData, spec: ModelSpec, seed: int) -> None:
        if len(data.craft) == 0:
            raise MedwardError("extraction: jbda needs in-distribution rows to start from, craft has none")
        super().__init__(spec)
        self._settings, self._seed = settings, seed
        self._rng = np.random.default_rng(seed)
        self._noise = torch.Generator().manual_seed(seed)
        rows = np.asarray(data.craft.inputs, np.float32)
        self._ball = Ball.of(spec, rows, settings.epsilon)
        self._due = rows[self._rng.permutation(len(rows))[: settings.seeds]]
        self._base = self._due

    def ask(self, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Array:
        """The rest of this round's rows; the next round starts when they are used up."""
        while len(self._due) < count:
            self._due = np.concatenate([self._due, self._next_round(loot)])
        asked, self._due = self._due[:count], self._due[count:]
        return asked

    def _next_round(self, loot: StolenAnswers) -> Array:
        """Every row asked so far, moved, in random order; of the seeds, moved at random, before any answer."""
        base = loot.inputs if len(loot) else self._base
        clone = self.learn(loot, epochs=self._settings.epochs, seed=self._seed)
        goals = np.zeros(len(base), np.int64) if clone is None else self._others(clone_decisions(clone, base))
        moved = self._steered(clone, base, goals)
        moved = moved[distinct_from(moved, np.concatenate([base, self._due]))]
        if len(moved) == 0:
            moved = self._steered(None, base, goals)
        return moved[self._rng.permutation(len(moved))]

    def _steered(self, clone: nn.Module | None, base: Array, goals: Ints) -> Array:
        return steer_towards(clone, base, goals, self._ball, steps=self._settings.steps, generator=self._noise)

    def _others(self, labels: Ints) -> Ints:
        """A random class other than each label's."""
        classes = len(self.spec.classes)
        return (labels + self._rng.integers(1, classes, size=len(labels))) % classes


def distinct_from(rows: Array, others: Array) -> Ints:
    """The numbers of the `rows (n, *shape)` that equal none of `others (m, *shape)` and no earlier row.

    To four decimals: a row that was moved across a boundary often moves straight back.
    """
    seen = {row.tobytes() for row in _coarse(others)}
    kept = []
    for number, row in enumerate(_coarse(rows)):
        if (key := row.tobytes()) not in seen:
            seen.add(key)
            kept.append(number)
    return np.array(kept, np.int64)


def _coarse(rows: Array) -> Array:
    return np.asarray(np.round(rows, 4) + 0.0, np.float32)
