"""Arrays of 8-bit pixels of another size than the model takes, resized and cropped as files are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.data.pixels import CHANNELS
from medward.guard.intake.picture import image_library
from medward.guard.preparation import Preparation
from medward.guard.types import Layout


def resized_inputs(images: NDArray[Any], prepare: Preparation, layout: Layout | None = None) -> NDArray[Any]:
    """Raw uint8 `images` resized and cropped as `prepare` says; those that have the size already, and all others, are
    left as they are.
    """
    layout = _pixel_layout(images, layout) if images.dtype == np.uint8 and prepare.resize is not None else None
    if layout is None or len(layout) != images.ndim:
        return images
    last = np.moveaxis(images, 1, -1) if layout == "NCHW" else images
    if last.shape[1:3] == prepare.size:
        return images
    fit = image_library("medward.guard.intake.resizing", "images that are to be resized", "images").fitted_pixels
    height, width = prepare.size or last.shape[1:3]
    fitted = np.empty((len(last), height, width, *last.shape[3:]), np.uint8)
    for index, image in enumerate(last):
        fitted[index] = fit(image, prepare)
    return np.moveaxis(fitted, -1, 1) if layout == "NCHW" else fitted


def _pixel_layout(images: NDArray[Any], said: Layout | None) -> Layout | None:
    """Which axes of `images` are height and width: as said, else as the place of the channels shows."""
    if said is not None:
        return said if said in ("NHW", "NHWC", "NCHW") else None
    if images.ndim == 3:
        return "NHW"
    if images.ndim != 4:
        return None
    return "NHWC" if images.shape[-1] in CHANNELS else "NCHW" if images.shape[1] in CHANNELS else None
