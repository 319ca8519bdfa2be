"""Lookup tables of a DICOM file: those that its pixels need stay, written anew or seen to hold no text.

Reference: PS3.3 C.7.6.3.1.6 (palette colour tables), C.11.1 and C.11.2 (tables of grey levels).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GREY_TABLE = 0x00283006
GREY_TABLES = (0x00283000, 0x00283010)
"""Sequences whose items are tables of grey levels: a file without one of them is shown as its windows say."""
COLOUR_TABLES = (0x00281201, 0x00281202, 0x00281203)
_CHANNELS = ("Red", "Green", "Blue")
_MOST_ENTRIES = 2**16


def is_plain_table(item: Any) -> bool:
    """Whether the table of grey levels in `item` has the length it declares and rises or falls throughout.

    Text does neither, so none is kept in one.
    """
    declared, element = item.get("LUTDescriptor"), item[GREY_TABLE]
    if declared is None or len(declared) != 3:
        return False
    count = int(declared[0]) or _MOST_ENTRIES
    if isinstance(element.value, bytes):
        entries = np.frombuffer(element.value, np.uint8 if len(element.value) <= count + 1 else "<u2").astype(np.int64)
        entries = entries[:count] if len(entries) == count + count % 2 and not entries[count:].any() else entries
    else:
        entries = np.atleast_1d(np.asarray(element.value, np.int64))
    steps = np.diff(entries)
    return len(entries) == count and bool((steps >= 0).all() or (steps <= 0).all())


def palette_colours(header: Any) -> tuple[NDArray[Any] | None, int]:
    """The colours ``(entries, 3)`` of PALETTE COLOR in 8 or 16 bits, and the value that has the first of them."""
    if header.PhotometricInterpretation != "PALETTE COLOR":
        return None, 0
    from pydicom.pixels import apply_color_lut

    count, first = (int(each) for each in header.RedPaletteColorLookupTableDescriptor[:2])
    colours: NDArray[Any] = apply_color_lut(np.arange(first, first + (count or _MOST_ENTRIES)), header)[..., :3]
    return colours, first


def write_used_colours(header: Any, values: NDArray[Any]) -> None:
    """Write the colour tables of `header` anew, where it has some: colours that none of the `values` has are black."""
    colours, first = palette_colours(header)
    if colours is None:
        return
    used = np.zeros(len(colours), np.bool_)
    used[np.clip(np.unique(values).astype(np.int64) - first, 0, len(colours) - 1)] = True
    kept = np.where(used[:, None], colours, 0).astype(f"<u{colours.dtype.itemsize}")
    for channel, name in enumerate(_CHANNELS):
        described = header[f"{name}PaletteColorLookupTableDescriptor"]
        described.value = [len(colours) % _MOST_ENTRIES, described.value[1], 8 * colours.dtype.itemsize]
        content = np.ascontiguousarray(kept[:, channel]).tobytes()
        header.add_new(COLOUR_TABLES[channel], "OW", content + b"\0" * (len(content) % 2))
        if f"Segmented{name}PaletteColorLookupTableData" in header:
            del header[f"Segmented{name}PaletteColorLookupTableData"]
