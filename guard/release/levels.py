"""Release levels, from the model's own scores to nothing. Wherever scores leave, the same classes are largest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guard.errors import MedwardError
from guard.release import capacity
from guard.release.quantise import Codebook
from guard.release.rounding import round_keeping_winners
from guard.release.scores import probabilities, winners
from guard.release.temperature import tempered
from guard.release.topk import keep_top
from guard.types import Array, Ints, Level, OutputKind

__all__ = ["ReleaseLevels", "probabilities", "winners"]


@dataclass(frozen=True, slots=True, eq=False)
class ReleaseLevels:
    """The output filter; deterministic, so an input asked again gets the same answer again.

    Guarantee: `winners` of what is released equals `winners` of the model's scores, NaN aside. `decimals` is for the
    levels rounded and top, `top` for top, `codebook` for codes, and `temperature` for every level but full.
    """

    output: OutputKind
    decimals: int = 2
    top: int = 3
    temperature: float = 1.0
    codebook: Codebook | None = None
    name: str = "release"

    def labels(self, scores: Array) -> Ints:
        """The model's own decision ``(n,)``: the first largest class."""
        return np.asarray(np.argmax(scores, axis=1), np.int64)

    def release(self, scores: Array, level: Level) -> Array:
        """Scores at `level`: the model's own, coarse probabilities, or NaN.

        At codes, a row has only its label where classes tie or the class has no code. Raises `MedwardError` when
        codes are asked for and there is no codebook.
        """
        if level is Level.FULL:
            return scores
        if level >= Level.LABEL:
            return np.full(np.shape(scores), np.nan)
        best = winners(scores)
        likely = tempered(scores, self.output, self.temperature)
        if level is Level.CODES:
            return self._codes.nearest(likely, best)
        rounded = round_keeping_winners(likely, best, self.decimals)
        return rounded if level is Level.ROUNDED else keep_top(rounded, best, self.top)

    def bits(self, scores: Array, level: Level) -> float:
        """How much a row of `scores (n, K)` can carry at `level`, of any model and any question; see `capacity`."""
        classes = scores.shape[1]
        if level is Level.FULL:
            return capacity.full_bits(classes, 8 * scores.dtype.itemsize)
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

    @property
    def _codes(self) -> Codebook:
        if self.codebook is None:
            raise MedwardError(
                'release.level = "codes": the profile has no codebook; protect the model again, or choose another level'
            )
        return self.codebook
