"""Pixels of DICOM files of every form: all frames, no hidden bits, and the same values outside what was filled."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from support.burned_in import WhiteReader, how, inked
from support.dicom_files import dicom_bytes, dicom_file, dicom_header

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.codestreams import coded_frames, is_plain_jpeg
from medward.guard.intake.deidentify.dicom_file import deidentify_dicom
from medward.guard.intake.deidentify.windows import frame_windows

FORMS = (None, RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1)


def shown(file):
    return np.asarray(pixel_array(dcmread(io.BytesIO(file))))


def check(before, cleaned, box):
    """The box is of one value, what is a few pixels away is as it was."""
    after = shown(cleaned.content)
    assert after.shape == before.shape
    away = np.ones(before.shape[-2:] if before.ndim < 4 and before.shape[-1] != 3 else before.shape[-3:-1], bool)
    away[box.grown(4, away.shape).slices] = False
    rows, columns = box.slices
    if before.shape[-1] == 3:
        np.testing.assert_array_equal(after[..., away, :], before[..., away, :])
        assert (after[..., rows, columns, :] == 0).all()
    else:
        np.testing.assert_array_equal(after[..., away], before[..., away])
        assert np.ptp(after[..., rows, columns], axis=(-2, -1)).max() == 0


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("bits", [8, 12])
def test_grey_files_of_every_transfer_syntax(form, bits):
    pixels, box = inked(bits=bits)
    file = dicom_file(pixels, form=form, bits=bits)
    cleaned = deidentify_dicom(file, how())
    assert cleaned.pixels_changed
    check(shown(file), cleaned, box)


@pytest.mark.parametrize("form", [None, RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=str)
def test_colours_of_every_transfer_syntax(form):
    pixels, box = inked()
    file = dicom_file(np.repeat(pixels[..., None], 3, axis=2), form=form)
    cleaned = deidentify_dicom(file, how())
    assert dcmread(io.BytesIO(cleaned.content)).PhotometricInterpretation == "RGB"
    check(shown(file), cleaned, box)


def test_a_lossy_colour_file_keeps_its_decoded_values():
    pixels, _ = inked()
    file = dicom_file(np.repeat(pixels[..., None], 3, axis=2), form=JPEGBaseline8Bit)
    before = shown(file)
    cleaned = deidentify_dicom(file, how())
    after = shown(cleaned.content)
    np.testing.assert_array_equal(after[40:], before[40:])


@pytest.mark.parametrize("photometric", ["YBR_FULL", "RGB"])
def test_colours_that_are_not_compressed_stay_as_they_are_stored(photometric):
    pixels, box = inked()
    stored = np.stack([pixels, np.full_like(pixels, 128), np.full_like(pixels, 128)], axis=2)
    if photometric == "RGB":
        stored = np.repeat(pixels[..., None], 3, axis=2)
    cleaned = deidentify_dicom(dicom_file(stored, photometric=photometric), how())
    header = dcmread(io.BytesIO(cleaned.content))
    after = pixel_array(header, raw=True)
    assert header.PhotometricInterpretation == photometric
    np.testing.assert_array_equal(after[40:], stored[40:])
    assert after[box.top, box.left].tolist() == ([0, 128, 128] if photometric == "YBR_FULL" else [0, 0, 0])


@pytest.mark.parametrize("form", [None, RLELossless, JPEG2000Lossless], ids=str)
def test_every_frame_is_looked_at(form):
    pixels, box = inked()
    plain = np.random.default_rng(2).integers(60, 120, pixels.shape).astype(np.uint8)
    plain[0, 0] = 255
    file = dicom_file(np.stack([plain, plain, pixels]), frames=3, form=form)
    cleaned = deidentify_dicom(file, how())
    assert cleaned.frames == 3
    check(shown(file), cleaned, box)


def test_an_overlay_in_unused_bits_is_cleared_and_the_values_stay():
    values = np.random.default_rng(0).integers(0, 2**12, (64, 64)).astype(np.uint16)
    overlay = np.zeros((64, 64), np.uint16)
    overlay[20:30, 10:50] = 1 << 14
    header = dicom_header(values | overlay, bits=12)
    header.add_new(0x60000100, "US", 16)
    header.add_new(0x60000102, "US", 14)
    header.add_new(0x60000010, "US", 64)
    header.add_new(0x60000011, "US", 64)
    cleaned = deidentify_dicom(dicom_bytes(header), how())
    after = dcmread(io.BytesIO(cleaned.content))
    assert cleaned.removed["bits hidden in pixels"] == 1
    assert cleaned.removed["overlay planes"] == 4
    np.testing.assert_array_equal(np.frombuffer(after.PixelData, np.uint16).reshape(64, 64), values)
    assert not [each for each in after if each.tag.group & 0xFF00 == 0x6000]


def test_signed_values_keep_their_sign():
    values = np.random.default_rng(0).integers(-(2**11), 2**11, (64, 64)).astype(np.int16)
    file = dicom_file(values, bits=12)
    cleaned = deidentify_dicom(file, how())
    assert not cleaned.pixels_changed
    np.testing.assert_array_equal(shown(cleaned.content), values)


@pytest.mark.parametrize("frames", [1, 5])
def test_multi_frame_overlay_planes_go(frames):
    header = dicom_header(np.full((64, 64), 7, np.uint8))
    for plane in (0x6000, 0x6002, 0x601E):
        header.add_new((plane, 0x0010), "US", 64)
        header.add_new((plane, 0x0015), "IS", frames)
        header.add_new((plane, 0x3000), "OW", b"\xff" * (64 * 64 * frames // 8))
        header.add_new((plane, 0x4000), "LT", "PLANTED comment")
    cleaned = deidentify_dicom(dicom_bytes(header), how())
    assert not [each for each in dcmread(io.BytesIO(cleaned.content)) if each.tag.group & 0xFF00 == 0x6000]
    assert b"PLANTED" not in cleaned.content


def test_clean_compressed_pixels_are_not_coded_anew():
    file = dicom_file(np.random.default_rng(0).integers(0, 99, (64, 64)).astype(np.uint8), form=JPEGLSLossless)
    cleaned = deidentify_dicom(file, how())
    before, after = (dcmread(io.BytesIO(each)) for each in (file, cleaned.content))
    assert list(coded_frames(after, 1)) == list(coded_frames(before, 1))


def test_a_comment_in_a_codestream_goes():
    header = dicom_header(np.random.default_rng(0).integers(0, 99, (64, 64)).astype(np.uint8))
    file = bytearray(dicom_bytes(header, JPEGLSLossless))
    at = file.find(b"\xff\xd8\xff") + 2
    comment = b"\xff\xfe\x00\x0ePLANTED NAME"
    assert is_plain_jpeg(bytes(file[at - 2 :]).rstrip(b"\0")[: file[at - 2 :].find(b"\xff\xd9") + 2])
    item = file.rfind(b"\xfe\xff\x00\xe0", 0, at)
    length = int.from_bytes(file[item + 4 : item + 8], "little") + len(comment)
    file[item + 4 : item + 8] = length.to_bytes(4, "little")
    file[at:at] = comment
    cleaned = deidentify_dicom(bytes(file), how())
    assert b"PLANTED" in bytes(file)
    assert b"PLANTED" not in cleaned.content
    np.testing.assert_array_equal(shown(cleaned.content), shown(dicom_bytes(header)))


def test_a_table_of_offsets_holds_no_text():
    header = dicom_header(np.random.default_rng(0).integers(0, 99, (64, 64)).astype(np.uint8))
    file = dicom_bytes(header, JPEGLSLossless)
    at = file.find(b"\xfe\xff\x00\xe0\x04\x00\x00\x00")
    planted = file[: at + 4] + (12).to_bytes(4, "little") + b"\0\0\0\0PLANTED!" + file[at + 12 :]
    try:
        said = deidentify_dicom(planted, how()).content
    except MedwardError as error:
        said = str(error).encode()
    assert b"PLANTED" not in said


@pytest.mark.parametrize("marker", [*range(0xE0, 0xF0), 0xFE, 0xF0])
def test_a_segment_between_scans_is_not_plain(marker):
    out = io.BytesIO()
    Image.fromarray(np.tile(np.linspace(60, 120, 128).astype(np.uint8), (128, 1))).save(out, "JPEG", progressive=True)
    file = out.getvalue()
    first = file.find(b"\xff\xda")
    at = min(each for each in (file.find(b"\xff\xc4", first), file.find(b"\xff\xda", first + 2)) if each > 0)
    planted = file[:at] + bytes([0xFF, marker]) + b"\x00\x10JFIF\0PLANTED!!" + file[at:]
    assert is_plain_jpeg(file)
    assert not is_plain_jpeg(planted)


def test_a_harmless_segment_is_told_by_its_name():
    out = io.BytesIO()
    Image.fromarray(np.full((16, 16), 60, np.uint8)).save(out, "JPEG")
    file = out.getvalue()
    assert file[2:4] == b"\xff\xe0"
    assert is_plain_jpeg(file)
    assert not is_plain_jpeg(file.replace(b"JFIF\0", b"SMITH", 1))


def test_colours_that_no_pixel_has_hold_no_text():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    header = dicom_header(pixels, photometric="PALETTE COLOR")
    table = (np.arange(256, dtype=np.uint16) << 8).tobytes()
    for colour in ("Red", "Green", "Blue"):
        setattr(header, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(header, f"{colour}PaletteColorLookupTableData", table[:400] + b"PLANTED NAME" + table[412:])
    found = deidentify_dicom(dicom_bytes(header), how())
    after = dcmread(io.BytesIO(found.content))
    assert b"PLANTED" not in found.content
    np.testing.assert_array_equal(apply_color_lut(after.pixel_array, after), apply_color_lut(pixels, header))


def test_windows_are_of_stored_values_in_every_frame():
    header = dicom_header(np.zeros((2, 8, 8), np.uint16), frames=2, bits=12)
    header.WindowCenter, header.WindowWidth = [40, 500], [80, 2000]
    header.RescaleSlope, header.RescaleIntercept = 2, -1024
    own, voi = Dataset(), Dataset()
    voi.WindowCenter, voi.WindowWidth = 0, 10
    own.FrameVOILUTSequence = Sequence([voi])
    header.PerFrameFunctionalGroupsSequence = Sequence([Dataset(), own])
    first, second = frame_windows(header, 2)
    assert first == ((512.0, 552.0), (262.0, 1262.0))
    assert second == (*first, (509.5, 514.5))


def test_text_in_the_file_s_own_window_is_filled():
    values = np.full((64, 64), 1064, np.uint16)
    values[50:52], values[52:] = 0, 4095
    values[10:16, 12:42] = 1104
    said = {"WindowCenter": 40, "WindowWidth": 80, "RescaleSlope": 1, "RescaleIntercept": -1024}
    cleaned = deidentify_dicom(dicom_file(values, bits=12, **said), how())
    assert np.ptp(shown(cleaned.content)[10:16, 12:42]) == 0
    assert cleaned.pixels_changed


def test_bytes_behind_the_pixels_go():
    header = dicom_header(np.full((64, 64), 7, np.uint8))
    header.PixelData += b"PLANTED BEHIND"
    assert b"PLANTED" not in deidentify_dicom(dicom_bytes(header), how()).content


def test_frames_that_the_header_does_not_count_are_refused():
    header = dicom_header(np.zeros((3, 64, 64), np.uint8), frames=3)
    header.compress(RLELossless, generate_instance_uid=False)
    header.NumberOfFrames = 2
    with pytest.raises(MedwardError, match="frames"):
        deidentify_dicom(dicom_bytes(header), how())


def test_a_palette_is_filled_by_its_darkest_colour():
    pixels, box = inked()
    ramp = np.arange(256, dtype=np.uint16) << 8
    header = dicom_header(pixels, photometric="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(header, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(header, f"{colour}PaletteColorLookupTableData", ramp.tobytes())
    cleaned = deidentify_dicom(dicom_bytes(header), how())
    after = shown(cleaned.content)
    assert (after[box.slices] == pixels.min()).all()
    np.testing.assert_array_equal(after[40:], pixels[40:])


@pytest.mark.parametrize(("family", "filled"), [("Rao^Anita", True), ("Smith^Jane", False)])
def test_a_marker_that_is_the_patient_s_own_name_is_filled(family, filled):
    file = dicom_bytes(dicom_header(inked()[0], PatientName=family))
    assert deidentify_dicom(file, how(WhiteReader("RAO"))).pixels_changed is filled
