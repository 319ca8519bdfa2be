"""Drawn skin lesions in seven unequal classes, in colour, for machines without data.

Skin and lesion are layers that absorb light: melanin takes blue most, blood takes green. The classes differ in
colour, evenness, border, asymmetry and surface, by traits whose ranges overlap; lighting, skin tone, hair and
noise are the same in all. A drawing, not a simulation: it supports security tests, no clinical claim.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medward.attacks.benchmarks.base import BenchmarkTask, stratified_partition
from medward.attacks.benchmarks.datasets.drawing import Draws, gaussian_blur, soft_step
from medward.guard.data.split import Split
from medward.guard.types import Array, Ints

LESION_SIZES = {"train": 2000, "selection": 300, "calibration": 400, "holdout": 600, "test": 700}
_CHUNK = 64
MELANIN = (0.45, 0.85, 1.25)  # how strongly each pigment takes red, green and blue
BLOOD = (0.12, 1.05, 0.80)
VEIL = (1.10, 0.75, 0.45)  # melanin deep in the skin looks blue

CLASSES: dict[str, float] = {  # and the share of each, less unequal than in a clinic
    "nevus": 0.46,
    "melanoma": 0.14,
    "keratosis": 0.14,
    "basal cell carcinoma": 0.09,
    "actinic keratosis": 0.07,
    "vascular": 0.05,
    "dermatofibroma": 0.05,
}
Range = tuple[float, float]
TRAITS: dict[str, tuple[Range, ...]] = {  # the range of each trait, in the order of CLASSES
    "melanin": ((0.5, 1.1), (0.7, 1.5), (0.4, 1.0), (0.1, 0.4), (0.0, 0.3), (0.0, 0.3), (0.3, 0.7)),
    "blood": ((0.0, 0.2), (0.0, 0.3), (0.0, 0.2), (0.2, 0.5), (0.3, 0.7), (0.6, 1.2), (0.1, 0.4)),
    "uneven": ((0.0, 0.25), (0.25, 0.8), (0.1, 0.4), (0.1, 0.4), (0.1, 0.4), (0.0, 0.3), (0.0, 0.3)),
    "ragged": ((0.0, 0.15), (0.15, 0.45), (0.0, 0.2), (0.1, 0.3), (0.25, 0.5), (0.0, 0.15), (0.0, 0.15)),
    "soft": ((0.05, 0.2), (0.05, 0.2), (0.02, 0.06), (0.1, 0.3), (0.2, 0.4), (0.04, 0.15), (0.1, 0.3)),
    "lopsided": ((0.0, 0.2), (0.2, 0.6), (0.0, 0.3), (0.0, 0.4), (0.0, 0.4), (0.0, 0.2), (0.0, 0.2)),
    "veil": ((0.0, 0.1), (0.0, 0.6), (0.0, 0.1), (0.0, 0.3), (0.0, 0.0), (0.0, 0.2), (0.0, 0.0)),
    "scales": ((0.0, 0.05), (0.0, 0.1), (0.2, 0.6), (0.0, 0.1), (0.25, 0.6), (0.0, 0.05), (0.0, 0.1)),
    "vessels": ((0.0, 0.1), (0.0, 0.2), (0.0, 0.1), (0.4, 0.9), (0.0, 0.3), (0.0, 0.2), (0.0, 0.1)),
    "scar": ((0.0, 0.05), (0.0, 0.2), (0.0, 0.1), (0.0, 0.2), (0.0, 0.1), (0.0, 0.1), (0.5, 1.0)),
    "radius": ((0.3, 0.5), (0.35, 0.65), (0.35, 0.6), (0.3, 0.55), (0.35, 0.6), (0.25, 0.45), (0.25, 0.45)),
}


def load_lesion(seed: int, _root: Path | None = None, size: int = 64) -> BenchmarkTask:
    """4,000 lesions, `size` pixels a side, split by chance."""
    images, labels = draw_lesions(sum(LESION_SIZES.values()), size=size, seed=seed)
    return BenchmarkTask(
        name="lesion",
        modality="image",
        shape=images.shape[1:],
        low=0.0,
        high=1.0,
        classes=tuple(CLASSES),
        splits=stratified_partition(Split(images, labels), LESION_SIZES, seed=seed),
        source="drawn by attacks.benchmarks.lesion; no person, no licence",
    )


def draw_lesions(n: int, *, size: int = 64, seed: int = 0) -> tuple[Array, Ints]:
    """`n` lesions, float32 ``(n, 3, size, size)`` in [0, 1], and labels ``(n,)``, as frequent as CLASSES says."""
    rng = np.random.default_rng(seed)
    edges = np.cumsum(list(CLASSES.values()))
    labels = np.searchsorted(edges, (np.arange(n) + 0.5) / n * edges[-1]).astype(np.int64)
    rng.shuffle(labels)
    return np.concatenate([_draw(labels[i : i + _CHUNK], size, rng) for i in range(0, n, _CHUNK)]), labels


def _draw(labels: Ints, size: int, rng: np.random.Generator) -> Array:
    """Images ``(n, 3, size, size)`` for `labels`."""
    draw = Draws(len(labels), rng)
    trait = {name: _drawn(draw, np.array(ranges, np.float32)[labels]) for name, ranges in TRAITS.items()}
    x, y = _place(size, draw)
    inside, depth = _outline(x, y, size, trait, draw)
    pigment = 1 + trait["uneven"] * draw.texture(size, 0.10) + trait["lopsided"] * (x + 0.3)
    pigment = np.clip(pigment * (1 + 0.15 * draw.texture(size, 0.02)), 0.05, None) * inside
    scar = trait["scar"] * soft_step(depth - 0.55, 0.15)
    melanin = trait["melanin"] * pigment * (1 - np.clip(scar, 0, 0.9))
    melanin += draw.between(0.02, 0.30) * (1 + 0.10 * draw.texture(size, 0.03))  # the skin's own
    blood = (trait["blood"] * (1 + 0.2 * draw.texture(size, 0.06)) + trait["vessels"] * _lines(size, draw)) * inside
    blood += draw.between(0.05, 0.20) * (1 + 0.15 * draw.texture(size, 0.10))
    veil = trait["veil"] * soft_step(draw.texture(size, 0.12) - 0.3, 0.3) * inside
    light = np.stack(
        [np.exp(-m * melanin - b * blood - v * veil) for m, b, v in zip(MELANIN, BLOOD, VEIL, strict=True)], axis=1
    )
    flakes = trait["scales"] * soft_step(draw.texture(size, 0.022) - 0.9, 0.2) * inside
    light += (0.9 - light) * np.clip(flakes, 0, 1)[:, None]
    return _photograph(light, size, draw)


def _drawn(draw: Draws, ranges: Array) -> Array:
    """One value per image from its own range; `ranges` is ``(n, 2)``."""
    return draw.between(ranges[:, :1, None], ranges[:, 1:, None])


def _place(size: int, draw: Draws) -> tuple[Array, Array]:
    """Coordinates of each pixel from the lesion's centre, turned any way round."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    turn = draw.between(0, 2 * np.pi)
    u, v = line[None, :] - draw.between(-0.15, 0.15), line[:, None] - draw.between(-0.15, 0.15)
    return np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u


def _outline(x: Array, y: Array, size: int, trait: dict[str, Array], draw: Draws) -> tuple[Array, Array]:
    """How much of the lesion a pixel holds, in [0, 1], and its depth: 0 on the border, 1 in the centre."""
    radius, longer = trait["radius"], draw.between(1.0, 1.35)
    distance = np.sqrt((x / longer) ** 2 + (y * longer) ** 2)
    depth = 1 - distance / radius + trait["ragged"] * draw.texture(size, 0.06)
    return soft_step(depth, trait["soft"]), np.asarray(depth, np.float32)


def _lines(size: int, draw: Draws) -> Array:
    """Thin branching lines, in [0, 1]: where smooth noise passes zero."""
    return np.asarray(np.exp(-((draw.texture(size, 0.05) / 0.12) ** 2)), np.float32)


def _hair(size: int, draw: Draws) -> Array:
    """A few dark bent hairs, in [0, 1]; on a third of the images none."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    shown = np.zeros((draw.n, size, size), np.float32)
    bald = draw.between(0, 1) < 0.33
    for _ in range(4):
        turn, bend = draw.between(0, np.pi), draw.between(-0.5, 0.5)
        along = np.cos(turn) * line[None, :] + np.sin(turn) * line[:, None]
        across = np.cos(turn) * line[:, None] - np.sin(turn) * line[None, :]
        path = across - draw.between(-1, 1) - bend * along**2
        thin = draw.between(0.008, 0.020) + 0.5 / size
        shown = np.maximum(shown, np.exp(-((path / thin) ** 2)) * (draw.between(0, 1) < 0.5))
    return np.asarray(shown * draw.between(0.3, 0.9) * ~bald, np.float32)


def _photograph(light: Array, size: int, draw: Draws) -> Array:
    """What camera and lamp make of it: hair, uneven light, a dark rim, colour cast, blur, noise."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    slope = 1 + draw.between(-0.15, 0.15) * line[None, :] + draw.between(-0.15, 0.15) * line[:, None]
    rim = 1 - draw.between(0.0, 0.35) * np.clip(line[None, :] ** 2 + line[:, None] ** 2 - 0.6, 0, None)
    lamp = draw.between(0.85, 1.10) * slope * rim * (1 - _hair(size, draw))
    channels = [
        gaussian_blur(draw.between(0.93, 1.07) * lamp * light[:, c], 0.008 * size)
        + draw.between(0.005, 0.02) * draw.normal(size)
        for c in range(3)
    ]
    return np.clip(np.stack(channels, axis=1), 0, 1).astype(np.float32)
