"""Burned-in text of an image is read, filled, and looked for again: what cannot be verified is refused.

Every frame is looked at. A place where one frame has text is filled in all of them, because overlays stand still and a
reader that fails on one frame must not leave it there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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
AS_LARGE = 3  # times as high as a text, up to which a single letter may belong to it
GROUND = 12  # pixels around one, whose mean is the ground that text stands on
GROUND_GAIN = 4.0  # by which the difference to the ground is stretched
READABLE = 0.5  # of the reader's score, from which two or more letters are text
ROUNDS = 4  # of filling and looking again
FILL_MARGIN = 2  # pixels around a text that are filled with it
NUMBERS_APART = 6  # heights of a digit, up to which another number may belong to it
_FILL_AROUND = 4  # pixels around one that was filled, whose mean is shown; twice as many where all of them were
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
        texts = list(_read_frames(frames, reader, filled, everywhere=everywhere))
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


def shows_burned_in_text(frames: StoredFrames, reader: TextReader, wanted: Callable[[str], bool]) -> bool:
    """Whether the `frames` show a text that is `wanted`; nothing is read after the first one, and nothing filled."""
    texts = _read_frames(frames, reader, (), everywhere=False)
    return any(each.score >= READABLE and not is_symbol(each.text) and wanted(each.text) for each in texts)


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
        if each is not digit and is_number(each.text) and _is_as_large(digit, each)
    )


def _in_company(letter: ReadText, texts: Iterable[ReadText]) -> bool:
    """Whether `letter` stands within its own height of other text, or of two single letters that are apart."""
    near = [
        each
        for each in texts
        if each is not letter and letter.region.common(each.region) == 0 and _is_as_large(letter, each)
        if letter.region.gap(each.region) <= min(letter.region.height, 2 * each.region.height)
    ]
    return any(not is_symbol(each.text) for each in near) or len(joined_regions(each.region for each in near)) >= 2


def _is_as_large(letter: ReadText, text: ReadText) -> bool:
    """Whether a `letter` is at most `AS_LARGE` times as high as `text`: curves of anatomy are read as letters."""
    return letter.region.height <= AS_LARGE * min(text.region.height, text.region.width)


def _read_frames(
    frames: StoredFrames, reader: TextReader, filled: Sequence[Region], *, everywhere: bool
) -> Iterator[ReadText]:
    """All text of all frames, read when asked for; what looks like a frame before is not read again."""
    known: set[bytes] = set()
    for index in range(len(frames.values)):
        for view in frames.views(index):
            if (digest := hashlib.sha256(view.tobytes()).digest()) not in known:
                known.add(digest)
                yield from _read_view(view, reader, filled, everywhere=everywhere)


def _read_view(
    view: NDArray[np.uint8], reader: TextReader, filled: Sequence[Region], *, everywhere: bool
) -> Iterator[ReadText]:
    """The text of one grey image, where strokes are and around what was filled, or `everywhere`."""
    height, width = view.shape
    places: tuple[Region, ...] = (Region(0, 0, height, width),)
    if not everywhere:
        around = [each.grown(each.height + _SMALLEST, view.shape) for each in filled]
        places = joined_regions([*(each.grown(_SMALLEST // 4, view.shape) for each in text_candidates(view)), *around])
    shown = without_fill(view, filled)
    for place in places:
        piece = np.ascontiguousarray(shown[place.slices])
        flat = flattened(piece)
        looks = [*((piece, scale) for scale in READING_SCALES), (flat, 1.0)]
        for look, scale in looks:
            for each in reader.read(look, scale=scale):
                region = tightened_region(flat, each.region).moved(place.top, place.left)
                yield ReadText(each.text, region, each.score)


def flattened(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`grey` without its slow changes: text that crosses bright and dark anatomy stands on an even ground."""
    ground, _ = _mean_around(grey.astype(np.float32), np.ones(grey.shape, np.float32), GROUND)
    flat: NDArray[np.uint8] = np.clip(128 + GROUND_GAIN * (grey - ground), 0, 255).astype(np.uint8)
    return flat


def without_fill(grey: NDArray[np.uint8], filled: Sequence[Region]) -> NDArray[np.uint8]:
    """`grey` with what lies around in the place of what was `filled`: black bars are read as letters.

    A fill has one value, so nothing that was burned in is hidden; all other pixels are as they were.
    """
    if not filled:
        return grey
    own = np.ones(grey.shape, np.float32)
    for each in filled:
        own[each.slices] = 0
    shown, unknown = grey.copy(), own == 0
    values, radius = grey * own, _FILL_AROUND
    while unknown.any() and radius < 2 * max(grey.shape):
        mean, count = _mean_around(values, own, radius)
        near = unknown & (count > 0)
        shown[near] = mean[near].astype(np.uint8)
        unknown &= ~near
        radius *= 2
    return shown


def _mean_around(
    values: NDArray[np.float32], weights: NDArray[np.float32], radius: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of `values`, zero where their weight is, over squares to `radius` on each side, and the weight there."""
    total, count = _sums_around(values, radius), _sums_around(weights, radius)
    return total / np.maximum(count, 1), count


def _sums_around(values: NDArray[np.float32], radius: int) -> NDArray[np.float64]:
    sums = values.astype(np.float64)
    for axis in (0, 1):
        length = sums.shape[axis]
        running = np.insert(np.cumsum(sums, axis=axis), 0, 0, axis=axis)
        places = np.arange(length)
        last, first = np.minimum(places + radius + 1, length), np.maximum(places - radius, 0)
        sums = running.take(last, axis=axis) - running.take(first, axis=axis)
    return sums
