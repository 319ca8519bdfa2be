"""Uploaded PNG and JPEG files as a model's input batch.

The header is read first: kind, size and channel count are refused before a pixel is decoded. 16-bit
greyscale is scaled from its full range (0 to 65535) to the 256 levels that calibration saw. A size other
than the model's is refused unless resizing is switched on, because resampling is part of what was
validated; then Pillow's bilinear filter with antialiasing is used, which also blunts image-scaling attacks
(Quiring et al., USENIX Security 2020).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from guard.data import image_batch
from guard.errors import MedwardError
from guard.types import Array, ModelSpec

MODES = {1: "L", 3: "RGB"}
BILINEAR = Image.Resampling.BILINEAR
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


def read_images(files: Sequence[bytes], spec: ModelSpec, *, pixels: int, resize: bool = False) -> Array:
    """Decode `files` of at most `pixels` each to ``(n, C, H, W)`` float32 in the range of `spec`."""
    channels, height, width = image_shape(spec)
    decoded = []
    for index, file in enumerate(files):
        try:
            image = _open(file, pixels)
            wrong = f"is {image.width} x {image.height} (width x height), the model takes {width} x {height}"
            if not resize and sorted(image.size) != sorted((width, height)):
                raise MedwardError(wrong)
            image = _upright(image)
            if not resize and image.size != (width, height):
                raise MedwardError(wrong)
            decoded.append(np.asarray(_eight_bit(image, MODES[channels]).resize((width, height), BILINEAR)))
        except MedwardError as error:
            raise MedwardError(f"image {index}: {error}") from None
        except BOMBS:
            raise MedwardError(f"image {index}: has more than {pixels} pixels") from None
        except Exception as error:  # a decoder fed a broken file raises anything, struct.error for one
            raise MedwardError(f"image {index}: not a readable PNG or JPEG ({type(error).__name__})") from None
    low, high = 0.0 if spec.low is None else spec.low, 1.0 if spec.high is None else spec.high
    return image_batch(np.stack(decoded), low=low, high=high)


def image_shape(spec: ModelSpec) -> tuple[int, int, int]:
    """Channels, height and width of `spec`, or why files cannot be uploaded to this model."""
    if spec.modality != "image" or len(spec.shape) != 3 or spec.shape[0] not in MODES:
        raise MedwardError(f"{spec.name} takes {spec.modality} input of shape {spec.shape}, not PNG or JPEG files")
    channels, height, width = spec.shape
    return channels, height, width


def _open(file: bytes, pixels: int) -> Image.Image:
    """Read the header only."""
    image = Image.open(io.BytesIO(file), formats=("PNG", "JPEG"))
    if image.width * image.height > pixels:
        raise MedwardError(f"is {image.width} x {image.height}, at most {pixels} pixels are decoded")
    if getattr(image, "n_frames", 1) > 1:
        raise MedwardError("has several frames; send one image per file")
    return image


def _upright(image: Image.Image) -> Image.Image:
    """`image` turned as its EXIF says; the other tags are neither read nor written again."""
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    """`image` as 8-bit greyscale or RGB. 16-bit v becomes round(v / 257), exact for widened 8-bit values."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise MedwardError("has transparent pixels; flatten it first")
    return image.convert(mode)
