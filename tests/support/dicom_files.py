"""DICOM files made from arrays, in every form that is read."""

from __future__ import annotations

import io
import warnings

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, generate_uid

GDCM_FORMS = {
    JPEG2000Lossless: "JPEG2000Lossless",
    JPEGLosslessSV1: "JPEGLosslessProcess14_1",
    JPEGBaseline8Bit: "JPEGBaselineProcess1",
}


def dicom_header(pixels, *, bits=None, photometric=None, patient="P-1", study="", frames=None, **more):
    """A data set of `pixels` ``(H, W)``, ``(H, W, 3)`` or, with `frames`, ``(frames, H, W)``."""
    pixels = np.ascontiguousarray(pixels)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    shape = pixels.shape[1:] if frames else pixels.shape
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.PatientID, header.StudyInstanceUID = patient, study or generate_uid()
    header.PatientName = "Secret^Person"
    header.Rows, header.Columns = shape[:2]
    header.SamplesPerPixel = 1 if len(shape) == 2 else 3
    header.PhotometricInterpretation = photometric or ("MONOCHROME2" if len(shape) == 2 else "RGB")
    if header.SamplesPerPixel == 3:
        header.PlanarConfiguration = 0
    if frames:
        header.NumberOfFrames = frames
    header.BitsAllocated = 8 * pixels.dtype.itemsize
    header.BitsStored = bits or header.BitsAllocated
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in more.items():
        setattr(header, name, value)
    header.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    header["PixelData"].VR = "OB" if header.BitsAllocated == 8 else "OW"
    return header


def dicom_bytes(header: Dataset, form=None) -> bytes:
    """`header` as a file, compressed as the transfer syntax `form`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form is not None and form not in GDCM_FORMS:
            header.compress(form, generate_instance_uid=False)
        file = io.BytesIO()
        dcmwrite(file, header, enforce_file_format=True)
    return _recoded(file.getvalue(), GDCM_FORMS[form]) if form in GDCM_FORMS else file.getvalue()


def dicom_file(pixels, *, form=None, **said) -> bytes:
    """A file of `pixels`, in one step."""
    return dicom_bytes(dicom_header(pixels, **said), form)


def _recoded(file: bytes, name: str) -> bytes:
    """`file` compressed by GDCM, which only reads and writes paths."""
    import tempfile
    from pathlib import Path

    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "a.dcm", Path(folder) / "b.dcm"
        source.write_bytes(file)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(result))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return result.read_bytes()
