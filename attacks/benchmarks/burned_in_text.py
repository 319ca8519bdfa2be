"""Made-up identifiers burned into images: which pixels they cover is known, so that what finds them can be judged.

Fonts are DejaVu's, which Matplotlib brings, and Pillow's own. Every name, number and date is drawn by chance and
belongs to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FAMILY_NAMES = (
    "ADAMS",
    "BERGSTROM",
    "CASTELLANO",
    "DUBOIS",
    "Eriksen",
    "FITZGERALD",
    "Goldberg",
    "HOFFMANN",
    "Iwasaki",
    "JOHANSSON",
)
GIVEN_NAMES = ("Alice", "BRUNO", "Carmen", "DMITRI", "Elena", "FRANK", "Greta", "HUGO", "Ingrid", "JOSEPH")
HOSPITALS = ("St. Vincent Hospital", "MERCY MEDICAL CTR", "Uniklinik Nord", "LAKESIDE CLINIC", "Royal Infirmary")
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif", "")  # "": Pillow's
RIGHT_ANGLES = (90, 180, 270)
_APART = 6  # pixels between two lines


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayStyle:
    """A style bounds what a generator of burned-in text draws: letters' sizes in pixels, contrast in shares of white.

    `turned` is the share of lines at a right angle, `tilted` that of lines at up to `tilt` degrees, `boxed` that of
    lines on a flat ground of their own, as ultrasound machines draw them.
    """

    sizes: tuple[int, int] = (11, 40)
    contrast: tuple[float, float] = (0.3, 1.0)
    turned: float = 0.2
    tilted: float = 0.15
    tilt: float = 8.0
    boxed: float = 0.25
    lines: tuple[int, int] = (1, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnedInLine:
    """A line of text that was drawn: what it says, how, and the box ``(top, left, bottom, right)`` of its ink."""

    text: str
    box: tuple[int, int, int, int]
    size: int
    angle: float
    contrast: float
    font: str


def burn_in_lines(
    pixels: NDArray[np.uint8], generator: np.random.Generator, style: OverlayStyle | None = None
) -> tuple[NDArray[np.uint8], tuple[BurnedInLine, ...]]:
    """Grey `pixels` ``(H, W)`` with lines of identifiers drawn on a copy, none over another, and where they are."""
    style = style or OverlayStyle()
    drawn = pixels.copy()
    lines: list[BurnedInLine] = []
    for _ in range(int(generator.integers(style.lines[0], style.lines[1] + 1))):
        for _ in range(20):  # places and sizes are drawn anew where a line does not fit
            line = _drawn_line(drawn, generator, style, [each.box for each in lines])
            if line is not None:
                lines.append(line)
                break
    return drawn, tuple(lines)


def identifier_text(generator: np.random.Generator) -> str:
    """A made-up name, number, date, hospital or telephone number, as scanners burn them in."""
    day, month, year = (int(generator.integers(*each)) for each in ((1, 29), (1, 13), (1930, 2026)))
    number = str(int(generator.integers(10**6, 10**9)))
    family, given = (str(generator.choice(each)) for each in (FAMILY_NAMES, GIVEN_NAMES))
    forms = (
        f"{family}^{given}",
        f"{family}, {given}",
        f"{family} {given} [{generator.choice(['M', 'F'])}] {day:02d}.{month:02d}.{year}",
        f"MRN: {number}",
        f"ID {number}",
        f"DOB: {day:02d}/{month:02d}/{year}",
        f"{year}-{month:02d}-{day:02d} {int(generator.integers(24)):02d}:{int(generator.integers(60)):02d}",
        f"ACC# {number[:7]}",
        str(generator.choice(HOSPITALS)),
        f"Tel. {number[:3]}-{number[3:6]}-{int(generator.integers(1000, 10000))}",
    )
    return str(generator.choice(np.array(forms, dtype=object)))


def text_mask(text: str, *, font: str, size: int, angle: float = 0.0) -> NDArray[np.float32]:
    """The ink of `text`, turned by `angle` degrees and cropped to it, as shares ``(h, w)`` from 0 to 1."""
    face = font_face(font, size)
    left, top, right, bottom = face.getbbox(text)
    page = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(page).text((2 - left, 2 - top), text, fill=255, font=face)
    if angle % 90 == 0:
        ink = np.rot90(np.asarray(page), int(angle) // 90)
    else:
        ink = np.asarray(page.rotate(angle, Image.Resampling.BICUBIC, expand=True))
    rows, columns = np.flatnonzero(ink.max(1) > 64), np.flatnonzero(ink.max(0) > 64)
    cropped: NDArray[np.float32] = (ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] / 255).astype(np.float32)
    return cropped


def font_face(font: str, size: int) -> Any:
    """The font of a name in `FONTS` at `size` pixels."""
    if not font:
        return ImageFont.load_default(size)
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"), size)


def _drawn_line(
    drawn: NDArray[np.uint8],
    generator: np.random.Generator,
    style: OverlayStyle,
    taken: list[tuple[int, int, int, int]],
) -> BurnedInLine | None:
    """Draw one line onto `drawn`; None where it does not fit, and nothing is drawn."""
    text, font = identifier_text(generator), str(generator.choice(FONTS))
    size = int(generator.integers(style.sizes[0], style.sizes[1] + 1))
    draw = float(generator.random())
    angle = 0.0
    if draw < style.turned:
        angle = float(generator.choice(RIGHT_ANGLES))
    elif draw < style.turned + style.tilted:
        angle = float(generator.uniform(-style.tilt, style.tilt))
    ink = text_mask(text, font=font, size=size, angle=angle)
    room = (drawn.shape[0] - ink.shape[0] - 2, drawn.shape[1] - ink.shape[1] - 2)
    if min(room) < 1:
        return None
    top, left = (int(generator.integers(1, each + 1)) for each in room)
    if generator.random() < 0.6:  # most scanners write along an edge
        top = int(generator.choice([1, room[0]]))
    box = (top, left, top + ink.shape[0], left + ink.shape[1])
    if any(_near(box, each) for each in taken):
        return None
    place = drawn[box[0] : box[2], box[1] : box[3]].astype(np.float32)
    contrast = float(generator.uniform(*style.contrast))
    if generator.random() < style.boxed:
        ground = np.full_like(place, float(generator.choice([0, 255])))
    else:
        ground = place
    # Ink is as far from the ground below it as the contrast says, on the side where there is room for it.
    level = float(np.median(ground))
    bright = level + 255 * contrast <= 255 or level < 127
    target = np.clip(ground + (255 * contrast if bright else -255 * contrast), 0, 255)
    contrast = float(np.abs(target - ground).mean()) / 255
    drawn[box[0] : box[2], box[1] : box[3]] = np.rint(ground * (1 - ink) + target * ink).astype(np.uint8)
    return BurnedInLine(text=text, box=box, size=size, angle=angle, contrast=contrast, font=font)


def _near(one: tuple[int, int, int, int], two: tuple[int, int, int, int]) -> bool:
    return (
        one[0] < two[2] + _APART and two[0] < one[2] + _APART and one[1] < two[3] + _APART and two[1] < one[3] + _APART
    )
