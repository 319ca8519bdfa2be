"""Release levels, from the model's own scores to nothing. Whatever leaves says the same decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.release import capacity
from medward.guard.release.quantise import Prototypes
from medward.guard.release.rounding import round_keeping_side, round_keeping_winners
from medward.guard.release.scores import NDArrayBool, largest_classes, probabilities
from medward.guard.release.temperature import temper_scores
from medward.guard.release.topk import keep_top
from medward.guard.tasks.decision import decisions
from medward.guard.types import Array, Ints, Level, OutputKind

__all__ = ["ReleaseLevels", "largest_classes", "probabilities"]


@dataclass(frozen=True, slots=True, eq=False)
class ReleaseLevels:
    """The output filter; deterministic, so an input asked again gets the same answer again.

    Guarantee: `largest_classes` of what is released equals `largest_classes` of the model's scores, NaN aside.
    `decimals` is for the levels rounded and top, `top` for top, `codebook` for codes, and `temperature` for every level
    but full. With a `threshold` (two classes) the guarantee is instead that a client who compares the second class with
    it decides as the model does; at top that class may be hidden where it is not decided.
    """

    output: OutputKind
    decimals: int = 2
    top: int = 3
    temperature: float = 1.0
    codebook: Prototypes | None = None
    threshold: float | None = None
    name: str = "release"

    def labels(self, scores: Array) -> Ints:
        """The model's own decision ``(n,)``: the first largest class, or the side of the threshold."""
        return decisions(scores, self.output, self.threshold)

    def release(self, scores: Array, level: Level) -> Array:
        """Scores at `level`: the model's own, coarse probabilities, or NaN.

        At codes, a row has only its label where classes tie or the class has no code. Raises `MedwardError` when
        codes are asked for and there is no codebook.
        """
        if level is Level.FULL:
            return scores
        if level >= Level.LABEL:
            return np.full(np.shape(scores), np.nan)
        best = self._best(scores)
        likely = temper_scores(scores, self.output, self.temperature, self.threshold)
        if level is Level.CODES:
            return self._codes.nearest(likely, best, self.threshold)
        if self.threshold is None:
            rounded = round_keeping_winners(likely, best, self.decimals)
        else:
            rounded = round_keeping_side(likely, best[:, 1], self.threshold, self.decimals)
        return rounded if level is Level.ROUNDED else keep_top(rounded, best, self.top)

    def bits(self, scores: Array, level: Level) -> float:
        """How much a row of `scores (n, K)` can carry at `level`, of any model and any question; see `capacity`."""
        classes = scores.shape[1]
        if level is Level.FULL:
            return capacity.full_bits(classes, 8 * scores.dtype.itemsize)
        if self.threshold is not None and level in (Level.ROUNDED, Level.TOP):
            return capacity.side_bits(self.decimals)
        if level is Level.ROUNDED:
            return capacity.rounded_bits(classes, self.decimals)
        if level is Level.TOP:
            return capacity.top_bits(classes, self.decimals, self.top)
        if level is Level.CODES:
            return capacity.code_bits(classes, len(self._codes.codes))
        return capacity.label_bits(classes) if level is Level.LABEL else capacity.WITHHELD_BITS

    def offers(self, scores: Array, level: Level) -> tuple[tuple[Level, float], ...]:
        """What a row may leave as, finest first, with bits: `level` or, when a budget asks for less, its label."""
        levels = (each for each in sorted({level, Level.LABEL}) if level <= each < Level.WITHHELD)
        return tuple((each, self.bits(scores, each)) for each in levels)

    def _best(self, scores: Array) -> NDArrayBool:
        """The classes ``(n, K)`` that must stay what they are: the largest, or with a threshold the one decided."""
        if self.threshold is None:
            return largest_classes(scores)
        return np.asarray(self.labels(scores)[:, None] == np.arange(np.shape(scores)[1]))

    @property
    def _codes(self) -> Prototypes:
        if self.codebook is None:
            raise MedwardError(
                'release.level = "codes": the profile has no codebook; protect the model again, or choose another level'
            )
        return self.codebook
