"""Explains a batch of strange images: the mistake that, undone, makes them ordinary, or else what differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medward.guard.commissioning.exceedance import corrected_p_value, exceedance_p_value
from medward.guard.commissioning.image_mistakes import (
    fits_range,
    moved_images,
    scaled_images,
)
from medward.guard.commissioning.mistake import SendingMistake
from medward.guard.commissioning.notes import (
    FEWEST_COMPARED,
    ORDINARY_BATCH,
    PAIRED,
    BatchTests,
    CommissioningNote,
    StrangenessOf,
    both_sides,
)
from medward.guard.commissioning.ordinary import OrdinaryImages
from medward.guard.data.quality import sign_test
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

_WORDS = {
    "strange": "are strange to the screens",
    "layout": "show things elsewhere than calibration images do",
    "brightness above": "are brighter than nearly all calibration images",
    "brightness below": "are darker than nearly all calibration images",
    "contrast above": "have more contrast than nearly all calibration images",
    "contrast below": "have less contrast than nearly all calibration images",
}
_MOVED = "do not lie as calibration images do"
_TAIL = 0.05  # of calibration images, beyond which one is counted as apart


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageExplainer:
    """Explains images: `ordinary` ones are known by their summary, None in profiles of older releases.

    ``reference (n,)`` is the ascending strangeness of benign images, `strangeness_of` that of any.
    """

    spec: ModelSpec
    ordinary: OrdinaryImages | None
    reference: Array
    strangeness_of: StrangenessOf

    def explain(self, images: Array) -> tuple[CommissioningNote, ...]:
        """Notes on a batch; none where nothing is strange."""
        blank = images.reshape(len(images), -1)
        empty = np.asarray(blank.max(axis=1) == blank.min(axis=1))
        notes = []
        if empty.any() and not self._knows_blank:
            words = "blank, one value everywhere"
            notes.append(self._note("blank", words, int(empty.sum()), len(images), explained=True))
            images = images[~empty]
        if len(images) < FEWEST_COMPARED:
            return tuple(notes)
        seen = _Seen.of(self, images)
        if not seen.tests.strange:
            return tuple(notes)
        return (*notes, *(self._explained(images, seen) or self._differs(seen)))

    def _explained(self, images: Array, seen: _Seen) -> list[CommissioningNote]:
        """The note of the mistake that explains all images, or else those that lie apart."""
        everything, apart = np.ones(len(images), bool), seen.apart
        for rows in (everything, apart):
            if rows.sum() < FEWEST_COMPARED:
                continue
            for mistakes in (self._named(), self._gains(images[rows])):
                found = [each for each in (self._undone(images, seen, rows, m) for m in mistakes) if each]
                if found:
                    _, mistake, count = min(found, key=lambda each: each[0])
                    return [self._note(mistake.name, mistake.words, count, len(images), explained=True)]
        return []

    def _undone(
        self, images: Array, before: _Seen, rows: NDArray[np.bool_], mistake: SendingMistake
    ) -> tuple[float, SendingMistake, int] | None:
        """How strange the images are on average once `mistake` is undone, and how many are less so; None if no help.

        It is undone in all of them, or in those of some `rows` that are less strange then.
        """
        undone = mistake.undo(images).astype(images.dtype)
        if self.ordinary is not None and not fits_range(undone[rows], self.ordinary.low, self.ordinary.high):
            return None
        if rows.all() and self.ordinary is not None:  # what can be told without the model is told first
            p_values = _measured_tests(self.spec, self.ordinary, undone)
            if corrected_p_value(p_values.values(), 1 + len(p_values)) <= ORDINARY_BATCH:
                return None
        after = _Seen.of(self, undone)
        less = rows & (after.apartness < before.apartness)
        if sign_test(int(less.sum()), int(rows.sum() - less.sum())) > PAIRED:
            return None
        if not rows.all():
            after = _Seen.of(self, np.where(less[:, None, None, None], undone, images))
        return (float(after.apartness.mean()), mistake, int(less.sum())) if after.tests.ordinary else None

    def _named(self) -> Iterator[SendingMistake]:
        low, high = self._range
        normalised = self.spec.low is None or self.spec.high is None
        yield from moved_images(self.spec)
        if low is not None and high is not None:
            yield from scaled_images(low, high, normalised=normalised)

    def _gains(self, images: Array) -> Iterator[SendingMistake]:
        """The change of gain and offset that gives the images ordinary brightness and contrast, and that of offset."""
        if (ordinary := self.ordinary) is None:
            return
        low, span = ordinary.low, ordinary.high - ordinary.low
        bright, wide = np.median(ordinary.measured(images)[:, 1:], axis=0).tolist()
        ordinary_bright, ordinary_wide = np.median(ordinary.measures[1:], axis=1).tolist()
        for gain in (wide / max(ordinary_wide, 1e-9), 1.0):
            if gain > 0:
                offset = bright - low - gain * (ordinary_bright - low)
                scaled = "" if gain == 1 else f"contrast times {gain:.2g} and "
                yield SendingMistake(
                    name="offset" if gain == 1 else "gain and offset",
                    words=f"like calibration images with {scaled}{offset / span:+.2g} of the range added",
                    undo=partial(_rescaled, gain, offset, ordinary),
                )

    def _differs(self, seen: _Seen) -> list[CommissioningNote]:
        """Notes on what differs, where no mistake explains it."""
        found = dict.fromkeys(_WORDS.get(name, _MOVED) for name in seen.tests.found)
        counts = seen.counts()
        notes = []
        for words in found:
            name = next((each for each, said in _WORDS.items() if said == words), "layout")
            notes.append(self._note(f"unexplained: {name}", words, counts[name], seen.rows, explained=False))
        return notes

    def _note(self, word: str, words: str, rows: int, of: int, *, explained: bool) -> CommissioningNote:
        return CommissioningNote(word=word, words=words, rows=rows, of=of, kind=self.spec.kind, explained=explained)

    @property
    def _range(self) -> tuple[float | None, float | None]:
        return (self.spec.low, self.spec.high) if self.ordinary is None else (self.ordinary.low, self.ordinary.high)

    @property
    def _knows_blank(self) -> bool:
        return self.ordinary is not None and bool(self.ordinary.measures[2][0] == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What is seen of a batch: the tests, and how far each image lies apart in all that is measured."""

    tests: BatchTests
    apartness: Array
    apart: NDArray[np.bool_]
    sides: dict[str, NDArray[np.bool_]]
    rows: int

    @classmethod
    def of(cls, explainer: ImageExplainer, images: Array) -> _Seen:
        strangeness, reference = explainer.strangeness_of(images), explainer.reference
        p_values = {"strange": exceedance_p_value(strangeness, reference)}
        sides, apartness = {"strange": strangeness > _upper(reference)}, strangeness.copy()
        if (ordinary := explainer.ordinary) is not None:
            p_values |= _measured_tests(explainer.spec, ordinary, images)
            layouts, *levels = ordinary.measured(images).T
            layout, *benign = ordinary.measures
            sides["layout"] = layouts > _upper(layout)
            apartness = apartness + np.maximum(_standardised(layouts, layout), 0)
            for name, column, own in zip(("brightness", "contrast"), levels, benign, strict=True):
                sides[f"{name} above"], sides[f"{name} below"] = column > _upper(own), -column > _upper(-own[::-1])
                apartness = apartness + np.abs(_standardised(column, own))
        apart = np.logical_or.reduce(list(sides.values()))
        return cls(tests=BatchTests(p_values=p_values), apartness=apartness, apart=apart, sides=sides, rows=len(images))

    def counts(self) -> dict[str, int]:
        """How many images lie apart, by what they do in."""
        return {name: int(each.sum()) for name, each in self.sides.items()}


def _measured_tests(spec: ModelSpec, ordinary: OrdinaryImages, images: Array) -> dict[str, float]:
    """The tests of all that is measured of images without the model."""
    layouts, brightness, contrast = ordinary.measured(images).T
    p_values = {"layout": exceedance_p_value(layouts, ordinary.measures[0])}
    p_values |= both_sides("brightness", brightness, ordinary.measures[1])
    p_values |= both_sides("contrast", contrast, ordinary.measures[2])
    for mistake in moved_images(spec):
        if mistake.name in ordinary.names:
            benign = ordinary.moves[ordinary.names.index(mistake.name)]
            p_values[mistake.name] = exceedance_p_value(ordinary.nearer(images, mistake.undo(images)), benign)
    return p_values


def _upper(benign: Array) -> float:
    """The ascending value beyond which the share `_TAIL` of benign ones lies."""
    return float(benign[-max(1, int(_TAIL * len(benign)))])


def _standardised(values: Array, benign: Array) -> Array:
    """`values` with the benign median at 0 and half the width of nine in ten benign ones as 1."""
    low, middle, high = np.quantile(benign, (0.05, 0.5, 0.95))
    return np.asarray((values - middle) / max((high - low) / 2, 1e-9))


def _rescaled(gain: float, offset: float, ordinary: OrdinaryImages, images: Array) -> Array:
    """Images without a gain and an offset, within the ordinary range."""
    undone = ordinary.low + (images - ordinary.low - offset) / gain
    return np.asarray(np.clip(undone, ordinary.low, ordinary.high))
