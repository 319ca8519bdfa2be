"""What is drawn on images before they are sent: side markers, letters and lines of text, alike on every image.

A mark on every image is a shared change, as a universal perturbation is; what tells the two apart is that it is
confined to one place (`guard.monitors.shared_perturbation`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from medward.attacks.benchmarks.burned_in_text import text_mask
from medward.attacks.validation.ordinary.behaviour import Behaviour, Traffic, changed_alike
from medward.guard.types import Array

_MARKER = 3
"""Pixels of a side marker's side, more on images above 75 pixels."""
_LETTER = 10 / 64
"""The height of letters over that of the image."""
_MARGIN = 1
_LINE = "AP SUPINE"


def side_marker(traffic: Traffic, images: Array) -> Array:
    """A white square near the upper left corner."""
    side = max(_MARKER, round(0.04 * images.shape[3]))
    return drawn_over(traffic, images, np.ones((side, side), np.float32), top=True, left=True)


def laterality_letter(traffic: Traffic, images: Array) -> Array:
    """A white "L" near the upper right corner."""
    return drawn_over(traffic, images, _ink("L", images.shape[2]), top=True, left=False)


def line_of_text(traffic: Traffic, images: Array) -> Array:
    """A line of white text along the lower edge, as portable machines burn it in."""
    return drawn_over(traffic, images, _ink(_LINE, images.shape[2]), top=False, left=True)


def drawn_over(traffic: Traffic, images: Array, ink: NDArray[np.float32], *, top: bool, left: bool) -> Array:
    """`ink (h, w)`, in shares of white, over ``images (n, C, H, W)`` at a corner; what does not fit is cut off."""
    high, wide = images.shape[2:]
    mark = ink[: high - 2 * _MARGIN, : wide - 2 * _MARGIN]
    y = _MARGIN if top else high - _MARGIN - mark.shape[0]
    x = _MARGIN if left else wide - _MARGIN - mark.shape[1]
    marked = images.copy()
    place = marked[:, :, y : y + mark.shape[0], x : x + mark.shape[1]]
    place[:] = (1 - mark) * place + mark * np.float32(traffic.high)
    return traffic.bounded(marked)


def _ink(text: str, height: int) -> NDArray[np.float32]:
    return text_mask(text, font="DejaVuSans", size=max(4, math.ceil(_LETTER * height)))


OVERLAYS = tuple(
    Behaviour(
        name=name,
        group="overlays",
        visits=changed_alike(change),
        forgiven=not remedy,
        remedy=remedy,
        modalities=("image",),
        flat=True,
    )
    for name, change, remedy in (
        ("side marker", side_marker, ""),
        ("laterality letter", laterality_letter, ""),
        (
            "line of text",
            line_of_text,
            "Send images without burned-in text (`medward deidentify`); on one of 28 pixels a line covers a tenth.",
        ),
    )
)
