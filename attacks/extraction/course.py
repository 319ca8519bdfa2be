"""The course of one theft: what was asked in which order, and what came back."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medward.attacks.extraction.answers import average_views, first_text, views_of
from medward.attacks.extraction.base import QueryChooser, StolenAnswers
from medward.attacks.learners.table import learner_of
from medward.attacks.target import Response, Target
from medward.guard.data.split import Split
from medward.guard.spec import ModelSpec
from medward.guard.types import Array


class TheftSession:
    """Meters one theft. The queries where `turns` is true are the asker's, the others cover rows from `own`.

    An input takes `views` of the asker's turns. Cover rows are learned from the first time only: a guard's ladder
    climbs, so no later answer says more. `spent` is the rows asked, `ended` whether the asker had nothing left. With
    `texts` those of a model that writes reports are kept; without, its findings are all that a thief learns from.
    """

    def __init__(
        self,
        target: Target,
        asker: QueryChooser,
        own: Split,
        turns: NDArray[np.bool_],
        *,
        views: int,
        seed: int,
        texts: bool = False,
    ) -> None:
        self.spent, self.ended = 0, False
        self._target, self._asker, self._own, self._turns, self._views = target, asker, own, turns, views
        self._rng = np.random.default_rng(seed)
        self._order = self._rng.permutation(len(own))
        self._covered = 0
        self._mine = _Rows(len(turns) // views, target, texts)
        self._cover = _Rows(len(own), target, texts)

    @property
    def spec(self) -> ModelSpec:
        """What the victim takes and gives."""
        return self._target.spec

    @property
    def loot(self) -> StolenAnswers:
        """What the asker asked, then the cover rows."""
        mine, cover = self._mine.loot, self._cover.loot
        return StolenAnswers(
            np.concatenate([mine.inputs, cover.inputs]),
            np.concatenate([mine.targets, cover.targets]),
            (*mine.texts, *cover.texts),
        )

    @property
    def released(self) -> Array:
        """The values as they left ``(n, width)``, row by row of `loot`; NaN for what did not."""
        return np.concatenate([self._mine.released, self._cover.released])

    @property
    def public(self) -> StolenAnswers:
        """The same inputs with what the thief knew of them without asking: the labels of its own rows, else NaN."""
        loot, learner = self.loot, learner_of(self._target.spec)
        if self._own.labels is None:
            return loot.take(slice(0, 0))
        rows = {row.tobytes(): number for number, row in enumerate(_single(self._own.inputs))}
        at = np.array([rows.get(row.tobytes(), -1) for row in _single(loot.inputs)], np.int64)
        targets = np.full((len(loot), learner.width), np.nan)
        targets[at >= 0] = learner.known(self._own.labels[at[at >= 0]])
        return StolenAnswers(loot.inputs, targets)

    def ask_until(self, stop: int, clone: nn.Module | None, *, step: int | None) -> None:
        """Spend up to `stop` rows in all; the asker chooses at most `step` inputs at a time, and knows `clone`."""
        while self.spent < stop and not self.ended:
            room = stop - self.spent
            if step is not None:
                room = min(room, math.ceil(step * self._views * len(self._turns) / self._turns.sum()))
            if self._ask(self._turns[self.spent : self.spent + room], clone) == 0:
                return

    def _ask(self, turns: NDArray[np.bool_], clone: nn.Module | None) -> int:
        """Ask one batch that takes `turns`, or as many of them as there are whole inputs for; returns its rows."""
        wanted = int(turns.sum()) // self._views
        inputs = self._asker.ask(wanted, self._mine.loot, clone)[:wanted] if wanted else self._mine.loot.inputs[:0]
        mine = len(inputs) * self._views
        self.ended = len(inputs) < wanted
        used = np.cumsum(turns) <= mine
        batch_turns = turns[used] if self.ended else turns[used | ~turns]
        cover = np.arange(self._covered, self._covered + int((~batch_turns).sum()))
        self._covered += len(cover)
        batch = np.empty((len(batch_turns), *self._target.spec.shape), np.float32)
        batch[batch_turns] = views_of(inputs, self._views, self._target.spec, self._rng)
        if len(cover):
            batch[~batch_turns] = self._own.inputs[self._order[cover % len(self._order)]]
        if len(batch) == 0:
            return 0
        response = self._target.query(batch)
        self.spent += len(batch)
        self._mine.add(inputs, response, batch_turns, self._views)
        first = np.zeros(len(batch), bool)
        first[np.flatnonzero(~batch_turns)[cover < len(self._order)]] = True
        self._cover.add(batch[first], response, first, 1)
        return len(batch)


class _Rows:
    """Inputs, targets and released values, appended in place; and texts, where a thief learns from them."""

    def __init__(self, most: int, target: Target, texts: bool) -> None:
        self._learner = learner_of(target.spec)
        self._texts: list[str | None] | None = [] if texts else None
        self._inputs = np.empty((most, *target.spec.shape), np.float32)
        self._targets, self._released = np.empty((most, self._learner.width)), np.empty((most, self._learner.width))
        self._count = 0

    @property
    def loot(self) -> StolenAnswers:
        return StolenAnswers(self._inputs[: self._count], self._targets[: self._count], tuple(self._texts or ()))

    @property
    def released(self) -> Array:
        return self._released[: self._count]

    def add(self, inputs: Array, response: Response, rows: NDArray[np.bool_], views: int) -> None:
        """Append `inputs`, of which the answers are those `rows` of `response`, `views` successive ones for each."""
        own = response.take(rows)
        new = slice(self._count, self._count + len(inputs))
        self._inputs[new] = inputs
        released = self._learner.released(own)
        self._targets[new] = average_views(self._learner.targets(own), views)
        self._released[new] = average_views(released, views) if views > 1 else released
        if self._texts is not None:
            self._texts += [first_text(own.texts[at : at + views]) for at in range(0, len(own.labels), views)]
        self._count += len(inputs)


def _single(inputs: Array) -> Array:
    return np.ascontiguousarray(inputs, np.float32)
