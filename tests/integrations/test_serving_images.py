import io
import struct
import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import decode_batch
from medward.guard.pipeline import Guard
from medward.guard.types import Level
from medward.integrations.serving import Limits

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
RGB = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)


def read_images(files, spec, **said):
    return decode_batch(files, spec, **said)[0]


def send(client, *files, name="image"):
    return client.post("/v1/predict", files=[(name, ("x", file)) for file in files])


def detail(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["detail"]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height):
    """A valid PNG of a few kilobytes whose header promises `width` x `height` grey pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 2_000_000, 9))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def test_an_upload_equals_the_json_of_the_same_pixels(image_client, png):
    client = image_client()
    other = 255 - GREY
    uploaded = send(client, png(GREY), png(other)).json()
    inputs = (np.stack([GREY, other])[:, None] / 255).tolist()
    posted = client.post("/v1/predict", json={"inputs": inputs}).json()
    assert uploaded["levels"] == [Level.FULL.label] * 2
    np.testing.assert_allclose(uploaded["scores"], posted["scores"], atol=1e-6)
    assert uploaded["scores"][0] != pytest.approx(uploaded["scores"][1])
    assert uploaded["labels"] == posted["labels"]
    assert send(client, png(GREY), name="file").json()["scores"][0] == uploaded["scores"][0]


def test_the_range_of_the_spec_is_used(mean_model, png):
    spec = replace(type(mean_model)(low=-1.0, high=3.0).spec, bits=8)
    batch = read_images([png(GREY)], spec, pixels=100)
    np.testing.assert_allclose(batch[0, 0], GREY / 255 * 4 - 1, atol=1e-6)


def spec_of(mean_model, channels):
    return type(mean_model)((channels, 4, 6)).spec


def test_colour_becomes_what_the_model_takes(mean_model, png):
    nearly_grey = (RGB[..., :1] // 2 + RGB // 32).astype(np.uint8)
    luma = np.asarray(Image.fromarray(nearly_grey).convert("L")) / 255
    one, three = spec_of(mean_model, 1), spec_of(mean_model, 3)
    np.testing.assert_allclose(read_images([png(nearly_grey)], one, pixels=100)[0, 0], luma, atol=1e-6)
    with pytest.raises(MedwardError, match=r"image 0: is in colour .* the model takes grey images; make it grey"):
        read_images([png(RGB)], one, pixels=100)
    np.testing.assert_allclose(read_images([png(RGB)], three, pixels=100)[0], np.moveaxis(RGB, -1, 0) / 255, atol=1e-6)
    grey = read_images([png(GREY)], three, pixels=100)[0]
    assert (grey == grey[0]).all()
    widened = np.stack([GREY] * 3, axis=-1)
    np.testing.assert_array_equal(
        read_images([png(widened)], one, pixels=100), read_images([png(GREY)], one, pixels=100)
    )


def test_a_range_that_was_never_said_or_is_no_scaling_of_pixels_takes_no_files(mean_model, client, image_profile, png):
    """A PNG for a model of ImageNet-normalised floats arrived as another image, or was withheld without a reason."""
    spec = spec_of(mean_model, 3)
    for low, high, words in [(None, None, "never said"), (0, None, "never said"), (-2.1, 2.6, "no plain scaling")]:
        with pytest.raises(MedwardError, match=words):
            read_images([png(RGB)], replace(spec, low=low, high=high), pixels=100)
    for low, high in [(0, 1), (0, 255), (-1, 1)]:
        batch = read_images([png(RGB)], replace(spec, low=low, high=high), pixels=100)
        np.testing.assert_allclose(batch[0], np.moveaxis(RGB, -1, 0) / 255 * (high - low) + low, atol=1e-4)
    mean_model.spec = replace(mean_model.spec, low=-2.1, high=2.6)
    served = client(guard_parts={"model": mean_model, "profile": image_profile})
    assert "put the normalisation into the model" in detail(send(served, png(GREY)), 415)
    assert "multipart/form-data" not in served.get("/openapi.json").text


def test_a_deep_file_is_scaled_by_the_bits_that_were_said(mean_model, png):
    spec = replace(spec_of(mean_model, 1), bits=12)
    deep = RNG.integers(0, 4096, (4, 6), dtype=np.uint16)
    np.testing.assert_allclose(read_images([png(deep)], spec, pixels=100)[0, 0], deep / 4095, atol=1e-6)
    full = replace(spec, bits=16)
    np.testing.assert_allclose(read_images([png(deep)], full, pixels=100)[0, 0], deep / 65535, atol=1e-6)
    large = read_images([png(np.kron(deep, np.ones((5, 5), np.uint16)))], spec, pixels=1000, resize=True)
    np.testing.assert_allclose(large.mean(), (deep / 4095).mean(), atol=0.02)
    three = replace(spec_of(mean_model, 3), bits=12)
    np.testing.assert_allclose(read_images([png(deep)], three, pixels=100)[0, 2], deep / 4095, atol=1e-6)


def deep_colour(pixels):
    """A 16-bit RGB PNG, which Pillow reads as 8-bit."""
    height, width, _ = pixels.shape
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_file_of_another_depth_is_refused(mean_model, png):
    """12-bit content in a 16-bit file arrived as 16 of 255."""
    grey, colour = RNG.integers(0, 4096, (4, 6), dtype=np.uint16), RNG.integers(0, 4096, (4, 6, 3), dtype=np.uint16)
    shallow = spec_of(mean_model, 1)
    for spec in (shallow, replace(shallow, bits=8), spec_of(mean_model, 3)):
        for file in (png(grey), deep_colour(colour)):
            with pytest.raises(MedwardError, match="16 bits a channel"):
                read_images([file], spec, pixels=100)
    deep = replace(shallow, bits=12)
    for file in (png(GREY), png(GREY, "JPEG"), deep_colour(colour)):
        with pytest.raises(
            MedwardError, match=r"is no 16-bit greyscale PNG or TIFF, as the 12-bit pixels .* up to 4095"
        ):
            read_images([file], deep, pixels=100)
    with pytest.raises(MedwardError, match="values up to 60000, the model was protected on 12-bit"):
        read_images([png(np.full((4, 6), 60000, np.uint16))], deep, pixels=100)


def test_jpeg_is_read_and_its_orientation_applied(image_client, mean_model, png):
    flat = np.full((4, 6), 200, np.uint8)
    response = send(image_client(), png(flat, "JPEG"))
    assert response.json()["scores"][0][1] == pytest.approx(200 / 255, abs=0.01)
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(GREY)))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 270 degrees counter-clockwise to show it upright
    spec = spec_of(mean_model, 1)
    batch = read_images([png(turned, exif=exif)], spec, pixels=100)
    np.testing.assert_allclose(batch[0, 0], GREY / 255, atol=1e-6)


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_shown_upright(mean_model, png, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = png(GREY if orientation < 5 or orientation > 8 else np.ascontiguousarray(GREY.T), exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))))
    batch = read_images([file], spec_of(mean_model, 1), pixels=100)
    np.testing.assert_allclose(batch[0, 0], upright / 255, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_is_no_failure_of_the_server(image_client, mean_model, png):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 3, "x", (72, 1)
    exif.get_ifd(0x8769)[0x9003] = "d"
    whole = png(GREY, "JPEG", exif=exif)
    start = whole.index(b"Exif")
    end = start + 94
    broken = Counter()
    for index in range(start, end):
        for value in (0, 1, 2, 3, 7, 13, 255):
            file = whole[:index] + bytes([value]) + whole[index + 1 :]
            try:
                read_images([file], spec_of(mean_model, 1), pixels=100)
            except MedwardError:
                broken["refused"] += 1
            try:
                ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
            except Exception as error:
                broken[type(error).__name__] += 1
                if broken[type(error).__name__] == 1:
                    assert send(image_client(), file).status_code in (200, 422)
    assert {"error", "TypeError", "AttributeError"} <= set(broken), "nothing that broke Pillow was tried"


def test_another_size_is_refused_unless_resizing_is_on(image_client, png):
    large = np.kron(GREY, np.ones((5, 5), np.uint8))
    assert "image 0: is 30 x 20 (width x height), the model takes 6 x 4; bring it to that size" in detail(
        send(image_client(), png(large)), 422
    )
    score = send(image_client(resize=True), png(large)).json()["scores"][0][1]
    assert score == pytest.approx(GREY.mean() / 255, abs=0.02)


def test_a_wrong_size_is_refused_on_the_header_alone(image_client):
    assert "is 4000 x 4000" in detail(send(image_client(), bomb(4000, 4000)), 422)
    assert "not a readable PNG" in detail(send(image_client(resize=True), bomb(4000, 4000)), 422)


@pytest.mark.parametrize("size", [(50_000, 50_000), (9000, 9000), (2**31 - 1, 2**31 - 1), (6, 2**28)])
@pytest.mark.parametrize("resize", [False, True])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(image_client, png, monkeypatch, size, resize):
    client, decoded, load = image_client(resize=resize), [], ImageFile.ImageFile.load

    def counted(image, *arguments):
        decoded.append(image.size)
        return load(image, *arguments)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    assert "image 0:" in detail(send(client, bomb(*size)), 422)
    assert decoded == []
    assert send(client, png(GREY)).status_code == 200
    assert decoded, "the control: an image that is taken is decoded"


def test_the_pixel_limit_is_the_app_s(image_client, png):
    large = np.zeros((11, 10), np.uint8)
    refused = send(image_client(resize=True, limits=Limits(pixels=100)), png(large))
    assert "at most 100 pixels" in detail(refused, 422)
    assert send(image_client(resize=True, limits=Limits(pixels=110)), png(large)).status_code == 200


def test_files_that_are_not_one_opaque_png_or_jpeg_are_refused(image_client, png):
    client = image_client()
    whole = png(GREY)
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    animated = png(frames[0], save_all=True, append_images=frames[1:])
    clear = png(np.dstack([RGB, np.full((4, 6), 128, np.uint8)]))
    for file, words in [
        (png(GREY, "BMP"), "not a readable PNG, JPEG or TIFF"),
        (png(GREY, "GIF"), "not a readable PNG, JPEG or TIFF"),
        (b"", "not a readable PNG, JPEG or TIFF"),
        (b"<svg/>", "not a readable PNG, JPEG or TIFF"),
        (whole[:50], "not a readable PNG, JPEG or TIFF"),
        (whole[:60] + b"\0\0\0\0" + whole[64:], "not a readable PNG, JPEG or TIFF"),
        (animated, "several frames"),
        (clear, "transparent"),
    ]:
        assert words in detail(send(client, whole, file), 422)
    opaque = np.dstack([GREY] * 3 + [np.full((4, 6), 255, np.uint8)])
    assert send(client, png(opaque)).status_code == 200


def test_a_form_without_files_or_with_other_fields_is_refused(image_client, png):
    client = image_client(limits=Limits(rows=2))
    assert "field" in detail(send(client, png(GREY), name="picture"), 422)
    assert "Too many files" in detail(send(client, *[png(GREY)] * 3), 400)
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    field = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nxyz\r\n--b--\r\n'
    assert "each in a field named" in detail(client.post("/v1/predict", content=field, headers=form), 422)
    two = field.removesuffix(b"--b--\r\n") + field
    assert "Too many fields" in detail(client.post("/v1/predict", content=two, headers=form), 400)
    assert "boundary" in detail(
        client.post("/v1/predict", content=b"x", headers={"Content-Type": "multipart/form-data"}), 400
    )
    empty = client.post("/v1/predict", content=b"--b--\r\n", headers=form)
    assert empty.status_code in (400, 422)
    garbage = client.post("/v1/predict", content=b"\0" * 100, headers=form)
    assert garbage.status_code in (400, 422)


def test_the_study_of_a_form_is_said_by_a_field_or_a_header_alike(image_client, png, monkeypatch):
    asked, submit_all = [], Guard.submit_all
    monkeypatch.setattr(
        Guard,
        "submit_all",
        lambda guard, queries: asked.extend(each.study for each in queries) or submit_all(guard, queries),
    )
    client = image_client()

    def post(data=None, headers=None):
        files = [("image", ("x", png(GREY))), ("image", ("y", png(255 - GREY)))]
        return client.post("/v1/predict", files=files, data=data, headers=headers)

    assert post({"study": "1.2.3"}).status_code == 200
    assert post(headers={"Medward-Study": "1.2.3"}).status_code == 200
    assert post({"study": "1.2.3"}, {"Medward-Study": "1.2.3"}).status_code == 200
    assert post({"study": ""}).status_code == 200
    assert asked == ["1.2.3"] * 3 + [""]
    assert "say two" in detail(post({"study": "1.2.3"}, {"Medward-Study": "4.5"}), 422)
    assert "at most 128 characters" in detail(post({"study": "1" * 129}), 422)
    assert "study" in detail(post({"patient": "1.2.3"}), 422)
    assert "Too many fields" in detail(post({"study": ["1", "2"]}), 400)
    assert len(asked) == 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_file_may_be_the_body_itself(image_client, png, kind):
    client, file = image_client(), png(GREY, kind)
    raw = client.post("/v1/predict", content=file, headers={"Content-Type": f"image/{kind.lower()}"}).json()
    assert raw["scores"] == send(client, file).json()["scores"]
    for other in ("image/webp", "application/octet-stream"):
        refused = client.post("/v1/predict", content=file, headers={"Content-Type": other})
        assert "send application/json, application/x-npy, image/png" in detail(refused, 415)


def test_a_file_never_touches_the_disk(image_client, png, monkeypatch):
    """Starlette spools large uploads into a temporary file; an X-ray must not lie in /tmp."""
    import tempfile

    def refuse(*args, **options):
        raise AssertionError("spooled to disk")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    noise = RNG.integers(0, 256, (1500, 1500), dtype=np.uint8)
    file = png(noise)
    assert len(file) > 2**20
    assert send(image_client(resize=True), file).status_code == 200


def test_a_table_model_takes_no_files(client, png):
    assert "linear takes tables of shape" in detail(send(client(), png(GREY)), 415)
