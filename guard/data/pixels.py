"""What an array of images means: which axis is which, and what a whole-number pixel stands for.

Both are said or refused, never guessed. Without a word, whole numbers ``(n, H, W)`` are grey images, and those of
``(n, H, W, C)`` with C of 1, 3 or 4 have their channels last, as MedMNIST's 2-D files do, unless H or W could be the
channels too; floats ``(n, C, H, W)`` have them first, unless only the last axis could be the channels. Any other array
needs its layout said. Once a model's shape is known, the one layout that fits it is certain.

Whole numbers of so many `bits` run from 0 to ``2**bits - 1`` and are scaled to ``[low, high]``, which must be said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Layout

CHANNELS = (1, 3, 4)  # what an axis of channels usually has
MOST_CHANNELS = max(CHANNELS)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
LAYOUT_WORDS: dict[Layout, str] = {
    "NHW": "no channel axis",
    "NHWC": "channels last",
    "NCHW": "channels first",
    "NLT": "signals of leads by samples",
    "NDHW": "volumes, no channel axis",
    "NCDHW": "volumes, channels first",
}
_BITS = (8, 16)
PLAIN = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
"""Ranges of floats that are scaled 8-bit pixels; any other may be from a normalisation, which cannot be known here."""

Values = NDArray[Any]


def batch_of(
    inputs: Values, *, low: float | None, high: float | None, layout: Layout | None = None, bits: int | None = None
) -> tuple[Array, Layout | None, int | None]:
    """The batch ``(n, *shape)`` that raw `inputs` stand for, and the layout and bits they were read with.

    Tables ``(n, D)`` are left as they are and have neither. Raises `MedwardError` for what must be said and was not.
    """
    _check_said(layout, bits)
    if inputs.ndim < 3:
        if layout is not None or bits is not None:
            raise MedwardError(
                f"inputs: layout and bits are for images, got a table of shape {inputs.shape}; leave them out"
            )
        return inputs, None, None
    layout = _layout(inputs, layout)
    if inputs.dtype.kind in "iub":
        bits = _bits(inputs, low, high, bits)
        assert low is not None  # `_bits` has refused whole numbers without bounds
        assert high is not None
        return scale_pixels(channels_first(inputs, layout), low=low, high=high, bits=bits), layout, bits
    if bits is not None and (low is None or high is None):
        raise MedwardError(f"inputs: {bits} bits can be scaled to nothing without a range; say low and high too")
    return channels_first(inputs, layout), layout, bits


def conformed_images(inputs: Values, spec: ModelSpec) -> Array:
    """Raw image `inputs` as a batch for the model of `spec`: read as its calibration rows were."""
    layout = fitting_layout(inputs, spec)
    x = channels_first(inputs, layout)
    if inputs.dtype.kind not in "iub":
        return x
    bits = 8 if spec.bits is None and inputs.dtype == np.uint8 else spec.bits
    if bits is None or (inputs.dtype == np.uint8 and bits != 8):
        found, known = inputs.dtype, "floating-point" if spec.bits is None else f"{spec.bits}-bit"
        raise MedwardError(
            f"inputs: {found} images, but the model was protected on {known} ones; convert them as those were, or "
            "protect it again and say --bits"
        )
    low, high = pixel_range(spec)
    _check_values(inputs, bits)
    return scale_pixels(x, low=low, high=high, bits=bits)


def fitting_layout(images: Values, spec: ModelSpec) -> Layout:
    """The only layout in which `images` have the shape of `spec`; of two the one it was protected with."""
    fit = [
        each
        for each in LAYOUTS
        if len(each) == images.ndim
        and channels_first(images, each).shape[1:] == spec.shape
        and sent_shape(images.shape[1:], each) == spec.sent
    ]
    if len(fit) == 1:
        return fit[0]
    if not fit:
        raise MedwardError(
            f"inputs: expected {spec.kind}s of shape (n >= 1, {', '.join(map(str, spec.row_shape))}) in any layout, "
            f"got {images.shape}"
        )
    if spec.layout in fit:
        return spec.layout
    return _layout(images, None)


def pixel_range(spec: ModelSpec) -> tuple[float, float]:
    """What the smallest and the largest whole-number pixel are to the model of `spec`.

    Raises `MedwardError` when that was never said: pixels would be scaled by a guess.
    """
    if spec.low is None or spec.high is None:
        raise MedwardError(
            f"{spec.name}: the range of its images was never said, so pixel files and whole numbers cannot be scaled; "
            "protect it again with --low and --high, or send floating-point values as the model takes them"
        )
    if spec.bits is None and (spec.low, spec.high) not in PLAIN:
        raise MedwardError(
            f"{spec.name}: takes values from {spec.low:g} to {spec.high:g}, which are no plain scaling of pixels; put "
            "the normalisation into the model and protect it on pixels, or send floating-point values as it takes them"
        )
    return spec.low, spec.high


def image_batch(images: Values, *, low: float, high: float, layout: Layout | None = None, bits: int = 8) -> Array:
    """Whole-number `images` as float32 ``(n, C, H, W)`` in ``[low, high]``."""
    return batch_of(images, low=low, high=high, layout=layout, bits=bits)[0]


def scale_pixels(images: Values, *, low: float, high: float, bits: int) -> Array:
    """Pixels of 0 to ``2**bits - 1`` as float32 in ``[low, high]``."""
    top = np.float32(2**bits - 1)
    return np.asarray(images, np.float32) / top * np.float32(high - low) + np.float32(low)


def channels_first(images: Values, layout: Layout) -> Array:
    """A view of `images` in `layout` as ``(n, C, H, W)``: a signal has one channel, a volume one for each slice."""
    x: Array = images
    if layout == "NHWC":
        x = np.moveaxis(images, -1, 1)
    elif layout in ("NHW", "NLT"):
        x = images[:, None]
    elif layout == "NCDHW":
        x = images.reshape(len(images), -1, *images.shape[3:])
    return x


def sent_shape(shape: tuple[int, ...], layout: Layout | None) -> tuple[int, ...] | None:
    """What a model itself takes of signals or volumes of one row's `shape` in `layout`; None for images and tables."""
    if layout in ("NLT", "NCDHW"):
        return shape
    return (1, *shape) if layout == "NDHW" else None


def check_span(images: Array, low: float | None, high: float | None) -> str:
    """What is odd about how `images` fill the range that was said, or nothing.

    Raises `MedwardError` when they fill less than a hundredth of it: they were scaled already, or never.
    """
    if low is None or high is None:
        return ""
    least, most = float(images.min()), float(images.max())
    if most - least < (high - low) / 100:
        raise MedwardError(
            f"images: all values are from {least:.4g} to {most:.4g}, next to nothing of the range {low:g} to {high:g} "
            "that was said: they look scaled already, or not yet; say the range the model takes with --low and --high, "
            "and give images that fill it"
        )
    if most - least <= (high - low) * 0.501:
        return (
            f"the images fill {least:.4g} to {most:.4g} of the range {low:g} to {high:g} that was said; check that "
            "they are scaled as the model takes them"
        )
    return ""


def check_image_shape(shape: Sequence[int], takes: Sequence[int | None] | None) -> None:
    """Refuse images of `shape` for a model that says it `takes` another; None stands for any size, or for not said."""
    if takes is None or len(takes) != 3 or all(b in (None, a) for a, b in zip(shape, takes, strict=True)):
        return
    turned = tuple(shape[1:]) + tuple(shape[:1])
    remedy = "say with --layout which axis of the images is which"
    if all(b in (None, a) for a, b in zip(turned, takes, strict=True)):
        remedy = "this release feeds channels first: put a transpose in front of the model"
    said = ", ".join("any" if size is None else str(size) for size in takes)
    raise MedwardError(
        f"images: read as (channels, height, width) = {tuple(shape)}, the model takes ({said}); {remedy}"
    )


def _check_said(layout: Layout | None, bits: int | None) -> None:
    if layout is not None and layout not in LAYOUTS:
        raise MedwardError(f"layout: must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if bits is not None and not _BITS[0] <= bits <= _BITS[1]:
        raise MedwardError(f"bits: whole-number pixels have {_BITS[0]} to {_BITS[1]}, got {bits}")


def _layout(images: Values, said: Layout | None) -> Layout:
    """The layout that was said, else the only one that `images` can have; the rule is in the module's docstring."""
    if images.ndim not in (3, 4, 5):
        raise MedwardError(
            f"inputs: {images.ndim} axes, shape {images.shape}; a row may be of a table (n, D), an image (n, C, H, W), "
            "(n, H, W, C) or (n, H, W), a signal (n, L, T) or a volume (n, C, D, H, W) or (n, D, H, W)"
        )
    if said is not None:
        if len(said) != images.ndim:
            raise MedwardError(
                f"inputs: layout {said} has {len(said)} axes, the array has {images.ndim}: {images.shape}"
            )
        return said
    whole = images.dtype.kind in "iub"
    if images.ndim == 3:
        if whole:
            return "NHW"
        raise MedwardError(
            f"inputs: floats of shape {images.shape} may be grey images or signals; say --layout NHW for grey images, "
            "--layout NLT for signals of leads by samples"
        )
    if images.ndim == 5:
        if images.shape[1] in CHANNELS and images.shape[-1] not in CHANNELS:
            return "NCDHW"
        raise MedwardError(
            f"inputs: {images.dtype} of shape {images.shape} does not show which axis is the channels; say --layout "
            "NCDHW, or move the channels to the second axis"
        )
    first, middle, last = images.shape[1:]
    if whole and last in CHANNELS and first not in CHANNELS and middle not in CHANNELS:
        return "NHWC"
    if not whole and not (last in CHANNELS and first > MOST_CHANNELS):
        return "NCHW"
    raise MedwardError(
        f"inputs: {images.dtype} of shape {images.shape} does not show which axis is the channels; say --layout NCHW "
        "(channels, or slices as channels, first), --layout NHWC (channels last) or --layout NDHW (volumes without a "
        "channel axis)"
    )


def _bits(images: Values, low: float | None, high: float | None, said: int | None) -> int:
    """How many bits whole-number `images` have, once their range and, unless they are uint8, their bits were said."""
    if low is None or high is None:
        raise MedwardError(
            f"inputs: {images.dtype} images do not show which values the model takes; say --low 0 --high 1 if it takes "
            "pixels divided by 255 (or by 4095, ...), --low 0 --high 255 if it takes 8-bit pixels as they are"
        )
    if said is None and images.dtype != np.uint8:
        raise MedwardError(
            f"inputs: {images.dtype} images do not show what white is; say --bits 12 if pixels are 0 to 4095, "
            "--bits 16 if 0 to 65535, or convert them to float32 as the model takes them"
        )
    bits = 8 if said is None else said
    if images.dtype == np.uint8 and bits != 8:
        raise MedwardError(f"inputs: uint8 images have 8 bits, got bits = {bits}; leave --bits out")
    _check_values(images, bits)
    return bits


def _check_values(images: Values, bits: int) -> None:
    if not images.size or images.dtype == np.uint8:
        return
    least, most = int(images.min()), int(images.max())
    if least < 0 or most > 2**bits - 1:
        raise MedwardError(
            f"inputs: pixels of {bits} bits are 0 to {2**bits - 1}, got {least} to {most}; say --bits as they have, or "
            "convert them to float32 as the model takes them"
        )
