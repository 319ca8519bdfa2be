"""Burned-in text of an image is read, filled, and looked for again: what cannot be verified is refused.

Every frame is looked at. A place where one frame has text is filled in all of them, because overlays stand still and a
reader that fails on one frame must not leave it there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.markers import is_marker, is_number, is_symbol, scale_labels
from medward.guard.intake.deidentify.reading import ReadText, TextReader
from medward.guard.intake.deidentify.regions import Region, bridged_regions, joined_regions
from medward.guard.intake.deidentify.strokes import text_candidates, tightened_region

READING_SCALES = (1.0, 1.5)
"""Sizes at which text is read: what one misses the other reads."""
READABLE = 0.5  # of the reader's score, from which two or more letters are text
ROUNDS = 4  # of filling and looking again
FILL_MARGIN = 2  # pixels around a text that are filled with it
NUMBERS_APART = 6  # heights of a digit, up to which another number may belong to it
_SMALLEST = 32  # pixels of a side, below which a piece is given more of what is around it


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnedInText:
    """What was found in the pixels of an image: regions that were filled, how many markers stayed, rounds of filling.

    What the text said is not kept.
    """

    filled: tuple[Region, ...] = ()
    markers: int = 0
    rounds: int = 0

    @property
    def found(self) -> bool:
        """Whether any text was read at all, filled or not."""
        return bool(self.filled) or self.markers > 0


def fill_burned_in_text(
    frames: StoredFrames,
    reader: TextReader,
    *,
    everywhere: bool = False,
    identifies: Callable[[str], bool] | None = None,
    names: frozenset[str] = frozenset(),
) -> BurnedInText:
    """Fill the burned-in text of `frames`, in place, and say what was found.

    All text but markers is filled, or with `identifies` only what it says of (and then other text stays). A marker that
    is also one of `names`, words in capitals, is filled. With `everywhere` all pixels are read and not only where there
    are strokes. Pixels outside `filled` keep their values. Raises `MedwardError` where text can still be read after
    some rounds of filling.
    """
    filled: tuple[Region, ...] = ()
    markers = 0
    for rounds in range(ROUNDS + 1):
        texts = _read_frames(frames, reader, filled, everywhere=everywhere)
        wanted = regions_to_fill(texts, frames.shape, identifies, names)
        if rounds == 0:
            legible = [each for each in texts if each.score >= READABLE]
            labels = scale_labels(legible)
            kept = (each.region for each in legible if is_marker(each.text, names) or each in labels)
            markers = len(joined_regions(each for each in kept if not any(map(each.common, wanted))))
        if not wanted:
            return BurnedInText(filled=filled, markers=markers, rounds=rounds)
        filled = bridged_regions((*filled, *wanted))
        frames.fill(filled)
    raise MedwardError(f"has burned-in text that can still be read after it was filled {ROUNDS} times")


def regions_to_fill(
    texts: Sequence[ReadText],
    shape: tuple[int, int],
    identifies: Callable[[str], bool] | None = None,
    names: frozenset[str] = frozenset(),
) -> tuple[Region, ...]:
    """Which regions of an image of `shape` have to be filled, a little larger than what was read."""
    legible = [each for each in texts if each.score >= READABLE]
    labels = scale_labels(legible)
    certain = [
        each
        for each in legible
        if not is_symbol(each.text)
        and (not (is_marker(each.text, names) or each in labels) if identifies is None else identifies(each.text))
    ]
    # A single letter or digit beside text is part of it; so are single letters in a row, and numbers beside each other.
    singles = [each for each in legible if is_symbol(each.text) and any(letter.isalnum() for letter in each.text)]
    if identifies is None:
        loose = [each for each in singles if each not in labels]
        certain += [each for each in loose if _in_company(each, [*certain, *loose]) or _in_numbers(each, legible)]
    return tuple(each.region.grown(FILL_MARGIN, shape) for each in certain)


def _in_numbers(digit: ReadText, texts: Iterable[ReadText]) -> bool:
    """Whether a single `digit` stands within some line heights of another number: a date in parts does."""
    if not digit.text.strip().isdigit():
        return False
    return any(
        digit.region.gap(each.region) <= NUMBERS_APART * digit.region.height and not digit.region.common(each.region)
        for each in texts
        if each is not digit and is_number(each.text)
    )


def _in_company(letter: ReadText, texts: Iterable[ReadText]) -> bool:
    """Whether `letter` stands within its own height of other text, or within that of two other single letters."""
    near = [
        each
        for each in texts
        if each is not letter and letter.region.common(each.region) == 0
        if letter.region.gap(each.region) <= min(letter.region.height, 2 * each.region.height)
    ]
    return any(not is_symbol(each.text) for each in near) or len(near) >= 2


def _read_frames(
    frames: StoredFrames, reader: TextReader, filled: Sequence[Region], *, everywhere: bool
) -> list[ReadText]:
    """All text of all frames; what looks like a frame before is not read again."""
    texts: list[ReadText] = []
    known: set[bytes] = set()
    for index in range(len(frames.values)):
        for view in frames.views(index):
            if (digest := hashlib.sha256(view.tobytes()).digest()) not in known:
                known.add(digest)
                texts += _read_view(view, reader, filled, everywhere=everywhere)
    return texts


def _read_view(
    view: NDArray[np.uint8], reader: TextReader, filled: Sequence[Region], *, everywhere: bool
) -> list[ReadText]:
    """The text of one grey image, where strokes are and around what was filled, or `everywhere`."""
    height, width = view.shape
    places: tuple[Region, ...] = (Region(0, 0, height, width),)
    if not everywhere:
        around = [each.grown(each.height + _SMALLEST, view.shape) for each in filled]
        places = joined_regions([*(each.grown(_SMALLEST // 4, view.shape) for each in text_candidates(view)), *around])
    texts: list[ReadText] = []
    for place in places:
        piece = np.ascontiguousarray(view[place.slices])
        for scale in READING_SCALES:
            texts += [
                ReadText(each.text, tightened_region(piece, each.region).moved(place.top, place.left), each.score)
                for each in reader.read(piece, scale=scale)
            ]
    return texts
