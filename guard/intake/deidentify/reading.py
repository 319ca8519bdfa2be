"""Text read from pixels by RapidOCR: detection and recognition networks that lie in its wheel and run offline."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.regions import Region
from medward.guard.intake.picture import image_library

MOST_SIDE = 2000  # pixels of a piece that is read at once
LEAST_SIDE = 32  # pixels of one: what is narrower would be enlarged to this, to any length, until the reader crashes
SURE_SCORE = 0.8  # of the score, from which the shape of the box is not asked about
PIXELS_OF_A_TEXT = 30_000  # that take as long to look at as one text takes to read
PIXELS_OF_A_PIECE = 10_000  # and as one piece takes, however small
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

    def read(self, grey: NDArray[np.uint8], *, scale: float = 1.0) -> Iterable[ReadText]:
        """All text of `grey` ``(H, W)``, looked at in `scale` times its size; regions are of `grey` itself."""
        ...


class ReadingBoundError(MedwardError):
    """More pixels would have to be looked at than may be."""


@dataclass(slots=True, kw_only=True)
class BoundedReader:
    """A bounded reader is a `reader` that looks at no more than `most` pixels altogether, each as often as it is seen.

    Texts and small pieces count as the pixels that take as long. Raises `ReadingBoundError` where it would look at
    more; the piece in which the bound is met is read to its end.
    """

    reader: TextReader
    most: int
    looked: int = 0

    def read(self, grey: NDArray[np.uint8], *, scale: float = 1.0) -> Iterator[ReadText]:
        """As the protocol says, until the bound is met."""
        self._spend(max(int(grey.size * scale * scale), PIXELS_OF_A_PIECE))
        for each in self.reader.read(grey, scale=scale):
            yield each
            self._spend(PIXELS_OF_A_TEXT)

    def _spend(self, pixels: int) -> None:
        self.looked += pixels
        if self.looked > self.most:
            raise ReadingBoundError(
                f"looking for burned-in text takes more than {self.most} pixels, each counted as often as it is "
                "looked at; send smaller or fewer images"
            )


class RapidReader:
    """A reader through RapidOCR (PP-OCR networks, Apache-2.0), on one thread, for all threads in turn."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._lock = threading.Lock()

    def read(self, grey: NDArray[np.uint8], *, scale: float = 1.0) -> Iterator[ReadText]:
        """As the protocol says; what is larger than the networks take is read in pieces that overlap, when asked for.

        Of a piece narrower than `LEAST_SIDE` the edge is repeated, and what stands only in that is no text.
        """
        from PIL import Image

        height, width = grey.shape
        side = int(MOST_SIDE / scale)
        for top in _starts(height, side):
            for left in _starts(width, side):
                piece = Image.fromarray(np.ascontiguousarray(grey[top : top + side, left : left + side]))
                if scale != 1:
                    size = tuple(max(1, round(each * scale)) for each in piece.size)
                    piece = piece.resize((size[0], size[1]), Image.Resampling.BICUBIC)
                for text, (a, b, c, d), score in self._read_piece(_widened(np.asarray(piece))):
                    region = Region(int(a / scale), int(b / scale), -int(-c // scale), -int(-d // scale))
                    region = region.moved(top, left).grown(0, grey.shape)
                    if region.area:
                        yield ReadText(text, region, score)

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
