"""TIFF files of one page are read as PNG files of the same pixels; what else a TIFF may hold is refused."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import decode_batch
from medward.integrations.serving import Limits

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (4, 6), dtype=np.uint8)


def tiff(pixels, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, "TIFF", **options)
    return file.getvalue()


def tagged(file, tag, value):
    """`file`, little-endian, with another value of a tag that is a number."""
    at = struct.unpack_from("<I", file, 4)[0]
    for place in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", file, at)[0], 12):
        if struct.unpack_from("<H", file, place)[0] == tag:
            return file[: place + 2] + struct.pack("<HII", 4, 1, value) + file[place + 12 :]
    raise AssertionError(f"no tag {tag}")


def read(file, spec, **said):
    rows, _ = decode_batch([file], spec, pixels=10_000, **said)
    return rows[0]


@pytest.mark.parametrize("codec", ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate"])
def test_a_tiff_has_the_pixels_that_were_written(mean_model, codec):
    np.testing.assert_allclose(read(tiff(GREY, compression=codec), mean_model.spec)[0], GREY / 255, atol=1e-6)


@pytest.mark.parametrize("codec", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_shown_upright_once(mean_model, png, codec, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = GREY if orientation < 5 else GREY.T.copy()
    shown = read(png(pixels, exif=exif), mean_model.spec)
    turned = tiff(pixels, compression=codec, tiffinfo={0x0112: orientation})
    np.testing.assert_array_equal(read(turned, mean_model.spec), shown)


def test_deep_grey_is_scaled_by_the_bits_that_were_said(mean_model):
    deep = (GREY.astype(np.uint16) << 4) + 7
    spec = replace(mean_model.spec, bits=12)
    np.testing.assert_allclose(read(tiff(deep), spec)[0], deep / 4095, atol=1e-6)
    with pytest.raises(MedwardError, match="has 16 bits a channel"):
        read(tiff(deep), mean_model.spec)
    with pytest.raises(MedwardError, match="no 16-bit greyscale PNG or TIFF"):
        read(tiff(GREY), spec)
    with pytest.raises(MedwardError, match="in which 0 is white"):
        read(tagged(tiff(deep), 262, 0), spec)


def pages(count):
    return tiff(Image.fromarray(GREY), save_all=True, append_images=[Image.fromarray(GREY)] * (count - 1))


def endless():
    """A page that says it is its own next page."""
    file = bytearray(tiff(GREY))
    at = struct.unpack_from("<I", file, 4)[0]
    struct.pack_into("<I", file, at + 2 + 12 * struct.unpack_from("<H", file, at)[0], at)
    return bytes(file)


def tiled(side):
    """One that says it is in tiles of `side` pixels a side."""
    file, tags = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in {256: 6, 257: 4, 258: 8, 259: 1, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 64}.items():
        tags[tag] = value
    file.write(b"II*\0" + struct.pack("<I", 72) + bytes(64))
    tags.save(file)
    return file.getvalue()


WHOLE = tiff(GREY)
REFUSED = {
    "two pages": (pages(2), "several frames"),
    "cut in the header": (WHOLE[:30], "not a readable PNG, JPEG or TIFF"),
    "cut in the pixels": (tiff(np.zeros((4, 6), np.uint8))[:-130], "not a readable PNG, JPEG or TIFF"),
    "too large": (tagged(tagged(WHOLE, 256, 60_000), 257, 60_000), "image 0:"),
    "huge tiles": (tiled(50_000), "image 0: has tiles of more than"),
    "floats": (tiff(GREY.astype(np.float32)), "has pixels of the kind F"),
    "32 bits": (tiff(GREY.astype(np.int32)), "has pixels of the kind I"),
    "printing colours": (tiff(Image.fromarray(GREY).convert("CMYK")), "has pixels of the kind CMYK"),
    "JPEG inside": (tiff(np.zeros((16, 16), np.uint8), compression="jpeg"), "image 0:"),
    "fax": (tiff(Image.fromarray(GREY > 99), compression="group4"), "is compressed as group4"),
    "transparent": (tiff(np.dstack([GREY] * 3 + [GREY // 2])), "transparent"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_tiff_is_refused_with_a_sentence(image_client, case, monkeypatch):
    client, (file, said) = image_client(limits=Limits(pixels=1000)), REFUSED[case]
    if case in ("too large", "huge tiles", "two pages", "fax"):
        monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", lambda _: pytest.fail("it was decoded"))
    refused = client.post("/v1/predict", content=file, headers={"Content-Type": "image/tiff"})
    assert refused.status_code == 422
    assert said in refused.json()["detail"]
    monkeypatch.undo()
    assert client.post("/v1/predict", content=WHOLE, headers={"Content-Type": "image/tiff"}).status_code == 200


def test_a_page_that_is_its_own_next_page_is_one_page(mean_model):
    np.testing.assert_array_equal(read(endless(), mean_model.spec), read(WHOLE, mean_model.spec))


def test_no_flipped_byte_breaks_the_server(image_client):
    client, file = image_client(), tiff(GREY, compression="tiff_lzw")
    for at in range(0, len(file), 3):
        flipped = file[:at] + bytes([file[at] ^ 0xFF]) + file[at + 1 :]
        answer = client.post("/v1/predict", content=flipped, headers={"Content-Type": "image/tiff"})
        assert answer.status_code in (200, 422)
