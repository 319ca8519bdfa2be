"""Classification: one right class of several, the one with the largest score.

Of two classes the second, the positive one, may have an operating point: it is decided where its probability is at
least the threshold, which is how screening and triage models are operated (`guard.tasks.decision`). A model of one
logit or probability is such a model of two classes: its column is the second one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.release import capacity
from medward.guard.release.pooling import ConfidencePools, fit_pool, pool_side, pool_winners
from medward.guard.release.rounding import round_keeping_side, round_keeping_winners
from medward.guard.release.scores import NDArrayBool, largest_classes
from medward.guard.release.temperature import temper_scores
from medward.guard.release.topk import keep_top
from medward.guard.tasks.base import ReleaseSettings, check_unit, in_floats, nothing, plain_bits, read_matrix
from medward.guard.tasks.decision import at_threshold, checked_threshold, decisions, in_full
from medward.guard.types import Array, Ints, Level, ScoreKind

_TOLERANCE = 1e-3  # how far a row of probabilities may sum from 1
_DECIMALS = 4  # of a gap between scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Classification decides one of `classes`: the largest score, or at a `threshold` the second of two.

    `output` says what a row of scores means. With `one_column` the model itself gives the second class's alone; read,
    a logit z is the row (0, z) and a probability p the row (1 - p, p).
    Guarantee: `largest_classes` of what is released equals `largest_classes` of the scores, NaN aside; with a threshold
    a client who compares the second class with it decides as the model does (at top that class may be hidden where it
    is not decided).
    """

    classes: tuple[str, ...]
    output: ScoreKind
    threshold: float | None = None
    one_column: bool = False
    kind: Literal["classification"] = "classification"

    def __post_init__(self) -> None:
        """Refuse an operating point that is no probability strictly between 0 and 1, or of more than two classes."""
        object.__setattr__(self, "threshold", checked_threshold(self.threshold, len(self.classes)))
        if self.one_column and len(self.classes) != 2:
            raise MedwardError(f"one_column: is for two classes, got {len(self.classes)}; give a column per class")

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    @property
    def levels(self) -> tuple[Level, ...]:
        """All there are."""
        return tuple(Level)

    @property
    def rule(self) -> str:
        """How the model decides, in words."""
        if self.threshold is None:
            return "decides the class with the largest score"
        negative, positive = self.classes
        return f"decides {positive} when its probability is at least {self.threshold}, else {negative}"

    def read(self, raw: object, name: str) -> Array:
        """Scores ``(n, K)``; a column of its own is completed. Probabilities must be a distribution, row by row."""
        scores = _completed(np.asarray(raw), self.output, name) if self.one_column else read_matrix(raw, self.classes)
        if self.output == "probabilities":
            check_probabilities(scores)
        return scores

    def decide(self, outputs: Array) -> Ints:
        """The class index ``(n,)``."""
        return decisions(outputs, self.output, self.threshold)

    def judged(self, outputs: Array) -> Array:
        """The scores, moved where there is a threshold so that the largest is the decision."""
        return outputs if self.threshold is None else at_threshold(outputs, self.output, self.threshold)

    def doubt(self, outputs: Array) -> Array:
        """Minus the gap between the two largest scores, rounded; at a threshold minus the log odds from it."""
        top = np.partition(np.asarray(self.judged(outputs), np.float64), -2, axis=1)[:, -2:]
        return np.round(top[:, 0] - top[:, 1], _DECIMALS)

    def unchanged(self, before: Array, after: Array) -> NDArray[np.bool_]:
        """Where the class decided is the same."""
        return np.asarray(self.decide(before) == self.decide(after))

    def release(self, outputs: Array, level: Level, settings: ReleaseSettings) -> Array:
        """Scores at `level`: the model's own, coarse probabilities, or NaN.

        At codes, a row has only its label where classes tie or the class has no code. Raises `MedwardError` when
        codes are asked for and there is no codebook.
        """
        if level is Level.FULL:
            return in_full(outputs, self.output, self.threshold)
        if level >= Level.LABEL:
            return nothing(outputs)
        best = self._best(outputs)
        likely = self.likely(outputs, settings)
        if level is Level.CODES:
            if settings.codebook is None:
                raise MedwardError(
                    'release.level = "codes": the profile has no codebook; protect the model again, or choose another '
                    "level"
                )
            return settings.codebook.nearest(likely, best, self.threshold)
        if self.threshold is None:
            rounded = round_keeping_winners(likely, best, settings.decimals)
        else:
            rounded = round_keeping_side(likely, best[:, 1], self.threshold, settings.decimals)
        return rounded if level is Level.ROUNDED else keep_top(rounded, best, settings.top)

    def bits(self, outputs: Array, level: Level, settings: ReleaseSettings) -> float:
        """log2 of how many rows there are at `level`."""
        classes = len(self.classes)
        if self.threshold is not None and level in (Level.ROUNDED, Level.TOP):
            return capacity.side_bits(settings.decimals)
        if level is Level.ROUNDED:
            return capacity.rounded_bits(classes, settings.decimals)
        if level is Level.TOP:
            return capacity.top_bits(classes, settings.decimals, settings.top)
        if level is Level.CODES:
            return capacity.code_bits(classes, 0 if settings.codebook is None else len(settings.codebook.codes))
        return capacity.label_bits(classes) if level is Level.LABEL else plain_bits(classes, outputs, level)

    def word(self, decision: int) -> str:
        """The class's name."""
        return self.classes[decision]

    def fit_pools(self, outputs: Array, share: float, temperature: float) -> ConfidencePools:
        """The pool of each decided class, of the surest `share` of benign `outputs (n, K)`."""
        likely = temper_scores(outputs, self.output, temperature, self.threshold)
        decided = self.decide(outputs)
        own, classes = likely[np.arange(len(likely)), decided], len(self.classes)
        least = [1 / classes] * classes if self.threshold is None else [1 - self.threshold, self.threshold]
        pools = np.array([fit_pool(own[decided == each], share, low) for each, low in enumerate(least)])
        return ConfidencePools(pools[None, :, 0], pools[None, :, 1], share, temperature)

    def likely(self, outputs: Array, settings: ReleaseSettings) -> Array:
        """Probabilities ``(n, K)``, tempered and pooled, before they are made coarse."""
        likely = temper_scores(outputs, self.output, settings.temperature, self.threshold)
        if settings.pools is None:
            return likely
        best = self._best(outputs)
        if self.threshold is None:
            return pool_winners(likely, best, settings.pools)
        return pool_side(likely, best[:, 1], self.threshold, settings.pools)

    def _best(self, outputs: Array) -> NDArrayBool:
        """The classes ``(n, K)`` that must stay what they are: the largest, or with a threshold the one decided."""
        if self.threshold is None:
            return largest_classes(outputs)
        return np.asarray(self.decide(outputs)[:, None] == np.arange(np.shape(outputs)[1]))


def check_probabilities(scores: Array) -> None:
    """Refuse `scores (n, K)` unless every row is a probability distribution; NaN is refused too."""
    inside = (scores >= -_TOLERANCE) & (scores <= 1 + _TOLERANCE)
    if not inside.all():
        worst = scores[~inside][0]
        raise MedwardError(f'scores: the spec claims probabilities, got {worst:g}; use output = "logits"')
    sums = scores.sum(axis=1)
    if not (np.abs(sums - 1) <= _TOLERANCE).all():
        worst = sums[np.argmax(np.abs(sums - 1))]
        raise MedwardError(
            f"scores: the spec claims probabilities, but a row sums to {worst:.4g}, not 1; a model that finds several "
            'things at once is --task multilabel (task = "multilabel")'
        )


def _completed(column: NDArray[np.generic], output: str, name: str) -> Array:
    """Two columns ``(n, 2)`` from the one ``(n,)`` or ``(n, 1)`` that a model of one logit or probability gives."""
    if column.dtype.kind not in "fiub" or column.shape[1:] not in ((), (1,)) or not column.ndim:
        raise MedwardError(f"{name}: gave outputs of shape {column.shape}, one column (n, 1) was said")
    second = in_floats(column.reshape(len(column)))
    if output == "probabilities":
        check_unit(second)
    first = np.zeros_like(second) if output == "logits" else 1 - second
    return np.stack([first, second], axis=1)
