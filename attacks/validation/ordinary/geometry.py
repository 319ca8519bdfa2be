"""Where pixels lie: kernels of a client's resampling, a border cut off, images shifted or turned."""

from __future__ import annotations

from functools import partial

import numpy as np
from PIL import Image

from medward.attacks.validation.ordinary.behaviour import Behaviour, Traffic, changed_alike
from medward.guard.types import Array

_SHIFT = 3
"""Pixels by which images are shifted, right and down."""
_UP, _DOWN = 8 / 7, 6 / 7
"""The size of an image in between, over its own: a client that resizes, before one that resizes back."""
_UPRIGHT = "Send images upright; a standing orientation of your own can be calibrated (`medward calibrate --site`)."


def resampled_back(scale: float, kernel: str, traffic: Traffic, images: Array) -> Array:
    """Resized by `scale` and back with one of Pillow's kernels."""
    high, wide = images.shape[2:]
    between = max(2, round(scale * high)), max(2, round(scale * wide))
    return traffic.bounded(resized_images(resized_images(images, between, kernel), (high, wide), kernel))


def border_cut(traffic: Traffic, images: Array) -> Array:
    """A border of one pixel cut off, and what is left resized to the whole, bilinearly."""
    return traffic.bounded(resized_images(images[:, :, 1:-1, 1:-1], images.shape[2:], "bilinear"))


def moved_aside(traffic: Traffic, images: Array) -> Array:
    """Moved by `_SHIFT` pixels to the right and down; what comes in repeats the edge."""
    padded = np.pad(images, ((0, 0), (0, 0), (_SHIFT, 0), (_SHIFT, 0)), mode="edge")
    return traffic.bounded(padded[:, :, : images.shape[2], : images.shape[3]])


def turned_over(quarters: int, traffic: Traffic, images: Array) -> Array:
    """Turned by so many quarters; images that are not square are resized to their shape again."""
    turned = np.ascontiguousarray(np.rot90(images, quarters, (2, 3)))
    return traffic.bounded(
        turned if turned.shape == images.shape else resized_images(turned, images.shape[2:], "bilinear")
    )


def resized_images(images: Array, size: tuple[int, ...], kernel: str) -> Array:
    """``images (n, C, H, W)`` at another size ``(height, width)``, each channel by itself."""
    method = Image.Resampling[kernel.upper()]
    planes = np.ascontiguousarray(images, np.float32).reshape(-1, *images.shape[2:])
    made = [np.asarray(Image.fromarray(plane).resize((size[1], size[0]), method)) for plane in planes]
    return np.stack(made).reshape(*images.shape[:2], *size)


GEOMETRY = (
    *(
        Behaviour(name=name, group=group, visits=changed_alike(change), forgiven=True, modalities=("image",), flat=True)
        for name, group, change in (
            ("bilinear, up and down", "resampling", partial(resampled_back, _UP, "bilinear")),
            ("bilinear, down and up", "resampling", partial(resampled_back, _DOWN, "bilinear")),
            ("bicubic, down and up", "resampling", partial(resampled_back, _DOWN, "bicubic")),
            ("Lanczos, down and up", "resampling", partial(resampled_back, _DOWN, "lanczos")),
            ("border of 1 px cut, resized", "resampling", border_cut),
        )
    ),
    *(
        Behaviour(
            name=name,
            group="geometry",
            visits=changed_alike(change),
            forgiven=False,
            remedy=remedy,
            modalities=("image",),
            flat=True,
        )
        for name, change, remedy in (
            (
                f"shifted by {_SHIFT} px",
                moved_aside,
                "Crop and centre images as those that calibrated the guard, or calibrate your own "
                "(`medward calibrate --site`).",
            ),
            ("turned by 90 degrees", partial(turned_over, 1), _UPRIGHT),
            ("turned by 180 degrees", partial(turned_over, 2), _UPRIGHT),
        )
    ),
)
