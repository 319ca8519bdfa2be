"""The thief's pool: public inputs that have nothing to do with medicine.

Images are cut from photographs that scikit-image and scikit-learn ship in their wheels; nothing is fetched.
Their medical and microscopy pictures (retina, microaneurysms, cell, ihc, phantom) are left out on purpose.
Source of the idea: Orekondy, Schiele, Fritz, "Knockoff Nets", CVPR 2019.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
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

    `shape` is ``(C, H, W)``: greyscale for one channel, RGB for three, and otherwise the channels of as many cuts as
    it takes.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise MedwardError(f"natural images have shape (C, H, W), got {shape}")
    channels, height, width = shape
    own = 1 if channels == 1 else 3  # channels of a cut
    photographs = _photographs("L" if own == 1 else "RGB")
    rng = np.random.default_rng(seed)
    cuts = np.empty((n * math.ceil(channels / own), height, width, own), np.uint8)
    for i, choice in enumerate(rng.integers(len(photographs), size=len(cuts))):
        cut = _cut(photographs[choice], height, width, rng)
        cuts[i] = cut.reshape(height, width, own)[:: rng.choice((1, -1)), :: rng.choice((1, -1))]
    images = np.moveaxis(cuts, -1, 1).reshape(n, -1, height, width)[:, :channels]
    unit = images.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(unit * np.float32(high - low) + np.float32(low)).clip(low, high)


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
