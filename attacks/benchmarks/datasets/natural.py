"""The thief's pool: public inputs that have nothing to do with medicine.

Images are cut from photographs that scikit-image and scikit-learn ship in their wheels; nothing is fetched.
Their medical and microscopy pictures (retina, microaneurysms, cell, ihc, phantom) are left out on purpose.
Source of the idea: Orekondy, Schiele, Fritz, "Knockoff Nets", CVPR 2019.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

PHOTOGRAPHS = {
    "skimage": (
        "data/astronaut.png",
        "data/brick.png",
        "data/camera.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/coins.png",
        "data/grass.png",
        "data/gravel.png",
        "data/hubble_deep_field.jpg",
        "data/moon.png",
        "data/motorcycle_left.png",
        "data/rocket.jpg",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
SMALLEST_CUT = 0.12
"""Side of the smallest cut, as a fraction of the largest that fits the photograph."""
SHIFT = 1 / 32
"""The most that a channel beyond RGB is moved either way, as a fraction of the side."""
REVERSED = 4
"""One channel in so many, beyond RGB, is bright where the photograph is dark."""


def pool_for(spec: ModelSpec, reference: Array, n: int, seed: int) -> Array:
    """What a thief without data of the task can ask the model of `spec`: float32 ``(n, *spec.shape)``.

    Of `reference` only the range is used: per feature for tables, overall for images without bounds.
    """
    if spec.modality == "tabular":
        return tabular_pool(reference, n, seed)
    low = float(reference.min()) if spec.low is None else spec.low
    high = float(reference.max()) if spec.high is None else spec.high
    return natural_images(n, spec.shape, low=low, high=high, seed=seed)


def natural_images(n: int, shape: tuple[int, ...], *, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Array:
    """Random cuts of random photographs, scaled and mirrored: float32 ``(n, *shape)`` in ``[low, high]``.

    `shape` is ``(C, H, W)``: greyscale for one channel, RGB for three, and `_planes` of one colour cut for any other
    number.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise MedwardError(f"natural images have shape (C, H, W), got {shape}")
    channels, height, width = shape
    colours = channels if channels in (1, 3) else 3
    margins = (0, 0) if channels == colours else (round(height * SHIFT), round(width * SHIFT))
    tall, wide = height + 2 * margins[0], width + 2 * margins[1]
    photographs = _photographs("L" if colours == 1 else "RGB")
    rng = np.random.default_rng(seed)
    images = np.empty((n, *shape), np.uint8)
    for image, choice in zip(images, rng.integers(len(photographs), size=n), strict=True):
        cut = _cut(photographs[choice], tall, wide, rng)
        cut = np.moveaxis(cut.reshape(tall, wide, colours)[:: rng.choice((1, -1)), :: rng.choice((1, -1))], -1, 0)
        image[:] = cut if channels == colours else _planes(cut, channels, margins, rng)
    scaled = images.astype(np.float32)
    scaled /= np.float32(255)
    scaled *= np.float32(high - low)
    scaled += np.float32(low)
    return scaled.clip(low, high, out=scaled)


def tabular_pool(reference_rows: Array, n: int, seed: int) -> Array:
    """Independent normal features with the mean and spread a paper's first table prints, clipped to their range.

    The thief knows each feature alone and nothing of how they go together.
    """
    mean, spread = reference_rows.mean(axis=0), reference_rows.std(axis=0)
    drawn = np.random.default_rng(seed).normal(mean, spread, (n, *mean.shape))
    rows: Array = drawn.clip(reference_rows.min(axis=0), reference_rows.max(axis=0)).astype(np.float32)
    return rows


def _cut(photograph: Image.Image, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One crop of the wanted aspect at a random place and scale, resized with anti-aliasing."""
    largest = min(photograph.height / height, photograph.width / width)
    scale = largest * np.exp(rng.uniform(np.log(SMALLEST_CUT), 0.0))
    top = rng.uniform(0, photograph.height - scale * height)
    left = rng.uniform(0, photograph.width - scale * width)
    right = min(left + scale * width, photograph.width)  # rounding must not lead outside
    box = (left, top, right, min(top + scale * height, photograph.height))
    return np.asarray(photograph.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0))


def _planes(cut: np.ndarray, channels: int, margins: tuple[int, int], rng: np.random.Generator) -> NDArray[np.floating]:
    """As many views of one colour `cut (3, H + 2 m, W + 2 m)` as there are channels, ``(C, H, W)`` up to 255.

    Each is a mixture of the colours, brightened or darkened, shifted by at most `margins`, and one in `REVERSED` turned
    dark for bright. So channels show the same things in the same places with contrasts of their own, as the sequences
    of one scan or neighbouring slices do; it is a photograph all the same, and no model of MRI.
    """
    high, wide = cut.shape[1] - 2 * margins[0], cut.shape[2] - 2 * margins[1]
    planes = np.empty((channels, high, wide))
    for plane in planes:
        top, left = (rng.integers(2 * margin + 1) for margin in margins)
        mixed = np.tensordot(rng.dirichlet(np.ones(3)), cut[:, top : top + high, left : left + wide] / 255, 1)
        plane[:] = mixed ** np.exp(rng.normal(0, 0.3))
        if rng.random() < 1 / REVERSED:
            plane[:] = 1 - plane
    return np.asarray(np.rint(255 * planes))


@cache
def _photographs(mode: str) -> tuple[Image.Image, ...]:
    pictures = []
    for package, names in PHOTOGRAPHS.items():
        found = find_spec(package)
        for name in names:
            path = Path(found.origin or "").parent / name if found else Path(name)
            try:
                with Image.open(path) as picture:
                    pictures.append(picture.convert(mode))
            except OSError as error:
                raise MedwardError(f"the photograph {name} of {package} cannot be read: {error}") from None
    return tuple(pictures)
