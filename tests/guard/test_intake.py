"""DICOM files become a model's values as an independent reading of the standard says, or are refused in a sentence."""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from support.dicom_files import dicom_bytes, dicom_file, dicom_header

from medward.guard.errors import MedwardError
from medward.guard.intake import apart
from medward.guard.intake.codestream import check_run_lengths, coded_size
from medward.guard.intake.decode import decode_file
from medward.guard.intake.grey_levels import apply_window, stored_pixels
from medward.guard.intake.hush import Hush
from medward.guard.intake.picture import Intake
from medward.guard.preparation import Preparation

RNG = np.random.default_rng(3)
UNIT = Intake(low=0.0, high=1.0)
SECRETS = ("P-1", "Secret", "Person")


def said(window, **more):
    return replace(UNIT, prepare=Preparation(window=window, **more))


def read(file, intake=UNIT):
    values = decode_file(file, intake).values
    assert values.dtype == np.float32
    return values


def refusal(file, intake=UNIT):
    with pytest.raises(MedwardError) as refused:
        decode_file(file, intake)
    text = str(refused.value)
    assert "\n" not in text
    assert not any(secret in text for secret in SECRETS)
    return text


def grey(bits, signed=False, shape=(12, 17)):
    low = -(2 ** (bits - 1)) if signed else 0
    kind = "i" if signed else "u"
    values = RNG.integers(low, low + 2**bits, shape)
    values[0, :2] = low, low + 2**bits - 1
    return values.astype(f"{kind}{1 if bits <= 8 else 2}")


DEPTHS = [(8, False), (10, False), (12, False), (12, True), (16, False), (16, True)]
FORMS = [None, RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1]
UNSIGNED_ONLY = (JPEGLSLossless, JPEGLosslessSV1)  # the encoders of these here take no others


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("bits", "signed", "form"),
    [(*depth, form) for depth in DEPTHS for form in FORMS if not (depth[1] and form in UNSIGNED_ONLY)],
)
def test_all_bits_and_forms_give_the_shares_of_the_bits(bits, signed, photometric, form):
    pixels = grey(bits, signed)
    file = dicom_file(pixels, bits=bits, photometric=photometric, form=form)
    expected = (pixels.astype(float) - pixels.min()) / (2**bits - 1)
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    np.testing.assert_allclose(read(file, said("pixels"))[0], expected, atol=1e-6)
    wide = replace(said("pixels"), low=-1024.0, high=1024.0, channels=3)
    np.testing.assert_allclose(read(file, wide)[2], expected * 2048 - 1024, atol=2e-4)


HU = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": [40, 450], "WindowWidth": [350, 1500]}


def table(first, entries, bits):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = entries
    item["LUTData"].VR = "US"
    return Sequence([item])


def linear(x, centre, width):
    """PS3.3 C.11.2.1.2.1, as it is written there."""
    if x <= centre - 0.5 - (width - 1) / 2:
        return 0.0
    if x > centre - 0.5 + (width - 1) / 2:
        return 1.0
    return (x - (centre - 0.5)) / (width - 1) + 0.5


@given(
    st.lists(st.integers(-32768, 65535), min_size=1, max_size=20),
    st.floats(-2000, 2000),
    st.one_of(st.just(1.0), st.floats(1.5, 5000)),
)
def test_a_window_is_that_of_the_standard(values, centre, width):
    found = apply_window(np.array(values), centre, width)
    np.testing.assert_allclose(found, [linear(each, centre, width) for each in values], atol=1e-9)


def test_windows_tables_and_units_are_applied_to_rescaled_values():
    pixels = grey(12)
    hu = pixels.astype(float) - 1024
    file = dicom_file(pixels, bits=12, **HU)
    by_file = np.vectorize(linear)(hu, 40, 350)
    np.testing.assert_allclose(read(file, said("file"))[0], by_file, atol=1e-6)
    np.testing.assert_allclose(read(file, said((-600.0, 1500.0)))[0], np.vectorize(linear)(hu, -600, 1500), atol=1e-6)
    inverted = dicom_file(pixels, bits=12, photometric="MONOCHROME1", **HU)
    np.testing.assert_allclose(read(inverted, said("file"))[0], 1 - by_file, atol=1e-6)
    units = replace(said("units"), low=-1024.0, high=3071.0)
    for each in (file, inverted):  # units have no black and white to exchange
        np.testing.assert_array_equal(read(each, units)[0], hu)
    assert "values from -1024 to 3071 in its units, the model takes -1000 to 1000" in refusal(
        file, replace(units, low=-1000.0, high=1000.0)
    )
    for function, expected in [
        ("SIGMOID", 1 / (1 + np.exp(-4 * (hu - 40) / 350))),
        ("LINEAR_EXACT", np.clip((hu - 40) / 350 + 0.5, 0, 1)),
    ]:
        other = dicom_file(pixels, bits=12, VOILUTFunction=function, **HU)
        np.testing.assert_allclose(read(other, said("file"))[0], expected, atol=1e-6)
    entries = np.sort(RNG.integers(0, 1024, 500)).tolist()
    looked_up = dicom_file(pixels, bits=12, VOILUTSequence=table(-200, entries, 10), **HU)
    at = np.clip(hu + 200, 0, 499).astype(int)
    np.testing.assert_allclose(read(looked_up, said("file"))[0], np.array(entries)[at] / 1023, atol=1e-6)
    modality = dicom_file(pixels, bits=12, ModalityLUTSequence=table(0, list(range(0, 8192, 2)), 16))
    np.testing.assert_allclose(
        read(modality, said((4096.0, 8192.0)))[0], np.vectorize(linear)(pixels * 2.0, 4096, 8192), atol=1e-6
    )


def test_frames_are_chosen_and_their_own_groups_used():
    pixels = np.stack([grey(12), grey(12)])
    groups = []
    for intercept in (-1024, 0):
        transformation, group = Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = 1, intercept
        group.PixelValueTransformationSequence = Sequence([transformation])
        groups.append(group)
    file = dicom_file(pixels, bits=12, frames=2, PerFrameFunctionalGroupsSequence=Sequence(groups))
    assert "has 2 frames; say which one the model takes, as --frame 1" in refusal(file, said("pixels"))
    assert "has 2 frames, frame 3 was said" in refusal(file, said("pixels", frame=3))
    for frame, intercept in ((1, -1024), (2, 0)):
        units = replace(said("units", frame=frame), low=-5000.0, high=5000.0)
        np.testing.assert_array_equal(read(file, units)[0], pixels[frame - 1] + float(intercept))
    one = dicom_file(grey(8))
    assert read(one, said("pixels", frame=1)).shape == (1, 12, 17)


@pytest.mark.parametrize("form", [None, RLELossless, JPEGLSLossless])
def test_colour_is_rgb_or_its_luma(form):
    pixels = RNG.integers(0, 256, (10, 14, 3), dtype=np.uint8)
    file = dicom_file(pixels, form=form)
    np.testing.assert_allclose(read(file), np.moveaxis(pixels, -1, 0) / 255, atol=1e-6)
    assert "is in colour" in refusal(file, replace(UNIT, channels=1))
    nearly_grey = (pixels[..., :1] // 2 + pixels // 32).astype(np.uint8)
    luma = nearly_grey @ [0.299, 0.587, 0.114] / 255
    shown = read(dicom_file(nearly_grey, form=form), replace(UNIT, channels=1))[0]
    np.testing.assert_allclose(shown, luma, atol=1e-6)


def test_a_file_of_another_depth_is_not_darkened():
    """White is what a file's bits can hold: 12-bit content whose header says 16 would arrive sixteen times darker."""
    pixels = grey(12)
    shallow, deep = dicom_file(pixels, bits=12), dicom_file(pixels, bits=16)
    known = replace(said("pixels"), bits=12)
    assert read(shallow, known).shape == (1, 12, 17)
    assert "stores 16 bits, the model was protected on 12" in refusal(deep, known)
    windowed = replace(said((2048.0, 4096.0)), bits=12)
    np.testing.assert_array_equal(read(deep, windowed), read(shallow, windowed))


def test_a_png_never_had_what_a_dicom_window_needs():
    image = io.BytesIO()
    Image.fromarray(grey(8)).save(image, "PNG")
    assert decode_file(image.getvalue(), UNIT).kind == "PNG"
    assert "is no DICOM file, and the model takes DICOM values windowed" in refusal(image.getvalue(), said("pixels"))


def test_ybr_and_palettes_become_rgb():
    flat = np.full((8, 8, 3), [120, 90, 200], np.uint8)
    y, cb, cr = (float(each) for each in flat[0, 0])
    rgb = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    np.testing.assert_allclose(read(dicom_file(flat, photometric="YBR_FULL"))[:, 0, 0] * 255, rgb, atol=1.5)
    index = RNG.integers(0, 256, (6, 7), dtype=np.uint8)
    tables = RNG.integers(0, 2**16, (3, 256)).astype("<u2")
    more = {}
    for name, entries in zip(("Red", "Green", "Blue"), tables, strict=True):
        more[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        more[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    file = dicom_file(index, photometric="PALETTE COLOR", **more)
    np.testing.assert_allclose(read(file), tables[:, index] / 65535, atol=1e-6)


def test_jpeg_baseline_is_read():
    smooth = (np.add.outer(np.arange(32), np.arange(40)) * 3).astype(np.uint8)
    found = read(dicom_file(smooth, form=JPEGBaseline8Bit))[0] * 255
    assert np.abs(found - smooth).max() <= 4


def test_what_was_not_said_is_not_guessed():
    plain = dicom_file(grey(8))
    assert read(plain).shape == (1, 12, 17)  # 8 bits and nothing else: pixels, as a PNG has them
    for pixels, more, words in [
        (grey(8), {"WindowCenter": 127, "WindowWidth": 254}, "a window"),
        (grey(8), {"RescaleSlope": 2, "RescaleIntercept": 0}, "a rescale"),
        (grey(12), {"bits": 12}, "12 bits"),
        (grey(8), {"VOILUTSequence": table(0, list(range(256)), 8)}, "a window"),
        (grey(12), {"bits": 12, **HU}, "a window and a rescale and 12 bits"),
    ]:
        text = refusal(dicom_file(pixels, **more))
        assert f"has {words}, and how its values become" in text
        assert all(f"--window {each}" in text for each in ("file", "40,400", "pixels", "units"))
    assert "no window of its own" in refusal(plain, said("file"))
    assert "say --low and --high" in refusal(plain, Intake())


def test_resizing_and_cropping_are_pillows():
    from PIL import Image

    pixels = grey(12, shape=(40, 60))
    file = dicom_file(pixels, bits=12)
    intake = said("pixels", resize=(20, 24), resample="bicubic", crop=(16, 16))
    shown = Image.fromarray((pixels / 4095).astype(np.float32))
    expected = np.asarray(shown.resize((24, 20), Image.Resampling.BICUBIC))[2:18, 4:20].clip(0, 1)
    np.testing.assert_allclose(read(file, intake)[0], expected, atol=1e-6)
    assert "too small to be cropped to 64 x 64" in refusal(file, said("pixels", crop=(64, 64)))


def bent(**more):
    return dicom_header(grey(8), **more)


def compressed(syntax, frame=b"\xff\xd8\xff\xd9"):
    from pydicom.encaps import encapsulate

    header = bent()
    header.file_meta.TransferSyntaxUID = syntax
    header.PixelData = encapsulate([frame])
    header["PixelData"].is_undefined_length = True
    return dicom_bytes(header)


def without(name):
    header = bent()
    delattr(header, name)
    return dicom_bytes(header)


def deflated():
    header = bent()
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return dicom_bytes(header)


SOF = b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00"  # 65535 x 65535


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: without("PixelData"), "a DICOM file without an image"),
        (lambda: dicom_bytes(bent(Rows=30000, Columns=30000)), "is 30000 x 30000, at most 25000000 pixels"),
        (lambda: dicom_file(grey(8))[:-20], "whose pixels cannot be decoded"),
        (lambda: b"\0" * 128 + b"DICM" + b"\1" * 300, "a DICOM file without an image"),
        (lambda: without("Rows"), "is a DICOM file without Rows, which"),
        (lambda: without("PhotometricInterpretation"), "is a DICOM file without PhotometricInterpretation, which"),
        (deflated, "deflated as a whole"),
        (lambda: compressed(MPEG2MPML), "compressed as MPEG2 Main Profile / Main Level, which is not read"),
        (lambda: compressed(HTJ2KLossless), "another size than its header says"),
        (lambda: compressed(JPEGBaseline8Bit), "another size than its header says"),
        (lambda: compressed(JPEGBaseline8Bit, SOF), "another size than its header says"),
        (lambda: dicom_bytes(bent(SamplesPerPixel=4)), "has 4 samples per pixel"),
        (lambda: dicom_bytes(bent(photometric="HSV")), "photometric interpretation"),
        (lambda: dicom_file(grey(12), bits=10), "how its values become"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(make, words):
    assert words in refusal(make())


def test_values_beyond_the_bits_are_refused():
    header = dicom_header(grey(12), bits=10)
    with pytest.raises(MedwardError, match="outside the 10 bits"):
        stored_pixels(header, header.pixel_array | np.uint16(1024))
    assert stored_pixels(header, np.array([[0, 1023]], np.uint16)).tolist() == [[0, 1023]]


def test_a_file_of_the_models_size_is_resized_and_cropped_as_any_other():
    pixels, file = grey(8, shape=(24, 24)), BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    intake = said(None, resize=(30, 30), crop=(24, 24))
    as_png = decode_file(file.getvalue(), intake).values / 255
    assert np.abs(as_png - pixels / 255).max() > 0.1
    np.testing.assert_allclose(
        read(dicom_file(pixels), intake)[0], as_png, atol=1.01 / 255
    )  # Pillow rounds each of its two passes


@pytest.mark.parametrize(
    ("window", "header", "words"),
    [
        ("pixels", {"HighBit": 15}, "up to the high bit 15, only values that end at their high bit 11"),
        ((40, 400), {"RescaleSlope": "nan"}, "a rescale slope of nan"),
        ((40, 400), {"RescaleSlope": 0}, "a rescale slope of 0"),
        ("units", {"RescaleIntercept": "nan"}, "intercept of nan"),
        ("file", {"WindowCenter": "nan", "WindowWidth": 400}, "window that DICOM does not know"),
        ("file", {"WindowCenter": 40, "WindowWidth": "nan"}, "window that DICOM does not know"),
    ],
)
def test_a_header_that_gives_no_sound_values_is_refused(window, header, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = dicom_file(grey(12), bits=12, **header)
    assert words in refusal(file, replace(said(window), high=5000.0))


def test_a_file_of_another_kind_than_the_model_was_protected_on_is_refused():
    png = BytesIO()
    Image.fromarray(grey(8)).save(png, "PNG")
    units = replace(said("units"), low=-1024.0, high=3071.0)
    assert "is no DICOM file" in refusal(png.getvalue(), units)
    assert "stores 8 bits, the model was protected on 12" in refusal(dicom_file(grey(8)), replace(UNIT, bits=12))
    assert read(dicom_file(grey(8)), replace(UNIT, bits=8)).max() == 1


def test_a_missing_decoder_and_a_missing_library_name_the_extra(monkeypatch):
    from pydicom.pixels import decoders

    file = dicom_file(grey(12), bits=12, form=JPEGLSLossless)
    assert read(file, said("pixels")).shape == (1, 12, 17)
    with monkeypatch.context() as patch:
        patch.setattr(decoders.base.Decoder, "is_available", property(lambda self: False))
        assert "compressed as JPEG-LS Lossless" in (text := refusal(file, said("pixels")))
        assert "pip install 'medward[dicom]'" in text
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    assert "DICOM files need pydicom: pip install 'medward[dicom]'" in refusal(file)


def test_a_frame_says_its_own_size_and_what_it_becomes():
    assert coded_size(SOF) == (65535, 65535)
    assert coded_size(b"\xff\xd8" + b"\xff\xe0\x00\x04ab" + SOF[2:]) == (65535, 65535)
    assert coded_size(
        b"\0\0\0\x0cjP" + b"\xff\x4f\xff\x51" + bytes(4) + (9).to_bytes(4, "big") + (7).to_bytes(4, "big") + bytes(8)
    ) == (7, 9)
    assert coded_size(b"rubbish") is None
    assert coded_size(b"\xff\xd8\xff\xff") is None
    head = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    runs = head + b"\x81\x00" * 1000  # 128,000 bytes
    check_run_lengths(runs, 128_000)
    with pytest.raises(MedwardError, match="more than the pixels"):
        check_run_lengths(runs, 64_000)
    literal = head + (b"\x7f" + bytes(128)) * 1000
    check_run_lengths(literal, 128_000)


def test_no_word_of_a_file_is_heard(caplog, recwarn):
    header = dicom_header(grey(8), patient="P-1")
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    file = dicom_bytes(header).replace(header.StudyInstanceUID.encode()[:20], b"Secret.Person.Secret")
    with caplog.at_level(logging.DEBUG):
        picture = decode_file(file, UNIT)
    assert picture.study.startswith("Secret")
    assert not caplog.records
    assert not recwarn.list


def test_a_decoder_that_dies_or_hangs_takes_nothing_with_it(monkeypatch):
    """GDCM 3.2.6 was killed by one in some hundred damaged files, and the process it ran in with it."""
    pixels = grey(12)
    file = dicom_file(pixels, bits=12, form=JPEGLosslessSV1)
    process = apart.DecodingProcess()
    np.testing.assert_array_equal(process.decode(file, 0), pixels)
    process._process.kill()
    process._process.wait()
    np.testing.assert_array_equal(process.decode(file, 0), pixels)
    with pytest.raises(MedwardError, match="cannot be decoded"):
        process.decode(file[:400], 0)
    monkeypatch.setattr(apart, "SECONDS", 0.0)
    process.close()
    with pytest.raises(MedwardError, match="cannot be decoded"):
        process.decode(file, 0)
    monkeypatch.undo()
    np.testing.assert_array_equal(process.decode(file, 0), pixels)
    process.close()


def test_hush_ends_when_the_last_thread_leaves():
    hush, inside, leave = Hush("some.library"), threading.Event(), threading.Event()

    def other():
        with hush:
            inside.set()
            leave.wait(10)

    before = list(warnings.filters)
    thread = threading.Thread(target=other)
    with hush:
        thread.start()
        inside.wait(10)
    warnings.warn("still hushed", stacklevel=1)
    leave.set()
    thread.join()
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning):
        warnings.warn("heard", stacklevel=1)


REFUSED = {"0_ORIGINAL_no_pixels.dcm": "without an image", "liver_rle.dcm": "cannot be decoded (damaged"}


@pytest.mark.data
def test_real_files_are_read_as_the_standard_says_or_refused_in_a_sentence(caplog):
    import pydicom

    files = sorted((Path(os.environ["MEDWARD_DATA"]) / "dicom_phi").rglob("*.dcm"))
    assert len(files) >= 15
    for path in files:
        file = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path)
            intake = said("pixels", frame=1 if int(header.get("NumberOfFrames") or 1) > 1 else None)
            secrets = [str(header.get(name)) for name in ("PatientID", "PatientName") if header.get(name)]
        if path.name in REFUSED:
            text = refusal(file, intake)
            assert REFUSED[path.name] in text
            assert not any(len(secret) > 2 and secret in text for secret in secrets)
            continue
        values = read(file, intake)
        if header.PhotometricInterpretation.startswith("MONO"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pixels = header.pixel_array.astype(float)
            least = -(2 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0
            share = (pixels - least) / (2**header.BitsStored - 1)
            share = 1 - share if header.PhotometricInterpretation == "MONOCHROME1" else share
            np.testing.assert_allclose(values[0], share, atol=1e-6)
    assert not caplog.records
