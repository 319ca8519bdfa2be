"""A procedural chest radiograph, for machines without data: anatomy, acquisition and one finding, by seed.

Tissue is added up along the beam, bright where it attenuates: torso, lungs, ribs, clavicles, spine, heart,
diaphragm, vessels. Class 1 adds one or two opacities inside a lung, from plain to barely visible; both
classes carry harmless soft shadows, so brightness alone does not give the class away. A drawing, not a
simulation: it supports security tests, no clinical claim.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medward.attacks.benchmarks.base import BenchmarkTask, stratified_partition
from medward.attacks.benchmarks.datasets.drawing import Draws, gaussian_blur, soft_step
from medward.guard.data.split import Split
from medward.guard.types import Array, Ints

PHANTOM_SIZES = {"train": 1200, "selection": 300, "calibration": 400, "holdout": 600, "test": 500}
_CHUNK = 64


def load_phantom(seed: int, _root: Path | None = None, size: int = 64) -> BenchmarkTask:
    """3,000 phantoms, `size` pixels a side, half of them with an opacity, split by chance."""
    images, labels = draw_phantoms(sum(PHANTOM_SIZES.values()), size=size, seed=seed)
    return BenchmarkTask(
        name="phantom",
        modality="image",
        shape=images.shape[1:],
        low=0.0,
        high=1.0,
        classes=("clear", "opacity"),
        splits=stratified_partition(Split(images, labels), PHANTOM_SIZES, seed=seed),
        source="drawn by attacks.benchmarks.phantom; no person, no licence",
    )


def draw_phantoms(n: int, *, size: int = 64, seed: int = 0) -> tuple[Array, Ints]:
    """`n` radiographs, float32 ``(n, 1, size, size)`` in [0, 1], and labels ``(n,)``, classes alternating."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 2
    chunks = [_draw(labels[i : i + _CHUNK], size, rng) for i in range(0, n, _CHUNK)]
    return np.concatenate(chunks)[:, None], labels


def _draw(labels: Ints, size: int, rng: np.random.Generator) -> Array:
    """Images ``(n, size, size)`` for `labels`."""
    draw = Draws(len(labels), rng)
    x, y = _pose(size, draw)
    torso, thickness = _torso(x, y, draw)
    lungs = _lungs(x, y, draw)
    attenuation = 1.15 * thickness - draw.between(0.82, 1.02) * lungs * thickness
    attenuation += _skeleton(x, y, lungs, draw)
    attenuation += _mediastinum(x, y, draw)
    attenuation += _vessels(x, y, size, draw) * lungs
    attenuation += 0.10 * draw.texture(size, 0.12) * torso  # harmless soft shadows, in both classes
    attenuation += labels[:, None, None].astype(np.float32) * _opacities(x, y, lungs, size, draw)
    return _acquire(attenuation * torso, draw)


def _pose(size: int, draw: Draws) -> tuple[Array, Array]:
    """Body coordinates of each pixel: x from the patient's right to left, y from neck to abdomen."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    tilt = draw.between(-0.07, 0.07)
    u, v = line[None, :] - draw.between(-0.08, 0.08), line[:, None] - draw.between(-0.08, 0.08)
    x = draw.between(0.92, 1.12) * (np.cos(tilt) * u + np.sin(tilt) * v)
    y = draw.between(0.92, 1.12) * (np.cos(tilt) * v - np.sin(tilt) * u)
    return x, y


def _torso(x: Array, y: Array, draw: Draws) -> tuple[Array, Array]:
    """Where the body is, and how much tissue the beam meets there, in [0, 1]."""
    trunk = draw.between(0.90, 1.02) + 0.05 * y
    shoulder = 0.55 * soft_step(-0.62 - y, 0.18) + trunk  # arms and shoulders fill the upper corners
    neck = 0.32 + 1.05 * np.sqrt(np.clip(y + draw.between(0.98, 1.10), 0, None))
    half = np.minimum(shoulder, neck)
    inside = soft_step(half - np.abs(x), 0.03)
    depth = np.sqrt(np.clip(1 - (x / (half + 0.12)) ** 2, 0.05, None))
    abdomen = 0.30 * soft_step(y - 0.60, 0.12)
    return inside, depth * 0.82 + abdomen + draw.between(-0.05, 0.05) * y


def _lungs(x: Array, y: Array, draw: Draws) -> Array:
    """Air along the beam, in [0, 1]: two fields, narrow at the apex, cut below by the diaphragm's domes."""
    breath = draw.between(-0.08, 0.10)
    air = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for side in (-1, 1):
        across = side * x
        top = draw.between(-0.90, -0.80)
        level = breath + (0.60 if side < 0 else 0.66)  # the liver lifts the right dome
        dome = level - 0.16 * np.exp(-(((across - 0.38) / 0.26) ** 2)) + 0.55 * np.clip(across - 0.55, 0, None) ** 2
        down = np.clip((y - top) / (level - top), 0, 1)
        outer = draw.between(0.70, 0.78) * np.sqrt(1 - (1 - down) ** 2.2 * 0.999) * (0.93 + 0.07 * down)
        inner = 0.13 + 0.04 * down
        edge = np.minimum(np.minimum(outer - across, across - inner), dome - y)
        air += soft_step(edge, 0.025) * np.clip(0.55 + 1.6 * edge, 0, 1) * soft_step(y - top, 0.03)
    return air


def _skeleton(x: Array, y: Array, lungs: Array, draw: Draws) -> Array:
    """Posterior ribs falling sideways, fainter anterior ribs rising, clavicles, vertebrae."""
    across = np.abs(x)
    cage = (
        soft_step(0.84 - 0.25 * np.clip(-y - 0.2, 0, None) - across, 0.03)
        * soft_step(0.75 - y, 0.08)
        * soft_step(y + 0.9, 0.05)
    )
    rate, start = draw.between(22, 26), draw.between(0, 2 * np.pi)
    back = np.sin(rate * (y + 0.55 * (across - 0.35) ** 2 - 0.10 * across) + start)
    front = np.sin(rate * 0.9 * (y - 0.75 * across) + 2.0 * start)
    ribs = draw.between(0.09, 0.17) * soft_step(back - 0.25, 0.15) * soft_step(across - 0.08, 0.02)
    ribs += draw.between(0.03, 0.07) * soft_step(front - 0.35, 0.15) * soft_step(across - 0.25, 0.06) * lungs
    height = draw.between(-0.80, -0.70) - 0.18 * (across - 0.1)
    clavicles = np.exp(-(((y - height) / 0.035) ** 2)) * soft_step(across - 0.10, 0.03) * soft_step(0.72 - across, 0.05)
    spine = np.exp(-((x / 0.10) ** 4)) * (0.16 + 0.05 * np.sin(draw.between(20, 24) * y + start))
    return np.asarray(ribs * cage + draw.between(0.12, 0.20) * clavicles + spine, np.float32)


def _mediastinum(x: Array, y: Array, draw: Draws) -> Array:
    """Heart, leaning to the patient's left, with the great vessels above it."""
    size = draw.between(0.88, 1.18)
    u, v = x - draw.between(0.08, 0.15), y - draw.between(0.28, 0.36)
    along, athwart = 0.85 * u + 0.53 * v, 0.85 * v - 0.53 * u
    radius = np.sqrt((along / (0.40 * size)) ** 2 + (athwart / (0.29 * size)) ** 2)
    heart = soft_step(1 - radius, 0.06) * np.sqrt(np.clip(1.6 - radius**2, 0, None)) * soft_step(0.58 - y, 0.12)
    column = np.exp(-((x / draw.between(0.15, 0.20)) ** 4)) * soft_step(0.4 - y, 0.1)
    knob = np.exp(-(((x - 0.17) / 0.10) ** 2) - ((y + 0.36) / 0.11) ** 2)
    return np.asarray(draw.between(0.30, 0.45) * heart + 0.20 * column + 0.18 * knob, np.float32)


def _vessels(x: Array, y: Array, size: int, draw: Draws) -> Array:
    """Hilar markings: bright at the roots of the lungs, branching and fading outward."""
    distance = np.sqrt((np.abs(x) - 0.20) ** 2 + (y + 0.02) ** 2)
    branches = np.abs(draw.texture(size, 0.025)) * np.exp(-distance / 0.35)
    roots = np.exp(-((distance / 0.14) ** 2))
    return np.asarray(draw.between(0.10, 0.20) * (roots + 0.6 * branches), np.float32)


def _opacities(x: Array, y: Array, lungs: Array, size: int, draw: Draws) -> Array:
    """One opacity in either lung and, half of the time, another: uneven patches inside the lung's border."""
    total = np.zeros_like(lungs)
    for present in (1.0, draw.rng.integers(0, 2, (draw.n, 1, 1)).astype(np.float32)):
        side = draw.rng.choice((-1.0, 1.0), (draw.n, 1, 1)).astype(np.float32)
        u, v = x - side * draw.between(0.28, 0.60), y - draw.between(-0.45, 0.45)
        stretch, width = draw.between(0.7, 1.4), draw.between(0.11, 0.24)
        radius = np.sqrt((u / stretch) ** 2 + (v * stretch) ** 2) / width
        patch = soft_step(1 - radius + 0.25 * draw.texture(size, 0.05), 0.25) * (1 + 0.2 * draw.texture(size, 0.03))
        total += present * draw.between(0.22, 0.55) * patch
    return np.asarray(total * np.clip(1.4 * lungs, 0, 1), np.float32)


def _acquire(attenuation: Array, draw: Draws) -> Array:
    """What the detector and the site make of it: blur, scatter, film response, noise, window, gamma."""
    image = gaussian_blur(attenuation, 0.010 * attenuation.shape[-1])
    image = image + draw.between(0.02, 0.10) * gaussian_blur(attenuation, 0.15 * attenuation.shape[-1])
    image = 1.06 * (1 - np.exp(-draw.between(1.0, 1.5) * image))
    image += draw.between(0.01, 0.035) * draw.normal(image.shape[-1])
    image = draw.between(0.85, 1.12) * image + draw.between(-0.08, 0.06)
    return np.clip(image, 0, 1).astype(np.float32) ** draw.between(0.85, 1.25)
