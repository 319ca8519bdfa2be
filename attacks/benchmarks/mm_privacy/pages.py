"""Pages that show made-up people's values: burned onto radiographs, and filled into forms.

A page is large enough that a reader of text finds what is on it; a victim sees it at half its size. Values stand on
a grid, so that a network of a few layers learns to read them within minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medward.attacks.benchmarks.burned_in_text import font_face
from medward.guard.types import Array

PAGE_SIDE = 512
"""Pixels of a page's side."""
LETTER = (32, 16)
"""Height and width of a letter with what is around it, in pixels of a page."""
LINE = 64
"""Pixels from one line of a page to the next."""
LETTERS_A_LINE = PAGE_SIDE // LETTER[1]
"""Letters of a line."""
PRINTED_LABELS: Mapping[str, str] = {
    "patient name": "PAT",
    "birth date": "DOB",
    "record number": "ID",
    "phone number": "TEL",
}
"""The kinds of values on a page, and what is printed before each."""
RADIOGRAPH_LINES, FORM_LINES = (0, 1, 6, 7), (2, 3, 4, 5)
_INDENT = 4  # letters before a value
_SIZE, _FONT = 26, "DejaVuSansMono"
_LEAST_CONTRAST = 0.55
_TITLE = "PATIENT FORM"
_PRINTED = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789012345678901234567890123456789-- "  # digits as often as on real pages
_WIDEST = LETTERS_A_LINE - _INDENT  # letters of a value


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page is an image ``(1, H, W)`` from 0 to 1, with the `values` printed on it and what else it shows.

    `letters` ``(lines, letters a line)`` are the characters in its grid, 0 where none is.
    """

    image: Array = field(repr=False)
    values: Mapping[str, str] = field(repr=False)
    letters: NDArray[np.uint8] = field(repr=False)
    form: bool = False
    view: str = ""
    finding: bool = False

    def place(self, kind: str) -> tuple[int, int] | None:
        """The line and the column where the value of a kind begins, None where it is not on the page."""
        lines = dict(zip(PRINTED_LABELS, FORM_LINES if self.form else RADIOGRAPH_LINES, strict=True))
        return (lines[kind], _INDENT) if kind in self.values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiograph:
    """A radiograph is an image of grey levels in a page's size, its view ("AP", "PA"), and whether it has a finding."""

    pixels: NDArray[np.uint8] = field(repr=False)
    view: str
    finding: bool


def radiograph_page(radiograph: Radiograph, values: Mapping[str, str], generator: np.random.Generator) -> Page:
    """A radiograph with `values` burned in, on the ground that is there, as bright or as dark as there is room for."""
    pixels, letters = radiograph.pixels.copy(), _no_letters()
    for line, (kind, value) in _lines(values, RADIOGRAPH_LINES):
        _print_line(pixels, letters, line, PRINTED_LABELS[kind], value, float(generator.uniform(_LEAST_CONTRAST, 1.0)))
    return Page(image=_shares(pixels), values=values, letters=letters, view=radiograph.view, finding=radiograph.finding)


def form_page(values: Mapping[str, str], generator: np.random.Generator) -> Page:
    """A form: a title, a label and a ruled line for each kind, filled with `values`; a kind without one stays empty."""
    paper = generator.integers(215, 256) - generator.integers(0, 12, (PAGE_SIDE, PAGE_SIDE), np.uint8)
    pixels, letters = paper.astype(np.uint8), _no_letters()
    contrast = float(generator.uniform(_LEAST_CONTRAST, 0.8))
    _print_line(pixels, letters, 0, "", _TITLE, contrast)
    for line, kind in zip(FORM_LINES, PRINTED_LABELS, strict=True):
        rule = line * LINE + 54
        pixels[rule : rule + 2, _INDENT * LETTER[1] : -LETTER[1]] = 120
        _print_line(pixels, letters, line, PRINTED_LABELS[kind], values.get(kind, ""), contrast)
    return Page(image=_shares(pixels), values=values, letters=letters, form=True)


def crowded_page(ground: Page, generator: np.random.Generator) -> Page:
    """A page with lines of random letters over it, which teaches a vision tower to read."""
    pixels = np.rint(ground.image[0] * 255).astype(np.uint8)
    letters = ground.letters.copy()
    for line in range(PAGE_SIDE // LINE):
        if not letters[line].any() and generator.random() < 0.8:
            drawn = generator.integers(len(_PRINTED), size=int(generator.integers(8, _WIDEST + _INDENT)))
            text = "".join(_PRINTED[each] for each in drawn)
            label, text = text[:3], text[3:]
            _print_line(pixels, letters, line, label, text, float(generator.uniform(_LEAST_CONTRAST, 1.0)))
    return replace(ground, image=_shares(pixels), letters=letters)


def half_size(pages: Array) -> Array:
    """Pages ``(..., PAGE_SIDE, PAGE_SIDE)`` as victims see them: the mean of four pixels."""
    *outer, height, width = pages.shape
    blocks = pages.reshape(*outer, height // 2, 2, width // 2, 2)
    return np.asarray(blocks.mean(axis=(-3, -1), dtype=np.float32))


def made_radiograph(generator: np.random.Generator) -> Radiograph:
    """Procedural radiograph: two dark lungs in a bright chest, for tests that have no data."""
    rows, columns = np.mgrid[0:PAGE_SIDE, 0:PAGE_SIDE] / PAGE_SIDE
    view, finding = str(generator.choice(["AP", "PA"])), bool(generator.integers(2))
    chest = 150 + 40 * np.cos(3 * (columns - 0.5)) - (30 if view == "PA" else 0)
    for side in (0.3, 0.7):
        inside = ((columns - side) / 0.15) ** 2 + ((rows - 0.5) / 0.28) ** 2
        chest -= 90 * np.exp(-(inside**2))
    if finding:
        chest += 80 * np.exp(-(((columns - 0.3) / 0.06) ** 2 + ((rows - 0.6) / 0.06) ** 2))
    noisy = chest + generator.normal(0, 4, chest.shape)
    return Radiograph(pixels=noisy.clip(0, 255).astype(np.uint8), view=view, finding=finding)


def enlarged(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey image at the size of a page."""
    return np.asarray(Image.fromarray(grey).resize((PAGE_SIDE, PAGE_SIDE), Image.Resampling.BICUBIC))


@cache
def letter_ink(letter: str) -> Array:
    """The ink of a letter in its place of the grid, as shares ``LETTER`` from 0 to 1."""
    page = Image.new("L", (LETTER[1], LETTER[0]))
    ImageDraw.Draw(page).text((0, 1), letter, fill=255, font=font_face(_FONT, _SIZE))
    return np.asarray(page, np.float32) / 255


def _print_line(
    pixels: NDArray[np.uint8], letters: NDArray[np.uint8], line: int, label: str, value: str, contrast: float
) -> None:
    """Print a label and a value in a `line`, as far from the median of what is below as `contrast` says."""
    text = label.ljust(_INDENT) + value
    top, width = line * LINE + (LINE - LETTER[0]) // 2, len(text) * LETTER[1]
    place = pixels[top : top + LETTER[0], :width].astype(np.float32)
    ink = np.concatenate([letter_ink(each) for each in text], axis=1)
    level = float(np.median(place))
    target = np.clip(level + (255 * contrast if level < 127 else -255 * contrast), 0, 255)
    pixels[top : top + LETTER[0], :width] = np.rint(place * (1 - ink) + target * ink).astype(np.uint8)
    letters[line, : len(text)] = [ord(each) if each != " " else 0 for each in text]


def _lines(values: Mapping[str, str], lines: tuple[int, ...]) -> list[tuple[int, tuple[str, str]]]:
    return [(line, (kind, values[kind])) for line, kind in zip(lines, PRINTED_LABELS, strict=True) if kind in values]


def _no_letters() -> NDArray[np.uint8]:
    return np.zeros((PAGE_SIDE // LINE, LETTERS_A_LINE), np.uint8)


def _shares(pixels: NDArray[np.uint8]) -> Array:
    return (pixels[None] / np.float32(255)).astype(np.float32)
