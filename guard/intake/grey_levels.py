"""From the stored values of a DICOM file to values in a model's range: rescaling, window, inversion.

References: DICOM PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT; C.11.2.1.2 the window), C.7.6.3.1.2 (photometric
interpretation). Functional groups of enhanced multi-frame files are looked into too (PS3.3 C.7.6.16).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.data.pixels import scale_pixels
from medward.guard.errors import MedwardError
from medward.guard.intake.picture import Intake
from medward.guard.types import Array

HOW = (
    "say --window file (as the file says), --window 40,400 (centre, width), --window pixels (all that its bits hold) "
    "or --window units (rescaled values as they are)"
)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's


def grey_values(header: Any, stored: NDArray[Any], frame: int, intake: Intake) -> Array:
    """The `stored` values ``(H, W)`` of a grey `frame` as the window of `intake` says, in its range."""
    low, high = intake.bounds
    window = intake.prepare.window
    if window is None:
        _check_plain(header, frame)
    if window == "units":
        return _in_range(_rescaled(header, stored, frame), low, high)
    if window is None or window == "pixels":
        shown = scale_pixels(stored_pixels(header, stored), low=0, high=1, bits=int(header.BitsStored))
    else:
        values = _rescaled(header, stored, frame)
        shown = _as_file_says(header, values, frame) if window == "file" else apply_window(values, *window)
    if header.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return shown.astype(np.float32) * np.float32(high - low) + np.float32(low)


def apply_window(values: NDArray[Any], centre: float, width: float, function: str = "LINEAR") -> Array:
    """The window of `centre` and `width` on rescaled `values`: 0 where they are below it, 1 above it.

    Values in float64 are written over.
    """
    x = np.asarray(values, np.float64)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (x - centre) / width))
    if function == "LINEAR_EXACT":
        x -= centre
        x /= width
    elif width <= 1:
        return (x > centre - 0.5).astype(np.float64)
    else:
        x -= centre - 0.5
        x /= width - 1
    x += 0.5
    np.clip(x, 0, 1, out=x)
    return x


def stored_pixels(header: Any, stored: NDArray[Any]) -> NDArray[Any]:
    """`stored` values from 0 up, within the bits that the header says they have."""
    bits = int(header.BitsStored)
    if stored.dtype.kind not in "iub":
        raise MedwardError("holds floating-point values, which have no bits; say --window units or a window")
    least = -(2 ** (bits - 1)) if int(header.get("PixelRepresentation", 0)) else 0
    if int(stored.min()) < least or int(stored.max()) > least + 2**bits - 1:
        raise MedwardError(f"holds values outside the {bits} bits that its header says")
    return stored.astype(np.int64) - least if least else stored


def luma_of(colour: Array) -> Array:
    """Grey ``(H, W)`` of a `colour` image ``(H, W, 3)``."""
    grey: Array = colour @ LUMA
    return grey


def has_window(header: Any, frame: int) -> bool:
    """Whether the file says itself how it is to be shown."""
    return bool(
        _attribute(header, "VOILUTSequence", "FrameVOILUTSequence", frame)
        or _number(_attribute(header, "WindowCenter", "FrameVOILUTSequence", frame)) is not None
    )


def _check_plain(header: Any, frame: int) -> None:
    """Refuse a file whose values are no plain pixels while it was not said how they become that."""
    slope, intercept = _rescale(header, frame)
    found = [
        *["a window"] * has_window(header, frame),
        *["a rescale"] * ((slope, intercept) != (1, 0) or "ModalityLUTSequence" in header),
        *[f"{header.BitsStored} bits"] * (int(header.BitsStored) > 8),
    ]
    if found:
        raise MedwardError(f"has {' and '.join(found)}, and how its values become the model's was not said; {HOW}")


def _rescaled(header: Any, stored: NDArray[Any], frame: int) -> NDArray[Any]:
    """`stored` values in the units of the modality, Hounsfield units say."""
    if "ModalityLUTSequence" in header:
        from pydicom.pixels import apply_modality_lut

        mapped: NDArray[Any] = apply_modality_lut(stored, header)
        return mapped
    slope, intercept = _rescale(header, frame)
    values = stored.astype(np.float64)
    if slope != 1:
        values *= slope
    if intercept:
        values += intercept
    return values


def _rescale(header: Any, frame: int) -> tuple[float, float]:
    slope, intercept = (
        _number(_attribute(header, name, "PixelValueTransformationSequence", frame))
        for name in ("RescaleSlope", "RescaleIntercept")
    )
    found = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if not np.isfinite(found).all() or found[0] == 0:
        raise MedwardError(f"has a rescale slope of {found[0]:g} and intercept of {found[1]:g}, which give no values")
    return found


def _as_file_says(header: Any, values: NDArray[Any], frame: int) -> Array:
    """`values` by the file's own VOI LUT, else by its first window."""
    if tables := _attribute(header, "VOILUTSequence", "FrameVOILUTSequence", frame):
        return _looked_up_level(tables[0], values, little=bool((header.original_encoding or (False, True))[1]))
    centre, width = (
        _number(_attribute(header, name, "FrameVOILUTSequence", frame)) for name in ("WindowCenter", "WindowWidth")
    )
    if centre is None or width is None:
        raise MedwardError("has no window of its own; say --window 40,400 (centre, width), pixels or units")
    function = str(_attribute(header, "VOILUTFunction", "FrameVOILUTSequence", frame) or "LINEAR")
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or not _sound(centre, width, function):
        raise MedwardError("has a window that DICOM does not know; say --window 40,400 (centre, width) yourself")
    return apply_window(values, centre, width, function)


def _sound(centre: float, width: float, function: str) -> bool:
    """Whether DICOM knows a window of these numbers."""
    return bool(np.isfinite([centre, width]).all()) and width > 0 and (function != "LINEAR" or width >= 1)


def _looked_up_level(table: Any, values: NDArray[Any], *, little: bool) -> Array:
    """`values` by a VOI LUT, as shares of the largest that its bits hold."""
    count, first, bits = (int(each) for each in table.LUTDescriptor)
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, ("<u2" if little else ">u2") if bits > 8 or len(data) >= 2 * count else np.uint8)
    entries: Array = np.asarray(data, np.float64)[: count or 2**16] / (2**bits - 1)
    if first >= 2**15 and float(values.min()) < 0:
        first -= 2**16  # a signed number that was read as unsigned
    at = np.clip(np.rint(values).astype(np.int64) - first, 0, len(entries) - 1)
    shown: Array = entries[at]
    return shown


def _in_range(values: NDArray[Any], low: float, high: float) -> Array:
    least, most = float(values.min()), float(values.max())
    if least < low or most > high:
        raise MedwardError(
            f"has values from {least:g} to {most:g} in its units, the model takes {low:g} to {high:g}; say a window or "
            "another --low and --high"
        )
    exact: Array = values.astype(np.float32)
    return exact


def _attribute(header: Any, name: str, macro: str, frame: int) -> Any:
    """The attribute `name` of the file, else of all its frames, else of this `frame`."""
    if name in header:
        return header.get(name)
    shared, each = (header.get(f"{kind}FunctionalGroupsSequence") or [] for kind in ("Shared", "PerFrame"))
    for group in (*shared[:1], *each[frame : frame + 1]):
        if macro in group and name in group.get(macro)[0]:
            return group.get(macro)[0].get(name)
    return None


def _number(value: Any) -> float | None:
    """The first of one value or several."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) and hasattr(value, "__len__"):
        return float(value[0]) if len(value) else None
    return float(value)
