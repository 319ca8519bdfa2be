"""Resizing and cropping as a preparation says, with Pillow's filters: the same for files and for arrays of pixels.

Pillow's filters look at every pixel when they shrink an image, which also blunts image-scaling attacks (Quiring et al.,
USENIX Security 2020).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medward.guard.errors import MedwardError
from medward.guard.preparation import Preparation


def fitted_image(image: Image.Image, prepare: Preparation) -> Image.Image:
    """`image` resized, then cropped at its centre."""
    if prepare.resize is not None and (image.height, image.width) != prepare.resize:
        height, width = prepare.resize
        image = image.resize((width, height), Image.Resampling[prepare.resample.upper()])
    if prepare.crop is not None and (image.height, image.width) != prepare.crop:
        height, width = prepare.crop
        if image.height < height or image.width < width:
            raise MedwardError(
                f"is {image.width} x {image.height} (width x height), too small to be cropped to {width} x {height}; "
                "say --resize too"
            )
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return image


def fitted_pixels(pixels: NDArray[Any], prepare: Preparation) -> NDArray[Any]:
    """`pixels` ``(H, W)`` or ``(H, W, C)``, 8-bit or floats, resized and cropped."""
    if prepare.size is None:
        return pixels
    if pixels.dtype == np.uint8 and (pixels.ndim == 2 or pixels.shape[2] in (3, 4)):
        return np.asarray(fitted_image(Image.fromarray(pixels), prepare))
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    fitted = [
        np.asarray(fitted_image(Image.fromarray(np.ascontiguousarray(planes[..., channel])), prepare))
        for channel in range(planes.shape[2])
    ]
    return fitted[0] if pixels.ndim == 2 else np.stack(fitted, axis=-1)
