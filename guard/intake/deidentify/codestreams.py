"""Whether compressed frames hold anything but pixels: comments and application data of a codestream can name a patient.

Reference: ITU-T T.81 B.2.4.5-6 (COM, APPn), T.800 A.9.2 (COM of JPEG 2000).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_START, _END, _SCAN, _JPEG_LS = b"\xff\xd8", 0xD9, 0xDA, 0xF7
_RESTARTS = range(0xD0, 0xD8)
_PIXELS = {*range(0xC0, 0xD0), *range(0xDA, 0xDE), 0xF7, 0xF8} - {0xC8}
"""Markers of what pixels need: frames, scans, their tables, numbers of lines and intervals, presets of JPEG-LS."""
_HARMLESS = {0xE0: ((b"JFIF\0",), 16), 0xEE: ((b"Adobe",), 14), 0xE8: ((b"mrfx", b"SPIFF\0"), 32)}
"""Application data that say how colours are coded: their names, and bytes at most (JFIF without a thumbnail)."""


def all_plain(header: Any, frames: int) -> bool:
    """Whether no compressed frame of a DICOM file has room for more than its pixels."""
    return all(is_plain_jpeg(frame) for frame in coded_frames(header, frames))


def coded_frames(header: Any, frames: int) -> Iterator[bytes]:
    """The compressed frames of a DICOM file, as they are coded."""
    from pydicom.encaps import generate_frames

    offsets = None
    if header.get("ExtendedOffsetTable"):
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    yield from generate_frames(header.PixelData, number_of_frames=frames, extended_offsets=offsets)


def is_plain_jpeg(frame: bytes) -> bool:
    """Whether a JPEG or JPEG-LS `frame` has no comments, no application data and nothing after its end.

    All segments are walked, those between scans too. Anything else, JPEG 2000 with its boxes and comments too, is not
    called plain.
    """
    if not frame.startswith(_START):
        return False
    at, scans, jpeg_ls = 2, 0, False
    while at + 1 < len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # what fills up to a marker
            at += 1
            continue
        if marker == _END:
            return scans > 0 and not frame[at + 2 :].strip(b"\0\xff")
        if marker not in _PIXELS and (scans or not _is_harmless(frame, at)):
            return False
        jpeg_ls |= marker == _JPEG_LS
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == _SCAN:
            scans += 1
            at = _end_of_scan(frame, at, jpeg_ls=jpeg_ls)
    return False


def _end_of_scan(frame: bytes, at: int, *, jpeg_ls: bool) -> int:
    """Where the next marker stands behind the coded pixels at `at`; the end of the frame where there is none."""
    most_stuffed = 0x7F if jpeg_ls else 0  # what follows an 0xFF that belongs to the pixels (T.87 A.1, T.81 B.1.1.5)
    while 0 <= (at := frame.find(b"\xff", at)) < len(frame) - 1:
        if frame[at + 1] > most_stuffed and frame[at + 1] not in _RESTARTS:
            return at
        at += 2
    return len(frame)


def _is_harmless(frame: bytes, at: int) -> bool:
    names, most = _HARMLESS.get(frame[at + 1], ((), 0))
    length = int.from_bytes(frame[at + 2 : at + 4], "big")
    return length <= most and frame[at + 4 : at + 2 + length].startswith(names)
