"""Text read from pixels by RapidOCR: detection and recognition networks that lie in its wheel and run offline."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medward.guard.intake.deidentify.regions import Region
from medward.guard.intake.picture import image_library

MOST_SIDE = 2000  # pixels of a piece that is read at once
LEAST_SIDE = 32  # pixels of one: what is narrower would be enlarged to this, to any length, until the reader crashes
SURE_SCORE = 0.8  # of the score, from which the shape of the box is not asked about
NARROWEST_LETTER = 0.28  # of a letter's height, that it is wide
_OVERLAP = 200  # pixels that two pieces share, so that a line is whole in one of them


@dataclass(frozen=True, slots=True)
class ReadText:
    """A text that was read: what it says, where it stands, and how sure the reader is, from 0 to 1."""

    text: str
    region: Region
    score: float


class TextReader(Protocol):
    """A reader finds and reads the text of a grey image."""

    def read(self, grey: NDArray[np.uint8], *, scale: float = 1.0) -> tuple[ReadText, ...]:
        """All text of `grey` ``(H, W)``, looked at in `scale` times its size; regions are of `grey` itself."""
        ...


class RapidReader:
    """A reader through RapidOCR (PP-OCR networks, Apache-2.0), on one thread, for all threads in turn."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._lock = threading.Lock()

    def read(self, grey: NDArray[np.uint8], *, scale: float = 1.0) -> tuple[ReadText, ...]:
        """As the protocol says; what is larger than the networks take is read in pieces that overlap.

        Of a piece narrower than `LEAST_SIDE` the edge is repeated, and what stands only in that is no text.
        """
        from PIL import Image

        height, width = grey.shape
        side = int(MOST_SIDE / scale)
        found: list[ReadText] = []
        for top in _starts(height, side):
            for left in _starts(width, side):
                piece = Image.fromarray(np.ascontiguousarray(grey[top : top + side, left : left + side]))
                if scale != 1:
                    size = tuple(max(1, round(each * scale)) for each in piece.size)
                    piece = piece.resize((size[0], size[1]), Image.Resampling.BICUBIC)
                for text, (a, b, c, d), score in self._read_piece(_widened(np.asarray(piece))):
                    region = Region(int(a / scale), int(b / scale), -int(-c // scale), -int(-d // scale))
                    found.append(ReadText(text, region.moved(top, left).grown(0, grey.shape), score))
        return tuple(each for each in found if each.region.area)

    def _read_piece(self, grey: NDArray[np.uint8]) -> list[tuple[str, tuple[float, float, float, float], float]]:
        with self._lock:
            if self._engine is None:
                self._engine = _engine()
            read = self._engine(np.repeat(grey[..., None], 3, axis=2))
        if getattr(read, "boxes", None) is None or not getattr(read, "txts", None):
            return []
        found = []
        for text, score, corners in zip(read.txts, read.scores, np.asarray(read.boxes, np.float64), strict=True):
            if float(score) >= SURE_SCORE or has_room_for(str(text), corners):
                low, high = corners.min(axis=0), corners.max(axis=0)
                found.append((str(text), (float(low[1]), float(low[0]), float(high[1]), float(high[0])), float(score)))
        return found


def has_room_for(text: str, corners: NDArray[np.float64]) -> bool:
    """Whether the letters of `text` fit side by side in a box of four `corners`: wires are read as digits."""
    sides = [float(np.linalg.norm(corners[k] - corners[k + 1])) for k in (0, 1)]
    return max(sides) >= NARROWEST_LETTER * len(text.strip()) * min(sides)


def _widened(piece: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`piece` with its last row and column repeated up to `LEAST_SIDE`, so that nothing is drawn that it has not."""
    room = [(0, max(0, LEAST_SIDE - side)) for side in piece.shape]
    return np.pad(piece, room, mode="edge")


def _engine() -> Any:
    """RapidOCR, silent and on one thread, without a size that it would bring every image to."""
    rapidocr = image_library("rapidocr", "burned-in text", "deidentify")
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.text_score": 0.0,
            "Global.max_side_len": MOST_SIDE,
            "Global.use_cls": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": MOST_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _starts(length: int, side: int) -> range | list[int]:
    """Where pieces of `side` begin that together cover `length`."""
    if length <= side:
        return [0]
    step = side - _OVERLAP
    return range(0, length - _OVERLAP, step)
