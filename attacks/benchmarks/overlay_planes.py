"""Made-up identifiers where DICOM can hide them: one frame of many, an overlay plane, bits that are not counted."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.attacks.benchmarks.burned_in_text import BurnedInLine, burn_in_lines

HIDING_PLACES = ("pixels", "one frame", "overlay plane", "multi-frame overlay", "unused bits")
_STORED, _HIDDEN_BIT, _FRAMES = 12, 14, 3


def hidden_overlay(
    ground: NDArray[np.uint8], generator: np.random.Generator, place: str
) -> tuple[bytes, tuple[BurnedInLine, ...]]:
    """A 12-bit DICOM file of grey `ground` ``(H, W)`` with lines of identifiers at a `place` of `HIDING_PLACES`.

    Returned beside it are the lines, where they are drawn.
    """
    drawn, lines = burn_in_lines(ground, generator)
    ink = (drawn != ground).astype(np.uint8)
    values: NDArray[Any] = ground.astype(np.uint16) << (_STORED - 8)
    if place == "pixels":
        values = drawn.astype(np.uint16) << (_STORED - 8)
    elif place == "one frame":
        values = np.stack([values] * _FRAMES)
        values[int(generator.integers(_FRAMES))] = drawn.astype(np.uint16) << (_STORED - 8)
    elif place == "unused bits":
        values = values | (ink.astype(np.uint16) << _HIDDEN_BIT)
    header = unnamed_header(values)
    if place == "unused bits":
        _add_plane(header, ground.shape, frames=1)
        header[0x6000, 0x0100].value, header[0x6000, 0x0102].value = 16, _HIDDEN_BIT
    elif place.endswith(("plane", "overlay")):
        frames = _FRAMES if place.startswith("multi") else 1
        _add_plane(header, ground.shape, frames=frames)
        bits = np.packbits(np.stack([ink] * frames).ravel(), bitorder="little").tobytes()
        header.add_new(0x60003000, "OW", bits + b"\0" * (len(bits) % 2))
    out = io.BytesIO()
    header.save_as(out, enforce_file_format=True)
    return out.getvalue(), lines


def unnamed_header(values: NDArray[Any]) -> Any:
    """A 12-bit DICOM data set of `values` ``(H, W)`` or ``(frames, H, W)`` that names nobody."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID = "made-up", generate_uid(), generate_uid()
    header.Modality, header.PhotometricInterpretation, header.SamplesPerPixel = "CR", "MONOCHROME2", 1
    header.Rows, header.Columns = values.shape[-2:]
    if values.ndim == 3:
        header.NumberOfFrames = len(values)
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, _STORED, _STORED - 1
    header.PixelRepresentation = 0
    header.PixelData = values.astype("<u2").tobytes()
    header["PixelData"].VR = "OW"
    return header


def _add_plane(header: Any, shape: tuple[int, ...], *, frames: int) -> None:
    for element, vr, value in (
        (0x0010, "US", shape[0]),
        (0x0011, "US", shape[1]),
        (0x0015, "IS", frames),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1),
        (0x0102, "US", 0),
    ):
        header.add_new((0x6000, element), vr, value)
