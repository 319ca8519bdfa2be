"""What an array of images means is said or refused: every layout, range and depth, with and without a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.data.pixels import (
    PLAIN,
    batch_of,
    check_image_shape,
    check_span,
    image_batch,
    pixel_range,
    sent_shape,
)
from medward.guard.data.split import conform_inputs
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

rng = np.random.default_rng(0)
SPEC = ModelSpec(
    name="m",
    modality="image",
    shape=(3, 8, 9),
    task=Classification(classes=("a", "b"), output="logits"),
    low=0.0,
    high=1.0,
)
CUBE = replace(SPEC, shape=(6, 6, 6))
UNIT = {"low": 0.0, "high": 1.0}


def bytes_of(*shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def floats_of(*shape):
    return rng.random(shape, np.float32)


@pytest.mark.parametrize(
    ("images", "layout", "shape"),
    [
        (bytes_of(5, 28, 28), "NHW", (1, 28, 28)),
        (bytes_of(5, 3, 3), "NHW", (1, 3, 3)),
        (bytes_of(5, 28, 28, 1), "NHWC", (1, 28, 28)),
        (bytes_of(5, 28, 20, 3), "NHWC", (3, 28, 20)),
        (bytes_of(5, 28, 20, 4), "NHWC", (4, 28, 20)),
        (floats_of(5, 3, 16, 16), "NCHW", (3, 16, 16)),
        (floats_of(5, 16, 20, 20), "NCHW", (16, 20, 20)),
        (floats_of(5, 12, 1, 250), "NCHW", (12, 1, 250)),
        (floats_of(5, 1, 250, 1), "NCHW", (1, 250, 1)),
        (floats_of(5, 1, 1, 1), "NCHW", (1, 1, 1)),
        (floats_of(5, 3, 3, 3), "NCHW", (3, 3, 3)),
    ],
)
def test_one_layout_shows(images, layout, shape):
    batch, read, bits = batch_of(images, **UNIT)
    assert (read, batch.shape[1:]) == (layout, shape)
    assert bits == (8 if images.dtype == np.uint8 else None)


@pytest.mark.parametrize(
    "images",
    [
        bytes_of(5, 3, 16, 16),  # channels first
        bytes_of(5, 1, 16, 16),
        bytes_of(5, 12, 12, 12),  # a volume, as MedMNIST's 3-D files are
        bytes_of(5, 28, 30, 32),
        bytes_of(5, 3, 3, 3),
        bytes_of(5, 3, 64, 3),
        bytes_of(5, 28, 3, 3),
        bytes_of(5, 64, 64, 16),
        bytes_of(5, 64, 64, 2),
        floats_of(5, 64, 64, 3),  # channels last, which a model of channels first is not fed
        floats_of(5, 16, 16, 1),
        floats_of(5, 28, 28),  # grey images, or signals of 28 leads
        bytes_of(5, 8, 8, 8, 8),
        floats_of(5, 8, 8, 8, 1),
    ],
    ids=lambda images: f"{images.dtype} {images.shape[1:]}",
)
def test_an_array_of_several_readings_is_refused_by_its_shape(images):
    with pytest.raises(MedwardError, match=r"\(5, .*(--layout|tables \(n, D\))") as refused:
        batch_of(images, **UNIT)
    assert str(images.shape) in str(refused.value)


def test_signals_and_volumes_are_defended_as_images():
    signals, volumes, scans = floats_of(5, 12, 100), floats_of(5, 2, 6, 8, 9), bytes_of(5, 6, 8, 9)
    leads, layout, _ = batch_of(signals, layout="NLT", **UNIT)
    assert (leads.shape, sent_shape(signals.shape[1:], layout)) == ((5, 1, 12, 100), (12, 100))
    slices, layout, _ = batch_of(volumes, layout="NCDHW", **UNIT)
    assert (slices.shape, sent_shape(volumes.shape[1:], layout)) == ((5, 12, 8, 9), (2, 6, 8, 9))
    np.testing.assert_array_equal(slices.reshape(volumes.shape), volumes)
    grey, layout, bits = batch_of(scans, layout="NDHW", **UNIT)
    assert (grey.shape, sent_shape(scans.shape[1:], layout), bits) == ((5, 6, 8, 9), (1, 6, 8, 9), 8)


def test_the_layout_that_was_said_is_used():
    images = bytes_of(5, 3, 4, 3)
    first, _, _ = batch_of(images, layout="NCHW", **UNIT)
    last, _, _ = batch_of(images, layout="NHWC", **UNIT)
    np.testing.assert_allclose(first, images / 255, atol=1e-6)
    np.testing.assert_allclose(last, np.moveaxis(images, -1, 1) / 255, atol=1e-6)
    grey = floats_of(5, 28, 28)
    np.testing.assert_array_equal(batch_of(grey, layout="NHW", low=None, high=None)[0], grey[:, None])


@pytest.mark.parametrize(
    ("options", "images", "says"),
    [
        ({"layout": "NHWC"}, bytes_of(5, 8, 8), r"NHWC has 4 axes, the array has 3: \(5, 8, 8\)"),
        ({"layout": "HWC"}, bytes_of(5, 8, 8), "layout: must be one of NHW, NHWC, NCHW, NLT, NDHW, NCDHW, got 'HWC'"),
        ({"layout": "NHW"}, floats_of(5, 8), "layout and bits are for images"),
        ({"bits": 12}, floats_of(5, 8), "layout and bits are for images"),
        ({"bits": 7}, bytes_of(5, 8, 8), "8 to 16, got 7"),
        ({"bits": 12}, bytes_of(5, 8, 8), "uint8 images have 8 bits, got bits = 12"),
    ],
)
def test_what_was_said_must_fit_the_array(options, images, says):
    with pytest.raises(MedwardError, match=says):
        batch_of(images, **UNIT, **options)


@pytest.mark.parametrize("bounds", [{}, {"low": 0.0}, {"high": 1.0}])
def test_whole_numbers_need_their_range_said(bounds):
    both = {"low": None, "high": None, **bounds}
    for images in (bytes_of(5, 8, 8), bytes_of(5, 8, 8).astype(np.uint16), bytes_of(5, 8, 8) > 9):
        with pytest.raises(MedwardError, match="--low 0 --high 1 if it takes pixels divided by 255"):
            batch_of(images, **both)
    table = np.arange(12, dtype=np.uint8).reshape(6, 2)
    assert batch_of(table, **both) == (table, None, None)  # a table's numbers are what they are


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.int64, np.uint64, np.int8, bool])
def test_whole_numbers_other_than_uint8_need_their_bits_said(dtype):
    images = rng.integers(0, 2, (5, 8, 8)).astype(dtype)
    with pytest.raises(MedwardError, match=r"--bits 12 .*convert them to float32"):
        batch_of(images, **UNIT)


def test_deep_pixels_are_scaled_by_their_bits():
    images = rng.integers(0, 4096, (5, 8, 8)).astype(np.uint16)
    batch, _, bits = batch_of(images, low=-1.0, high=1.0, bits=12)
    assert bits == 12
    np.testing.assert_allclose(batch[:, 0], images / 4095 * 2 - 1, atol=1e-6)
    with pytest.raises(MedwardError, match="10 bits are 0 to 1023, got 0 to"):
        batch_of(np.append(images, images * 0, axis=0), bits=10, **UNIT)
    hounsfield = images.astype(np.int16) - 1024
    with pytest.raises(MedwardError, match=r"12 bits are 0 to 4095, got -\d+ to"):
        batch_of(hounsfield, bits=12, **UNIT)


def test_a_model_s_shape_makes_the_reading_certain():
    first, last = bytes_of(5, 3, 8, 9), bytes_of(5, 8, 9, 3)
    np.testing.assert_allclose(conform_inputs(first, SPEC), first / 255, atol=1e-6)
    np.testing.assert_allclose(conform_inputs(last, SPEC), np.moveaxis(last, -1, 1) / 255, atol=1e-6)
    np.testing.assert_array_equal(
        conform_inputs(np.moveaxis(first / np.float32(255), 1, -1), SPEC), conform_inputs(first, SPEC)
    )
    with pytest.raises(
        MedwardError, match=r"expected images of shape \(n >= 1, 3, 8, 9\) in any layout, got \(5, 9, 8, 3\)"
    ):
        conform_inputs(bytes_of(5, 9, 8, 3), SPEC)


def test_a_cube_is_read_as_what_the_model_was_protected_on():
    cubes = bytes_of(5, 6, 6, 6)
    with pytest.raises(MedwardError, match="does not show which axis"):
        conform_inputs(cubes, CUBE)
    np.testing.assert_allclose(conform_inputs(cubes, replace(CUBE, layout="NCHW")), cubes / 255, atol=1e-6)
    turned = conform_inputs(cubes, replace(CUBE, layout="NHWC"))
    np.testing.assert_allclose(turned, np.moveaxis(cubes, -1, 1) / 255, atol=1e-6)
    assert np.abs(turned - cubes / 255).max() > 0.1


@pytest.mark.parametrize(
    ("spec", "images", "says"),
    [
        (replace(SPEC, low=None), bytes_of(5, 3, 8, 9), "never said"),
        (replace(SPEC, high=None), bytes_of(5, 3, 8, 9), "never said"),
        (replace(SPEC, low=-2.1, high=2.6), bytes_of(5, 3, 8, 9), "no plain scaling of pixels"),
        (replace(SPEC, bits=12), bytes_of(5, 3, 8, 9), "uint8 images, but the model was protected on 12-bit"),
        (SPEC, bytes_of(5, 3, 8, 9).astype(np.uint16), "uint16 images, but the model was protected on floating-point"),
        (SPEC, bytes_of(5, 3, 8, 9).astype(np.int64), "int64 images"),
    ],
)
def test_pixels_that_the_model_was_not_protected_on_are_refused(spec, images, says):
    with pytest.raises(MedwardError, match=says):
        conform_inputs(images, spec)
    conform_inputs(floats_of(5, 3, 8, 9), spec)  # what it takes is never refused for its layout or range


def test_bits_that_were_said_scale_to_any_range():
    images = bytes_of(5, 3, 8, 9)
    spec = replace(SPEC, low=-2.1, high=2.6, bits=8)
    np.testing.assert_allclose(conform_inputs(images, spec), images / 255 * 4.7 - 2.1, atol=1e-5)
    np.testing.assert_allclose(conform_inputs(images.astype(np.int64), spec), conform_inputs(images, spec))
    deep = replace(SPEC, bits=12)
    np.testing.assert_allclose(conform_inputs(images.astype(np.uint16) * 16, deep), images / 4095 * 16, atol=1e-6)


@pytest.mark.parametrize("bounds", PLAIN)
def test_plain_scalings_take_pixels(bounds):
    assert pixel_range(replace(SPEC, low=bounds[0], high=bounds[1])) == bounds


@given(
    layout=st.sampled_from(["NHWC", "NCHW"]),
    bits=st.integers(8, 16),
    low=st.floats(-10, 10),
    span=st.floats(0.5, 20),
    seed=st.integers(0, 9),
)
def test_protecting_and_conforming_read_alike_and_leave_the_array_alone(layout, bits, low, span, seed):
    images = np.random.default_rng(seed).integers(0, 2**bits, (2, 3, 4, 3)).astype(np.uint16)
    before = images.copy()
    batch, read, known = batch_of(images, low=low, high=low + span, layout=layout, bits=bits)
    spec = replace(SPEC, shape=batch.shape[1:], low=low, high=low + span, layout=read, bits=known)
    np.testing.assert_array_equal(conform_inputs(images, spec), np.clip(batch, np.float32(low), np.float32(low + span)))
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(image_batch(images, low=low, high=low + span, layout=layout, bits=bits), batch)


@pytest.mark.parametrize(
    ("takes", "says"),
    [
        ((8, 9, 3), "this release feeds channels first: put a transpose in front of the model"),
        ((1, 8, 9), r"read as .*\(3, 8, 9\), the model takes \(1, 8, 9\); say with --layout"),
        ((None, 8, 10), r"the model takes \(any, 8, 10\)"),
    ],
)
def test_images_of_another_shape_than_the_model_says_are_refused(takes, says):
    with pytest.raises(MedwardError, match=says):
        check_image_shape((3, 8, 9), takes)


@pytest.mark.parametrize("takes", [None, (3, 8, 9), (None, None, None), (3, None, None), (216,)])
def test_images_that_fit_what_the_model_says_pass(takes):
    check_image_shape((3, 8, 9), takes)


def test_values_that_cannot_be_in_the_range_that_was_said():
    unit = floats_of(5, 1, 8, 8)
    with pytest.raises(MedwardError, match="next to nothing of the range 0 to 255"):
        check_span(unit, 0, 255)
    with pytest.raises(MedwardError, match="next to nothing"):
        check_span(image_batch(rng.integers(0, 2, (5, 8, 8)).astype(np.uint8), low=0, high=1), 0, 1)  # 0 or 1 of 255
    assert "fill 0" in check_span(np.array([[[[0.0, 1.0]]]]), -1, 1)
    for low, high in [(0, 1), (None, None), (0, None), (-0.4, 1.2)]:
        assert check_span(unit, low, high) == ""
