"""Inputs among which a fingerprint is chosen: held-out rows, what becomes of them when they are altered, photographs.

The more unlike the training data an input is, the less that data says of its answer, and the more freely independent
models differ on it; a clone follows the model there as well, as far as its thief asked. So there are many kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

_FEWEST_OF_KIND = 20
Alteration = Callable[[Array, np.random.Generator], Array]
"""From rows ``(n, *shape)``, images scaled to 0 to 1, to as many altered ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Candidates are `inputs (n, *shape)`, of each the `kinds (n,)` place in `names`, and the row it was made of.

    `rows (n,)` is -1 where an input need not have the label of any row.
    """

    inputs: Array
    kinds: Ints
    names: tuple[str, ...]
    rows: Ints


def candidate_inputs(spec: ModelSpec, rows: Array, count: int, *, seed: int) -> Candidates:
    """All of `rows (n, *shape)`, which the model was not trained on, and altered ones, at least `count` in all.

    Each kind of alteration makes as many. Images keep within the range of `spec`, or where it has none of `rows`; where
    it has one they are rounded to its 256 grey levels, so that a file of 8 bits holds exactly what was asked.
    """
    rng = np.random.default_rng(seed)
    kinds = IMAGE_ALTERATIONS if spec.modality == "image" else TABLE_ALTERATIONS
    each = max(_FEWEST_OF_KIND, -(-(count - len(rows)) // len(kinds)))
    parts, origins = [np.asarray(rows, np.float32)], [np.arange(len(rows))]
    for kind in kinds:
        drawn = rng.integers(len(rows), size=each)
        parts.append(altered_rows(spec, rows, rows[drawn], kind, rng))
        origins.append(drawn if kind in SAME_LABEL else np.full(each, -1))
    return Candidates(
        inputs=_in_grey_levels(spec, np.concatenate(parts)),
        kinds=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        names=("held-out rows", *kinds),
        rows=np.concatenate(origins),
    )


def altered_rows(spec: ModelSpec, known: Array, rows: Array, kind: str, rng: np.random.Generator) -> Array:
    """`rows (n, *shape)` altered as `kind` says; the range of images without bounds is that of the `known` rows."""
    if spec.modality == "tabular":
        return np.asarray(np.clip(TABLE_ALTERATIONS[kind](rows, rng), spec.low, spec.high), np.float32)
    low, span = image_range(spec, known)
    altered = IMAGE_ALTERATIONS[kind]((np.asarray(rows, np.float32) - low) / span, rng)
    return np.asarray(altered.clip(0.0, 1.0) * span + low, np.float32)


def _in_grey_levels(spec: ModelSpec, inputs: Array) -> Array:
    if spec.modality == "tabular" or spec.low is None or spec.high is None:
        return inputs
    low, span = image_range(spec, inputs)
    return np.asarray(low + grey_levels(spec, inputs) / 255 * span, np.float32)


def grey_levels(spec: ModelSpec, inputs: Array) -> NDArray[np.uint8]:
    """Images within the range of `spec` as whole numbers from 0 to 255."""
    low, span = image_range(spec, inputs)
    return np.asarray(np.round(255 * (inputs.astype(np.float64) - low) / span), np.uint8)


def image_range(spec: ModelSpec, rows: Array) -> tuple[float, float]:
    """The smallest value of an image and how far the largest lies above it, by `spec` or else by `rows`."""
    low = float(rows.min()) if spec.low is None else spec.low
    high = float(rows.max()) if spec.high is None else spec.high
    return low, max(high - low, 1e-12)


def _photographs(rows: Array, rng: np.random.Generator) -> Array:
    return natural_images(len(rows), rows.shape[1:], seed=int(rng.integers(2**31)))


def _uniform(rows: Array, rng: np.random.Generator, low: float, high: float) -> Array:
    """One number a row ``(n, 1, 1, 1)``."""
    return np.asarray(rng.uniform(low, high, size=(len(rows), *[1] * (rows.ndim - 1))))


def _partners(rows: Array, rng: np.random.Generator) -> Array:
    return rows[rng.permutation(len(rows))]


def _shifted(rows: Array, rng: np.random.Generator) -> Array:
    """Moved by up to a third of each side, its border repeated, and one in two turned by a quarter or mirrored."""
    height, width = rows.shape[2:]
    moved = np.empty_like(rows)
    for place, row in enumerate(rows):
        down, right = rng.integers(-height // 3, height // 3 + 1), rng.integers(-width // 3, width // 3 + 1)
        lines = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - right, 0, width - 1)
        moved[place] = row[:, lines][:, :, columns]
        if rng.random() < 0.5:
            moved[place] = (
                moved[place][:, ::-1] if height != width else np.rot90(moved[place], int(rng.integers(4)), (1, 2))
            )
    return moved


def _relit(rows: Array, rng: np.random.Generator) -> Array:
    """Another gamma, contrast and brightness; one in four inverted."""
    lit = rows ** np.exp(_uniform(rows, rng, -1.0, 1.0))
    mean = lit.mean(axis=(2, 3), keepdims=True)
    lit = mean + (lit - mean) * _uniform(rows, rng, 0.3, 2.0) + _uniform(rows, rng, -0.3, 0.3)
    return np.asarray(np.where(_uniform(rows, rng, 0.0, 1.0) < 0.25, 1.0 - lit, lit))


def _noised(rows: Array, rng: np.random.Generator) -> Array:
    """With noise of 5 to 30 % of the range."""
    return rows + rng.normal(size=rows.shape) * _uniform(rows, rng, 0.05, 0.3)


def _mixed(rows: Array, rng: np.random.Generator) -> Array:
    """With another row, each a fifth to four fifths."""
    share = _uniform(rows, rng, 0.2, 0.8)
    return share * rows + (1 - share) * _partners(rows, rng)


def _over_photographs(rows: Array, rng: np.random.Generator) -> Array:
    """With a photograph, each a fifth to four fifths."""
    share = _uniform(rows, rng, 0.2, 0.8)
    return share * rows + (1 - share) * _photographs(rows, rng)


def _patched(rows: Array, rng: np.random.Generator) -> Array:
    """With a rectangle of another row or of a photograph, of a quarter to three quarters of each side."""
    patched, others = rows.copy(), _partners(rows, rng)
    photographs = _photographs(rows, rng)
    height, width = rows.shape[2:]
    for place in range(len(rows)):
        tall, wide = (rng.integers(side // 4, 3 * side // 4 + 1) for side in (height, width))
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        source = others if rng.random() < 0.5 else photographs
        patched[place, :, top : top + tall, left : left + wide] = source[place, :, top : top + tall, left : left + wide]
    return patched


def _whole(rows: Array) -> Array:
    """Which columns hold whole numbers only, and so may be codes, which have no mean."""
    return np.asarray((rows == np.round(rows)).all(axis=0))


def _averaged(rows: Array, rng: np.random.Generator) -> Array:
    """Between two rows or beyond one of them; columns of whole numbers are either one's."""
    others, share = _partners(rows, rng), _uniform(rows, rng, -0.5, 1.5)
    either = np.where(_uniform(rows, rng, 0.0, 1.0) < 0.5, rows, others)
    return np.where(_whole(rows), either, rows + share * (others - rows))


def _crossed(rows: Array, rng: np.random.Generator) -> Array:
    """Each column of one of two rows."""
    return np.where(rng.random(rows.shape) < _uniform(rows, rng, 0.1, 0.9), rows, _partners(rows, rng))


def _shuffled(rows: Array, rng: np.random.Generator) -> Array:
    """Every column of a row of its own."""
    return np.asarray(rng.permuted(rows, axis=0))


def _jittered(rows: Array, rng: np.random.Generator) -> Array:
    """With noise of a tenth to twice each column's spread; columns of whole numbers stay."""
    noise = rng.normal(size=rows.shape) * rows.std(axis=0) * _uniform(rows, rng, 0.1, 2.0)
    return np.where(_whole(rows), rows, rows + noise)


IMAGE_ALTERATIONS: dict[str, Alteration] = {
    "shifted": _shifted,
    "relit": _relit,
    "noised": _noised,
    "mixed": _mixed,
    "over photographs": _over_photographs,
    "patched": _patched,
    "photographs": _photographs,
}
TABLE_ALTERATIONS: dict[str, Alteration] = {
    "averaged": _averaged,
    "crossed": _crossed,
    "shuffled": _shuffled,
    "jittered": _jittered,
}
SAME_LABEL = ("shifted", "relit", "noised", "jittered")
"""Alterations that leave a row what it was."""
NEARBY = {"image": ("mixed", "shifted"), "tabular": ("averaged", "jittered")}
"""Alterations that a thief who holds rows like the model's own makes more of them by."""
