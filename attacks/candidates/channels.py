"""How answers came to a membership attacker, and the one signal that is read from them.

The signal of classes is phi = log p_y - log sum_{c != y} p_c at the true label y (Carlini et al., S&P 2022, sec. V); of
findings the sum of the log odds of each at its true bit; of a number minus its distance from the true one, in
tolerances. Answers come exact, rounded, for the largest classes only, as a label only or not at all, row by row. A
`Channel` remembers which, so that shadow models can be looked at just as coarsely as the target was. What a row hides
is guessed as any client would: the hidden classes share the rest evenly, a cell's number lies in its middle. A report
names its findings and never how likely they are, so it is read as an answer of findings without their scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medward.attacks.candidates.pools import pool_values, read_pools
from medward.attacks.learners.base import Learner
from medward.attacks.learners.numbers import cell_middles
from medward.attacks.target import Response
from medward.guard.data.labels import Labels
from medward.guard.errors import MedwardError
from medward.guard.release.pooling import ConfidencePools
from medward.guard.release.scores import largest_classes
from medward.guard.release.topk import keep_top, spread_rest
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import decisions
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints

_TINY = 1e-30  # the smallest probability told from 0 when answers are exact
MAX_DECIMALS = 6

Mask = NDArray[np.bool_]


class Channel(Protocol):
    """A channel is how the answers came; all rows ``(copies, n)``, the first copy being the candidate itself."""

    @property
    def answered(self) -> Mask:
        """The rows of which anything left."""
        ...

    @property
    def released(self) -> Mask:
        """The rows of which some score left."""
        ...

    def coarsen(self, values: Array) -> Array:
        """Exact values ``(..., copies, n, width)`` as this channel would have shown them."""
        ...

    def phi(self, shown: Array, labels: Labels) -> Array:
        """The signal ``(..., n)`` of what was shown ``(..., copies, n, width)``, averaged over copies first.

        NaN where no copy was answered.
        """
        ...

    def unknown(self, phi: Array) -> float:
        """What stands for a signal that nobody saw, beside those `phi (n,)` that somebody did: it tells nothing."""
        ...


@dataclass(frozen=True, slots=True)
class ClassChannel:
    """A class channel shows probabilities that sum to one, or labels.

    `partly` are the rows of which some class was hidden. `decimals` is how far released probabilities are rounded, None
    when they are exact; `top` how many classes a row shows that hides some; `threshold` is the operating point that
    labels are decided at; `pools` are those of confidences, where any show.
    """

    decimals: int | None
    released: Mask
    partly: Mask
    top: int
    answered: Mask
    threshold: float | None = None
    pools: ConfidencePools | None = None

    @classmethod
    def of(cls, response: Response, copies: int, threshold: float | None = None) -> ClassChannel:
        """Read it off the answers ``(copies * n,)``, as any client could."""
        likely = response.probabilities
        released, shown = np.asarray(np.isfinite(likely).all(axis=1)), np.isfinite(response.scores)
        decimals = rounded_to(likely[shown & released[:, None]])
        partly = released & ~shown.all(axis=1)
        return cls(
            decimals,
            released.reshape(copies, -1),
            partly.reshape(copies, -1),
            int(shown[partly].sum(axis=1).min(initial=shown.shape[1])),  # more leave where classes tie for the first
            (response.labels >= 0).reshape(copies, -1),
            threshold,
            read_pools(likely[released], threshold, decimals),
        )

    def coarsen(self, values: Array) -> Array:
        """Probabilities as they were shown."""
        classes = values.shape[-1]
        labels = one_hot(decisions(values, "probabilities", self.threshold), classes)
        pooled = values if self.pools is None else pool_values(values, self.threshold, self.pools)
        shown = pooled if self.decimals is None else pooled.round(self.decimals)
        if self.partly.any():
            best = largest_classes(values.reshape(-1, classes)) if self.threshold is None else labels > 0
            top = spread_rest(keep_top(shown.reshape(-1, classes), best.reshape(-1, classes), self.top))
            shown = np.where(self.partly[..., None], top.reshape(shown.shape), shown)
        return np.where(self.released[..., None], shown, labels)

    def phi(self, shown: Array, labels: Labels) -> Array:
        """No confidence counts as closer to 0 than half the unit it was shown in; a label's unit is 1."""
        mean, floor = averaged(self, shown, self.decimals)
        return np.where(self.answered.any(axis=0), log_odds(mean, labels, floor), np.nan)

    def unknown(self, phi: Array) -> float:
        """An even guess."""
        return 0.0


@dataclass(frozen=True, slots=True)
class FindingChannel:
    """A finding channel shows a probability of each finding, or the set.

    `decimals` as for classes, `thresholds` are those that each is decided at, `pools` those of
    confidences.
    """

    decimals: int | None
    released: Mask
    answered: Mask
    thresholds: tuple[float, ...]
    pools: ConfidencePools | None = None

    def coarsen(self, values: Array) -> Array:
        """Probabilities as they were shown; where the set alone was, ones and zeros."""
        pooled = values if self.pools is None else pool_values(values, self.thresholds, self.pools)
        shown = pooled if self.decimals is None else pooled.round(self.decimals)
        return np.where(self.released[..., None], shown, values >= np.asarray(self.thresholds))

    def phi(self, shown: Array, labels: Labels) -> Array:
        """The sum over findings of the log odds at the true bit."""
        mean, floor = averaged(self, shown, self.decimals)
        true = unpacked_findings(labels, len(self.thresholds))
        own = np.where(true, mean, 1 - mean)
        odds = np.log(np.maximum(own, floor[:, None])) - np.log(np.maximum(1 - own, floor[:, None]))
        return np.where(self.answered.any(axis=0), odds.sum(axis=-1), np.nan)

    def unknown(self, phi: Array) -> float:
        """An even guess."""
        return 0.0


@dataclass(frozen=True, slots=True)
class NumberChannel:
    """A number channel shows a number or its cell alone, in whose middle the number is then taken to be."""

    task: Regression
    released: Mask
    answered: Mask

    def coarsen(self, values: Array) -> Array:
        """Numbers as they were shown."""
        middles = cell_middles(self.task, self.task.decide(values.reshape(-1, 1))).reshape(values.shape)
        return np.where(self.released[..., None], values, middles)

    def phi(self, shown: Array, labels: Labels) -> Array:
        """Minus the distance from the truth, in tolerances."""
        mean, _ = averaged(self, shown, None)
        gap = np.abs(mean[..., 0] - np.asarray(labels, np.float64)) / self.task.tolerance
        return np.where(self.answered.any(axis=0), -gap, np.nan)

    def unknown(self, phi: Array) -> float:
        """The median distance."""
        return float(np.median(phi)) if len(phi) else 0.0


def read_channel(task: Task, learner: Learner, response: Response, copies: int) -> Channel:
    """How the answers ``(copies * n,)`` of a model of `task` came, as any client could tell."""
    if isinstance(task, Classification):
        return ClassChannel.of(response, copies, task.threshold)
    if isinstance(task, WrittenReport):  # says of each finding that it is there or may be, or not, and never how likely
        answered = (response.labels >= 0).reshape(copies, -1)
        return FindingChannel(None, np.zeros_like(answered), answered, (0.5,) * len(task.findings))
    likely = learner.released(response)
    released = np.asarray(np.isfinite(likely).all(axis=1))
    masks = released.reshape(copies, -1), (response.labels >= 0).reshape(copies, -1)
    if isinstance(task, Multilabel):
        decimals = rounded_to(likely[released])
        pools = read_pools(likely[released], task.thresholds, decimals)
        return FindingChannel(decimals, *masks, task.thresholds, pools)
    if isinstance(task, Regression):
        return NumberChannel(task, *masks)
    raise MedwardError(f"candidates: a model that {task.rule} shows no confidence that could be read")


def averaged(channel: Channel, shown: Array, decimals: int | None) -> tuple[Array, Array]:
    """The mean ``(..., n, width)`` over answered copies, and the least ``(n,)`` that a probability may count as."""
    count = np.maximum(channel.answered.sum(axis=0), 1)
    mean = np.where(channel.answered[..., None], shown, 0.0).sum(axis=-3) / count[:, None]
    unit = 0.0 if decimals is None else 10.0**-decimals
    units = np.where(channel.released, unit, 1.0) * channel.answered
    return mean, np.maximum(units.max(axis=0) / 2 / count, _TINY)


def log_odds(probabilities: Array, labels: Labels, floor: Array) -> Array:
    """The signal phi ``(..., n)``; neither side of it counts as less than ``floor (n,)``."""
    true = one_hot(labels, probabilities.shape[-1]) > 0
    own = np.where(true, probabilities, 0).sum(axis=-1)
    rest = np.where(true, 0, probabilities).sum(axis=-1)
    return np.asarray(np.log(np.maximum(own, floor)) - np.log(np.maximum(rest, floor)))


def rounded_to(probabilities: Array) -> int | None:
    """The fewest decimals that hold every value, None when more than `MAX_DECIMALS` are needed."""
    for decimals in range(1, MAX_DECIMALS + 1):
        if np.abs(probabilities - probabilities.round(decimals)).max(initial=0) < 1e-7:
            return decimals
    return None


def one_hot(labels: Ints, classes: int) -> Array:
    """Rows of the identity ``(..., classes)``; a withheld label (-1) gives a row that must not be used."""
    return np.asarray(np.eye(classes)[labels])
