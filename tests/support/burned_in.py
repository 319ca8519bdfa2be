"""Readers of text that need no network, and images for them: pure white is ink."""

from __future__ import annotations

import numpy as np

from medward.guard.intake.deidentify.cleaner import Deidentification
from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.guard.intake.deidentify.reading import ReadText
from medward.guard.intake.deidentify.regions import Region

KEY = b"\x07" * 32


class WhiteReader:
    """Reads `text` in the box of all rows with many white pixels, or always the same if `stubborn`."""

    def __init__(self, text="SMITH", *, score=0.9, stubborn=False):
        self.text, self.score, self.stubborn, self.asked = text, score, stubborn, 0

    def read(self, grey, *, scale=1.0):
        self.asked += 1
        white = grey == 255
        rows, columns = np.nonzero(white & (white.sum(axis=1, keepdims=True) >= 25))
        if not len(rows) or len(rows) == grey.size:
            return (ReadText(self.text, Region(0, 0, 4, 9), self.score),) if self.stubborn else ()
        box = Region(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
        return (ReadText(self.text, box, self.score),)


def how(reader=None, **more):
    """A de-identification with a fixed key and a reader that needs no network; all pixels are read."""
    return Deidentification(pseudonyms=Pseudonyms(KEY), reader=reader or WhiteReader(), **{"everywhere": True, **more})


def inked(shape=(64, 64), *, top=10, left=12, bits=8, white=None, generator=None):
    """An image of noise below white with an inked bar, and the bar's box."""
    generator = generator or np.random.default_rng(0)
    dtype = np.uint8 if bits <= 8 else np.uint16
    pixels = generator.integers(2**bits // 4, 2**bits // 2, shape).astype(dtype)
    pixels[top : top + 6, left : left + 30] = 2**bits - 1 if white is None else white
    return pixels, Region(top, left, top + 6, left + 30)
