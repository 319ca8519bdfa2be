"""The windows under which a DICOM file is shown, in its stored values: text that only stands out in one is read there.

Reference: PS3.3 C.11.1 (rescaling) and C.11.2 (windows).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from medward.guard.intake.deidentify.frames import StoredWindow

_OF_ALL, _OF_EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_MOST_WINDOWS = 8  # of a frame, that are looked at


def frame_windows(header: Any, frames: int) -> tuple[tuple[StoredWindow, ...], ...]:
    """The lowest and highest stored value of each window of each of the `frames`."""
    shared = [header, *(header.get(_OF_ALL) or ())]
    each = list(header.get(_OF_EACH) or ())
    return tuple(_windows([*shared, *each[index : index + 1]]) for index in range(frames))


def _windows(datasets: list[Any]) -> tuple[StoredWindow, ...]:
    slope, intercept = 1.0, 0.0
    parts = [part for each in datasets for part in (each, *_items_of(each))]
    for part in parts:
        slope = next(_numbers(part.get("RescaleSlope")), slope) or 1.0
        intercept = next(_numbers(part.get("RescaleIntercept")), intercept)
    found: dict[StoredWindow, None] = {}
    for part in parts:
        centres, widths = (_numbers(part.get(name)) for name in ("WindowCenter", "WindowWidth"))
        for centre, width in zip(centres, widths, strict=False):
            ends = [(centre + side * width / 2 - intercept) / slope for side in (-1, 1)]
            if min(ends) < max(ends):
                found[min(ends), max(ends)] = None
    return tuple(found)[:_MOST_WINDOWS]


def _items_of(dataset: Any) -> Iterator[Any]:
    """The items of the sequences of functional groups that say how values are shown."""
    for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
        yield from dataset.get(name) or ()


def _numbers(value: Any) -> Iterator[float]:
    """The finite numbers of one attribute, which has none, one or several."""
    if value is None or value == "":
        return
    several = [value] if isinstance(value, int | float | str) or not hasattr(value, "__iter__") else value
    yield from (float(each) for each in several if math.isfinite(float(each)))
