"""The thieves' contracts: what was learned so far, who chooses what to ask next, and how a clone comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.learners.table import learner_of
from medward.attacks.whitebox.surrogate import answered_rows
from medward.guard.release.scores import probabilities
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

__all__ = ["Distiller", "QueryChooser", "StolenAnswers", "Strategy", "clone_decisions", "distil_clone"]


@dataclass(frozen=True, slots=True)
class StolenAnswers:
    """Inputs ``(n, *shape)`` in the order they were asked; targets ``(n, width)`` say what was learned of each.

    A target is what the victim's task makes of an answer (`attacks.learners`): of classes the released probabilities, a
    label's one-hot row, or NaN where nothing left. Where the victim has operating points, probabilities are moved so
    that the plain rule is its decision: a clone's is then the decision it learned, from scores and labels alike.
    ``texts (n)`` are those that left of a model that writes reports, for a thief who learns from texts; None for a row
    whose text did not leave.
    """

    inputs: Array
    targets: Array
    texts: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Ints | NDArray[np.bool_] | slice) -> StolenAnswers:
        """The rows at `index`."""
        texts = tuple(self.texts[at] for at in np.arange(len(self.inputs))[index]) if self.texts else ()
        return StolenAnswers(self.inputs[index], self.targets[index], texts)

    @property
    def known(self) -> StolenAnswers:
        """The rows that were answered."""
        return self.take(answered_rows(self.targets))


class QueryChooser(Protocol):
    """One theft in progress. It sees answers only as `loot`, and may keep whatever it likes of its own."""

    def ask(self, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Array:
        """The next `count` inputs ``(<= count, *shape)``; fewer mean that nothing is left to ask.

        `loot` holds exactly what it asked before, row by row in that order. `clone` is the one trained at the last
        checkpoint, None before the first.
        """
        ...

    def learn(self, loot: StolenAnswers, *, epochs: int, seed: int) -> nn.Module | None:
        """A clone from inputs to outputs ``(n, width)``, in eval mode; None when `loot` holds no answer.

        `loot` is what was asked, and after it other rows with answers, such as the cover traffic. `epochs` is the
        effort the thief's settings allow. Called anew at each checkpoint.
        """
        ...


class Strategy(Protocol):
    """How a thief chooses what to ask. Settings only; the same seed asks the same of the same victim.

    One file and one citation each; a frozen dataclass with a field that tells it from all others, for kept runs.
    """

    @property
    def name(self) -> str:
        """What reports, journals and ``--attacks`` call it."""
        ...

    @property
    def knowledge(self) -> str:
        """What the thief holds, in a few words for the report."""
        ...

    @property
    def step(self) -> int | None:
        """Inputs chosen between two looks at the answers; None chooses all up to the next checkpoint at once."""
        ...

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> QueryChooser:
        """Begin a theft with what `data` says the thief holds: `craft` (labels only if it knows them) and `pool`.

        Raises `MedwardError` when that lacks what the strategy needs.
        """
        ...


@dataclass(slots=True)
class Distiller:
    """What most askers do to learn: `distil_clone`. Subclasses choose what to ask."""

    spec: ModelSpec

    def learn(self, loot: StolenAnswers, *, epochs: int, seed: int) -> nn.Module | None:
        """A clone of everything answered."""
        return distil_clone(self.spec, loot, epochs=epochs, seed=seed)


def distil_clone(spec: ModelSpec, loot: StolenAnswers, *, epochs: int, seed: int) -> nn.Module | None:
    """A clone trained on the answered rows as the task of `spec` is learned; None when there are none."""
    known = loot.known
    if len(known) == 0:
        return None
    return learner_of(spec).fit(spec, known.inputs, known.targets, epochs=epochs, seed=seed, normalised=False)


def clone_decisions(clone: nn.Module, inputs: Array) -> Ints:
    """The labels ``(n,)`` of a clone of classes."""
    return np.asarray(clone_probabilities(clone, inputs).argmax(axis=1), np.int64)


def clone_probabilities(clone: nn.Module, inputs: Array) -> Array:
    """The probabilities ``(n, K)`` of a clone of classes."""
    return probabilities(clone_outputs(clone, inputs), "logits")


def clone_values(spec: ModelSpec, clone: nn.Module, inputs: Array) -> Array:
    """What a clone of any task says ``(n, width)``, as values; see `attacks.learners`."""
    return learner_of(spec).values(clone_outputs(clone, inputs))


def clone_outputs(clone: nn.Module, inputs: Array, batch: int = 512) -> Array:
    """The clone's outputs ``(n, width)`` as they are."""
    x = torch.as_tensor(np.asarray(inputs, np.float32))
    with torch.no_grad():
        parts = [clone(rows).double() for rows in torch.split(x, batch)]
    return np.asarray(torch.cat(parts).numpy())
