"""Whether compressed frames hold anything but pixels: comments and application data of a codestream can name a patient.

Reference: ITU-T T.81 B.2.4.5-6 (COM, APPn), T.800 A.9.2 (COM of JPEG 2000).
"""

from __future__ import annotations

from typing import Any

_ALONE = {0x01, *range(0xD0, 0xD8)}
_SCAN, _COMMENT = 0xDA, 0xFE
_HARMLESS = {
    0xE0: 16,
    0xEE: 12,
    0xE8: 32,
}  # JFIF without a thumbnail, Adobe's and HP's colour transforms: bytes at most
_START, _END = b"\xff\xd8", b"\xff\xd9"


def all_plain(header: Any, frames: int) -> bool:
    """Whether no compressed frame of a DICOM file has room for more than its pixels."""
    from pydicom.encaps import generate_frames

    offsets = None
    if header.get("ExtendedOffsetTable"):
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    return all(
        is_plain_jpeg(frame)
        for frame in generate_frames(header.PixelData, number_of_frames=frames, extended_offsets=offsets)
    )


def is_plain_jpeg(frame: bytes) -> bool:
    """Whether a JPEG or JPEG-LS `frame` has no comments, no application data and nothing after its end.

    Anything else, JPEG 2000 with its boxes and comments too, is not called plain.
    """
    if not frame.startswith(_START) or frame.rstrip(b"\0\xff")[-1:] != _END[1:]:
        return False
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == _SCAN:
            return _ends_once(frame, at)
        if marker == _COMMENT or (0xE0 <= marker <= 0xEF and not _is_harmless(frame, at)):
            return False
        at += 2 if marker in _ALONE else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return False


def _is_harmless(frame: bytes, at: int) -> bool:
    return int.from_bytes(frame[at + 2 : at + 4], "big") <= _HARMLESS.get(frame[at + 1], 0)


def _ends_once(frame: bytes, at: int) -> bool:
    """Whether nothing follows the first end of image, and no segment of text lies between scans."""
    end = frame.find(_END, at)
    return end >= 0 and not frame[end + 2 :].strip(b"\0\xff") and b"\xff\xfe" not in frame[at:end]
