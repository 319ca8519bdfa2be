"""What a model takes of an image file, and what one file gave."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.data.pixels import channels_first, scale_pixels
from medward.guard.errors import MedwardError
from medward.guard.preparation import AS_IT_IS, Preparation
from medward.guard.types import Array

MOST_PIXELS = 25_000_000
"""Of one file that is decoded: a full-size radiograph or mammogram has fewer."""


MOST_COLOUR = 16 / 255
"""How far the channels of a grey image that was saved in colour may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """An intake says what a model takes of a file: channels, range, size, and how a file becomes that.

    `channels` None are those the file has; `low` and `high` None leave 8-bit pixels unscaled and refuse DICOM; `bits`
    are those of the whole-number pixels that the model was protected on. `size` is the height and width that every file
    must end with, None for any.
    """

    low: float | None = None
    high: float | None = None
    channels: int | None = None
    bits: int | None = None
    prepare: Preparation = AS_IT_IS
    size: tuple[int, int] | None = None
    pixels: int = MOST_PIXELS

    @property
    def bounds(self) -> tuple[float, float]:
        """What black and white are to the model."""
        if self.low is None or self.high is None:
            raise MedwardError("becomes values of a range that was not said; say --low and --high, as --low 0 --high 1")
        return self.low, self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture is what one file held: its values, what kind of file it was, and whose.

    `bits` are those that a DICOM file stores, where they say what white is.
    `values` are 8-bit pixels ``(H, W)`` or ``(H, W, 3)`` as they are, or float32 ``(C, H, W)`` in the model's range.
    """

    values: NDArray[Any]
    kind: str
    bits: int | None = None
    patient: str = ""
    study: str = ""


def scaled_picture(picture: Picture, intake: Intake) -> Array:
    """The values of `picture` as float32 ``(C, H, W)`` in the range of `intake`."""
    if picture.values.dtype != np.uint8:
        return picture.values
    low, high = intake.bounds
    return scale_pixels(spread_channels(picture.values, intake.channels), low=low, high=high, bits=8)


def spread_channels(pixels: NDArray[Any], channels: int | None) -> NDArray[Any]:
    """Decoded `pixels` ``(H, W)`` or ``(H, W, C)`` as ``(C, H, W)``; grey is repeated for each channel."""
    x = channels_first(pixels[None], "NHW" if pixels.ndim == 2 else "NHWC")[0]
    return np.broadcast_to(x, (channels or len(x), *x.shape[1:]))


def check_grey(colour: Array) -> None:
    """Refuse a `colour` image ``(H, W, 3)`` in [0, 1] whose channels differ by more than a JPEG's own noise.

    A model of grey images was not protected on what a colour becomes.
    """
    spread = float((colour.max(axis=2) - colour.min(axis=2)).max())
    if spread > MOST_COLOUR:
        raise MedwardError(
            f"is in colour (channels differ by {spread:.0%} of white, at most {MOST_COLOUR:.0%} is noise), the model "
            "takes grey images; make it grey as those were that it was trained on"
        )


def check_room(height: int, width: int, intake: Intake, *, turned: bool = False) -> None:
    """Refuse a file of so many pixels on its header alone; `turned` where its axes may still be exchanged."""
    if height * width > intake.pixels:
        raise MedwardError(f"is {width} x {height}, at most {intake.pixels} pixels are decoded")
    if intake.size is None or intake.prepare.size is not None:
        return
    found, wanted = (height, width), intake.size
    if found != wanted and not (turned and found == wanted[::-1]):
        raise MedwardError(
            f"is {width} x {height} (width x height), the model takes {wanted[1]} x {wanted[0]}; bring it to that "
            "size, or say --resize where the model is protected or served"
        )


def image_library(module: str, what: str, extra: str) -> Any:
    """Import what reads files of a kind, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MedwardError(f"{what} need {error.name}: pip install 'medward[{extra}]'") from None
