"""PNG, JPEG and TIFF files as pixels.

The header is read first: kind, size, depth and frames are refused before a pixel is decoded. A file of another depth
than the pixels that the model was protected on is refused: 12-bit content in a 16-bit file would otherwise arrive as
black. Files are turned as their EXIF says, and transparent ones refused.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from medward.guard.data.pixels import scale_pixels
from medward.guard.errors import MedwardError
from medward.guard.intake.picture import Intake, Picture, check_grey, check_room, spread_channels
from medward.guard.intake.resizing import fitted_image
from medward.guard.intake.tiff import DEEP_MODES, check_tiff

MODES = {1: "L", 3: "RGB"}
GREY_MODES = ("1", "L", "LA", "La")
PNG, DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24  # a PNG says there how many bits each of its channels has
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_raster(file: bytes, intake: Intake) -> Picture:
    """Decode one PNG, JPEG or TIFF `file`; one that never had the values that a DICOM window needs is refused."""
    if intake.prepare.window is not None:
        raise MedwardError(
            "is no DICOM file, and the model takes DICOM values windowed as it was protected; send the DICOM file, or "
            "values in the model's range as JSON"
        )
    try:
        image = _open(file, intake)
        bits = intake.bits or 8
        _check_depth(image, file, bits)
        kind = str(image.format)
        image = _upright(image)
        check_room(image.height, image.width, intake)
        if bits > 8:
            return Picture(values=_deep(image, intake, bits), kind=kind)
        pixels = fitted_image(_eight_bit(image, intake.channels), intake.prepare)
        return Picture(values=np.asarray(pixels), kind=kind)
    except MedwardError:
        raise
    except BOMBS:
        raise MedwardError(f"has more than {intake.pixels} pixels") from None
    except Exception as error:  # a decoder fed a broken file raises anything, struct.error for one
        raise MedwardError(f"is not a readable PNG, JPEG or TIFF ({type(error).__name__})") from None


def _open(file: bytes, intake: Intake) -> Image.Image:
    """Read the header only."""
    image = Image.open(io.BytesIO(file), formats=("PNG", "JPEG", "TIFF"))
    check_room(image.height, image.width, intake, turned=True)
    if isinstance(image, TiffImageFile):
        check_tiff(image, intake)
    elif getattr(image, "n_frames", 1) > 1:
        raise MedwardError("has several frames; send one image per file")
    return image


def _upright(image: Image.Image) -> Image.Image:
    """`image` turned as its EXIF says; the other tags are neither read nor written again."""
    if isinstance(image, TiffImageFile):
        image.load()  # which turns it
        return image
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _check_depth(image: Image.Image, file: bytes, bits: int) -> None:
    """Refuse a file whose channels have another depth than the pixels that the model was protected on."""
    deep = (file.startswith(PNG) and file[DEPTH_AT] == 16) or image.mode in DEEP_MODES
    if deep and bits == 8:
        raise MedwardError(
            "has 16 bits a channel, the model was protected on 8-bit pixels; bring it to 8 bits as those were, or "
            "protect the model on such images and say their --bits"
        )
    if bits > 8 and not (deep and image.mode.startswith("I")):
        raise MedwardError(
            f"is no 16-bit greyscale PNG or TIFF, as the {bits}-bit pixels that were said need; send one with values "
            f"up to {2**bits - 1}"
        )


def _deep(image: Image.Image, intake: Intake, bits: int) -> np.ndarray:
    """16-bit greyscale in the model's range."""
    low, high = intake.bounds
    values = np.asarray(image).astype(np.float32)
    if values.max() > 2**bits - 1:
        raise MedwardError(f"has values up to {values.max():g}, the model was protected on {bits}-bit pixels")
    pixels = np.asarray(fitted_image(Image.fromarray(values), intake.prepare)).clip(0, 2**bits - 1)
    return scale_pixels(spread_channels(pixels, intake.channels), low=low, high=high, bits=bits)


def _eight_bit(image: Image.Image, channels: int | None) -> Image.Image:
    """`image` as 8-bit greyscale or RGB: what `channels` say, else what it is."""
    mode = MODES[channels or (1 if image.mode in GREY_MODES else 3)]
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise MedwardError("has transparent pixels; flatten it first")
    if mode == "L" and image.mode not in GREY_MODES:
        check_grey(np.asarray(image.convert("RGB"), np.float32) / 255)
    return image if image.mode == mode else image.convert(mode)
