"""Readers of text that need no network, and images for them: pure white is ink."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from support.dicom_files import dicom_header

from medward.guard.intake.deidentify.cleaner import Deidentification
from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.guard.intake.deidentify.reading import ReadText
from medward.guard.intake.deidentify.regions import Region

KEY = b"\x07" * 32
STUDY, PLANTED = "1.2.826.0.1.3680043.8.498.77", "Featherstonehaugh"


class WhiteReader:
    """Reads `text` in the box of all rows with one long run of white pixels, or always the same if `stubborn`."""

    def __init__(self, text="SMITH", *, score=0.9, stubborn=False):
        self.text, self.score, self.stubborn, self.asked = text, score, stubborn, 0

    def read(self, grey, *, scale=1.0):
        self.asked += 1
        white = grey == 255
        run = white.shape[1] - white.argmax(axis=1) - white[:, ::-1].argmax(axis=1)
        # Noise that a narrow window turned white has gaps, and goes from one side to the other.
        inked_rows = (white.sum(axis=1) >= 25) & (white.sum(axis=1) >= run - 2) & (run <= 0.75 * white.shape[1])
        rows, columns = np.nonzero(white & inked_rows[:, None])
        if not len(rows) or len(rows) == grey.size:
            return (ReadText(self.text, Region(0, 0, 4, 9), self.score),) if self.stubborn else ()
        box = Region(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
        return (ReadText(self.text, box, self.score),)


def how(reader=None, **more):
    """A de-identification with a fixed key and a reader that needs no network; all pixels are read."""
    said = {"pseudonyms": Pseudonyms(KEY), "reader": reader or WhiteReader(), "everywhere": True}
    return Deidentification(**{**said, **more})


def inked(shape=(64, 64), *, top=10, left=12, bits=8, white=None, generator=None):
    """An image of noise below white with an inked bar, and the bar's box."""
    generator = generator or np.random.default_rng(0)
    dtype = np.uint8 if bits <= 8 else np.uint16
    pixels = generator.integers(2**bits // 4, 2**bits // 2, shape).astype(dtype)
    pixels[top : top + 6, left : left + 30] = 2**bits - 1 if white is None else white
    return pixels, Region(top, left, top + 6, left + 30)


def planted_header(**more):
    """A header with an identifier in every place that is known to be missed."""
    header = dicom_header(np.full((32, 32), 9, np.uint8), patient="MRN-4711-X", study=STUDY, Modality="CR")
    header.PatientName = f"{PLANTED}^Ada"
    header.PatientBirthDate, header.StudyDate, header.SeriesDate = "19760616", "20240229", "20240301"
    header.StudyTime = "101112"
    header.AccessionNumber, header.StudyID = "ACC991", "S77"
    header.ReferringPhysicianName, header.InstitutionName = "Vandersloot^Kees", "Westmere General"
    header.StudyDescription = f"chest of {PLANTED}"
    header.SeriesInstanceUID, header.FrameOfReferenceUID = f"{STUDY}.1", f"{STUDY}.2"
    header.BodyPartExamined = header.ViewPosition = PLANTED.upper()[:16]
    header.KVP = "120"
    header.ProtocolName = "PA"
    header.add_new(0x00091001, "LO", PLANTED)
    header.private_block(0x0011, "VENDOR", create=True).add_new(1, "LO", PLANTED)
    header.add_new(0x00189999, "UN", PLANTED.encode())
    inner = Dataset()
    inner.PatientName, inner.StudyDate, inner.ReferencedSOPInstanceUID = f"{PLANTED}^Ada", "20240229", f"{STUDY}.9"
    inner.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    inner.add_new(0x00091001, "LO", PLANTED)
    outer = Dataset()
    outer.ReferencedSOPInstanceUID, outer.ReferencedSOPClassUID = f"{STUDY}.8", "1.2.840.10008.5.1.4.1.1.1"
    outer.DerivationImageSequence = Sequence([inner])
    header.SourceImageSequence = Sequence([outer])
    icon = Dataset()
    icon.BitsAllocated, icon.PixelData = 8, b"\1\2"
    header.IconImageSequence = Sequence([icon])
    for name, value in more.items():
        setattr(header, name, value)
    return header


def anatomy(side=256, seed=0):
    """Smooth shades with a little noise, as a radiograph has."""
    y, x = np.mgrid[:side, :side] / side
    waves = 110 + 60 * np.sin(5 * x + seed) * np.cos(4 * y) + np.random.default_rng(seed).normal(0, 3, (side, side))
    return waves.clip(0, 255).astype(np.uint8)
