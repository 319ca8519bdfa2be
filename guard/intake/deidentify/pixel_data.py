"""The pixel data of a DICOM file: every frame as stored values without hidden bits, and written back losslessly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.codestreams import coded_frames
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.lookup_tables import palette_colours
from medward.guard.intake.deidentify.windows import frame_windows
from medward.guard.intake.dicom import COLOURS, FRAGILE, GREYS, NEEDED, check_coded_frame, decode_stored_frame
from medward.guard.intake.picture import MOST_PIXELS

MOST_DECODED_BYTES = 2**30  # of all decoded frames of one file
OTHER_PIXELS = ("FloatPixelData", "DoubleFloatPixelData")
_MOST_FRAMES = 100_000


def check_image(header: Any) -> None:
    """Refuse a file without pixels, or whose header promises more than is decoded, or what cannot be read."""
    if any(name in header for name in OTHER_PIXELS):
        raise MedwardError("holds floating-point pixels, in which burned-in text is not looked for")
    if "PixelData" not in header or header["PixelData"].VR not in ("OB", "OW") or not header.PixelData:
        raise MedwardError("is a DICOM file without an image; only images are de-identified")
    if absent := [name for name in NEEDED if header.get(name) is None]:
        raise MedwardError(f"is a DICOM file without {', '.join(absent)}, which say how to read its pixels")
    height, width, frames = int(header.Rows), int(header.Columns), frame_count(header)
    if height < 1 or width < 1 or not 1 <= frames <= _MOST_FRAMES:
        raise MedwardError(f"says it has {frames} frames of {width} x {height}, 1 to {_MOST_FRAMES} are read")
    if height * width > MOST_PIXELS:
        raise MedwardError(f"is {width} x {height}, at most {MOST_PIXELS} pixels are decoded")
    allocated, stored, samples = (
        int(header[name].value) for name in ("BitsAllocated", "BitsStored", "SamplesPerPixel")
    )
    if samples not in (1, 3) or allocated not in (1, 8, 16, 32) or not 1 <= stored <= allocated:
        raise MedwardError(f"has {samples} samples per pixel of {stored} bits in {allocated}, which are not read")
    if height * width * frames * samples * max(1, allocated // 8) > MOST_DECODED_BYTES:
        raise MedwardError(f"has {frames} frames of {width} x {height}, at most {MOST_DECODED_BYTES} bytes are decoded")
    if header.PhotometricInterpretation not in (*COLOURS, *GREYS):
        raise MedwardError("is an image of a photometric interpretation that is neither grey, RGB, YBR nor palette")
    if not header.file_meta.TransferSyntaxUID.is_little_endian:
        raise MedwardError("is in the retired big-endian transfer syntax; bring it to another")


def frame_count(header: Any) -> int:
    """How many frames the header says there are."""
    return int(header.get("NumberOfFrames") or 1)


def stored_frames(file: bytes, header: Any) -> tuple[StoredFrames, bool]:
    """Every frame of `file`, and whether bits that the header does not count were cleared, as overlays hide in.

    Colours of a compressed file come as RGB. Raises `MedwardError` where frames are missing or hidden, or one cannot be
    decoded.
    """
    frames = frame_count(header)
    pixels = int(header.Rows) * int(header.Columns)
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        _check_frame_count(header, frames)
        for index in range(frames):
            check_coded_frame(header, index, frames, pixels)
    raw = not syntax.is_encapsulated and header.PhotometricInterpretation != "YBR_FULL_422"
    try:
        values = np.stack(
            [decode_stored_frame(file, header, index, raw=raw, every_bit=True) for index in range(frames)]
        )
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(
            f"is a DICOM file whose pixels cannot be decoded ({type(error).__name__}): it is cut off or damaged; "
            "fetch it again"
        ) from None
    if values.shape[1:3] != (int(header.Rows), int(header.Columns)):
        raise MedwardError("holds an image of another size than its header says")
    photometric = str(header.PhotometricInterpretation)
    if photometric.startswith("YBR") and not raw:
        photometric = "RGB"
    counted, hidden = _counted_bits(values, header)
    colours, first = palette_colours(header)
    palette = None if colours is None else (colours >> 8 * (colours.dtype.itemsize - 1)).astype(np.uint8)
    windows = frame_windows(header, frames) if counted.ndim == 3 and palette is None else ()
    stored = StoredFrames(values=counted, photometric=photometric, palette=palette, first=first, windows=windows)
    return stored, hidden


def write_frames(header: Any, frames: StoredFrames) -> None:
    """Put the values of `frames` into `header` as the pixels of a file that is not compressed, in place."""
    from pydicom.pixels.utils import pack_bits
    from pydicom.uid import ExplicitVRLittleEndian

    values = np.ascontiguousarray(frames.values)
    if int(header.BitsAllocated) == 1:
        content = bytes(pack_bits(values.ravel(), pad=False))
    else:
        content = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    # pydicom must not be asked to pad or to guess.
    header.PixelData = content + b"\0" * (len(content) % 2)
    header["PixelData"].VR = "OB" if int(header.BitsAllocated) <= 8 else "OW"
    header["PixelData"].is_undefined_length = False
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.HighBit = int(header.BitsStored) - 1
    header.PhotometricInterpretation = frames.photometric
    if values.ndim == 4:
        header.PlanarConfiguration = 0


def wrap_frames_anew(header: Any) -> None:
    """Put the compressed frames of `header` into new wrapping, whose tables of offsets hold nothing, in place."""
    from pydicom.encaps import encapsulate

    header.PixelData = encapsulate(list(coded_frames(header, frame_count(header))), has_bot=False)
    header["PixelData"].VR, header["PixelData"].is_undefined_length = "OB", True


def has_uncounted_bits(header: Any) -> bool:
    """Whether compressed pixels are only decoded by what drops bits that the header does not count."""
    from pydicom.pixels import get_decoder

    plugins = set(get_decoder(header.file_meta.TransferSyntaxUID).available_plugins)
    return int(header.BitsStored) < int(header.BitsAllocated) and plugins == {FRAGILE}


def has_trailing_bytes(header: Any) -> bool:
    """Whether a file that is not compressed holds more bytes of pixels than its frames have."""
    bits = int(header.Rows) * int(header.Columns) * frame_count(header) * int(header.BitsAllocated)
    samples = 2 if header.PhotometricInterpretation == "YBR_FULL_422" else int(header.SamplesPerPixel)
    size = -(-bits * samples // 8)
    return len(header.PixelData) != size + size % 2


def _check_frame_count(header: Any, frames: int) -> None:
    """Refuse a compressed file that holds other frames than its header says: what is not counted is not looked at."""
    held = sum(1 for _ in coded_frames(header, frames))
    if held != frames:
        raise MedwardError(f"holds {held} frames, its header says {frames}")


def _counted_bits(values: NDArray[Any], header: Any) -> tuple[NDArray[Any], bool]:
    """`values` with only the bits that the header counts, moved down to the lowest; whether others were set."""
    allocated, stored = 8 * values.dtype.itemsize, int(header.BitsStored)
    lowest = int(header.get("HighBit", stored - 1)) - (stored - 1)
    if int(header.BitsAllocated) == 1 or (lowest == 0 and stored == allocated):
        return values, False
    if lowest < 0 or lowest + stored > allocated:
        raise MedwardError(
            f"keeps {stored} bits up to the high bit {int(header.HighBit)} of {allocated}, which do not fit"
        )
    room = allocated - stored - lowest
    unsigned = values.astype(values.dtype.str.replace("i", "u"), copy=False)
    counted = (unsigned << room).view(values.dtype) >> (room + lowest)  # signed values keep their sign
    padding = header.get("PixelPaddingValue")
    outside = counted != (values >> lowest)
    if padding is not None and outside.any():
        counted[outside & (values == padding)] = counted.min()
    return np.ascontiguousarray(counted), bool(outside.any() or lowest)
