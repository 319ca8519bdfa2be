"""Uploaded PNG and JPEG files as a model's input batch.

The header is read first: kind, size, depth and channel count are refused before a pixel is decoded. Pixels are scaled
as those were that the model was protected on, so a file of another depth is refused: 12-bit content in a 16-bit file
would otherwise arrive as black. A size other than the model's is refused unless resizing is switched on, because
resampling is part of what was validated; then Pillow's bilinear filter with antialiasing is used, which also blunts
image-scaling attacks (Quiring et al., USENIX Security 2020).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medward.guard.data.pixels import channels_first, pixel_range, scale_pixels
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

MODES = {1: "L", 3: "RGB"}
PNG, DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24  # a PNG says there how many bits each of its channels has
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
    low, high = pixel_range(spec)
    bits = spec.bits or 8
    decoded = []
    for index, file in enumerate(files):
        try:
            image = _open(file, pixels)
            wrong = f"is {image.width} x {image.height} (width x height), the model takes {width} x {height}"
            if not resize and sorted(image.size) != sorted((width, height)):
                raise MedwardError(wrong)
            _check_depth(image, file, bits)
            image = _upright(image)
            if not resize and image.size != (width, height):
                raise MedwardError(wrong)
            read = _deep(image, bits) if bits > 8 else _eight_bit(image, MODES[channels])
            decoded.append(_channels(np.asarray(read.resize((width, height), BILINEAR)), channels))
        except MedwardError as error:
            raise MedwardError(f"image {index}: {error}") from None
        except BOMBS:
            raise MedwardError(f"image {index}: has more than {pixels} pixels") from None
        except Exception as error:  # a decoder fed a broken file raises anything, struct.error for one
            raise MedwardError(f"image {index}: not a readable PNG or JPEG ({type(error).__name__})") from None
    return scale_pixels(np.stack(decoded), low=low, high=high, bits=bits)


def image_shape(spec: ModelSpec) -> tuple[int, int, int]:
    """Channels, height and width of `spec`, or why files cannot be uploaded to this model."""
    if spec.kind != "image" or spec.shape[0] not in MODES:
        raise MedwardError(f"{spec.name} takes {spec.kind} input of shape {spec.row_shape}, not PNG or JPEG files")
    pixel_range(spec)
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


def _check_depth(image: Image.Image, file: bytes, bits: int) -> None:
    """Refuse a file whose channels have another depth than the pixels that the model was protected on."""
    deep = file.startswith(PNG) and file[DEPTH_AT] == 16
    if deep and bits == 8:
        raise MedwardError(
            "has 16 bits a channel, the model was protected on 8-bit pixels; bring it to 8 bits as those were, or "
            "protect the model on such images and say their --bits"
        )
    if bits > 8 and not (deep and image.mode.startswith("I")):
        raise MedwardError(
            f"the model was protected on {bits}-bit pixels; send 16-bit greyscale PNG with values up to {2**bits - 1}"
        )


def _deep(image: Image.Image, bits: int) -> Image.Image:
    """16-bit greyscale as floats."""
    values = np.asarray(image).astype(np.float32)
    if values.max() > 2**bits - 1:
        raise MedwardError(f"has values up to {values.max():g}, the model was protected on {bits}-bit pixels")
    return Image.fromarray(values)


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    """`image` as 8-bit greyscale or RGB."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise MedwardError("has transparent pixels; flatten it first")
    return image.convert(mode)


def _channels(pixels: NDArray[np.generic], channels: int) -> NDArray[np.generic]:
    """Decoded `pixels` ``(H, W)`` or ``(H, W, C)`` as ``(C, H, W)``; grey is repeated for each channel."""
    x = channels_first(pixels[None], "NHW" if pixels.ndim == 2 else "NHWC")[0]
    return np.broadcast_to(x, (channels, *x.shape[1:]))
