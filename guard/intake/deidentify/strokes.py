"""Where an image may have text: a cheap filter, so that text is only read where there are strokes.

Letters are narrow lines in both directions, close to each other, and clearly brighter or darker than what lies on
either side of them. Anatomy has edges but few such lines. The filter says where text may be, never that there is some.
Related: the stroke width transform (Epshtein, Ofek and Wexler, CVPR 2010), of which this is the cheapest form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.intake.deidentify.disjoint_sets import DisjointSets
from medward.guard.intake.deidentify.regions import Region, hull_of, joined_regions

STROKE_CONTRAST = 22  # grey levels of 255 that a stroke differs from both its sides
FAINT = 24  # grey levels of an even ground between two pixels, up to which there is no ink
RIM_INK = 0.04  # of the ink in a row of text, up to which a row beside it is rim
LEAST_INKED = 0.4  # of the rows of a region, without which it is not known where its text begins
STROKES = 8  # pixels of strokes, in each direction, in a place of 3 x 3 cells
CELL = 8  # pixels
HALF_WIDTHS = (1, 2)  # pixels from the middle of a stroke to beside it, at every size of the image
SIZES_SEEN = 3  # sizes of the image that are looked at: large letters have wide strokes
_MARGIN = 12  # pixels around a place, so that whole letters are read


def text_candidates(grey: NDArray[np.uint8]) -> tuple[Region, ...]:
    """The regions of `grey` ``(H, W)`` that may hold text; all others hold no strokes as letters have them."""
    if min(grey.shape) < 2 * CELL:
        return (Region(0, 0, *grey.shape),)
    sharp = _crowded(*(_edges(grey, axis) for axis in (0, 1)))
    found: list[Region] = []
    level = grey
    for halving in range(SIZES_SEEN if sharp.any() else 0):
        scale = 2**halving
        if min(level.shape) < 2 * CELL:
            break
        crowded = np.zeros([-(-each // CELL) for each in level.shape], np.bool_)
        for half_width in HALF_WIDTHS:
            crowded |= _crowded(*(_ridges(level, half_width, axis) for axis in (0, 1)))
        for cells in _connected(crowded & _halved_cells(sharp, scale, crowded.shape)):
            place = Region(*(CELL * scale * each for each in (cells.top, cells.left, cells.bottom, cells.right)))
            found.append(place.grown(_MARGIN * scale, grey.shape))
        level = _halved(level)
    return joined_regions(each for each in found if each.area)


def tightened_region(flat: NDArray[np.uint8], region: Region) -> Region:
    """`region` without the rim that readers leave around text; at most a third of its lesser side.

    Rim are the outer rows and columns in which there is hardly a step, beside those of the text. `flat` is the image
    with its ground evened out and its contrast limited, so that a bright line through a text is no more ink than it.
    """
    piece = flat[region.slices].astype(np.int16)
    if min(piece.shape) < 4:
        return region
    room = min(piece.shape) // 3
    steps = np.abs(np.diff(piece, axis=0)), np.abs(np.diff(piece, axis=1))
    usual = max(float(np.median(each.max(axis=axis))) for axis, each in enumerate(steps))
    down, across = (each > max(FAINT, usual / 2) for each in steps)
    ink = np.zeros(piece.shape, np.bool_)
    ink[:-1] |= down
    ink[1:] |= down
    ink[:, :-1] |= across
    ink[:, 1:] |= across
    (top, bottom), (left, right) = (_rims(ink.sum(axis=axis), room) for axis in (1, 0))
    return Region(region.top + top, region.left + left, region.bottom - bottom, region.right - right)


def _rims(inked: NDArray[np.integer], room: int) -> tuple[int, int]:
    """How many of the first and of the last rows have hardly any ink, up to `room`; none where few have any."""
    rows = inked > RIM_INK * np.percentile(inked, 90)
    if rows.mean() < LEAST_INKED:
        return 0, 0
    return min(int(rows.argmax()), room), min(int(rows[::-1].argmax()), room)


def _crowded(down: NDArray[np.bool_], across: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells around which enough pixels were found in each of both directions."""
    return np.minimum(_around(_per_cell(down)), _around(_per_cell(across))) >= STROKES


def _edges(grey: NDArray[np.uint8], axis: int) -> NDArray[np.bool_]:
    """Pixels that differ clearly from the one after the next: letters that were drawn are sharp, anatomy is not."""
    before, after = _shifted(grey, axis, 0, 2), _shifted(grey, axis, 2, 2)
    found = np.zeros(grey.shape, np.bool_)
    _shifted(found, axis, 1, 2)[...] = np.maximum(before, after) - np.minimum(before, after) > STROKE_CONTRAST
    return found


def _ridges(grey: NDArray[np.uint8], half_width: int, axis: int) -> NDArray[np.bool_]:
    """Pixels brighter, or darker, than those at `half_width` on both sides along `axis`."""
    room = 2 * half_width
    before, middle, after = (_shifted(grey, axis, each, room) for each in (0, half_width, room))
    found = np.zeros(grey.shape, np.bool_)
    most, least = np.maximum(before, after), np.minimum(before, after)
    bright = (middle > most) & (middle - most > STROKE_CONTRAST)
    dark = (middle < least) & (least - middle > STROKE_CONTRAST)
    _shifted(found, axis, half_width, room)[...] = bright | dark
    return found


def _shifted(values: NDArray[np.generic], axis: int, start: int, room: int) -> NDArray[Any]:
    """The part of `values` from `start` on along `axis`, with `room` fewer than there are."""
    part = slice(start, values.shape[axis] - room + start)
    return values[part] if axis == 0 else values[:, part]


def _per_cell(found: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How many pixels of each cell were found."""
    height, width = found.shape
    rows, columns = -(-height // CELL), -(-width // CELL)
    whole = np.zeros((rows * CELL, columns * CELL), np.bool_)
    whole[:height, :width] = found
    counts: NDArray[np.int32] = whole.reshape(rows, CELL, columns, CELL).sum(axis=(1, 3), dtype=np.int32)
    return counts


def _around(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """The sum over each cell and the eight around it."""
    padded = np.pad(counts, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    sums: NDArray[np.int32] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return sums


def _connected(marked: NDArray[np.bool_]) -> tuple[Region, ...]:
    """The hulls of the cells that are `marked` and touch, joined run by run of adjacent rows."""
    runs: list[Region] = []
    for row in np.flatnonzero(marked.any(axis=1)):
        edges = np.diff(np.concatenate([[0], marked[row].astype(np.int8), [0]]))
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        runs += [Region(int(row), int(a), int(row) + 1, int(b)) for a, b in zip(starts, ends, strict=True)]
    groups, above = DisjointSets(len(runs)), 0
    for place, run in enumerate(runs):
        while above < place and (runs[above].bottom < run.top or _ends_before(runs[above], run)):
            above += 1
        for other in range(above, place):
            if runs[other].bottom != run.top or runs[other].left > run.right:
                break
            groups.join(other, place)
    return tuple(hull_of([runs[each] for each in group]) for group in groups.sets())


def _ends_before(above: Region, run: Region) -> bool:
    """Whether a run of the row above ends left of `run`, and so touches none of its row that comes later."""
    return above.bottom == run.top and above.right < run.left


def _halved_cells(marked: NDArray[np.bool_], scale: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Cells of an image at 1 / `scale` of its size that hold a marked one, or touch its last."""
    rows, columns = (
        np.minimum(np.arange(each) // scale, limit - 1) for each, limit in zip(marked.shape, shape, strict=True)
    )
    held = np.zeros(shape, np.bool_)
    at = np.nonzero(marked)
    held[rows[at[0]], columns[at[1]]] = True
    return held


def _halved(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`grey` at half its size, each pixel the mean of four."""
    height, width = (each // 2 * 2 for each in grey.shape)
    fours = grey[:height, :width].astype(np.uint16).reshape(height // 2, 2, width // 2, 2)
    means: NDArray[np.uint8] = (fours.sum(axis=(1, 3)) // 4).astype(np.uint8)
    return means
