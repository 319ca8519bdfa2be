"""TIFF files of one page, as they are taken: which are refused on their header alone.

A TIFF may hold anything: many pages, tiles larger than the image, floats, colours of printers, codecs that few readers
know. What is taken has pixels of the kinds that PNG has, in codecs that inflate to no more than these pixels.
"""

from __future__ import annotations

import math

from PIL.TiffImagePlugin import TiffImageFile

from medward.guard.errors import MedwardError
from medward.guard.intake.picture import Intake

DEEP_MODES = ("I;16", "I;16B", "I;16L")
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
CODECS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate")
PHOTOMETRIC, TILE_SIDES = 262, (322, 323)
WHITE_IS_ZERO = 0


def check_tiff(image: TiffImageFile, intake: Intake) -> None:
    """Refuse a TIFF `image` of several pages, of huge tiles, or of a kind or codec that is not taken."""
    try:
        image.seek(1)  # rather than count them: a small file can name millions
        raise MedwardError("has several frames; send one image per file")
    except EOFError:
        pass
    codec = image.info.get("compression")
    if codec not in CODECS:
        raise MedwardError(f"is compressed as {codec}; write it uncompressed, or with LZW, Deflate or PackBits")
    if image.mode not in (*EIGHT_BIT_MODES, *DEEP_MODES):
        raise MedwardError(f"has pixels of the kind {image.mode}; write 8-bit or 16-bit grey, or 8-bit RGB")
    if image.mode in DEEP_MODES and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise MedwardError("has 16-bit grey in which 0 is white; write it so that 0 is black")
    if math.prod(int(image.tag_v2.get(each, 1)) for each in TILE_SIDES) > intake.pixels:
        raise MedwardError(f"has tiles of more than {intake.pixels} pixels; write it in strips or smaller tiles")
