"""One PNG or JPEG file without identifiers, in its metadata or burned into its pixels; or a refusal."""

from __future__ import annotations

import hashlib
import io
from collections import Counter

import numpy as np
from PIL import Image

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.burned_in import fill_burned_in_text
from medward.guard.intake.deidentify.cleaner import Deidentification, DeidentifiedFile
from medward.guard.intake.deidentify.codestreams import is_plain_jpeg
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.markers import NAMES_TOO
from medward.guard.intake.hush import Hush
from medward.guard.intake.picture import MOST_PIXELS
from medward.guard.intake.raster import BOMBS, ORIENTATION, PNG, UPRIGHT

JPEG = b"\xff\xd8\xff"
HUSH_IMAGES = Hush("PIL")
_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "I;16", "I;16B", "I")


def is_raster(file: bytes) -> bool:
    """Whether `file`, or its first bytes, say that it is PNG or JPEG."""
    return file.startswith((PNG, JPEG))


def deidentify_raster(file: bytes, how: Deidentification) -> DeidentifiedFile:
    """Take the identifiers out of one PNG or JPEG `file`: all metadata, and burned-in text.

    A PNG, and a JPEG in which text is filled or that has to be turned, is written as PNG; any other JPEG keeps its
    coded pixels. Raises `MedwardError` for what is no single opaque image, and where text stays readable.
    """
    try:
        with HUSH_IMAGES:
            return _deidentified_image(file, how)
    except MedwardError:
        raise
    except BOMBS:
        raise MedwardError(f"has more than {MOST_PIXELS} pixels, which are not decoded") from None
    except Exception as error:  # a decoder fed a broken file raises anything
        raise MedwardError(
            f"is a PNG or JPEG file that is cut off or damaged ({type(error).__name__}); fetch it again"
        ) from None


def _deidentified_image(file: bytes, how: Deidentification) -> DeidentifiedFile:
    image: Image.Image = Image.open(io.BytesIO(file), formats=("PNG", "JPEG"))
    if image.height * image.width > MOST_PIXELS:
        raise MedwardError(f"is {image.width} x {image.height}, at most {MOST_PIXELS} pixels are decoded")
    if getattr(image, "n_frames", 1) > 1:
        raise MedwardError("has several frames; send one image per file")
    if image.mode not in _MODES:
        raise MedwardError(f"has pixels of the kind {image.mode}; grey, palette and RGB are read")
    image.load()
    metadata = len([key for key in image.info if key not in ("gamma", "transparency", "dpi", "jfif", "jfif_version")])
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    image = _opaque(image if turn is None else image.transpose(turn))
    palette = None
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    values = np.array(image.convert("L") if image.mode == "1" else image)
    photometric = "RGB" if values.ndim == 3 else "PALETTE COLOR" if palette is not None else "MONOCHROME2"
    frames = StoredFrames(values=values[None], photometric=photometric, palette=palette)
    text = fill_burned_in_text(frames, how.reader, everywhere=how.everywhere, names=NAMES_TOO)
    removed = Counter({"burned-in text filled": len(text.filled)}) if text.filled else Counter[str]()
    if metadata:
        removed["metadata of the image file"] += metadata
    jpeg = file.startswith(JPEG) and not text.filled and turn is None
    name = how.pseudonyms.identifier("image", hashlib.sha256(file).hexdigest())
    return DeidentifiedFile(
        content=stripped_jpeg(file) if jpeg else _png(frames.values[0], palette),
        name=f"images/{name}.{'jpg' if jpeg else 'png'}",
        kind="JPEG" if file.startswith(JPEG) else "PNG",
        frames=1,
        removed=removed,
        markers=text.markers,
        pixels_changed=bool(text.filled),
    )


def stripped_jpeg(file: bytes) -> bytes:
    """A JPEG `file` without comments, application data but Adobe's, and what follows its end; its pixels stay coded.

    Raises `MedwardError` where its segments cannot be told apart.
    """
    out, at = bytearray(file[:2]), 2
    while at + 4 <= len(file) and file[at] == 0xFF:
        marker, end = file[at + 1], at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDA:
            stop = file.find(b"\xff\xd9", at)
            plain = bytes(out) + file[at : stop + 2]
            if stop < 0 or not is_plain_jpeg(plain):
                break
            return plain
        if not (marker == 0xFE or (0xE0 <= marker <= 0xEF and not (marker == 0xEE and end - at <= 14))):
            out += file[at:end]
        at = end
    raise MedwardError("is a JPEG whose segments cannot be told apart, so that its metadata cannot be taken out")


def _opaque(image: Image.Image) -> Image.Image:
    """`image` without its transparency; one with transparent pixels is refused, since they can hide text."""
    if not image.has_transparency_data:
        return image
    wide = image.convert("RGBA")
    if wide.getchannel("A").getextrema() != (255, 255):
        raise MedwardError("has transparent pixels; flatten it first")
    return wide.convert("L" if image.mode in ("L", "LA", "1") else "RGB")


def _png(values: np.ndarray, palette: np.ndarray | None) -> bytes:
    """`values` as a PNG that holds nothing else."""
    if values.dtype.itemsize > 2 and int(values.max()) <= 2**16 - 1 and int(values.min()) >= 0:
        values = values.astype(np.uint16)  # what Pillow reads of 16-bit files as 32
    image = Image.fromarray(np.ascontiguousarray(values))
    if palette is not None:
        image = Image.frombytes("P", (values.shape[1], values.shape[0]), np.ascontiguousarray(values).tobytes())
        image.putpalette(palette.tobytes())
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
