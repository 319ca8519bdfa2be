"""How many pixels a compressed frame really holds, by its own header: a DICOM header can promise fewer.

Reference: ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000), DICOM PS3.5 annex G (RLE).
"""

from __future__ import annotations

from medward.guard.errors import MedwardError

_SIZE_2000 = b"\xff\x4f\xff\x51"  # start of a codestream, then of its size
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers of a frame header
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_RLE_MOST = 128  # bytes that two may become


def coded_size(frame: bytes) -> tuple[int, int] | None:
    """Height and width that a JPEG, JPEG-LS or JPEG 2000 `frame` says it has; None where it says none."""
    if frame.startswith(b"\xff\xd8"):
        return _jpeg_size(frame)
    if (at := frame[:4096].find(_SIZE_2000)) < 0:
        return None
    right, bottom, left, top = (int.from_bytes(frame[at + 8 + 4 * k : at + 12 + 4 * k], "big") for k in range(4))
    return bottom - top, right - left


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _FRAMES:
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        if marker == 0xFF:
            at += 1
        else:
            at += 2 if marker in _ALONE else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def check_run_lengths(frame: bytes, most: int) -> None:
    """Refuse an RLE `frame` that becomes more than `most` bytes; only one that could is looked through."""
    if len(frame) * _RLE_MOST // 2 <= most:
        return
    count = min(int.from_bytes(frame[:4], "little"), 15)
    starts = [int.from_bytes(frame[4 + 4 * k : 8 + 4 * k], "little") for k in range(count)]
    size = 0
    for at, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        while at < min(end, len(frame)) and size <= most:
            length = frame[at]
            size += length + 1 if length < 128 else 257 - length
            at += length + 2 if length < 128 else 2
    if size > most:
        raise MedwardError("holds more than the pixels that its header promises")
