"""DICOM files as pixels, through pydicom and its decoders.

What a file promises is bounded before anything of it is decoded, and what compressed frames say themselves is compared
with it. Nothing of a file's header but sizes, bits and value ranges stands in a message: the rest can name a patient.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from medward.guard.data.pixels import scale_pixels
from medward.guard.errors import MedwardError
from medward.guard.intake.apart import DAMAGED, DecodingProcess
from medward.guard.intake.codestream import check_run_lengths, coded_size
from medward.guard.intake.grey_levels import grey_values, luma_of, stored_pixels
from medward.guard.intake.hush import Hush
from medward.guard.intake.picture import Intake, Picture, check_grey, check_room, image_library, spread_channels
from medward.guard.intake.resizing import fitted_pixels
from medward.guard.types import Array

HUSH = Hush("pydicom")
APART, FRAGILE = DecodingProcess(), "gdcm"
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
GREYS = ("MONOCHROME1", "MONOCHROME2")
NEEDED = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated")
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
FILE_META = 0x0002  # the group of elements before the data set
BY_BITS = (None, "pixels")
"""Windows under which white is what a file's bits can hold."""
_LONGEST = 128  # letters of an identifier; DICOM allows 64
_SLACK = 65536  # bytes of padding and headers of a run-length coded frame


def read_dicom(file: bytes, intake: Intake) -> Picture:
    """Decode one DICOM `file`; whose it is comes with it."""
    image_library("pydicom", "DICOM files", "dicom")
    step = "is not a readable DICOM file"
    try:
        with HUSH:
            header = parse_dicom(file)
            frame = _check_header(header, intake)
            study, patient = (
                str(header.get(name) or "").strip()[:_LONGEST] for name in ("StudyInstanceUID", "PatientID")
            )
            step = "is a DICOM file whose pixels cannot be decoded"
            values = _values(header, decode_stored_frame(file, header, frame), frame, intake)
    except MedwardError:
        raise
    except Exception as error:  # a parser fed a broken file raises anything
        raise MedwardError(f"{step} ({type(error).__name__})") from None
    bits = int(header.BitsStored) if intake.prepare.window in BY_BITS else None
    return Picture(values=values, kind="DICOM", bits=bits, patient=patient or study, study=study)


def parse_dicom(file: bytes) -> Any:
    """The header of `file`, with its pixels still coded; one that would have to be inflated whole is refused."""
    from pydicom.filereader import dcmread, read_dataset, read_preamble

    source = io.BytesIO(file)
    read_preamble(source, force=False)
    meta = read_dataset(source, False, True, stop_when=lambda tag, *_: tag.group != FILE_META)
    if str(meta.get("TransferSyntaxUID")) == DEFLATED:
        raise MedwardError("is deflated as a whole, which hides its size; send it in another transfer syntax")
    source.seek(0)
    return dcmread(source)


def _check_header(header: Any, intake: Intake) -> int:
    """Refuse on its header a file that is no one image of a bounded size; the frame to decode, counted from 0."""
    if not any(name in header for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise MedwardError("is a DICOM file without an image")
    if absent := [name for name in NEEDED if header.get(name) is None]:
        raise MedwardError(f"is a DICOM file without {', '.join(absent)}, which say how to read its pixels")
    height, width = int(header.Rows), int(header.Columns)
    check_room(height, width, intake)
    if header.PhotometricInterpretation not in (*COLOURS, *GREYS):
        raise MedwardError(
            "is a DICOM image of a photometric interpretation that is neither grey, RGB, YBR nor palette"
        )
    bits = int(header.BitsStored)
    if intake.bits is not None and intake.prepare.window in BY_BITS and bits != intake.bits:
        raise MedwardError(
            f"stores {bits} bits, the model was protected on {intake.bits}, and what its bits can hold is white to it; "
            "bring it to these, or protect the model with a window"
        )
    if int(header.SamplesPerPixel) not in (1, 3):
        raise MedwardError(f"has {int(header.SamplesPerPixel)} samples per pixel, 1 or 3 are read")
    if int(header.get("HighBit", int(header.BitsStored) - 1)) != int(header.BitsStored) - 1:
        raise MedwardError(
            f"keeps {int(header.BitsStored)} bits up to the high bit {int(header.HighBit)}, only values that end at "
            f"their high bit {int(header.BitsStored) - 1} are read"
        )
    frames, wanted = int(header.get("NumberOfFrames") or 1), intake.prepare.frame
    if wanted is None and frames > 1:
        raise MedwardError(f"has {frames} frames; say which one the model takes, as --frame 1, or send one per file")
    if wanted is not None and wanted > frames:
        raise MedwardError(f"has {frames} frames, frame {wanted} was said")
    frame = (wanted or 1) - 1
    check_coded_frame(header, frame, frames, height * width)
    return frame


def check_coded_frame(header: Any, frame: int, frames: int, pixels: int) -> None:
    """Refuse a compressed frame that nothing here decodes, or that holds more than the header promises."""
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise MedwardError(f"is compressed as {syntax.name}, which is not read") from None
    if not available:
        raise MedwardError(
            f"is compressed as {syntax.name}, and no decoder of it is here: pip install 'medward[dicom]'"
        )
    offsets = None
    if header.get("ExtendedOffsetTable"):
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    coded = get_frame(header.PixelData, frame, number_of_frames=frames, extended_offsets=offsets)
    if syntax == RLE:
        sample = max(1, int(header.BitsAllocated) // 8) * int(header.SamplesPerPixel)
        check_run_lengths(coded, 2 * pixels * sample + _SLACK)
    elif coded_size(coded) != (int(header.Rows), int(header.Columns)):
        raise MedwardError("holds an image of another size than its header says")


def decode_stored_frame(
    file: bytes, header: Any, frame: int, *, raw: bool = False, every_bit: bool = False
) -> NDArray[Any]:
    """The decoded values of `frame`, colours as RGB: by the decoders that survive damaged files, else in `APART`.

    With `raw` the colours of a file that is not compressed stay as they are stored. With `every_bit` bits that the
    header does not count are left, but by `APART`.
    """
    from pydicom.pixels import get_decoder, pixel_array

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        native: NDArray[Any] = pixel_array(header, index=frame, raw=raw, correct_unused_bits=not every_bit)
        return native
    plugins = get_decoder(syntax).available_plugins
    for plugin in plugins:
        if plugin != FRAGILE:
            with suppress(Exception):  # it knows no such bits, or the frame is damaged
                decoded: NDArray[Any] = pixel_array(
                    header, index=frame, decoding_plugin=plugin, correct_unused_bits=not every_bit
                )
                return decoded
    if FRAGILE not in plugins:
        raise MedwardError(DAMAGED)
    return APART.decode(file, frame)


def _values(header: Any, stored: NDArray[Any], frame: int, intake: Intake) -> Array:
    """The `stored` values of a frame as float32 ``(C, H, W)`` in the range of `intake`."""
    low, high = intake.bounds
    if header.PhotometricInterpretation in GREYS:
        shown = grey_values(header, stored, frame, intake)
    else:
        shown = _colour(header, stored, low, high)
        if intake.channels == 1:
            check_grey((shown - low) / (high - low))
            shown = luma_of(shown)
    fitted = fitted_pixels(shown, intake.prepare).clip(low, high)  # some filters overshoot
    return spread_channels(fitted, intake.channels)


def _colour(header: Any, stored: NDArray[Any], low: float, high: float) -> Array:
    """RGB ``(H, W, 3)`` in ``[low, high]``; windows are for grey."""
    if header.PhotometricInterpretation != "PALETTE COLOR":
        return scale_pixels(stored_pixels(header, stored), low=low, high=high, bits=int(header.BitsStored))
    from pydicom.pixels import apply_color_lut

    coloured = apply_color_lut(stored, header)[..., :3]
    return scale_pixels(coloured, low=low, high=high, bits=8 * coloured.dtype.itemsize)
