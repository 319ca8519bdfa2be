"""Damaged and hostile files end in one clear sentence that says nothing of what they hold."""

from __future__ import annotations

import io
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.burned_in import PLANTED, WhiteReader, how, inked, planted_header
from support.dicom_files import dicom_bytes, dicom_file, dicom_header

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.any_file import deidentify_file

DEFLATED = "1.2.840.10008.1.2.1.99"


def deflated(header, content=None):
    """`header` as Deflated Explicit VR Little Endian, or with `content` as what is deflated."""
    plain = dicom_bytes(header)
    from pydicom import dcmread
    from pydicom.uid import UID

    data = dcmread(io.BytesIO(plain))
    data.file_meta.TransferSyntaxUID = UID(DEFLATED)
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    if content is None:
        return out.getvalue()
    file = out.getvalue()
    length = struct.unpack("<I", file[140:144])[0]
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return file[: 144 + length] + squeeze.compress(content) + squeeze.flush()


def outcome(file):
    """What came out, or what was said instead."""
    try:
        return deidentify_file(file, how()).content
    except MedwardError as error:
        return str(error).encode()


def refusal(file):
    with pytest.raises(MedwardError) as caught:
        deidentify_file(file, how())
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 300
    assert PLANTED not in said
    return said


def test_a_file_cut_anywhere_is_refused_or_clean():
    file = dicom_bytes(planted_header())
    for end in [*range(0, len(file) - 1, 97), len(file) - 3]:
        refusal(file[:end])


@pytest.mark.parametrize("form", [None, "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"])
def test_a_file_that_is_cut_off_is_called_so(form):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    file = dicom_file(pixels, form=form)
    sentences = [refusal(file[:end]) for end in (200, 400, 650, len(file) // 2, len(file) - 9)]
    assert all(said.startswith("is a DICOM file") and "cut off or damaged" in said for said in sentences), sentences


def test_a_file_with_any_byte_changed_is_refused_or_clean():
    file = bytearray(dicom_bytes(planted_header()))
    generator = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(file)
        for at in generator.integers(128, len(file), 3):
            broken[at] = generator.integers(256)
        if (said := outcome(bytes(broken)))[128:132] != b"DICM":
            assert PLANTED.encode() not in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(100), "is no DICOM, PNG or JPEG"),
        (b"hello", "is no DICOM, PNG or JPEG"),
        (bytes(128) + b"DICM", "is a DICOM file that is cut off or damaged"),
        (bytes(128) + b"DICM" + b"\1" * 300, "is a DICOM file that is cut off or damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a PNG or JPEG file that is cut off or damaged"),
    ],
)
def test_what_is_no_image_is_refused(content, said):
    assert said in refusal(content)


def test_pixels_that_are_claimed_and_absent_are_refused():
    header = planted_header()
    del header.PixelData
    assert "without an image" in refusal(dicom_bytes(header))
    header = planted_header()
    header.PixelData = b""
    assert "without an image" in refusal(dicom_bytes(header))
    header = planted_header(Rows=64)
    assert "cannot be decoded" in refusal(dicom_bytes(header))


def test_a_hundred_megapixels_are_refused_by_their_header():
    assert "at most" in refusal(dicom_bytes(planted_header(Rows=10000, Columns=10000)))
    out = io.BytesIO()
    Image.new("1", (10000, 10001)).save(out, "PNG")
    assert "pixels" in refusal(out.getvalue())


def test_so_many_frames_are_refused():
    assert "frames" in refusal(dicom_bytes(planted_header(NumberOfFrames=2**31 - 1)))
    assert "bytes are decoded" in refusal(dicom_bytes(planted_header(NumberOfFrames=50000, Rows=3000, Columns=3000)))


def test_a_deflated_file_is_read_and_a_bomb_is_refused(monkeypatch):
    cleaned = deidentify_file(deflated(planted_header()), how())
    assert PLANTED.encode() not in cleaned.content
    monkeypatch.setattr("medward.guard.intake.deidentify.dicom_file.MOST_INFLATED", 10**6)
    assert "is deflated" in refusal(deflated(planted_header(), bytes(10**8)))


def test_a_codestream_of_another_size_is_refused():
    from pydicom.uid import JPEG2000Lossless

    file = bytearray(dicom_file(inked()[0], form=JPEG2000Lossless))
    at = file.find(b"\xff\x4f\xff\x51") + 8
    file[at : at + 4] = struct.pack(">I", 50000)
    assert "another size" in refusal(bytes(file))


def test_deep_nesting_is_refused_and_not_a_crash():
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    header = dicom_header(inked()[0])
    inner = Dataset()
    for _ in range(150):
        outer = Dataset()
        outer.ReferencedImageSequence = Sequence([inner])
        inner = outer
    header.ReferencedImageSequence = Sequence([inner])
    said = outcome(dicom_bytes(header))
    assert said[128:132] == b"DICM" or b"nested" in said


def test_said_burned_in_and_none_found_is_refused():
    header = dicom_header(np.full((64, 64), 9, np.uint8), BurnedInAnnotation="YES")
    assert "burned-in annotation" in refusal(dicom_bytes(header))


def test_logs_and_warnings_hold_no_identifier(caplog, recwarn):
    broken = dicom_bytes(planted_header(SpecificCharacterSet="ISO_IR 192")).replace(b"19760616", b"notadate")
    with caplog.at_level(logging.DEBUG):
        for file in (
            broken,
            broken.replace(b"ISO_IR 192", b"ISO_IR 999"),
            broken[:-700],
            broken.replace(PLANTED.encode(), PLANTED.encode()[:-1] + b"\xff"),
        ):
            assert PLANTED[:-1].encode() not in outcome(file)
    said = caplog.text + "".join(str(each.message) for each in recwarn)
    assert PLANTED[:-1] not in said
    assert "notadate" not in said


def test_metadata_of_image_files_goes_and_pixels_stay():
    pixels = np.random.default_rng(0).integers(0, 99, (40, 40)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x010E] = PLANTED
    png, jpeg = io.BytesIO(), io.BytesIO()
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Patient", PLANTED)
    info.add_itxt("Comment", PLANTED, zip=True)
    Image.fromarray(pixels).save(png, "PNG", pnginfo=info, exif=exif)
    Image.fromarray(pixels).save(jpeg, "JPEG", comment=PLANTED.encode(), exif=exif)
    for file in (png.getvalue(), jpeg.getvalue() + PLANTED.encode()):
        cleaned = deidentify_file(file, how())
        assert PLANTED.encode() not in cleaned.content
        before, after = (np.asarray(Image.open(io.BytesIO(each))) for each in (file, cleaned.content))
        np.testing.assert_array_equal(after, before)
        assert not Image.open(io.BytesIO(cleaned.content)).getexif()


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_text_in_image_files_is_filled(mode):
    pixels, box = inked()
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "PNG")
    cleaned = deidentify_file(out.getvalue(), how())
    after = np.asarray(Image.open(io.BytesIO(cleaned.content)).convert("L"))
    assert cleaned.pixels_changed
    assert np.ptp(after[box.slices]) == 0
    np.testing.assert_array_equal(after[40:], pixels[40:])


@pytest.mark.parametrize(("text", "filled"), [("HEAD", True), ("RAO", True), ("POST", True), ("LAT", False)])
def test_a_marker_that_is_a_family_name_is_filled_where_no_header_names_the_patient(text, filled):
    out = io.BytesIO()
    Image.fromarray(inked()[0]).save(out, "PNG")
    assert deidentify_file(out.getvalue(), how(WhiteReader(text))).pixels_changed == filled


def test_a_name_between_the_scans_of_a_jpeg_does_not_leave():
    out = io.BytesIO()
    ramp = np.tile(np.linspace(60, 120, 128).astype(np.uint8), (128, 1))
    Image.fromarray(ramp).save(out, "JPEG", progressive=True)
    file, said = out.getvalue(), b"Exif\0\0" + PLANTED.encode()
    at = file.find(b"\xff\xc4", file.find(b"\xff\xda"))
    planted = file[:at] + b"\xff\xe1" + struct.pack(">H", len(said) + 2) + said + file[at:]
    np.testing.assert_array_equal(Image.open(io.BytesIO(planted)), Image.open(io.BytesIO(file)))
    assert "cannot be told apart" in refusal(planted)
    assert not deidentify_file(file, how()).pixels_changed


def test_transparent_pixels_are_refused():
    out = io.BytesIO()
    Image.new("RGBA", (20, 20), (1, 2, 3, 0)).save(out, "PNG")
    assert "transparent" in refusal(out.getvalue())
