"""Clones that an owner makes of its own model: what a thief's clone agrees on, and how clearly it would stand out.

A thief asks about rows that it has: photographs (of tables invented rows), or cases like the model's own. Clones of
either sort follow the model on different inputs, so a fingerprint has inputs for both ways.

Reference: Lukas, Zhang and Kerschbaum, "Deep neural network fingerprinting by conferrable adversarial examples", ICLR
2021, which crafts inputs on which clones follow and independent models do not; here they are only chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medward.attacks.benchmarks.datasets.natural import pool_for
from medward.attacks.extraction.base import StolenAnswers, clone_values, distil_clone
from medward.attacks.learners.table import learner_of
from medward.attacks.ownership.candidates import NEARBY, altered_rows
from medward.attacks.target import Response
from medward.guard.models.base import Model
from medward.guard.profile import forward_batches
from medward.guard.types import Array, Ints

WEAKEST = 4
"""One clone in so many asks half as much."""
WAYS = ("unrelated inputs", "cases like the model's own")
"""What a thief asks about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneTraining:
    """A clone training steals from `model` as a thief does who holds `rows (n, *shape)`, or public inputs alone.

    `answers` is how many it asks for, `epochs` what it trains for.
    """

    model: Model
    rows: Array
    answers: int = 1500
    epochs: int = 6

    def decisions(self, way: int, count: int, inputs: Array, *, seed: int, first: int = 0) -> Iterator[Ints]:
        """What each of `count` clones of one of the `WAYS` decides on `inputs`, from number `first` on.

        Those of even number learn from scores, the others from decisions alone; of cases like the model's own these
        have no more than the rows themselves. Every fourth asks half as much, so that what is said of clones does not
        rest on strong ones.
        """
        spec = self.model.spec
        learner = learner_of(spec)
        for number in range(first, first + count):
            rng = np.random.default_rng((seed, way, number))
            asked = self._asked(way, rng, alone=number % 2 == 1)
            asked = asked[: len(asked) // 2] if number % WEAKEST == WEAKEST - 1 else asked
            told = forward_batches(self.model, asked)
            scores = told.scores if number % 2 == 0 else np.full_like(told.scores, np.nan)
            targets = learner.targets(Response(spec.decide(told.scores), scores, spec.output))
            epochs = self.epochs if spec.modality == "image" else 5 * self.epochs
            clone = distil_clone(spec, StolenAnswers(asked, targets), epochs=epochs, seed=int(rng.integers(2**31)))
            assert clone is not None
            yield learner.decided(clone_values(spec, clone, inputs))

    def _asked(self, way: int, rng: np.random.Generator, *, alone: bool) -> Array:
        """What a thief asks about; with `alone` no row of its own is altered."""
        spec = self.model.spec
        if way == 0:
            return pool_for(spec, self.rows, self.answers, int(rng.integers(2**31)))
        order = rng.permutation(len(self.rows))
        if alone:
            return self.rows[order[: self.answers]]
        own = self.rows[order[: self.answers // 2]]
        each = (self.answers - len(own)) // len(NEARBY[spec.modality])
        more = [
            altered_rows(spec, self.rows, own[rng.integers(len(own), size=each)], kind, rng)
            for kind in NEARBY[spec.modality]
        ]
        return np.concatenate([own, *more])
