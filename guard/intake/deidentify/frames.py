"""The frames of an image as they are stored: how they look, what black is in them, and filling them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.intake.deidentify.regions import Region

COLOURED = 64  # grey levels by which channels differ where text may be seen in one of them only
FEW_COLOURED = 0.001  # share of coloured pixels that makes looking at channels worth while
TAIL = 1.0  # per cent of the values at either end without which a second look is taken
MOST_MODES = 3  # values that many pixels have, around which text may differ little: air, tissue, bone
MODE_SHARE = 0.05  # of the pixels that are close to a mode
MODE_WIDTH = 1 / 8  # of the range of values that is looked at around a mode
_BINS = 32
StoredWindow = tuple[float, float]
"""The lowest and the highest stored value between which a frame is shown."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(slots=True, kw_only=True)
class StoredFrames:
    """Stored frames are the values ``(F, H, W)`` or ``(F, H, W, 3)`` of a file, of which regions can be filled.

    `palette` ``(entries, 3)``, 8-bit, is that of PALETTE COLOR, whose values start at `first`. `windows` are those
    under which each frame is shown, none or as many as frames.
    """

    values: NDArray[Any]
    photometric: str
    palette: NDArray[np.uint8] | None = None
    first: int = 0
    windows: tuple[tuple[StoredWindow, ...], ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.values.shape[1], self.values.shape[2]

    def views(self, index: int) -> list[NDArray[np.uint8]]:
        """Frame `index` as grey images ``(H, W)`` in which its text can be seen."""
        frame = self.values[index]
        if self.palette is not None:
            at = np.clip(frame.astype(np.int64) - self.first, 0, len(self.palette) - 1)
            return _colour_views(self.palette[at])
        if frame.ndim == 3:
            return _colour_views(frame)
        own = self.windows[index] if self.windows else ()
        views = [_stretched(frame, *window) for window in _grey_windows(frame, own)]
        return [255 - each for each in views] if self.photometric == "MONOCHROME1" else views

    def fill(self, regions: Iterable[Region]) -> None:
        """Make `regions` black, in every frame, with a value that each frame has already where grey."""
        regions = list(regions)
        for frame in self.values:
            black = self._black(frame)
            for region in regions:
                frame[region.slices] = black

    def _black(self, frame: NDArray[Any]) -> Any:
        if self.palette is not None:
            used = np.unique(frame)
            at = np.clip(used.astype(np.int64) - self.first, 0, len(self.palette) - 1)
            darkest: np.generic = used[int(np.argmin(self.palette[at].astype(np.int64).sum(axis=1)))]
            return darkest
        if self.photometric.startswith("YBR"):
            middle = (np.iinfo(frame.dtype).max + 1) // 2
            return np.array([0, middle, middle], frame.dtype)
        if frame.ndim == 3:
            return np.zeros(3, frame.dtype)
        black: np.generic = frame.max() if self.photometric == "MONOCHROME1" else frame.min()
        return black


def _grey_windows(frame: NDArray[Any], own: tuple[StoredWindow, ...]) -> list[StoredWindow]:
    """Between which values a grey frame is looked at: all, its `own` windows, and where many of its values lie."""
    lowest, highest = float(frame.min()), float(frame.max())
    windows = [(lowest, highest)]
    half = (highest - lowest) / 2
    windows += [each for each in own if each[1] - each[0] < half and each[0] < highest and each[1] > lowest]
    if frame.dtype.itemsize > 1:
        low, high = (float(each) for each in np.percentile(frame[::4, ::4], [TAIL, 100 - TAIL]))
        if 0 < high - low < half:
            windows.append((low, high))
        windows += _mode_windows(frame, lowest, highest)
    return windows


def _mode_windows(frame: NDArray[Any], lowest: float, highest: float) -> list[StoredWindow]:
    """Narrow windows around the values that most pixels have."""
    if highest - lowest < 2 * _BINS:
        return []
    counts, edges = np.histogram(frame[::2, ::2], bins=_BINS, range=(lowest, highest))
    width, windows = (highest - lowest) * MODE_WIDTH, list[StoredWindow]()
    for place in np.argsort(-counts, kind="stable")[:_BINS]:
        middle = float(edges[place] + edges[place + 1]) / 2
        if counts[place] < MODE_SHARE * counts.sum() or len(windows) == MOST_MODES:
            break
        if all(abs(middle - (low + high) / 2) >= width / 2 for low, high in windows):
            windows.append((middle - width / 2, middle + width / 2))
    return windows


def _stretched(frame: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """`frame` from the value `low` to the value `high`, as 0 to 255."""
    if frame.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        return frame.astype(np.uint8, copy=False)
    scaled = (frame.astype(np.float32) - np.float32(low)) * np.float32(255 / max(high - low, 1e-9))
    return (scaled + np.float32(0.5)).clip(0, 255).astype(np.uint8)


def _colour_views(frame: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """The luminance, and the single channels where they differ: red text on blue has hardly any luminance."""
    eight = frame.astype(np.uint8) if frame.dtype.itemsize == 1 else (frame.astype(np.int64) >> 8).astype(np.uint8)
    views = [(eight.astype(np.float32) @ _LUMA).astype(np.uint8)]
    spread = eight.max(axis=2) - eight.min(axis=2)
    if float(np.mean(spread > COLOURED)) > FEW_COLOURED:
        views += [np.ascontiguousarray(eight[..., channel]) for channel in (0, 2)]
    return views
